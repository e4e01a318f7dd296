"""Checkpoints: a directory with ``model.safetensors`` and ``card.json``. They are data only, without pickle.

Keys in the tensors file are "<group>/<name>". The group ``model`` is the network's complete state dict, the
group ``origin`` says which channels of its root it has (:mod:`dance_ondevice.models.channels`); :func:`load`
reads these two. Further groups may be added without a new format: a reader ignores groups
that it does not know. The conditions' own tensors are in another file, see
:mod:`dance_ondevice.conditions.store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dance_ondevice.files import read_regular, write_durably
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.branches import BranchError, remove_branches, removed_branches
from dance_ondevice.models.card import (
    CARD_FILE,
    TENSORS_FILE,
    CheckpointError,
    ModelCard,
    directory_of,
    encode_card,
    read_card,
    with_root,
)
from dance_ondevice.models.channels import (
    channels_of,
    give_outputs,
    has_channels,
    origin_tensors,
    remember_widths,
    restore_origins,
    set_channels,
    shapes_for,
)
from dance_ondevice.models.cost import count_macs, count_parameters, training_only
from dance_ondevice.models.forward import logits
from dance_ondevice.models.mapping.mapped import NETWORK, mapped, unmapped
from dance_ondevice.models.registry import MODEL_PATH, ModelError, build, build_from_factory

__all__ = ["heads_of", "load", "load_for", "not_finite", "save"]

_MODEL_GROUP, _ORIGIN_GROUP = "model/", "origin/"


def save(directory: Path, model: nn.Module, card: ModelCard, *, half: bool = False) -> ModelCard:
    """Write a model and its card, durably: each file appears whole or not at all, the card last.

    The model is first rebuilt from the data to be written, so that a checkpoint that could not be loaded
    again is noticed now. Interrupting an overwrite may leave new tensors with the old card, which
    :func:`load` refuses.

    Args:
        directory: Directory, created if missing; files of an earlier checkpoint in it are replaced.
        model: Model that no other thread runs.
        card: Card of the model; :class:`ModelCard` marks the fields that are set here.
        half: True stores weights of more than one dimension in 16 bits, which halves the file; the relative
            error of a value is at most 2^-11. Statistics and biases keep their 32 bits, and the loaded model
            computes in 32.

    Returns:
        The card as written.

    Raises:
        CheckpointError: The card does not describe this model, or a weight is NaN, infinite, or with ``half``
            beyond 65504.
        OSError: The files cannot be written.
    """
    state = {  # clones: tied weights share memory
        f"{_MODEL_GROUP}{name}": tensor.detach().to("cpu").contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    if half:
        state = {
            name: tensor.half() if tensor.dim() > 1 and tensor.dtype == torch.float32 else tensor
            for name, tensor in state.items()
        }
    if wrong := not_finite(state):
        raise CheckpointError(f"{directory}: values that are not finite (NaN or infinite) in {wrong}")
    state.update({f"{_ORIGIN_GROUP}{name}": tensor for name, tensor in origin_tensors(model).items()})
    data = safetensors.torch.save(state, metadata={"format": "pt"})
    macs = count_macs(model, *card.macs_at)
    card = replace(
        card,
        channels=channels_of(model),
        removed_branches=removed_branches(model),
        training_only=training_only(model),
        macs=macs,
        parameters=count_parameters(model),
        unslimmed_macs=card.unslimmed_macs or macs,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    card = with_root(card)
    _rebuild(card, state, f"{directory}: the card does not describe this model")
    directory.mkdir(parents=True, exist_ok=True)
    write_durably(directory / TENSORS_FILE, data)
    write_durably(directory / CARD_FILE, encode_card(card))
    return card


def load(path: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild a saved model, slimmed shapes included.

    The factory in a card is imported and called: it must be code that is installed and trusted.

    Args:
        path: Directory of the checkpoint, or its ``model.safetensors``.

    Returns:
        The model on the CPU, in eval mode, and its card.

    Raises:
        CheckpointError: A file is missing, the tensors are damaged (their SHA-256 is not the card's), do not
            fit the card or hold values that are not numbers, or the architecture or factory does not exist.
    """
    card = read_card(path)
    file = directory_of(path) / TENSORS_FILE
    try:
        data = read_regular(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the tensors: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise CheckpointError(
            f"{file}: damaged, or not the file that its card was written for: its SHA-256 is {digest}, "
            f"the card says {card.sha256 or 'nothing'}"
        )
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file}: not a safetensors file: {error}") from error
    if wrong := not_finite(state):
        raise CheckpointError(f"{file}: values that are not finite (NaN or infinite) in {wrong}")
    return _rebuild(card, state, str(file)), card


def load_for(path: Path, classes: tuple[str, ...]) -> tuple[nn.Module, ModelCard]:
    """Rebuild a saved model to tell other classes apart: everything but its heads keeps what it learnt.

    A head is a layer whose width is the number of classes. Its fresh weights come from torch's global
    generator. A model that knows exactly these classes is loaded as it is. A class map is left out.

    Args:
        path: as for :func:`load`.
        classes: class names in the order of their ids.

    Returns:
        The model on the CPU, in eval mode, and its card with the new classes.

    Raises:
        CheckpointError: as :func:`load`.
    """
    model, card = load(path)
    if card.classes == classes:
        return model, card
    model, card = unmapped(model), _unmapped_card(card)
    for name in heads_of(model, card, str(path)):
        give_outputs(model, name, len(classes))
    _check_runs(model, len(classes), str(path))
    return model, replace(card, classes=classes)


