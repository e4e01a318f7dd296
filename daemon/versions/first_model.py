"""The first model of a fresh state directory: configured weights, the package's base, or an untrained one.

As a program (``python -m dance_ondevice.daemon.versions.first_model ARCHITECTURE FACTORY CLASSES_JSON SEED W
H OUT [WEIGHTS]``) it writes the checkpoint of a fresh network, with the matching weights of a file or all of
a checkpoint's folder if one is named, so that the daemon itself need not load torch for it.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import UNTRAINED, Config
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import base, classes, factory
from dance_ondevice.daemon.versions.versions import (
    Live,
    NothingLoads,
    Pointer,
    VersionError,
    Versions,
)
from dance_ondevice.documents import decode
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CheckpointError

log = logging.getLogger(__name__)

#: Exit statuses of the program when the weights, or the user's factory, cannot be used; the last line of its
#: standard output says why.
_BAD_WEIGHTS, _BAD_FACTORY = 3, 4
#: Seconds that the program may take, also on a very busy board.
_LONGEST_SECONDS = 600


def start(
    config: Config,
    config_file: str,
    paths: StatePaths,
    versions: Versions,
    loads: Callable[[Path], object],
) -> None:
    """Make sure at the daemon's start that the live model, if there is one, loads.

    An untrained live model is replaced by another one that the configuration asks for, since nothing is lost.
    A live model that does not load is replaced by the next best version, and where nothing was learnt yet by
    the configured model, so that correcting the configuration is enough to repair the service.

    Args:
        config: The whole configuration; its classes are those of the state folder.
        config_file: Name of its file, for errors.
        paths: Paths of the state folder.
        versions: Versions of the state folder.
        loads: Loads a version's folder; any exception means that the version does not load.

    Raises:
        ConfigError: The configured model cannot be used.
        VersionError: No version loads, and replacing them would lose what was learnt.
    """

    def fits(directory: Path) -> None:
        base.check_classes(versions.card(directory.name), config.model.classes, directory.name)
        loads(directory)

    live = versions.live()
    if live is not None and _is_to_give_way(config, paths, live):
        adopted = _adopt(config, config_file, paths, versions)
        log.info(
            "model replaced version=%s by=%s reason=it was untrained", live.pointer.version, adopted.version
        )
    try:
        versions.fall_back(fits)
    except NothingLoads as error:
        if not _may_be_replaced(config, versions):
            raise
        pointer = _adopt(config, config_file, paths, versions, away_from="damaged")
        versions.note = f"{error.problem}: the configured model is live in its place, as {pointer.version}"
        log.warning("model replaced by=%s reason=%s", pointer.version, error.problem)
        versions.fall_back(fits)


def come_up(
    config: Config,
    config_file: str,
    paths: StatePaths,
    versions: Versions,
    *,
    store: Store,
    loads: Callable[[Path], object],
) -> None:
    """Check the classes, and make sure of a live model if there is one or the configuration asks for one.

    Args:
        config: The whole configuration.
        config_file: Name of its file, for errors.
        paths: Paths of the state folder.
        versions: Versions of the state folder.
        store: The sample store, which knows whether any sample is labelled.
        loads: See ``start``.

    Raises:
        ConfigError, VersionError: See ``start``; or the classes are not those of the state folder.
    """
    for leftover in paths.models.glob(".*/"):  # of a model that a crash kept from being adopted
        shutil.rmtree(leftover, ignore_errors=True)
    live = versions.live()
    labelled = store.submit(lambda db: db.execute("select count(label_path) from samples").fetchone()[0])
    classes.check(config, config_file, paths, live.card if live else None, labelled=labelled.result())
    start(config, config_file, paths, versions, loads)
    if config.inference.enabled or versions.pointer() is not None or config.model.source:
        ensure(config, config_file, paths, versions)


def ensure(config: Config, config_file: str, paths: StatePaths, versions: Versions) -> Pointer:
    """Return the live pointer, adopting a first version when the state directory has none.

    Raises:
        ConfigError: The configured weights are missing, unreadable or unusable, a model's classes differ from
            the configured ones, or the configured factory makes no model.
    """
    pointer = versions.pointer()
    if pointer is None:
        return _adopt(config, config_file, paths, versions)
    found = tuple(versions.card(pointer.version).get("classes", ()))
    if found != tuple(config.model.classes):
        raise ConfigError((classes.problem(config_file, paths, found, config.model.classes),))
    return pointer


def _is_to_give_way(config: Config, paths: StatePaths, live: Live) -> bool:
    """Whether an untrained live model is not the one that the configuration asks for."""
    if not base.is_untrained(live.card):
        return False
    wish = base.wanted(config)
    if list(live.card.get("classes") or ()) != list(wish.classes):
        return True
    found = base.changes(wish, live.pointer.version, live.card, base.taken(paths))
    # A base model's card names its network, which takes precedence over the configured one.
    by_card = bool(wish.weights) and base.is_checkpoint(Path(wish.weights))
    return any(change.key == "model.weights" or not by_card for change in found)


def _may_be_replaced(config: Config, versions: Versions) -> bool:
    """Whether nothing is lost with a live model that does not load: it is as the configuration gave it."""
    pointer = versions.pointer()
    if pointer is None or pointer.version != pointer.frozen:
        return False
    try:
        card = versions.card(pointer.version)
    except VersionError:
        return True
    return bool(config.model.source) or "imported" not in card


def _adopt(
    config: Config,
    config_file: str,
    paths: StatePaths,
    versions: Versions,
    *,
    away_from: str | None = None,
) -> Pointer:
    scratch = paths.models / ".first"
    log.info("the first model is made, which takes seconds")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        reason = _make(config, config_file, paths, scratch)
    except _FactoryError as error:
        problem = factory.problem(config_file, "model.factory", config.model.factory, str(error))
        raise ConfigError((problem,)) from error
    version = versions.adopt(scratch, status="candidate", round_id=None, changes={"parent": None})
    return versions.make_live(version, reason=reason, away_from=away_from, first=True)


def _make(config: Config, config_file: str, paths: StatePaths, scratch: Path) -> str:
    """Write the configured model into the scratch folder; returns why it is what it is."""
    source = Path(config.model.source)
    if config.model.source and not base.is_checkpoint(source):
        reason = _write_filled(config, config_file, scratch, source)
        base.note_taken(paths, base.fingerprint_of(source))
    elif config.model.source:
        _copy_base(config, config_file, scratch, source)
        base.note_taken(paths, base.fingerprint_of(source))
        reason = f"base model {source}"
    elif config.model.weights != UNTRAINED and packaged.fits(
        config.model.architecture, config.model.factory, config.model.classes
    ):
        _write_fresh(config, scratch, packaged.FOLDER)
        reason = "the base model that comes with the package"
        log.info("model base=builtin masks=rough until=first promoted round on labels of this camera")
    else:
        _write_fresh(config, scratch)
        reason = "untrained: no model.weights configured"
        log.warning(
            "model untrained masks=meaningless until=first promoted round, set model.weights to a "
            "folder made by 'dance-ondevice pretrain', or a file of weights, to start with a trained one"
        )
    return reason


def _copy_base(config: Config, config_file: str, scratch: Path, source: Path) -> None:
    """Copy the configured base model into the scratch folder, and run it there."""
    wanted = tuple(config.model.classes)
    try:
        found = tuple(base.read_card(base.folder_of(source)).get("classes") or ())
        if found == wanted:
            base.copy_in(source, scratch, wanted, procfs=Path(config.energy.procfs_root))
            return
        problem = f"{config.model.weights!r}, a model for {list(found)}"
        allowed = (
            f"a model for {list(wanted)}, in that order, as 'dance-ondevice pretrain' makes one; or, before "
            "anything is labelled, model.classes as that model has them"
        )
    except TimeoutError:
        raise  # the machine was too busy: the next start tries again
    except (OSError, ValueError) as error:
        problem = f"{config.model.weights!r} ({error})"
        allowed = (
            "a folder with model.safetensors and card.json, as 'dance-ondevice pretrain --out' makes, or a "
            "file of weights (.safetensors, .pt, .pth, .ckpt, .bin)"
        )
    raise ConfigError((Problem(config_file, "model.weights", problem, allowed),))


def is_untrained_live(versions: Versions) -> bool:
    """Whether the live model has not learnt anything yet; False where there is none."""
    live = versions.live()
    return live is not None and base.is_untrained(live.card)


def about(card: Mapping[str, Any]) -> str | None:
    """What ``status`` says of the base model that comes along, until a round has taught it more."""
    training = card.get("training") or {}
    try:
        made = packaged.card().training
    except CheckpointError:  # this installation comes without it
        return None
    if card.get("parent") is not None or training.get("dataset") != made["dataset"]:
        return None
    scores = ", ".join(f"{found['miou']:.2f} by {name}" for name, found in made["validation"].items())
    return (
        "the base model that comes along, which saw synthetic streets alone: its masks are rough until it "
        f"has learnt from labels of this camera (mIoU on such streets {scores}; on real ones less)"
    )


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
    if base.is_untrained(card):
        return "the live model is untrained: its masks mean nothing until a round is promoted"
    return None


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
                    "a file of weights (.safetensors, .pt, .pth, .ckpt, .bin) of the configured architecture "
                    "or factory",
                ),
            )
        ) from error
    card = decode((out / "card.json").read_bytes(), dict[str, Any])
    about = card["training"]["weights"]
    level = logging.INFO if warning(card) is None else logging.WARNING
    log.log(
        level,
        "model weights file=%s trained=%s result=%s",
        weights,
        not base.is_untrained(card),
        about["summary"],
    )
    return f"weights {weights}: {about['summary']}"


class _FactoryError(ValueError):
    """The user's factory makes no model; the message says why."""


