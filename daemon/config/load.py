"""Loads the configuration: TOML into frozen structs, all problems at once, the origin of each value."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.daemon.config.endpoints import ENDPOINTS, from_folder, wrong_endpoints
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import UNTRAINED, Config
from dance_ondevice.daemon.config.values import is_loopback, listen_address, tcp_host

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed where needed

__all__ = [
    "COMMAND_LINE",
    "DEFAULT_PATH",
    "ConfigError",
    "Loaded",
    "Problem",
    "find",
    "items",
    "load",
    "template",
    "toml_value",
]

#: Origin of a value that was given on the command line.
COMMAND_LINE = "command line"

DEFAULT_PATH = Path("/etc/dance-ondevice/config.toml")

#: Keys that hold a path: a relative one starts at the folder of the file that contains it.
_PATHS = (
    "daemon.state_dir",
    "model.weights",
    "labels.teacher",
    "training.anchors",
    "security.keys_dir",
    "fleet.kit",
)


@dataclass(frozen=True)
class Problem:
    """One problem of a configuration: file (and line if known), key, what was found, what is allowed."""

    file: str
    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: found {self.found}; allowed {self.allowed}"


class ConfigError(Exception):
    """A configuration that cannot be used, with all its problems."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Loaded:
    """A configuration, its file, and the origin of each ``section.key`` (file, "default", "command line")."""

    config: Config
    origins: Mapping[str, str]
    path: Path | None


def find(path: Path | None) -> Path | None:
    """The file to read: ``path`` if given, else ``DEFAULT_PATH`` if that exists, else None (defaults)."""
    return path or (DEFAULT_PATH if DEFAULT_PATH.is_file() else None)


