"""Weights from elsewhere: a state dict, as safetensors or as PyTorch's own file, without a model card.

Only tensors are read. A ``.pt`` file is a pickle; it goes through PyTorch's restricted reader, which refuses
everything that is not a tensor or a plain container, and runs no code of the file.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dance_ondevice.models.cost import training_only

log = logging.getLogger(__name__)

#: What a weights file may be called.
SUFFIXES = (".safetensors", ".pt", ".pth")
#: Under these keys training programs put the state dict among other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
#: What wrappers put before the names: data parallelism, compilation, trainers, and our own checkpoints.
_PREFIXES = ("module.", "_orig_mod.", "model.", "model/", "net.", "network.")
_LISTED = 5


class WeightsError(ValueError):
    """A weights file cannot be read, or nothing in it fits the model; the message says which."""


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Which of a model's tensors a file filled.

    Attributes:
        loaded: names of those that it did.
        missing: of the model's that the file does not have.
        misshapen: of those that have another shape in the file, which stay as they were too.
        unexpected: of the file's that the model does not have.
        complete: whether inference uses nothing that was not loaded.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unexpected: tuple[str, ...]
    complete: bool

    def summary(self) -> str:
        """One line: what matched, and which keys did not."""
        parts = [f"{len(self.loaded)} of {self.wanted} tensors matched"]
        for what in ("missing", "misshapen", "unexpected"):
            names: tuple[str, ...] = getattr(self, what)
            if names:
                parts.append(f"{what} {_some(names)}")
        return "; ".join(parts)

    @property
    def wanted(self) -> int:
        """How many tensors the model has."""
        return len(self.loaded) + len(self.missing) + len(self.misshapen)


def load_weights(model: nn.Module, path: Path) -> WeightsReport:
    """Copy from a file into a model whatever has the name and the shape of one of its tensors.

    Names are compared as they stand, then without what wrappers put before them ("module." and the like).
    Numbers are converted to the model's type; the rest of the model stays as it is.

    Args:
        model: filled in place.
        path: a file whose name ends as one of ``SUFFIXES``.

    Raises:
        WeightsError: the file cannot be read, holds anything but tensors, or none of the model's weights.
    """
    state = read_state(path)
    own = model.state_dict(keep_vars=True)
    found = {_name_in(own, name): tensor for name, tensor in state.items()}
    fitting = {n: t for n, t in found.items() if n in own and t.shape == own[n].shape}
    if not any(isinstance(own[name], nn.Parameter) for name in fitting):
        raise WeightsError(
            f"{path}: no weight has the name and shape of one of {type(model).__name__}'s: it holds "
            f"{_some(tuple(state))}, the model has {_some(tuple(own))}"
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    skipped = tuple(f"{name}." for name in training_only(model))
    # How many batches a running mean was taken over matters to nothing that it is used for.
    needed = {n for n in own if not n.endswith("num_batches_tracked") and not n.startswith(skipped)}
    report = WeightsReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in found),
        misshapen=tuple(
            f"{n} ({_shape(t)}, not {_shape(own[n])})"
            for n, t in found.items()
            if n in own and n not in fitting
        ),
        unexpected=tuple(name for name in found if name not in own),
        complete=needed <= fitting.keys(),
    )
    log.info("weights loaded file=%s result=%s", path, report.summary())
    return report


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors in a weights file, by name.

    Raises:
        WeightsError: another kind of file, unreadable, damaged, or with more than tensors and plain values.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: a weights file ends in {', '.join(SUFFIXES)}")
    try:
        content: Any = (
            safetensors.torch.load(path.read_bytes())
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: not a file of weights alone, so it was not read; save it with "
            f"torch.save(model.state_dict(), ...): {str(error).splitlines()[0]}"
        ) from error
    except Exception as error:  # a damaged file may make either reader raise anything
        raise WeightsError(f"{path}: damaged, or no weights file: {type(error).__name__}: {error}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {n: t for n, t in content.items() if isinstance(n, str) and _is_plain(t)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors by name")
    return tensors


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex())
    )


def _name_in(own: Mapping[str, Tensor], name: str) -> str:
    """The model's name for a tensor of the file; the file's own where the model has none."""
    shorter = name
    while shorter not in own:
        prefix = next((p for p in _PREFIXES if shorter.startswith(p)), None)
        if prefix is None:
            return name
        shorter = shorter.removeprefix(prefix)
    return shorter


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
