from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice import complexity
from dance_ondevice.daemon.config import load as config
from dance_ondevice.daemon.config import rules
from dance_ondevice.daemon.config.load import ConfigError, load
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import is_loopback, listen_address, parse_duration
from dance_ondevice.energy import choose
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import registry


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site.toml"


def problems(site: Path, text: str, overrides: dict[str, object] | None = None) -> list[config.Problem]:
    site.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(site, overrides)
    return list(caught.value.problems)


def test_without_a_file_the_defaults_hold():
    loaded = load(None)
    assert loaded.config == Config()
    assert loaded.path is None
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.config.model.classes == STREET_CLASSES


def test_the_template_is_valid_and_says_the_defaults(site: Path):
    site.write_text(config.template())
    loaded = load(site)
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {str(site)}, "the template leaves a key out"


def test_the_template_comments_every_key():
    lines = config.template().splitlines()
    for key, rule in RULES.items():
        name = key.split(".")[1]
        assert any(
            lines[i - 2] == f"# {rule.meaning}" and line.startswith(f"{name} = ")
            for i, line in enumerate(lines)
        ), key


def test_every_key_has_a_rule_and_every_rule_a_key():
    assert [key for key, _ in config.items(Config())] == list(RULES)


def test_every_default_keeps_its_own_rule():
    for key, value in config.items(Config()):
        assert RULES[key].test(value), key


@pytest.mark.parametrize(
    ("key", "offered"),
    [
        ("model.architecture", registry.ARCHITECTURES),
        ("complexity.indicator", (*complexity.INDICATORS, complexity.LEARNT)),
        ("energy.meter", ("auto", *choose.SOURCES, "modelled")),
    ],
)
def test_what_the_method_offers_can_be_configured(key: str, offered: Iterable[str]) -> None:
    assert all(RULES[key].test(name) for name in offered)
    assert RULES[key].allowed == "one of " + ", ".join(f'"{name}"' for name in offered)


def test_no_list_of_what_the_method_offers_is_kept_twice() -> None:
    assert rules.ARCHITECTURES is registry.ARCHITECTURES
    assert tuple(complexity.INDICATORS) == rules.INDICATORS
    assert rules.SOURCES is choose.SOURCES


def test_reading_a_configuration_loads_nothing_for_arrays() -> None:
    """Every command reads it; the console, which computes nothing, would be half as large again."""
    code = (
        "import sys, dance_ondevice.daemon.config.load; print({'torch', 'cv2', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_values_come_from_the_file_and_the_command_line_wins(site: Path):
    site.write_text('[storage]\nquota_bytes = 5_000_000\n[training]\nseed = 4\ninterval = "2h"\n')
    loaded = load(site, {"training.seed": 5})
    assert loaded.config.storage.quota_bytes == 5_000_000
    assert loaded.config.training.seed == 5
    assert loaded.config.training.interval == "2h"
    assert loaded.origins["storage.quota_bytes"] == str(site)
    assert loaded.origins["training.seed"] == "command line"
    assert loaded.origins["training.epochs"] == "default"


def test_all_problems_are_reported_at_once(site: Path):
    found = problems(
        site,
        """
        colour = 1
        [daemon]
        state_dri = "/x"
        [ingest]
        queue_frames = "many"
        max_pixels = 0
        [nonsense]
        a = 1
        [training]
        interval = 30
        precision = "fp8"
        """,
    )
    assert {problem.key for problem in found} == {
        "colour",
        "daemon.state_dri",
        "ingest.queue_frames",
        "ingest.max_pixels",
        "nonsense",
        "training.interval",
        "training.precision",
    }
    for problem in found:
        assert problem.file == str(site)
        assert problem.found
        assert problem.allowed
    by_key = {problem.key: problem for problem in found}
    assert 'did you mean "state_dir"' in by_key["daemon.state_dri"].allowed
    assert by_key["ingest.queue_frames"].found == '"many" (a text)'
    assert by_key["ingest.max_pixels"].found == "0"
    assert "from 1" in by_key["ingest.max_pixels"].allowed
    assert by_key["training.interval"].found == "30 (an integer)"
    assert '"fp32"' in by_key["training.precision"].allowed


def test_a_problem_reads_as_one_line(site: Path):
    (problem,) = problems(site, "[storage]\nquota_bytes = 1\n")
    assert str(problem) == (
        f"{site}: storage.quota_bytes: found 1; allowed an integer from 1048576 to 9223372036854775807"
    )


def test_an_unknown_section_suggests_the_nearest(site: Path):
    (problem,) = problems(site, "[data_sliming]\nscales = [1.0]\n")
    assert 'did you mean "data_slimming"' in problem.allowed


def test_a_section_must_be_a_table(site: Path):
    (problem,) = problems(site, "ingest = 3\n")
    assert problem.key == "ingest"
    assert "[ingest]" in problem.allowed


def test_a_byte_order_mark_is_no_syntax_error(site: Path) -> None:
    """As editors on Windows write it."""
    site.write_bytes(b'\xef\xbb\xbf[model]\r\nclasses = ["road", "rail"]\r\n')
    assert load(site).config.model.classes == ("road", "rail")


def test_a_syntax_error_gives_file_and_line(site: Path):
    (problem,) = problems(site, "[ingest]\nqueue_frames = 3\nbind = [\n")
    assert problem.file == f"{site}:3"
    (problem,) = problems(site, "[ingest]\nqueue_frames == 3\n")
    assert problem.file == f"{site}:2"


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"No such file.*config init > .*none.toml"):
        load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(binary)