def load(path: Path | None, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Read and check a configuration.

    Args:
        path: The TOML file; None takes the built-in defaults (see ``find`` for where commands search).
        overrides: Values from the command line by ``section.key``; they take precedence over the file.

    Raises:
        ConfigError: The file cannot be read, or holds unknown keys, wrong types or impossible values.
    """
    document: dict[str, Any] = {} if path is None else _read(path)
    problems: list[Problem] = []
    values: dict[str, object] = {}
    origins = dict.fromkeys(RULES, "default")
    for key, value in _flatten(document, str(path), problems):
        origins[key] = str(path)
        _accept(key, value, origins[key], values, problems)
    for key, value in (overrides or {}).items():
        origins[key] = COMMAND_LINE
        _accept(key, value, COMMAND_LINE, values, problems)
    for key in (*_PATHS, *ENDPOINTS):
        folder = Path.cwd() if path is None or origins[key] == COMMAND_LINE else path.absolute().parent
        if key in ENDPOINTS and key in values:
            values[key] = from_folder(values[key], folder)
        elif values.get(key) and values[key] != UNTRAINED:
            values[key] = str(folder / str(values[key]))
    config = _build(values)
    refused = {problem.key for problem in problems}
    problems += [p for p in _cross_checks(config, origins, path) if p.key not in refused]
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(config, origins, path)


def items(config: Config) -> Iterator[tuple[str, object]]:
    """Every ``section.key`` and its value, in the order of the file."""
    for section in msgspec.structs.fields(Config):
        struct = getattr(config, section.name)
        for key in msgspec.structs.fields(struct):
            yield f"{section.name}.{key.name}", getattr(struct, key.name)


def toml_value(value: object) -> str:
    """A configuration value as TOML source."""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}" if abs(value) < 1e16 else repr(value)
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def template() -> str:
    """A complete, commented configuration file with the default values."""
    lines = [
        "# Configuration of dance-ondevice: every key with its default, which a key that is left out keeps."
    ]
    section = ""
    for path, value in items(Config()):
        head, key = path.split(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        rule = RULES[path]
        lines += [f"# {rule.meaning}", f"# Allowed: {rule.allowed}.", f"{key} = {toml_value(value)}"]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        # Editors on Windows begin a file with a byte order mark, which TOML does not know.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        made = f"; `dance-ondevice config init > {path}` writes one" if missing else ""
        problem = Problem(str(path), "", error.strerror or str(error), f"a readable TOML file{made}")
        raise ConfigError((problem,)) from error
    except UnicodeDecodeError as error:
        raise ConfigError((Problem(str(path), "", f"{error}", "TOML in UTF-8"),)) from error
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError((Problem(str(path), "", "values nested too deeply", "TOML"),)) from error
    # The base class too: Python refuses to read numbers of thousands of digits.
    except ValueError as error:
        match = re.search(r"at line (\d+)", str(error))
        line = int(match[1]) if match else text.rstrip("\n").count("\n") + 1
        problem = Problem(f"{path}:{line}", "", f"a syntax error: {error}", "TOML")
        raise ConfigError((problem,)) from error
    return document


def _flatten(document: dict[str, Any], file: str, problems: list[Problem]) -> Iterator[tuple[str, object]]:
    sections = [field.name for field in msgspec.structs.fields(Config)]
    for section, table in document.items():
        if section not in sections:
            problems.append(Problem(file, section, "an unknown section", _suggest(section, sections)))
        elif not isinstance(table, dict):
            problems.append(Problem(file, section, _describe(table), f"a table: [{section}]"))
        else:
            yield from ((f"{section}.{key}", value) for key, value in table.items())


def _accept(key: str, value: object, file: str, values: dict[str, object], problems: list[Problem]) -> None:
    """Check one value; add it to ``values``, or its problem to ``problems``."""
    section, _, name = key.partition(".")
    if key not in RULES:
        known = [known.split(".")[1] for known in RULES if known.startswith(f"{section}.")]
        problems.append(Problem(file, key, "an unknown key", _suggest(name, known)))
        return
    rule = RULES[key]
    try:
        typed = msgspec.convert(value, _type(key))
    except msgspec.ValidationError:
        problems.append(Problem(file, key, _describe(value), rule.allowed))
        return
    if not rule.test(typed):
        found = "a value that is not shown" if rule.secret else _show(value)
        problems.append(Problem(file, key, found, rule.allowed))
    else:
        values[key] = typed


def _type(key: str) -> Any:
    section, _, name = key.partition(".")
    struct = type(getattr(Config(), section))
    return next(field.type for field in msgspec.structs.fields(struct) if field.name == name)


def _build(values: Mapping[str, object]) -> Config:
    sections: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    base = Config()
    changed = {name: msgspec.structs.replace(getattr(base, name), **kv) for name, kv in sections.items()}
    return msgspec.structs.replace(base, **changed)


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    choices = ", ".join(known)
    return f'one of {choices} (did you mean "{close[0]}"?)' if close else f"one of {choices}"


def _describe(value: object) -> str:
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    shown = _show(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{shown} ({kinds.get(type(value), type(value).__name__)})"


def _show(value: object) -> str:
    try:
        return toml_value(value)
    except (ValueError, RecursionError):  # thousands of digits, hundreds of levels
        return "a value too long to be shown"


def _is_there(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except OSError:  # a name that is too long
        return False


def _cross_checks(config: Config, origins: Mapping[str, str], path: Path | None) -> Iterator[Problem]:
    """Problems that only several keys together show."""

    def problem(key: str, found: object, allowed: str) -> Problem:
        file = origins[key] if origins[key] != "default" else str(path or "default")
        return Problem(file, key, toml_value(found), allowed)

    security = config.security
    if security.curve:
        if security.keys_dir and not _is_there(Path(security.keys_dir).is_dir):
            yield problem(
                "security.keys_dir", security.keys_dir, "a folder made by `dance-ondevice keys generate`"
            )
        if len(security.publishers) != len(config.ingest.subscribe):
            yield problem(
                "security.publishers",
                security.publishers,
                f"{len(config.ingest.subscribe)} client names, one for each endpoint of ingest.subscribe",
            )
    elif security.bind_camera_names:
        # Without CURVE the senders are unknown.
        yield problem("security.bind_camera_names", True, "false, or security.curve = true")
    if not security.allow_plain_remote:
        plain = "a loopback address such as 127.0.0.1, or security.allow_plain_remote = true"
        if config.metrics.enabled and not is_loopback(listen_address(config.metrics.listen)[0]):
            # CURVE protects only ZMQ: metrics are plain text in any case.
            yield problem("metrics.listen", config.metrics.listen, plain)
    if not security.allow_plain_remote and not security.curve:
        plain += ", or security.curve = true"
        binds = [("ingest.bind", bind) for bind in config.ingest.bind]
        binds += [("ingest.subscribe_bind", bind) for bind in config.ingest.subscribe_bind]
        if config.inference.enabled:
            binds.append(("inference.publish", config.inference.publish))
        for key, endpoint in binds:
            host = tcp_host(endpoint)
            if host is not None and not is_loopback(host):
                yield problem(key, endpoint, plain)
    ingest = config.ingest
    if not ingest.bind and not ingest.subscribe and not ingest.subscribe_bind:
        yield problem(
            "ingest.bind", ingest.bind, "at least one endpoint in bind, subscribe or subscribe_bind"
        )
    yield from (problem(key, found, allowed) for key, found, allowed in wrong_endpoints(config))
    energy = config.energy
    if energy.max_watts and energy.max_watts < energy.idle_watts:
        yield problem(
            "energy.max_watts", energy.max_watts, f"at least energy.idle_watts ({energy.idle_watts:g})"
        )
    for key, model in (("model.weights", config.model.weights), ("labels.teacher", config.labels.teacher)):
        if model not in ("", UNTRAINED) and not _is_there(Path(model).exists):
            yield problem(key, model, "a model that exists: a folder with model.safetensors and card.json")
    if config.labels.teacher and not config.labels.teacher_factory:
        teacher = Path(config.labels.teacher)
        known = teacher.suffix.lower() == ".onnx" or teacher.name in ("model.safetensors", "card.json")
        if not known and _is_there(teacher.is_file):
            yield problem(
                "labels.teacher",
                config.labels.teacher,
                "a folder with model.safetensors and card.json, or an .onnx file: of a model of OpenVINO, "
                "TensorRT or TFLite the ONNX file that it was made from",
            )
    if config.labels.self_training and (config.labels.teacher or config.labels.teacher_factory):
        yield problem("labels.self_training", True, "false where labels.teacher or teacher_factory is set")
    if config.fleet.kit and not _is_there(Path(config.fleet.kit).is_dir):
        yield problem("fleet.kit", config.fleet.kit, "a folder boards/NAME that `fleet init` made")
    if config.training.anchors and not _is_there(Path(config.training.anchors).is_dir):
        yield problem("training.anchors", config.training.anchors, "a folder that exists")
