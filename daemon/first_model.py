"""The model a fresh state directory starts from: the configured weights, or an untrained network.

As a program (``python -m dance_ondevice.daemon.first_model ARCHITECTURE FACTORY CLASSES_JSON SEED W H OUT``)
it writes an untrained checkpoint, so that the daemon itself need not load torch for it.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config import Config, ConfigError, Problem
from dance_ondevice.daemon.state import StatePaths
from dance_ondevice.daemon.versions import Pointer, Versions

log = logging.getLogger(__name__)


def ensure(config: Config, config_file: str, paths: StatePaths, versions: Versions) -> Pointer:
    """Return the live pointer, adopting a first version when the state directory has none.

    Raises:
        ConfigError: the configured weights are missing or unreadable, or a model's classes are not the
            configured ones.
    """
    pointer = versions.pointer()
    if pointer is not None:
        _check_classes(
            versions.card(pointer.version), config, config_file, f"the live model {pointer.version}"
        )
        return pointer
    scratch = paths.models / ".first"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    if config.model.weights:
        source = Path(config.model.weights)
        source = source.parent if source.name == "model.safetensors" else source
        card = _read_card(source, config, config_file)
        _check_classes(card, config, config_file, f"the base model {source}")
        scratch.mkdir()
        for name in ("model.safetensors", "card.json"):
            shutil.copyfile(source / name, scratch / name)
        reason = f"base model {source}"
    else:
        _write_untrained(config, scratch)
        reason = "untrained: no model.weights configured"
        log.warning(
            "model untrained masks=meaningless until=first promoted round, set model.weights to a "
            "folder made by 'dance-ondevice pretrain' to start with a trained one"
        )
    version = versions.adopt(scratch, status="live", round_id=None, changes={"parent": None})
    return versions.make_live(version, reason=reason)


def is_untrained(card: Mapping[str, Any]) -> bool:
    """Whether the card belongs to a network that has not learnt anything yet."""
    return bool((card.get("training") or {}).get("untrained"))


def _read_card(source: Path, config: Config, config_file: str) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((source / "card.json").read_bytes())
        if not (source / "model.safetensors").is_file():
            raise FileNotFoundError(f"{source}/model.safetensors is missing")
    except (OSError, ValueError) as error:
        raise ConfigError(
            (
                Problem(
                    config_file,
                    "model.weights",
                    f"{config.model.weights!r} ({error})",
                    "a folder with model.safetensors and card.json, as 'dance-ondevice pretrain --out' makes",
                ),
            )
        ) from error
    return card


def _check_classes(card: dict[str, Any], config: Config, config_file: str, what: str) -> None:
    found = tuple(card.get("classes", ()))
    wanted = tuple(config.model.classes)
    if found != wanted:
        raise ConfigError(
            (
                Problem(
                    config_file,
                    "model.classes",
                    f"{list(wanted)}, while {what} was trained for {list(found)}",
                    "the classes of that model, in its order; or another model.weights or daemon.state_dir",
                ),
            )
        )


def _write_untrained(config: Config, out: Path) -> None:
    width, height = config.model.size
    subprocess.run(
        [
            sys.executable,
            "-m",
            "dance_ondevice.daemon.first_model",
            config.model.architecture,
            config.model.factory,
            json.dumps(list(config.model.classes)),
            str(config.training.seed),
            str(width),
            str(height),
            str(out),
        ],
        check=True,
        timeout=120,
    )


def main(arguments: Sequence[str]) -> int:
    """Write an untrained checkpoint."""
    import torch

    from dance_ondevice.models import checkpoint, registry
    from dance_ondevice.models.card import ModelCard
    from dance_ondevice.models.cost import count_macs, count_parameters

    architecture, factory, classes_json, seed, width, height, out = arguments
    classes = tuple(json.loads(classes_json))
    torch.manual_seed(int(seed))
    model = (
        registry.build_from_factory(factory, len(classes))
        if factory
        else registry.build(architecture, len(classes))
    )
    size = (int(height), int(width))
    macs = count_macs(model, *size)
    card = ModelCard(
        version="untrained",
        architecture="" if factory else architecture,
        factory=factory,
        classes=classes,
        macs=macs,
        unslimmed_macs=macs,
        parameters=count_parameters(model),
        macs_at=size,
        training={"untrained": True, "seed": int(seed)},
    )
    checkpoint.save(Path(out), model, card)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