def heads_of(model: nn.Module, card: ModelCard, source: str) -> list[str]:
    """Return the layers of a loaded model whose width is the number of classes.

    Raises:
        CheckpointError: The architecture or factory cannot be built; ``source`` names the model in the error.
    """
    if card.class_map is not None:
        return [f"{NETWORK}.{name}" for name in heads_of(unmapped(model), _unmapped_card(card), source)]
    narrow, wide = (channels_of(_fresh(card, len(card.classes) + more, source)) for more in (0, 1))
    return [name for name in channels_of(model) if narrow[name] != wide[name]]


def _unmapped_card(card: ModelCard) -> ModelCard:
    """The card of the network under the class map."""
    if card.class_map is None:
        return card
    return replace(card, classes=card.class_map.base, class_map=None)


def _fresh(card: ModelCard, n_classes: int, source: str) -> nn.Module:
    """The card's architecture as it is built, without a class map; its weights are to be thrown away."""
    try:
        # Their dice are not the caller's.
        with torch.random.fork_rng(devices=[]):
            if card.factory:
                return build_from_factory(card.factory, n_classes)
            return build(card.architecture, n_classes, card.arguments)
    except ModelError as error:
        raise CheckpointError(f"{source}: {error}{_where_looked(card, error)}") from error


def _where_looked(card: ModelCard, error: ModelError) -> str:
    """Say where a missing factory's module has to lie: commands learn it from the configuration."""
    cause = error.__cause__
    # A module that is there may lack another one.
    if not isinstance(cause, ModuleNotFoundError) or not card.factory.startswith(cause.name or ":"):
        return ""
    return f"; give --config, beside whose file it lies, or name its folder in {MODEL_PATH}"


def not_finite(state: Mapping[str, Tensor]) -> str:
    """Names of the tensors with a value that is NaN or infinite, as a text; empty where there is none."""
    wrong = {
        name.removeprefix(_MODEL_GROUP)
        for name, tensor in state.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    }
    return _some(wrong) if wrong else ""


def _rebuild(card: ModelCard, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """Build the card's architecture, give its layers the card's channels and fill in the tensors."""
    tensors = {k.removeprefix(_MODEL_GROUP): t for k, t in state.items() if k.startswith(_MODEL_GROUP)}
    if card.class_map is None:
        model = _fresh(card, len(card.classes), source)
    else:
        model = mapped(_fresh(card, len(card.class_map.base), source), card.class_map, card.classes)
    remember_widths(model)
    try:
        remove_branches(model, card.removed_branches)
    except BranchError as error:
        raise CheckpointError(f"{source}: {error}") from error
    modules = dict(model.named_modules())
    for name, channels in card.channels.items():
        module = modules.get(name)
        if module is None or not has_channels(module):
            raise CheckpointError(f"{source}: the model has no layer {name!r} that channels could be set for")
        try:
            shapes = shapes_for(module, channels)
            # Shapes are checked before anything is allocated: a forged card may ask for any amount of memory.
            for key, shape in shapes.items():
                _check_shape(tensors, f"{name}.{key}" if name else key, shape)
            set_channels(module, channels)
        except ValueError as error:
            raise CheckpointError(f"{source}: layer {name}: {error}") from error
    origins = {k.removeprefix(_ORIGIN_GROUP): t for k, t in state.items() if k.startswith(_ORIGIN_GROUP)}
    try:
        restore_origins(model, origins)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error
    own = model.state_dict()
    missing, unexpected = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: the tensors are not those of the model: missing {_some(missing)}, "
            f"unexpected {_some(unexpected)}"
        )
    for name, tensor in own.items():
        _check_shape(tensors, name, tuple(tensor.shape), source)
        halved = tensors[name].dtype == torch.float16 and tensor.dtype == torch.float32
        if tensors[name].dtype != tensor.dtype and not halved:
            raise CheckpointError(f"{source}: {name} is {tensors[name].dtype}, the model has {tensor.dtype}")
    model.load_state_dict(tensors)
    model.eval()
    _check_runs(model, len(card.classes), source)
    return model


def _check_runs(model: nn.Module, num_classes: int, source: str) -> None:
    """Run the model once: tensors and card can agree with each other and still not be a working network."""
    try:
        with torch.no_grad():  # what the model keeps of this pass must serve training, too
            found = logits(model, torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE)).shape[1]
    except Exception as error:  # the model may be the user's, and its layers may not fit together
        raise CheckpointError(f"{source}: the model does not run: {type(error).__name__}: {error}") from error
    if found != num_classes:
        raise CheckpointError(f"{source}: the model has {found} classes, the card names {num_classes}")


def _check_shape(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], source: str = "") -> None:
    prefix = f"{source}: " if source else ""
    if name not in tensors:
        raise CheckpointError(f"{prefix}there is no tensor {name}")
    if tuple(tensors[name].shape) != shape:
        raise CheckpointError(f"{prefix}{name} has shape {list(tensors[name].shape)}, expected {list(shape)}")


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") or "none"