def test_deep_nesting_is_a_problem_and_no_crash(site: Path):
    (problem,) = problems(site, "a = " + "[" * 100_000)
    assert problem.file.startswith(str(site))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[model]\nclasses = ['road']", "model.classes"),
        ("[model]\nclasses = ['road', 'road']", "model.classes"),
        ("[model]\nsize = [480]", "model.size"),
        ("[model]\nsize = [480, 8]", "model.size"),
        ("[model]\narchitecture = 'unet'", "model.architecture"),
        ("[model]\nfactory = 'package.module'", "model.factory"),
        ("[model]\nweights = 'missing/'", "model.weights"),
        ("[labels]\nteacher = 'site.toml'", "labels.teacher"),
        ("[data_slimming]\nscales = []", "data_slimming.scales"),
        ("[data_slimming]\nscales = [1.0, 1.0]", "data_slimming.scales"),
        ("[data_slimming]\nscales = [2.0]", "data_slimming.scales"),
        ("[data_slimming]\ndrop_fraction = 1.0", "data_slimming.drop_fraction"),
        ("[data_slimming]\ndrop_fraction = nan", "data_slimming.drop_fraction"),
        ("[data_slimming]\nenabled = 1", "data_slimming.enabled"),
        ("[training]\nwindow = '25:00-26:00'", "training.window"),
        ("[training]\nwindow = '1:00-2:00'", "training.window"),
        ("[training]\nmax_round_duration = '0s'", "training.max_round_duration"),
        ("[training]\nepochs = true", "training.epochs"),
        ("[training]\nlearning_rate = inf", "training.learning_rate"),
        ("[ingest]\nbind = ['tcp://127.0.0.1']", "ingest.bind"),
        ("[ingest]\nbind = ['tcp://127.0.0.1:70000']", "ingest.bind"),
        ("[ingest]\nbind = ['tcp://127.0.0.1:5', 'tcp://127.0.0.1:5']", "ingest.bind"),
        ("[ingest]\nbind = []", "ingest.bind"),
        ("[ingest]\nsubscribe = ['tcp://127.0.0.1:0']", "ingest.subscribe"),
        ("[inference]\npublish = 'tcp://127.0.0.1:5555'", "inference.publish"),
        ("[metrics]\nlisten = '9747'", "metrics.listen"),
        ("[metrics]\nlisten = '127.0.0.1:99999'", "metrics.listen"),
        ("[control]\nendpoint = 'tcp://127.0.0.1:1'", "control.endpoint"),
        ("[energy]\nmeter = 'guess'", "energy.meter"),
        ("[energy]\nidle_watts = 9\nmax_watts = 3", "energy.max_watts"),
        ("[energy]\nprocfs_root = 'proc'", "energy.procfs_root"),
        ("[daemon]\nstate_dir = ''", "daemon.state_dir"),
        ("[daemon]\nstate_dir = '~/state'", "daemon.state_dir"),
        ("[daemon]\nstate_dir = '$HOME/state'", "daemon.state_dir"),
        ("[promotion]\nmax_class_drop = -0.1", "promotion.max_class_drop"),
        ("[storage]\nquota_bytes = 1979-05-27", "storage.quota_bytes"),
        ("[storage]\nquota_bytes = {a = 1}", "storage.quota_bytes"),
    ],
)
def test_an_impossible_value_is_refused(site: Path, text: str, key: str):
    assert [problem.key for problem in problems(site, text)] == [key]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("ingest", "bind", "['tcp://0.0.0.0:5555']"),
        ("ingest", "bind", "['tcp://*:5555']"),
        ("ingest", "bind", "['tcp://[::]:5555']"),
        ("ingest", "bind", "['tcp://eth0:5555']"),
        ("inference", "publish", "'tcp://192.168.1.7:5556'"),
        ("metrics", "listen", "'0.0.0.0:9747'"),
    ],
)
def test_a_bind_beyond_loopback_needs_leave(site: Path, section: str, key: str, value: str):
    text = f"[{section}]\n{key} = {value}\n"
    (problem,) = problems(site, text)
    assert problem.key == f"{section}.{key}"
    assert "allow_plain_remote" in problem.allowed
    site.write_text(text + "[security]\nallow_plain_remote = true\n")
    load(site)


