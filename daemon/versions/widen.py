"""Adds a class to a version, as a program: the head gets one more row, all other weights stay.

``python -m dance_ondevice.daemon.versions.widen FOLDER OUT CLASSES_JSON`` writes the version of a folder with
one more class. The new row of the head is the mean of the others, so the new class scores the mean of their
scores, never more than the best of them, and every mask stays as it was until a round has learnt the class.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE
from dance_ondevice.daemon.versions.versions import VersionError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dance_ondevice.models.card import ModelCard
    from dance_ondevice.models.mapping.class_map import ClassMap

__all__ = ["widened"]

#: A busy board needs minutes to load what this takes.
_SECONDS = 600.0
#: Exit status of the program when the model cannot be widened; its standard output says why.
_NOT_WIDENED = 3


def widened(directory: Path, out: Path, classes: Sequence[str]) -> None:
    """Write the version in a folder with one more class, in a separate process.

    Args:
        directory: The version's folder.
        out: Folder to create.
        classes: The classes, with the new one at the end.

    Raises:
        VersionError: It does not load, or its head cannot be widened.
    """
    shutil.rmtree(out, ignore_errors=True)
    module = "dance_ondevice.daemon.versions.widen"
    command = [sys.executable, "-m", module, str(directory), str(out), json.dumps(list(classes))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise VersionError(f"{directory.name} was not widened: {error}") from error
    if done.returncode:
        lines = (done.stdout if done.returncode == _NOT_WIDENED else done.stderr).strip().splitlines()
        raise VersionError(f"{directory.name} was not widened: {lines[-1] if lines else done.returncode}")


def main(arguments: Sequence[str]) -> int:
    """Write the version of a folder with one more class."""
    from dataclasses import replace

    from dance_ondevice.models import checkpoint, registry
    from dance_ondevice.models.card import CheckpointError

    folder, out, classes = Path(arguments[0]), Path(arguments[1]), tuple(json.loads(arguments[2]))
    try:
        model, card = checkpoint.load(folder)
        if classes[:-1] != card.classes:
            raise CheckpointError(
                f"it is for {list(card.classes)}, which {list(classes)} does not go on from"
            )
        model, class_map, head = _wider(model, card, classes)
        checkpoint.save(out, model, replace(card, classes=classes, class_map=class_map, gate={}))
        if (folder / CONDITIONS_FILE).is_file():
            (out / CONDITIONS_FILE).write_bytes(_conditions(folder, head))
    except (CheckpointError, registry.ModelError, KeyError, ValueError) as error:
        print(" ".join(str(error).split()))
        return _NOT_WIDENED
    return 0


def _wider(
    model: nn.Module, card: ModelCard, classes: Sequence[str]
) -> tuple[nn.Module, ClassMap | None, list[str]]:
    """The model with one more class, its class map, and the names of the tensors of its head.

    Under a class map the network gets the class, and it alone stands for itself.
    """
    from dataclasses import replace

    from dance_ondevice.models.mapping.class_map import ClassMap
    from dance_ondevice.models.mapping.mapped import NETWORK, mapped, unmapped

    if card.class_map is None:
        return model, None, _widen(model, card)
    network, new = unmapped(model), classes[-1]
    head = _widen(network, replace(card, classes=card.class_map.base, class_map=None))
    own = new if new not in card.class_map.base else f"{new} of the site"
    wider = ClassMap(base=(*card.class_map.base, own), members={**card.class_map.members, new: (own,)})
    return mapped(network, wider, classes), wider, [f"{NETWORK}.{name}" for name in head]


def _conditions(folder: Path, head: Collection[str]) -> bytes:
    """The version's file of conditions, with one more row where a condition has learnt a head of its own."""
    from dance_ondevice.conditions import store
    from dance_ondevice.conditions.statistics import NormStatistics

    sets, about = store.load_conditions(folder)
    wider = {
        name: NormStatistics(
            each.layers,
            {key: _with_mean(tensor) if key in head else tensor for key, tensor in each.learnt.items()},
        )
        for name, each in sets.items()
    }
    return store.encode(wider, about)


def _with_mean(tensor: Tensor) -> Tensor:
    import torch

    return torch.cat([tensor, tensor.mean(dim=0, keepdim=True)])


def _widen(model: nn.Module, card: ModelCard) -> list[str]:
    """Give every layer of the head one more output; returns the names of its tensors."""
    import torch

    from dance_ondevice.models.channels import has_channels, layer_channels, set_channels
    from dance_ondevice.models.forward import logits

    number, state, new = len(card.classes), model.state_dict(), {}
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = logits(model, image)
    head = _head(card)
    for name in head:
        tensor = state[name]
        if tensor.shape[0] != number:
            raise ValueError(f"{name} does not have one row for each class")
        new[name] = _with_mean(tensor)
    for path in dict.fromkeys(name.rpartition(".")[0] for name in head):
        layer = dict(model.named_modules())[path]
        if not has_channels(layer):
            raise ValueError(f"its head {path} is no layer that channels can be set for")
        ins, _, groups = layer_channels(layer)
        set_channels(layer, (ins, number + 1, groups))
    model.load_state_dict({**state, **new})
    with torch.inference_mode():
        after = logits(model, image)
    if not torch.allclose(after[:, :number], before, rtol=1e-4, atol=1e-5):
        raise ValueError("the scores of its other classes would change")
    return head


def _head(card: ModelCard) -> list[str]:
    """Names of the tensors with a row for each class, which one more class lengthens.

    Raises:
        ValueError: More than the rows of a head depends on the number of classes.
    """
    from dance_ondevice.models import registry

    def shapes(classes: int) -> dict[str, list[int]]:
        made = (
            registry.build_from_factory(card.factory, classes)
            if card.factory
            else registry.build(card.architecture, classes, card.arguments)
        )
        return {name: list(tensor.shape) for name, tensor in made.state_dict().items()}

    number = len(card.classes)
    before, after = shapes(number), shapes(number + 1)
    grown = [name for name, shape in before.items() if after.get(name) != shape]
    if not grown or before.keys() != after.keys():
        raise ValueError("its head is not one that rows can be added to")
    for name in grown:
        if after[name] != [before[name][0] + 1, *before[name][1:]]:
            raise ValueError(f"{name} does not have one row for each class")
    return grown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
