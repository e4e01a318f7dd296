"""The first model of a fresh state directory: the configured weights, or an untrained network.

As a program (``python -m dance_ondevice.daemon.versions.first_model ARCHITECTURE FACTORY CLASSES_JSON SEED W
H OUT [WEIGHTS]``) it writes the checkpoint of a fresh network, with the matching weights of a file if one is
named, so that the daemon itself need not load torch for it.
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

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import factory
from dance_ondevice.daemon.versions.versions import Pointer, Versions
from dance_ondevice.documents import decode

log = logging.getLogger(__name__)

#: Tensors of a checkpoint; any other file holds weights without a card.
_TENSORS = "model.safetensors"
#: Exit statuses of the program when the weights, or the user's factory, cannot be used; the last line of its
#: standard output says why.
_BAD_WEIGHTS, _BAD_FACTORY = 3, 4


def ensure(config: Config, config_file: str, paths: StatePaths, versions: Versions) -> Pointer:
    """Return the live pointer, adopting a first version when the state directory has none.

    Raises:
        ConfigError: The configured weights are missing or unreadable, a model's classes differ from the
            configured ones, or the configured factory makes no model.
    """
    try:
        return _ensure(config, config_file, paths, versions)
    except _FactoryError as error:
        problem = factory.problem(config_file, "model.factory", config.model.factory, str(error))
        raise ConfigError((problem,)) from error


def _ensure(config: Config, config_file: str, paths: StatePaths, versions: Versions) -> Pointer:
    pointer = versions.pointer()
    if pointer is not None:
        _check_classes(
            versions.card(pointer.version), config, config_file, f"the live model {pointer.version}"
        )
        return pointer
    scratch = paths.models / ".first"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    source = Path(config.model.weights)
    if config.model.weights and source.is_file() and not _is_of_checkpoint(source):
        reason = _write_filled(config, config_file, scratch, source)
    elif config.model.weights:
        source = source.parent if source.name == _TENSORS else source
        card = _read_card(source, config, config_file)
        _check_classes(card, config, config_file, f"the base model {source}")
        scratch.mkdir()
        for name in (_TENSORS, "card.json"):
            shutil.copyfile(source / name, scratch / name)
        reason = f"base model {source}"
    else:
        _write_fresh(config, scratch)
        reason = "untrained: no model.weights configured"
        log.warning(
            "model untrained masks=meaningless until=first promoted round, set model.weights to a "
            "folder made by 'dance-ondevice pretrain', or a file of weights, to start with a trained one"
        )
    version = versions.adopt(scratch, status="live", round_id=None, changes={"parent": None})
    return versions.make_live(version, reason=reason)


def is_untrained(card: Mapping[str, Any]) -> bool:
    """Whether the card belongs to a network of which some part has not been trained."""
    return bool((card.get("training") or {}).get("untrained"))


def warning(card: Mapping[str, Any]) -> str | None:
    """The warning of ``status`` about an untrained model, or about weights whose keys did not match."""
    training = card.get("training") or {}
    weights = training.get("weights")
    if weights and training.get("untrained"):
        return (
            f"the live model is only partly filled from {weights['file']}: its masks mean little until a "
            f"round is promoted ({weights['summary']})"
        )
    if weights and any(weights[what] for what in ("missing", "misshapen", "unexpected")):
        return f"not all of {weights['file']} matched the network ({weights['summary']})"
    if is_untrained(card):
        return "the live model is untrained: its masks mean nothing until a round is promoted"
    return None


def _is_of_checkpoint(file: Path) -> bool:
    return file.name == _TENSORS and (file.parent / "card.json").exists()


def _read_card(source: Path, config: Config, config_file: str) -> dict[str, Any]:
    try:
        card = decode((source / "card.json").read_bytes(), dict[str, Any])
        if not (source / _TENSORS).is_file():
            raise FileNotFoundError(f"{source}/{_TENSORS} is missing")
    except (OSError, ValueError) as error:
        raise ConfigError(
            (
                Problem(
                    config_file,
                    "model.weights",
                    f"{config.model.weights!r} ({error})",
                    "a folder with model.safetensors and card.json, as 'dance-ondevice pretrain --out' "
                    "makes, or a file of weights (.safetensors, .pt, .pth)",
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


def _write_filled(config: Config, config_file: str, out: Path, weights: Path) -> str:
    """Write the configured network with the weights of a file; returns how well they matched."""
    try:
        _write_fresh(config, out, weights)
    except subprocess.CalledProcessError as error:
        if error.returncode != _BAD_WEIGHTS:
            raise
        raise ConfigError(
            (
                Problem(
                    config_file,
                    "model.weights",
                    f"{config.model.weights!r} ({error.stdout.strip()})",
                    "a file of weights (.safetensors, .pt, .pth) of the configured architecture or factory",
                ),
            )
        ) from error
    card = decode((out / "card.json").read_bytes(), dict[str, Any])
    about = card["training"]["weights"]
    level = logging.INFO if warning(card) is None else logging.WARNING
    log.log(
        level, "model weights file=%s trained=%s result=%s", weights, not is_untrained(card), about["summary"]
    )
    return f"weights {weights}: {about['summary']}"


class _FactoryError(ValueError):
    """The user's factory makes no model; the message says why."""


def _write_fresh(config: Config, out: Path, weights: Path | None = None) -> None:
    width, height = config.model.size
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dance_ondevice.daemon.versions.first_model",
            config.model.architecture,
            config.model.factory,
            json.dumps(list(config.model.classes)),
            str(config.training.seed),
            str(width),
            str(height),
            str(out),
            *([str(weights)] if weights is not None else []),
        ],
        check=False,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode == _BAD_FACTORY:
        raise _FactoryError(done.stdout.strip().splitlines()[-1])
    done.check_returncode()


def main(arguments: Sequence[str]) -> int:
    """Write the checkpoint of a fresh network, with a file's weights if one is named."""
    import torch

    from dance_ondevice.models import checkpoint, registry
    from dance_ondevice.models.card import ModelCard
    from dance_ondevice.models.cost import count_macs, count_parameters
    from dance_ondevice.models.weights import WeightsError, load_weights

    architecture, user_factory, classes_json, seed, width, height, out, *weights = arguments
    classes = tuple(json.loads(classes_json))
    torch.manual_seed(int(seed))
    try:
        model = (
            registry.build_from_factory(user_factory, len(classes))
            if user_factory
            else registry.build(architecture, len(classes))
        )
    except registry.ModelError as error:
        print(factory.one_line(str(error)))
        return _BAD_FACTORY
    training: dict[str, Any] = {"untrained": True, "seed": int(seed)}
    if weights:
        try:
            report = load_weights(model, Path(weights[0]))
        except WeightsError as error:
            print(error)
            return _BAD_WEIGHTS
        training = {
            "untrained": not report.complete,
            "weights": {
                "file": weights[0],
                "loaded": len(report.loaded),
                "missing": report.missing,
                "misshapen": report.misshapen,
                "unexpected": report.unexpected,
                "summary": report.summary(),
            },
        }
    size = (int(height), int(width))
    macs = count_macs(model, *size)
    card = ModelCard(
        version="base" if weights else "untrained",
        architecture="" if user_factory else architecture,
        factory=user_factory,
        classes=classes,
        macs=macs,
        unslimmed_macs=macs,
        parameters=count_parameters(model),
        macs_at=size,
        training=training,
    )
    checkpoint.save(Path(out), model, card)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
