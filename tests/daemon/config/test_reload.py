from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dance_ondevice.daemon.config.load import ConfigError, items, load
from dance_ondevice.daemon.config.reload import LIVE_KEYS, Reloader, compare
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import Config


@pytest.fixture
def site(tmp_path: Path) -> Callable[[str], Path]:
    path = tmp_path / "site.toml"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


def test_live_keys_are_keys() -> None:
    assert set(RULES) >= LIVE_KEYS


def test_what_builds_things_waits_for_a_restart() -> None:
    """Sockets, meters, models and paths exist already when a configuration is reloaded."""
    building = ("daemon.", "ingest.", "model.", "inference.", "metrics.", "control.", "security.")
    assert not [key for key in LIVE_KEYS if key.startswith(building)]
    assert "energy.meter" not in LIVE_KEYS
    # The indicator is built for the scales; a stream's scores by another one could not be compared.
    assert not LIVE_KEYS & {"complexity.indicator", "data_slimming.scales"}


def test_a_difference_is_split_into_now_and_after_a_restart() -> None:
    running = Config()
    wanted = msgspec.structs.replace(
        running,
        energy=msgspec.structs.replace(running.energy, budget_joules_per_day=5.0, meter="rapl"),
        training=msgspec.structs.replace(running.training, interval="5m"),
    )
    changes = compare(running, wanted)
    assert changes.applied == {
        "energy.budget_joules_per_day": (20000.0, 5.0),
        "training.interval": ("30m", "5m"),
    }
    assert changes.restart == {"energy.meter": ("auto", "rapl")}
    assert dict(items(changes.config)) == {
        **dict(items(running)),
        "energy.budget_joules_per_day": 5.0,
        "training.interval": "5m",
    }
    assert changes.as_dict()["restart"] == {"energy.meter": {"from": "auto", "to": "rapl"}}


def test_the_file_is_read_again_and_its_live_part_applied(site: Callable[[str], Path]) -> None:
    applied: list[Config] = []
    reloader = Reloader(load(site("[training]\nseed = 1\n")), applied.append)
    site('[training]\nseed = 2\n[metrics]\nlisten = "127.0.0.1:1"\n')
    changes = reloader.reload()
    assert (set(changes.applied), set(changes.restart)) == ({"training.seed"}, {"metrics.listen"})
    assert [config.training.seed for config in applied] == [2]
    assert reloader.config.metrics.listen == Config().metrics.listen
    assert reloader.waiting == ("metrics.listen",)
    # Compared with what runs, not with what was read last: the same file changes nothing more.
    again = reloader.reload()
    assert (dict(again.applied), set(again.restart)) == ({}, {"metrics.listen"})
    assert len(applied) == 1
    site("[training]\nseed = 2\n")
    assert reloader.reload().restart == {}
    assert reloader.waiting == ()


def test_a_bad_file_changes_nothing_and_says_all_that_is_wrong(site: Callable[[str], Path]) -> None:
    applied: list[Config] = []
    reloader = Reloader(load(site("")), applied.append)
    site("[training]\nseed = -1\nepochs = 7\nspeed = 1\n")
    with pytest.raises(ConfigError) as error:
        reloader.reload()
    assert {problem.key for problem in error.value.problems} == {"training.seed", "training.speed"}
    assert applied == []
    assert reloader.config == Config()
    site("[training]\nepochs = 7\n")
    assert reloader.reload().config.training.epochs == 7


def test_a_file_that_is_gone_changes_nothing(site: Callable[[str], Path]) -> None:
    path = site("[training]\nseed = 3\n")
    reloader = Reloader(load(path), lambda config: None)
    path.unlink()
    with pytest.raises(ConfigError):
        reloader.reload()
    assert reloader.config.training.seed == 3


def test_the_command_line_still_goes_before_the_file(site: Callable[[str], Path], tmp_path: Path) -> None:
    path = site("[training]\nseed = 1\n")
    loaded = load(path, {"daemon.state_dir": str(tmp_path / "mine"), "training.seed": 9})
    reloader = Reloader(loaded, lambda config: None)
    site('[daemon]\nstate_dir = "/elsewhere"\n[training]\nseed = 2\nepochs = 3\n')
    changes = reloader.reload()
    assert set(changes.applied) == {"training.epochs"}
    assert not changes.restart


def test_what_a_restart_does_not_apply_is_not_promised(site: Callable[[str], Path]) -> None:
    remedy = "bring it in with `dance-ondevice models import base`"
    reloader = Reloader(load(site("")), lambda config: None, lambda wanted: {"model.architecture": remedy})
    assert reloader.reload().unapplied == {}  # nothing of it has changed
    site('[model]\narchitecture = "hrnet"\nsize = [64, 48]\n')
    told = reloader.reload().as_dict()
    assert set(told["restart"]) == {"model.size"}
    assert told["unapplied"] == {"model.architecture": remedy}
    assert reloader.waiting == ("model.size",)
