from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dance_ondevice import __version__
from dance_ondevice.daemon import cli
from dance_ondevice.daemon.cli import TABLE, Lazy, WorkFailed, main
from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.terminal import print_table


def run_python(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_command(monkeypatch: pytest.MonkeyPatch, command: click.Command) -> None:
    """Put a command into the table for one test."""
    monkeypatch.setattr(Lazy, "load", lambda _: command)


@pytest.mark.parametrize("name", list(TABLE))
def test_the_help_of_the_table_is_the_commands_own(name: str):
    assert TABLE[name].load().get_short_help_str(limit=200) == TABLE[name].help


def test_a_terminal_of_another_encoding_shows_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = click.Command(
        "status", callback=lambda: print_table("joules", ("day", "bar"), [("дом", "█▏ 3 °C")])
    )
    with_command(monkeypatch, bars)
    done = CliRunner(charset="latin-1").invoke(main, ["status"])
    assert (done.exit_code, done.exception) == (0, None)
    assert "?? 3 °C" in done.output


def test_the_help_of_a_group_has_whole_sentences():
    groups = [command for lazy in TABLE.values() if isinstance(command := lazy.load(), click.Group)]
    assert groups
    for group in groups:
        said = CliRunner(env={"COLUMNS": "80"}).invoke(group, ["--help"]).stdout
        commands = said.partition("Commands:")[2]
        assert commands.strip()
        assert "..." not in commands, group.name


@pytest.mark.parametrize("name", list(TABLE))
def test_a_command_is_called_as_the_table_says(name: str):
    assert TABLE[name].load().name == name


@pytest.mark.usefixtures("uncounted")
def test_help_lists_every_command_and_imports_none():
    code = (
        "import sys\nfrom dance_ondevice.daemon.cli import main\n"
        "main(['--help'], standalone_mode=False, max_content_width=200, terminal_width=200)\n"
        "print([m for m in sys.modules if m.startswith('dance_ondevice.daemon.commands')"
        " or m in ('msgspec', 'zmq', 'numpy', 'torch', 'rich', 'sqlite3')])"
    )
    *text, imported = run_python(code).splitlines()
    assert imported == "[]"
    for name, lazy in TABLE.items():
        assert any(line.split()[:1] == [name] and line.endswith(lazy.help) for line in text), name


@pytest.mark.slow
def test_no_command_imports_torch():
    code = (
        "import sys\nfrom dance_ondevice.daemon.cli import TABLE\n"
        "for lazy in TABLE.values(): lazy.load()\n"
        "print('torch' in sys.modules)"
    )
    assert run_python(code).strip() == "False"


def test_version():
    result = CliRunner().invoke(main, ["--version"])
    assert result.output.split()[-1] == __version__


def test_an_unknown_command_is_wrong_usage():
    result = CliRunner().invoke(main, ["dance"])
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output
    assert "Did you mean" not in result.output


@pytest.mark.parametrize(("typed", "meant"), [("train", "'train-now'?"), ("statuss", "'status'?")])
def test_a_command_that_is_nearly_one_is_answered_with_it(typed: str, meant: str):
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert f"No such command '{typed}'. Did you mean {meant}" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["simulate", "--budget", "nan"], "not a number that can be used"),
        (["stream", "x", "--fps", "inf"], "not a number that can be used"),
        (["samples", "list", "--limit", "9" * 20], "not in the range"),
        (["fleet", "init", "x", "--boards", "9" * 20], "more than 100,000"),
    ],
)
def test_numbers_that_are_none_or_too_large_are_wrong_usage(words: list[str], why: str):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert why in result.output


def test_failed_work_exits_1(monkeypatch: pytest.MonkeyPatch):
    @click.command()
    def failing() -> None:
        raise WorkFailed("the disk is full")

    with_command(monkeypatch, failing)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr


def test_a_bad_configuration_is_printed_in_full_and_exits_78(monkeypatch: pytest.MonkeyPatch):
    @click.group()
    def group() -> None:
        pass

    @group.command()
    def nested() -> None:
        raise ConfigError((Problem("f", "a.b", "1", "2"), Problem("f", "c.d", "3", "4")))

    with_command(monkeypatch, group)
    result = CliRunner().invoke(main, ["models", "nested"])
    assert result.exit_code == 78
    assert result.stderr == "f: a.b: found 1; allowed 2\nf: c.d: found 3; allowed 4\n"


def test_other_errors_are_not_swallowed(monkeypatch: pytest.MonkeyPatch):
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    with_command(monkeypatch, broken)
    assert isinstance(CliRunner().invoke(main, ["status"]).exception, ZeroDivisionError)


@pytest.mark.parametrize("wrapped", [False, True])
def test_files_of_the_service_are_no_traceback(monkeypatch: pytest.MonkeyPatch, wrapped: bool):
    @click.command()
    def closed() -> None:
        error = PermissionError(13, "Permission denied", "/var/lib/dance-ondevice/dance.db")
        if wrapped:
            raise WorkFailed(f"no backup was made: {error}") from error
        raise error

    with_command(monkeypatch, closed)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "dance.db'; run the command with sudo" in result.stderr


def test_ctrl_c_exits_130_quietly():
    code = """
import signal, sys, click
from dance_ondevice.daemon.cli import Lazy, main
# A shell that runs this in the background has it ignore SIGINT, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
@click.command()
def waiting():
    print("ready", flush=True)
    sys.stdin.read()
Lazy.load = lambda self: waiting
main(["status"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == errors == ""


def test_the_shared_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    @click.command()
    @cli.config_option
    @cli.state_dir_option
    @cli.json_option
    def shown(**options: object) -> None:
        click.echo(json.dumps(options, default=str))

    with_command(monkeypatch, shown)
    environ = {"DANCE_CONFIG": "/from/environment.toml"}
    result = CliRunner().invoke(main, ["status"], env=environ)
    assert json.loads(result.output) == {
        "config_path": "/from/environment.toml",
        "state_dir": None,
        "as_json": False,
    }
    environ["DANCE_STATE_DIR"] = "/from/environment"
    result = CliRunner().invoke(main, ["status"], env=environ)
    assert json.loads(result.output)["state_dir"] == "/from/environment"
    args = ["status", "--config", "mine.toml", "--state-dir", str(tmp_path), "--json"]
    result = CliRunner().invoke(main, args, env=environ)
    assert json.loads(result.output) == {
        "config_path": "mine.toml",
        "state_dir": str(tmp_path),
        "as_json": True,
    }


def test_the_state_folder_of_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site = tmp_path / "site.toml"
    site.write_text("[daemon]\nstate_dir = '/srv/site'\n[training]\nseed = 3\n")
    assert cli.load_config(site).config.daemon.state_dir == "/srv/site"
    monkeypatch.chdir(tmp_path)
    loaded = cli.load_config(site, Path("mine"), {"training.seed": 4})
    assert loaded.config.daemon.state_dir == str(tmp_path / "mine")
    assert loaded.config.training.seed == 4
    assert loaded.origins["daemon.state_dir"] == "command line"


def test_the_console_script_is_installed():
    script = Path(sys.executable).with_name("dance-ondevice")
    if not os.access(script, os.X_OK):
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout


def test_every_target_exists():
    for lazy in TABLE.values():
        assert importlib.util.find_spec(lazy.target.partition(":")[0]) is not None
