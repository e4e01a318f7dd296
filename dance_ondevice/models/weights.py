"""Weights of other programs: a state dict, as safetensors or as PyTorch's file, without a card.

Only tensors are read. A ``.pt`` file is a pickle; it is read by PyTorch's restricted reader, which refuses
everything that is not a tensor or a plain container, and runs no code from the file.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dance_ondevice.files import read_regular
from dance_ondevice.models.cost import training_only
from dance_ondevice.models.registry import ARCHITECTURES, arguments_of, build

log = logging.getLogger(__name__)

#: Suffixes of weights files; ``.ckpt`` is Lightning's, ``.bin`` that of older repositories on Hugging Face.
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
#: Keys under which training programs store the state dict beside other data; of two equally large ones, as
#: of a model and its moving average, the one that is named first here is taken.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params")
#: Levels of such keys: a model's state within a trainer's.
_DEPTH = 3
#: Prefixes that wrappers add to names: data parallelism, compilation, trainers, and our own checkpoints.
_PREFIXES = ("module.", "_orig_mod.", "model.", "model/", "net.", "network.")
#: Names that a trainer gave the network, one within the other, which are tried without.
_OWNERS = 3
_LISTED = 5
#: What torch's restricted reader refused.
_REFUSED = re.compile(r"GLOBAL (\S+) was not")


class WeightsError(ValueError):
    """Error: a weights file cannot be read, or nothing in it fits the model; the message says which."""


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Result of loading weights: names of tensors that were loaded, and of those that were not.

    Attributes:
        loaded: Names of the model's tensors that were loaded.
        missing: Names of the model's tensors that the file does not have.
        misshapen: Names of tensors with another shape in the file, or of whole numbers where weights belong;
            they stay unchanged, like the missing ones.
        unexpected: Names of the file's tensors that the model does not have.
        complete: True if every tensor that inference uses was loaded.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unexpected: tuple[str, ...]
    complete: bool

    def summary(self) -> str:
        """Summarise in one line what matched, and which keys did not."""
        parts = [f"{len(self.loaded)} of {self.wanted} tensors matched"]
        for what in ("missing", "misshapen", "unexpected"):
            names: tuple[str, ...] = getattr(self, what)
            if names:
                parts.append(f"{what} {_some(names)}")
        return "; ".join(parts)

    @property
    def wanted(self) -> int:
        """Return the number of the model's tensors."""
        return len(self.loaded) + len(self.missing) + len(self.misshapen)


def load_weights(model: nn.Module, path: Path) -> WeightsReport:
    """Copy the tensors of a file into a model where name and shape match.

    Names are compared unchanged first, then without the prefixes of wrappers ("module." and the like), then
    without the name that a trainer gave the network, which most names begin with.
    Numbers are converted to the model's type; all other tensors of the model stay unchanged.

    Args:
        model: Model, changed in place.
        path: File whose name ends in one of ``SUFFIXES``.

    Raises:
        WeightsError: The file cannot be read, holds more than tensors, or none of the model's weights.
    """
    state = read_state(path)
    own = model.state_dict(keep_vars=True)
    for spelt in spellings(state):
        found = {_name_in(own, name): tensor for name, tensor in spelt.items()}
        fitting = {n: t for n, t in found.items() if n in own and _fits(t, own[n])}
        if any(isinstance(own[name], nn.Parameter) for name in fitting):
            break
    else:
        raise WeightsError(
            f"{path}: no weight has the name and shape of one of {type(model).__name__}'s: it holds "
            f"{_some(tuple(state))}, the model has {_some(tuple(own))}{_whose(state)}"
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    skipped = tuple(f"{name}." for name in training_only(model))
    # Inference does not use the number of batches behind a running mean.
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


def _whose(state: Mapping[str, Tensor]) -> str:
    """Say, as the end of a message, which architecture most of the tensors belong to; empty for none."""
    with torch.device("meta"):  # names and shapes alone
        for name in ARCHITECTURES:
            own = build(name, 2, arguments_in(state, name)).state_dict()
            for spelt in spellings(state):
                shapes = ((_name_in(own, each), tensor.shape) for each, tensor in spelt.items())
                known = sum(each in own and own[each].shape == shape for each, shape in shapes)
                if 2 * known > len(state):
                    return f"; these are weights of the architecture {name}"
    return ""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a weights file, by name.

    Raises:
        WeightsError: The file is of another kind, unreadable, damaged, or holds more than tensors and plain
            values.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: a weights file ends in {', '.join(SUFFIXES)}")
    try:
        content: Any = (
            safetensors.torch.load(read_regular(path)) if path.suffix == ".safetensors" else _tensors_in(path)
        )
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        # torch's own text goes on to recommend reading it without this restriction.
        held = _REFUSED.search(str(error))
        raise WeightsError(
            f"{path}: not a file of weights alone{f' (it holds {held[1]})' if held else ''}, so it was not "
            "read; save it with torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # a damaged file may make either reader raise anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: a TorchScript program, not weights, so it was not read; save them with "
                "torch.save(torch.jit.load(...).state_dict(), ...)"
            ) from error
        raise WeightsError(f"{path}: damaged, or no weights file: {type(error).__name__}: {error}") from error
    # The sort is stable: beyond the wrappers' order it is that of the file.
    tensors = max(_states(content), key=len, default={})
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors by name")
    return tensors


def _tensors_in(path: Path) -> object:
    """Read PyTorch's file by its restricted reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is a TorchScript program, before the error
        return torch.load(path, map_location="cpu", weights_only=True)


def spellings(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield tensors by their names, then without the first part that most names share, and so on."""
    yield state
    for _ in range(_OWNERS):
        parts = Counter(name.partition(".")[0] for name in state if "." in name)
        if not parts:
            return
        owner, count = parts.most_common(1)[0]
        if count <= len(state) / 2:
            return
        state = {name.removeprefix(f"{owner}."): tensor for name, tensor in state.items()}
        yield state


def arguments_in(state: Mapping[str, Tensor], architecture: str) -> dict[str, object]:
    """Return the arguments of the network that tensors belong to, whatever was put before their names."""
    for spelt in spellings(state):
        found = arguments_of(architecture, {name: tuple(tensor.shape) for name, tensor in spelt.items()})
        if found:
            return found
    return {}


def _states(content: object, depth: int = _DEPTH) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors by name of a mapping and of those within it, the likeliest first."""
    if not isinstance(content, Mapping):
        return
    tensors = {n: t for n, t in content.items() if isinstance(n, str) and _is_plain(t)}
    if tensors:
        yield tensors
    if depth:
        keys = [key for key in content if isinstance(key, str) and not key.startswith("optim")]
        for key in sorted(keys, key=lambda k: _WRAPPERS.index(k) if k in _WRAPPERS else len(_WRAPPERS)):
            yield from _states(content[key], depth - 1)


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex())
    )


def _name_in(own: Mapping[str, Tensor], name: str) -> str:
    """Return the model's name for a tensor of the file; the file's name if the model has no such tensor."""
    shorter = name
    while shorter not in own:
        prefix = next((p for p in _PREFIXES if shorter.startswith(p)), None)
        if prefix is None:
            return name
        shorter = shorter.removeprefix(prefix)
    return shorter


def _fits(tensor: Tensor, own: Tensor) -> bool:
    """Return whether a tensor can take another's place: whole numbers are no weights, but quantised ones."""
    return tensor.shape == own.shape and (tensor.is_floating_point() or not own.is_floating_point())


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "one number"
    return shape if tensor.is_floating_point() else f"{shape} of {str(tensor.dtype).removeprefix('torch.')}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
