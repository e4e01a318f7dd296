"""Registry of architectures, and users' own models. Importing this module does not import torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

#: Environment variable with further folders in which modules of factories are searched.
MODEL_PATH = "DANCE_MODEL_PATH"
#: Class of each architecture, as "module:name". They are names only, so that checking a configuration is
#: cheap.
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "fastscnn": "dance_ondevice.models.fastscnn:FastSCNN",
        "deeplabv3plus": "dance_ondevice.models.deeplabv3plus:DeepLabV3Plus",
        "pspnet": "dance_ondevice.models.pspnet:PSPNet",
        "bisenetv2": "dance_ondevice.models.bisenetv2:BiSeNetV2",
        "hrnet": "dance_ondevice.models.hrnet:HRNet",
        "espnetv2": "dance_ondevice.models.espnetv2.network:ESPNetV2",
    }
)


class ModelError(ValueError):
    """Error: a model cannot be built as requested."""


class UnknownArchitecture(ModelError):  # noqa: N818 - the name says what is wrong
    """Error: no architecture has this name; the message lists the known ones."""


class FactoryError(ModelError):
    """Error: a user's factory cannot be found, fails, or returns something that is no segmentation model."""


def build(architecture: str, num_classes: int, arguments: Mapping[str, object] | None = None) -> nn.Module:
    """Build an architecture with fresh weights, drawn from torch's global generator.

    Args:
        architecture: Name, one of ``ARCHITECTURES``.
        num_classes: Number of classes, 1 to 255 (255 is the label for "ignore").
        arguments: Keyword arguments of the architecture's class, such as widths.

    Raises:
        UnknownArchitecture: There is no such name.
        ModelError: The architecture does not take such arguments.
    """
    _check_classes(num_classes)
    if architecture not in ARCHITECTURES:
        names = ", ".join(sorted(ARCHITECTURES))
        raise UnknownArchitecture(f"unknown architecture {architecture!r}; known: {names}")
    constructor = _resolve(ARCHITECTURES[architecture])
    try:
        model: nn.Module = constructor(num_classes, **dict(arguments or {}))
    except (TypeError, ValueError) as error:
        raise ModelError(f"cannot build {architecture} with {dict(arguments or {})}: {error}") from error
    return model


def arguments_of(architecture: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
    """Return the arguments that a network with tensors of these shapes was built with.

    Empty for an architecture that does not tell, and for tensors that are not its own: the defaults.

    Args:
        architecture: Name, one of ``ARCHITECTURES``.
        shapes: Shapes of the tensors by name.
    """
    told = getattr(_resolve(ARCHITECTURES[architecture]), "arguments_of", None)
    try:
        return dict(told(shapes)) if told is not None else {}
    except KeyError:
        return {}


def build_from_factory(factory: str, num_classes: int, *, new: bool = False) -> nn.Module:
    """Build a model of the user's own and check that it segments.

    The callable gets the number of classes and returns a module that maps (N, 3, H, W), with sides that are
    multiples of 32, to logits (N, num_classes, h, w), to a tuple that begins with them, or to a dict with
    them as "out" or "logits". Its module is imported, so only name code that you trust.

    The module is searched on Python's path, and in the folders of ``DANCE_MODEL_PATH``.

    Args:
        factory: Name of the callable, "package.module:callable".
        num_classes: Number of classes, 1 to 255.
        new: Whether nothing was stored of this model yet. Then it is refused, too, where it gives
            probabilities or is wrapped by ``torch.compile`` or ``DataParallel``, which rename its tensors: a
            version that has learnt all the same must still load.

    Raises:
        FactoryError: The name, the callable or its model is wrong; the message says how.
    """
    import torch
    from torch import nn

    from dance_ondevice.models.cost import evaluating
    from dance_ondevice.models.forward import logits

    _check_classes(num_classes)
    for folder in filter(None, os.environ.get(MODEL_PATH, "").split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that nothing in it hides a module of Python's
    create = _resolve(factory)
    try:
        model = create(num_classes)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise FactoryError(f"factory {factory} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise FactoryError(f"factory {factory} must return a torch.nn.Module, found {type(model).__name__}")
    if not any(True for _ in model.parameters()):
        raise FactoryError(f"the model of factory {factory} has no parameters, so there is nothing to train")
    try:
        with evaluating(model), torch.inference_mode():
            found = logits(model, torch.zeros(1, 3, 64, 64))
    except Exception as error:  # the user's code again
        raise FactoryError(
            f"the model of factory {factory} failed on an image of 64 x 64: {type(error).__name__}: {error}"
        ) from error
    if found.shape[1] != num_classes:
        raise FactoryError(
            f"the model of factory {factory} gives {found.shape[1]} classes, {num_classes} were requested"
        )
    if new and (isinstance(model, nn.DataParallel) or hasattr(model, "_orig_mod")):
        raise FactoryError(
            f"the model of factory {factory} is wrapped by torch.compile or DataParallel, which would "
            "compile or copy it anew in each process: return the model itself"
        )
    # Scores of fresh weights do not add up to 1 in each pixel by chance.
    if new and num_classes > 1 and bool((found >= 0).all()) and bool(((found.sum(1) - 1).abs() < 1e-3).all()):
        raise FactoryError(
            f"the model of factory {factory} gives probabilities, from which it would hardly learn: leave "
            "its softmax out, so that it gives class scores (logits)"
        )
    return model


def _resolve(reference: str) -> Callable[..., Any]:
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise FactoryError(f'a factory is written "package.module:callable", found {reference!r}')
    try:
        target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise FactoryError(f"factory {reference}: cannot import {module_name}: {error}") from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything as it is imported
        raise FactoryError(
            f"factory {reference}: {module_name} failed as it was imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise FactoryError(f"factory {reference}: {module_name} has no {attribute}")
        target = getattr(target, part)
    if not callable(target):
        raise FactoryError(f"factory {reference}: {attribute} cannot be called")
    found: Callable[..., Any] = target
    return found


def _check_classes(num_classes: int) -> None:
    if not 1 <= num_classes <= 255:
        raise ModelError(f"the number of classes must be 1 to 255, found {num_classes}")