REMOTE = "[ingest]\nbind = ['tcp://*:5555']\n[inference]\npublish = 'tcp://*:5556'\n"


def test_curve_opens_zmq_to_other_machines(site: Path):
    (site.parent / "keys").mkdir()
    site.write_text(REMOTE + "[security]\ncurve = true\nkeys_dir = 'keys'\n")
    assert load(site).config.security.keys_dir == str(site.parent / "keys")
    site.write_text(REMOTE + "[security]\ncurve = true\n")
    assert load(site).config.security.keys_dir == "", "systemd may hand the keys over"


def test_curve_does_not_cover_metrics(site: Path):
    text = REMOTE + "[metrics]\nlisten = '0.0.0.0:9747'\n[security]\ncurve = true\n"
    assert [problem.key for problem in problems(site, text)] == ["metrics.listen"]
    site.write_text(text + "allow_plain_remote = true\n")
    load(site)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("curve = true\nkeys_dir = 'nowhere'", "security.keys_dir"),
        ("curve = true\npublishers = ['front']", "security.publishers"),
        ("publishers = ['../front']", "security.publishers"),
        ("curve = true\n[ingest]\nsubscribe = ['tcp://10.0.0.2:5555']", "security.publishers"),
        ("bind_camera_names = true", "security.bind_camera_names"),
        ("[ingest]\nmax_frames_per_second = -1", "ingest.max_frames_per_second"),
        ("[ingest]\nmax_bytes_per_second = 0.5", "ingest.max_bytes_per_second"),
    ],
)
def test_security_that_would_not_hold_is_refused(site: Path, text: str, key: str):
    assert [problem.key for problem in problems(site, f"[security]\n{text}\n")] == [key]


def test_what_is_switched_off_is_not_checked_for_reach(site: Path):
    site.write_text(
        "[metrics]\nenabled = false\nlisten = '0.0.0.0:1'\n"
        "[inference]\nenabled = false\npublish = 'tcp://*:2'\n"
    )
    load(site)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5555", "tcp://localhost:5555", "tcp://[::1]:5555", "ipc:///run/x.sock"]
)
def test_local_endpoints_need_no_leave(site: Path, endpoint: str):
    site.write_text(f"[ingest]\nbind = ['{endpoint}', 'tcp://127.0.0.1:*']\n")
    assert load(site).config.ingest.bind[0] == endpoint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[ingest]\nbind = ['tcp://127.0.0.1:9747']", "metrics.listen"),
        ("[ingest]\nbind = ['tcp://localhost:5556']", "inference.publish"),
        ("[ingest]\nbind = ['tcp://127.0.0.1:7', 'tcp://localhost:7']", "ingest.bind"),
        ("[metrics]\nlisten = '[::1]:5555'\n[ingest]\nbind = ['tcp://[::1]:5555']", "metrics.listen"),
        ("[metrics]\nlisten = '0.0.0.0:5555'\n[security]\nallow_plain_remote = true", "metrics.listen"),
        ("[metrics]\nlisten = '[::]:5555'\n[security]\nallow_plain_remote = true", "metrics.listen"),
        ("[ingest]\nbind = ['ipc:///a']\n[inference]\npublish = 'ipc:///a'", "inference.publish"),
        (f"[ingest]\nbind = ['ipc:///{'a' * 107}']", "ingest.bind"),
        (f"[ingest]\nsubscribe = ['ipc:///{'ä' * 54}']", "ingest.subscribe"),
        (f"[control]\nendpoint = 'ipc:///{'a' * 107}'", "control.endpoint"),
    ],
)
def test_addresses_that_no_start_could_bind_are_refused(site: Path, text: str, key: str):
    assert [problem.key for problem in problems(site, text)] == [key]


