"""Checks that the user's own factories of networks work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.models.registry import ModelError, build_from_factory

_MOST_TEXT = 400


def problems(config: Config, config_file: str) -> Iterator[Problem]:
    """The problems of the configured factories: each is imported and called, and its model is tried."""
    for key, factory in (
        ("model.factory", config.model.factory),
        ("labels.teacher_factory", config.labels.teacher_factory),
    ):
        if factory and (wrong := failure(factory, len(config.model.classes))):
            yield problem(config_file, key, factory, wrong)


def failure(factory: str, n_classes: int) -> str:
    """Why a factory makes no model that segments so many classes, in one line; "" if it does."""
    try:
        build_from_factory(factory, n_classes)
    except ModelError as error:
        return one_line(str(error))
    return ""


def check(live: Mapping[str, Any], config: Config, config_file: str) -> None:
    """Check that the factory of the live model works, if it has one; ``live`` is its card.

    Raises:
        ConfigError: The factory does not work.
    """
    factory = live.get("factory") or ""
    if factory and (wrong := failure(factory, len(config.model.classes))):
        raise ConfigError((problem(config_file, "model.factory", factory, wrong),))


def problem(config_file: str, key: str, factory: str, wrong: str) -> Problem:
    """A factory that does not work, as a problem of the configuration."""
    where = "beside the configuration, in a folder of DANCE_MODEL_PATH, or installed for this Python"
    return Problem(config_file, key, f'"{factory}" ({wrong})', f"a callable of a module that lies {where}")


def one_line(text: str) -> str:
    """A text without line breaks, cut to a readable length."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _MOST_TEXT else joined[: _MOST_TEXT - 3] + "..."
