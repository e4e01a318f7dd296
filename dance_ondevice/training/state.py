"""An interrupted training on disk: a safetensors file, and a JSON file that is written last and names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import is_leftover, write_durably

_STATE_FILE = "state.json"


class StateError(RuntimeError):
    """Error: a saved training cannot be resumed; the message says why."""


class TrainingState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counters of a training.

    Attributes:
        fingerprint: Of everything that the remaining steps depend on besides the tensors.
        step: Steps done.
        samples_seen: Images trained on.
        macs: Multiply-accumulates spent.
    """

    fingerprint: str
    step: int
    samples_seen: int
    macs: int


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tensors: str
    sha256: str
    state: TrainingState


def write_state(directory: Path, state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    """Write a state; until the last rename the older one in ``directory``, if any, is whole and in force.

    Args:
        directory: Made when missing.
        state: The counters.
        tensors: Weights and moments by name, any memory format, any device.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"state-{state.step}-{digest[:16]}.safetensors"
    write_durably(directory / name, data)
    write_durably(directory / _STATE_FILE, msgspec.json.encode(_Document(name, digest, state)))
    # Older tensors, and leftovers of a killed write.
    for stale in directory.iterdir():
        if is_leftover(stale.name) or (stale.match("state-*.safetensors") and stale.name != name):
            stale.unlink()


def read_state(directory: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    """Read what ``write_state`` wrote.

    Raises:
        StateError: There is no state or it is damaged.
    """
    try:
        document = decode((directory / _STATE_FILE).read_bytes(), _Document)
        data = (directory / Path(document.tensors).name).read_bytes()
        if hashlib.sha256(data).hexdigest() != document.sha256:
            raise StateError(f"{directory / document.tensors}: the content does not match its digest")
        return document.state, safetensors.torch.load(data)
    except FileNotFoundError as error:
        raise StateError(f"{error.filename}: no saved training here") from error
    except (OSError, DocumentError, SafetensorError) as error:
        raise StateError(f"{directory}: the saved training is damaged: {error}") from error