@pytest.mark.parametrize(
    "text",
    [
        "[ingest]\nbind = ['tcp://127.0.0.1:0']\n[inference]\npublish = 'tcp://127.0.0.1:0'",
        "[ingest]\nbind = ['tcp://127.0.0.1:9747']\n[metrics]\nenabled = false",
        f"[ingest]\nbind = ['ipc:///{'a' * 106}', 'tcp://[::1]:5556']",
        "[ingest]\nbind = ['tcp://0.0.0.0:5', 'tcp://[::1]:5']\n[security]\nallow_plain_remote = true",
        "[ingest]\nbind = ['ipc://*']\n[inference]\npublish = 'ipc://*'",
    ],
)
def test_addresses_that_can_be_bound_are_not_refused(site: Path, text: str):
    site.write_text(text)
    load(site)


def test_relative_paths_of_sockets_start_from_the_files_folder(site: Path):
    site.write_text(
        "[ingest]\nbind = ['ipc://in.sock', 'ipc://@abstract', 'ipc://*']\nsubscribe = ['ipc://x/y.sock']\n"
    )
    ingest = load(site).config.ingest
    assert ingest.bind == (f"ipc://{site.parent}/in.sock", "ipc://@abstract", "ipc://*")
    assert ingest.subscribe == (f"ipc://{site.parent}/x/y.sock",)


def test_relative_paths_start_from_the_files_folder(site: Path, monkeypatch: pytest.MonkeyPatch):
    (site.parent / "base").mkdir()
    site.write_text("[daemon]\nstate_dir = 'state'\n[model]\nweights = 'base'\n")
    elsewhere = site.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load(site).config
    assert loaded.daemon.state_dir == str(site.parent / "state")
    assert loaded.model.weights == str(site.parent / "base")
    assert load(site, {"daemon.state_dir": "mine"}).config.daemon.state_dir == str(elsewhere / "mine")


def test_a_wrong_override_names_the_command_line(site: Path):
    site.write_text("")
    with pytest.raises(ConfigError) as caught:
        load(site, {"training.seed": -1})
    assert caught.value.problems[0].file == "command line"


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45.0), ("30m", 1800.0), ("2h", 7200.0), ("1d", 86400.0), ("0.5s", 0.5)]
)
def test_durations(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-1s", "1w", "1e3s", "1m30s", "inf"])
def test_what_is_no_duration(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_listen_addresses():
    assert listen_address("127.0.0.1:9747") == ("127.0.0.1", 9747)
    assert listen_address("[::1]:1") == ("::1", 1)
    assert is_loopback("127.8.9.1")
    assert not is_loopback("*")


def test_find_prefers_the_given_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = tmp_path / "config.toml"
    monkeypatch.setattr(config, "DEFAULT_PATH", system)
    assert config.find(None) is None
    system.touch()
    assert config.find(None) == system
    assert config.find(tmp_path / "mine.toml") == tmp_path / "mine.toml"


scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet="a1:/.-\0é", max_size=12),
    st.lists(st.integers(-1, 2) | st.sampled_from(["", "tcp://*:1"]), max_size=3),
)


@given(st.dictionaries(st.sampled_from([*RULES, "ingest.x", "y.z"]), scalars, max_size=6))
def test_any_values_either_load_or_are_problems(overrides: dict[str, object]):
    try:
        loaded = load(None, overrides)
    except ConfigError as error:
        said = error.problems
    else:
        said = ()
        assert all(RULES[key].test(value) for key, value in config.items(loaded.config))
    wrong = {problem.key for problem in said}
    assert wrong >= overrides.keys() - RULES.keys()
    assert all(problem.found and problem.allowed for problem in said)


def test_importing_the_configuration_imports_nothing_heavy():
    code = (
        "import sys, dance_ondevice.daemon.config.load; "
        "print({'cv2', 'torch', 'zmq', 'sqlite_utils'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
