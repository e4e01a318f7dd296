from __future__ import annotations

import json
from pathlib import Path

import pytest

from dance_ondevice.daemon.config import load as config
from dance_ondevice.daemon.config.load import load, template
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.control.instances import register


def test_init_prints_the_template(run, tmp_path: Path):
    output = run("config", "init").stdout
    assert output == template()
    site = tmp_path / "site.toml"
    site.write_text(output)
    assert load(site).config == Config()


def test_check_says_that_a_file_is_valid(run, run_json, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text(template())
    assert str(site) in run("config", "check", "--config", str(site)).stdout
    assert run_json("config", "check", "--config", str(site)) == {
        "file": str(site),
        "valid": True,
        "problems": [],
    }


def test_check_without_a_file_checks_the_defaults(run):
    assert "defaults: valid" in run("config", "check").stdout


def test_check_lists_every_problem_and_exits_78(run, run_json, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text("[training]\nseed = -1\nspeed = 2\n")
    lines = run("config", "check", "--config", str(site), code=78).stderr.splitlines()
    assert lines[0] == f"{site}: training.seed: found -1; allowed an integer from 0 to 4294967295"
    assert lines[1].startswith(f"{site}: training.speed: found an unknown key; allowed one of ")
    answer = run_json("config", "check", "--config", str(site), code=78)
    assert [problem["key"] for problem in answer["problems"]] == ["training.seed", "training.speed"]
    assert not answer["valid"]


def test_the_environment_names_the_file(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DANCE_CONFIG", str(tmp_path / "missing.toml"))
    assert "missing.toml" in run("config", "check", code=78).stderr


def test_show_tells_values_and_origins(run, run_json, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text("[training]\nseed = 7\n")
    args = ("config", "show", "--config", str(site), "--state-dir", str(tmp_path / "s"))
    answer = run_json(*args)
    assert answer["file"] == str(site)
    values = answer["values"]
    assert values["training"]["seed"] == {"value": 7, "origin": str(site)}
    assert values["training"]["epochs"]["origin"] == "default"
    assert values["daemon"]["state_dir"] == {"value": str(tmp_path / "s"), "origin": "command line"}
    shown = {f"{section}.{key}" for section, keys in values.items() for key in keys}
    assert shown == {key for key, _ in config.items(Config())}
    table = run(*args).stdout
    assert all(key in table for key in shown)


def test_the_systems_file_is_found(run_json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = tmp_path / "config.toml"
    system.write_text("[training]\nseed = 9\n")
    monkeypatch.setattr(config, "DEFAULT_PATH", system)
    assert run_json("config", "show")["values"]["training"]["seed"] == {"value": 9, "origin": str(system)}


def test_a_command_that_loads_a_bad_configuration_exits_78(run, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text("[training\n")
    for command in (["status"], ["doctor"], ["samples", "list"], ["config", "show"]):
        assert f"{site}:1" in run(*command, "--config", str(site), code=78).stderr


def test_a_reload_without_a_daemon_says_so(run, tmp_path: Path):
    assert "no daemon runs" in run("config", "reload", "--state-dir", str(tmp_path), code=1).stderr


def test_a_reload_finds_the_daemon_although_its_file_is_wrong(run, tmp_path: Path, monkeypatch):
    site = tmp_path / "site.toml"
    site.write_text("[training]\nseed = -1\n")
    # No daemon to ask: then the mistakes themselves are the answer.
    assert "training.seed" in run("config", "reload", "--config", str(site), code=78).stderr
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    state = tmp_path / "state"
    register(state, "ipc:///nowhere", {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert str(state) in run("config", "reload", "--config", str(site), code=1).stderr


def test_json_is_json_for_every_kind_of_value(run):
    assert isinstance(json.loads(run("config", "show", "--json").stdout), dict)


def test_check_warns_of_threads_beyond_the_cores(run, run_json, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text("[training]\nthreads = 1024\n")
    answer = run_json("config", "check", "--config", str(site))
    assert answer["valid"]
    assert "training.threads = 1024" in answer["warnings"][0]
    assert "training.threads = 1024" in run("config", "check", "--config", str(site)).output
