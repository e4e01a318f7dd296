"""Registry of architectures, and users' own models. Importing this module does not import torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Sides of the images that a new model of a factory is trained on once: other multiples of 32 than the 64 of
#: the first trial, so that a model that wants multiples of 64, or squares, is noticed.
_TRIAL = (160, 96)
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
            probabilities, cannot be trained on two images, or is wrapped by ``torch.compile`` or
            ``DataParallel``, which rename its tensors: a version that has learnt all the same must still
            load.

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
        # Not in inference mode: layers that are made at the first pass must be trainable.
        with evaluating(model), torch.no_grad():
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
    if new:
        _check_learns(model, factory, found)
    return model


def _check_learns(model: nn.Module, factory: str, blank: Tensor) -> None:
    """Check that a model gives scores, and that it can be trained; its tensors stay as they were.

    ``blank`` is what it gives for an image without content.
    """
    import torch

    from dance_ondevice.models.cost import evaluating
    from dance_ondevice.models.forward import logits, outputs

    state = model.state_dict()
    if other := next((name for name, value in state.items() if not isinstance(value, torch.Tensor)), None):
        raise FactoryError(f"the model of factory {factory} has {other} in its state, which is no tensor")
    before = {name: tensor.clone() for name, tensor in state.items()}
    images = torch.randn(2, 3, *_TRIAL, generator=torch.Generator().manual_seed(0))
    size = " x ".join(map(str, _TRIAL))
    doing = f"on images of {size}"
    try:
        with evaluating(model), torch.no_grad():
            # So large that scores of fresh weights do not stay between 0 and 1.
            sharp = logits(model, 50.0 * images)
        doing = f"in training mode, on two images of {size}: in rounds it is called with images alone"
        with evaluating(model), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            model.train()
            loss = torch.stack([head.float().square().mean() for head in outputs(model, images)]).sum()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            if all(parameter.grad is None for parameter in model.parameters()):
                raise RuntimeError("no weight gets a gradient")
    except Exception as error:  # the user's code
        raise FactoryError(
            f"the model of factory {factory} failed {doing}: {type(error).__name__}: {error}"
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
        model.load_state_dict(before)
    bounded = all(bool(((found >= 0) & (found <= 1)).all()) for found in (blank, sharp))
    # A head whose weights begin at zero gives zeros, but not if something makes probabilities of them.
    if blank.shape[1] > 1 and bounded and bool(sharp.any()):
        raise FactoryError(
            f"the model of factory {factory} gives probabilities, from which it would hardly learn: leave "
            "its softmax (or sigmoid) out, so that it gives class scores (logits)"
        )


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