def _write_fresh(config: Config, out: Path, weights: Path | None = None) -> None:
    width, height = config.model.size
    command = [
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
    ]
    try:
        done = subprocess.run(
            command, check=False, timeout=_LONGEST_SECONDS, stdout=subprocess.PIPE, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(
            f"the machine was too busy to make the first model within {_LONGEST_SECONDS} s; "
            "the next start tries again"
        ) from error
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
    size = (int(height), int(width))
    if weights and Path(weights[0]).is_dir():
        model, card = checkpoint.load(Path(weights[0]))
        # MACs are counted anew at the size that this service runs at.
        checkpoint.save(Path(out), model, replace(card, macs_at=size, unslimmed_macs=0), half=True)
        return 0
    names = tuple(json.loads(classes_json))
    torch.manual_seed(int(seed))
    try:
        model = (
            registry.build_from_factory(user_factory, len(names), new=True)
            if user_factory
            else registry.build(architecture, len(names))
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
        if wrong := checkpoint.not_finite(model.state_dict()):
            print(f"{weights[0]}: values that are not finite (NaN or infinite) in {wrong}")
            return _BAD_WEIGHTS
        training = {
            "untrained": not report.complete,
            "weights": {
                "file": weights[0],
                "sha256": base.fingerprint_of(Path(weights[0])),
                "loaded": len(report.loaded),
                "missing": report.missing,
                "misshapen": report.misshapen,
                "unexpected": report.unexpected,
                "summary": report.summary(),
            },
        }
    macs = count_macs(model, *size)
    card = ModelCard(
        version="base" if weights else "untrained",
        architecture="" if user_factory else architecture,
        factory=user_factory,
        classes=names,
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
