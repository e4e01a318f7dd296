"""Checks that the user's own factories of networks work.

As a program (``python -m dance_ondevice.daemon.versions.factory FACTORY CLASSES``) it prints why one does
not, so that the daemon need not import the code, and torch with it.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import base
from dance_ondevice.daemon.versions.versions import read_pointer
from dance_ondevice.models.registry import ModelError, build_from_factory

log = logging.getLogger(__name__)

_MOST_TEXT = 400
_SECONDS = 100.0
#: Stands before the answer of the program.
_MARK = "\x1e"


def problems(config: Config, config_file: str) -> Iterator[Problem]:
    """The problems of the configured factories: each is imported and called, and its model is tried."""
    for key, factory, new in (
        ("model.factory", config.model.factory, not has_model(config)),
        ("labels.teacher_factory", config.labels.teacher_factory, False),
    ):
        if factory and (wrong := failure(factory, len(config.model.classes), new=new)):
            yield problem(config_file, key, factory, wrong)


def has_model(config: Config) -> bool:
    """Whether a start takes a model of the configured factory that there is, and makes no new one.

    Such a model may be one that a new one must not be, such as one with a sigmoid at its end: it is served.
    """
    if not config.model.factory:
        return False
    paths, source = StatePaths(Path(config.daemon.state_dir)), Path(config.model.source)
    try:
        if pointer := read_pointer(paths):
            folder = paths.models / pointer.version
        elif config.model.source and base.is_checkpoint(source):
            folder = base.folder_of(source)
        else:
            return False
        return base.read_card(folder).get("factory") == config.model.factory
    except (OSError, ValueError):  # there is none, or it is not for this user to see
        return False


def weakness(factory: str, n_classes: int) -> str:
    """What keeps rounds from training the model that a start takes; "" if nothing does."""
    wrong = failure(factory, n_classes, new=True)
    return f"model.factory: rounds will fail or learn next to nothing: {wrong}" if wrong else ""


def failure(factory: str, n_classes: int, *, new: bool = False) -> str:
    """Why a factory makes no model that segments so many classes, in one line; "" if it does.

    Of a new one it is asked, too, whether rounds can train it.
    """
    try:
        build_from_factory(factory, n_classes, new=new)
    except ModelError as error:
        return one_line(str(error))
    return ""


def check(live: Mapping[str, Any], config: Config, config_file: str) -> None:
    """Check in a child that the factory of the live model works, if it has one; ``live`` is its card.

    Raises:
        ConfigError: The factory does not work.
    """
    factory = live.get("factory") or ""
    if not factory:
        return
    wrong, weak = _judged_in_child(factory, len(config.model.classes))
    if wrong:
        raise ConfigError((problem(config_file, "model.factory", factory, wrong),))
    if weak:
        log.warning("%s", weak)


def _judged_in_child(factory: str, n_classes: int) -> tuple[str, str]:
    """Why a factory makes no model, and why rounds cannot train it; "" each if they do."""
    command = [sys.executable, "-m", "dance_ondevice.daemon.versions.factory", factory, str(n_classes)]
    try:
        done = subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:  # the user's code ended the process
        lines = error.stderr.strip().splitlines()
        return one_line(lines[-1] if lines else f"its process ended with status {error.returncode}"), ""
    except subprocess.TimeoutExpired:
        return f"it took more than {_SECONDS:g} s", ""
    wrong, weak = done.stdout.split(_MARK)[-2:]
    return wrong.strip(), weak.strip()


def main(arguments: Sequence[str]) -> int:
    """Print why a factory makes no model, and why rounds cannot train it; nothing if they can."""
    factory, n_classes = arguments[0], int(arguments[1])
    wrong = failure(factory, n_classes)
    weak = "" if wrong else weakness(factory, n_classes)
    # The user's code may print as well.
    print(f"{_MARK}{wrong}{_MARK}{weak}")
    return 0


def problem(config_file: str, key: str, factory: str, wrong: str) -> Problem:
    """A factory that does not work, as a problem of the configuration."""
    where = "beside the configuration, in a folder of DANCE_MODEL_PATH, or installed for this Python"
    return Problem(config_file, key, f'"{factory}" ({wrong})', f"a callable of a module that lies {where}")


def one_line(text: str) -> str:
    """A text without line breaks, cut to a readable length."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _MOST_TEXT else joined[: _MOST_TEXT - 3] + "..."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
