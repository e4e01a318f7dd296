"""The command line ``dance-ondevice``: a table of commands that are imported only when they are called."""

from __future__ import annotations

import importlib
import io
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dance_ondevice import __version__
from dance_ondevice.daemon.system.owner import AS_SERVICE

if TYPE_CHECKING:
    from dance_ondevice.daemon.config.load import Loaded

EXIT_BAD_CONFIG = 78
EXIT_INTERRUPTED = 130

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number within limits; "nan", which is neither below nor above any, and "inf" are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a number that can be used", param, ctx)
        return found


@dataclass(frozen=True)
class Lazy:
    """The import path of a command ("module:attribute") and its line in the help."""

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is not a click command")
        return command


_COMMANDS = "dance_ondevice.daemon.commands"

#: Every command, in the order of the help.
TABLE: Mapping[str, Lazy] = {
    "run": Lazy(f"{_COMMANDS}.run:run", "Run the daemon until it is stopped."),
    "demo": Lazy("dance_ondevice.demo.command:demo", "Show the whole service at work on a synthetic camera."),
    "stream": Lazy(
        f"{_COMMANDS}.stream:stream", "Send frames from a folder, video, camera or URL to a daemon."
    ),
    "status": Lazy(f"{_COMMANDS}.status:status", "Show what the daemon is doing."),
    "watch": Lazy(
        f"{_COMMANDS}.watch:watch", "Show masks over their frames, as an image, a video or a page."
    ),
    "console": Lazy(
        f"{_COMMANDS}.console:console", "Serve pages that show what the daemon does and take labels."
    ),
    "pause": Lazy(f"{_COMMANDS}.rounds:pause", "Start no more rounds until resumed."),
    "resume": Lazy(f"{_COMMANDS}.rounds:resume", "Let rounds start again."),
    "train-now": Lazy(f"{_COMMANDS}.rounds:train_now", "Run one round now."),
    "models": Lazy(
        f"{_COMMANDS}.models.versions:models",
        "List, show, import, promote, roll back and export model versions.",
    ),
    "classes": Lazy(
        f"{_COMMANDS}.models.classes:classes", "Show the classes of a state folder, or append one."
    ),
    "samples": Lazy(
        f"{_COMMANDS}.samples.listing:samples", "List, explain, export and remove stored samples."
    ),
    "labels": Lazy(
        f"{_COMMANDS}.samples.labels:labels", "Bring labels to stored samples, and take them back."
    ),
    "energy": Lazy(f"{_COMMANDS}.energy:energy", "Show joules by day, workload, source and method."),
    "simulate": Lazy(
        f"{_COMMANDS}.simulate:simulate", "Replay the stored stream under another energy budget."
    ),
    "pretrain": Lazy(
        f"{_COMMANDS}.models.pretrain:pretrain",
        "Train a base model and write it to --out: model.safetensors and card.json.",
    ),
    "bench": Lazy("dance_ondevice.benchmarks.command:bench", "Measure the method on labelled images."),
    "fleet": Lazy(f"{_COMMANDS}.fleet.command:fleet", "Let boards learn together without sharing images."),
    "config": Lazy(f"{_COMMANDS}.config:config", "Write, check and show the configuration."),
    "keys": Lazy(f"{_COMMANDS}.keys:keys", "Make the keys that encrypt sockets and tell clients apart."),
    "backup": Lazy(f"{_COMMANDS}.backup:backup", "Write the state folder into one tar FILE."),
    "restore": Lazy(f"{_COMMANDS}.backup:restore", "Unpack a backup FILE into an empty state folder."),
    "doctor": Lazy(f"{_COMMANDS}.doctor:doctor", "Check this machine and the state folder."),
}


class WorkFailed(click.ClickException):
    """A correctly used command failed in its work: exit status 1."""

    exit_code = 1


class CommandGroup(click.Group):
    """A group whose help lists its commands with whole sentences: click cuts them off at one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names, and the first sentence of each command's help over as many lines as it takes."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(limit=1000))
                    for name in self.list_commands(ctx)
                    if (command := self.get_command(ctx, name)) is not None
                ]
            )


class CommandTable(click.Group):
    """A group whose commands stay unimported until called, so that ``--help`` is quick on a slow board."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The imported command; None when there is none of this name."""
        return TABLE[cmd_name].load() if cmd_name in TABLE else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of a name that is none, say which ones are like it: click knows no lazy ones."""
        name = args[0]
        if name and name not in TABLE and not name.startswith("-"):
            import difflib  # for a slip alone

            begun = [each for each in TABLE if each.startswith(name)]
            near = begun or difflib.get_close_matches(name, TABLE)
            if near:
                ctx.fail(f"No such command {name!r}. Did you mean {' or '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in TABLE.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a bad configuration and Ctrl-C get their own exit statuses.

        Files of the service, which it shares with root alone, are an error of the user's like any other.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        except PermissionError as error:
            raise WorkFailed(f"{error}; {AS_SERVICE}") from error
        except WorkFailed as error:
            if not isinstance(error.__cause__, PermissionError) or AS_SERVICE in error.message:
                raise
            raise WorkFailed(f"{error.message}; {AS_SERVICE}") from error.__cause__
        except (
            Exception
        ) as error:  # only ConfigError is handled, which commands import with the configuration
            if not _is_config_error(error):
                raise
            click.echo(str(error), err=True)
            raise click.exceptions.Exit(EXIT_BAD_CONFIG) from error


def _is_config_error(error: Exception) -> bool:
    config = sys.modules.get("dance_ondevice.daemon.config.load")
    return config is not None and isinstance(error, config.ConfigError)


def config_option(function: AnyCallable) -> AnyCallable:
    """Add ``--config FILE``, passed as ``config_path: Path | None``."""
    return click.option(
        "--config",
        "config_path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="DANCE_CONFIG",
        show_envvar=True,
        help="Configuration; by default /etc/dance-ondevice/config.toml if it is there.",
    )(function)


def state_dir_option(function: AnyCallable) -> AnyCallable:
    """Add ``--state-dir DIR``, passed as ``state_dir: Path | None``."""
    return click.option(
        "--state-dir",
        "state_dir",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False, readable=False),
        envvar="DANCE_STATE_DIR",
        show_envvar=True,
        help="State folder of the daemon; by default that of the configuration or of the running daemon.",
    )(function)


def json_option(function: AnyCallable) -> AnyCallable:
    """Add ``--json``, passed as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def load_config(
    config_path: Path | None, state_dir: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Loaded:
    """The configuration that the shared options ask for.

    Raises:
        ConfigError: it cannot be used; left uncaught, the command line prints it in full and exits 78.
    """
    from dance_ondevice.daemon.config.load import find, load
    from dance_ondevice.daemon.config.user_code import find_code

    values = dict(overrides or {})
    if state_dir is not None:
        values["daemon.state_dir"] = str(state_dir.absolute())
    loaded = load(find(config_path), values)
    find_code(loaded.config, loaded.path, os.environ)
    return loaded


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dance-ondevice")
def main() -> None:
    """Keep a segmentation model fit for what its camera sees, for as few joules as it can."""
    # Makes waiting torch threads sleep, here and in child processes. Spinning costs joules, and on a busy
    # board it takes the core that the other threads wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A terminal whose encoding lacks a character, such as a bar or a class in another script, shows "?".
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
