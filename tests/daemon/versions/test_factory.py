"""Networks of the user's own: found beside the configuration, and told of when they do not work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.sections import Config, Model
from dance_ondevice.daemon.config.user_code import find_code
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import factory, first_model
from dance_ondevice.daemon.versions.versions import Versions

GOOD = """
from collections import OrderedDict
from torch import nn

class Net(nn.Module):
    def __init__(self, n, wrong=0):
        super().__init__()
        self.head, self.aux = nn.Conv2d(3, n + wrong, 3, 2, 1), nn.Conv2d(3, n, 1)

    def forward(self, x):
        return OrderedDict(out=self.head(x), aux=self.aux(x))
"""
#: What may be wrong with a user's module, and words of the line that says so.
FAULTS: dict[str, tuple[str, str]] = {
    "missing": ("", "cannot import"),
    "imports": ("import no_such_package_at_all\ndef make(n): pass", "no_such_package_at_all"),
    "syntax": ("def make(n:\n  pass", "SyntaxError"),
    "at_import": ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    "leaves": ("import sys\nsys.exit(3)", "SystemExit"),
    "nameless": (GOOD, "has no make"),
    "raises": ("def make(n): raise KeyError('weights')", "KeyError"),
    "nothing": ("def make(n): return None", "must return a torch.nn.Module"),
    "classes": (GOOD + "\ndef make(n): return Net(n, 1)", "gives 4 classes, 3 were requested"),
    "output": (
        "from torch import nn\nclass Net(nn.Conv2d):\n    def forward(self, x): return {'scores': x}\n"
        "def make(n): return Net(3, n, 1)",
        "a dict of 'scores'",
    ),
}


@pytest.fixture(autouse=True)
def no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCE_MODEL_PATH", "")


@pytest.fixture
def site(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a module and a configuration beside it that names its callable ``make``."""

    def write(name: str, source: str, section: str = "model", key: str = "factory") -> Path:
        if source:
            (tmp_path / f"{name}.py").write_text(source)
        text = f'[model]\nclasses = ["a", "b", "c"]\n[{section}]\n{key} = "{name}:make"\n'
        (tmp_path / "site.toml").write_text(
            text.replace("[model]\n[model]", "[model]").replace('"c"]\n[model]\n', '"c"]\n')
        )
        return tmp_path / "site.toml"

    return write


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("section", "key"), [("model", "factory"), ("labels", "teacher_factory")])
def test_config_check_finds_what_is_wrong(
    fault: str, section: str, key: str, site: Callable[..., Path]
) -> None:
    source, words = FAULTS[fault]
    file = site(f"faulty_{fault}_{section}", source, section, key)

    result = CliRunner().invoke(main, ["config", "check", "--config", str(file)])

    assert result.exit_code == 78
    (line,) = result.output.splitlines()
    assert f"{section}.{key}" in line
    assert words in line
    assert "beside the configuration" in line


@pytest.mark.parametrize(
    ("section", "key", "status"), [("model", "factory", 78), ("labels", "teacher_factory", 0)]
)
def test_a_model_that_rounds_cannot_train_may_be_a_teacher(
    section: str, key: str, status: int, site: Callable[..., Path]
) -> None:
    source = GOOD + "\ndef make(n): return Net(n).requires_grad_(False)"
    file = site(f"frozen_{section}", source, section, key)

    result = CliRunner().invoke(main, ["config", "check", "--config", str(file)])

    assert (result.exit_code, "in training mode" in result.output) == (status, bool(status))


@pytest.mark.parametrize("where", ["live", "weights", "another"])
def test_a_model_that_rounds_cannot_train_is_warned_of_where_a_start_takes_it(
    where: str, site: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"ends_in_a_sigmoid_{where}"
    source = "from torch import nn\ndef make(n): return nn.Sequential(nn.Conv2d(3, n, 1), nn.Sigmoid())"
    file = site(name, source)
    version = tmp_path / "state" / "models" / "v0001"
    version.mkdir(parents=True)
    (version / "model.safetensors").write_bytes(b"")
    card = {"factory": f"{name}:make" if where != "another" else "tiny:make"}
    (version / "card.json").write_text(json.dumps(card))
    if where == "weights":
        file.write_text(f'{file.read_text()}weights = "{version}"\n')
    else:
        (version.parent / "live.json").write_text('{"version": "v0001"}')

    result = CliRunner().invoke(
        main, ["config", "check", "--config", str(file), "--state-dir", str(version.parents[1])]
    )

    assert "leave its softmax (or sigmoid) out" in result.output
    if where == "another":
        assert result.exit_code == 78
        return
    assert result.exit_code == 0
    words = "model.factory: rounds will fail or learn next to nothing: "
    assert f"warning: {words}" in result.output
    factory.main([f"{name}:make", "3"])  # as a start calls it
    assert capsys.readouterr().out.startswith(f"\x1e\x1e{words}")


def test_a_module_is_found_beside_the_configuration_from_anywhere(
    site: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site("found_beside", GOOD + "\ndef make(n): return Net(n)")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    result = CliRunner().invoke(main, ["config", "check", "--config", str(Path("..") / file.name)])

    assert (result.exit_code, result.output) == (0, "../site.toml: valid\n")


def test_folders_that_are_named_come_after_that_of_the_configuration(tmp_path: Path) -> None:
    environ = {"DANCE_MODEL_PATH": f"/opt/models{os.pathsep}{tmp_path}"}
    config = Config(model=Model(factory="a:b"))

    for _ in range(2):
        find_code(config, tmp_path / "site.toml", environ)
    assert environ["DANCE_MODEL_PATH"] == f"{tmp_path}{os.pathsep}/opt/models"
    find_code(Config(), Path("/etc/x.toml"), environ)
    find_code(config, None, environ)
    assert environ["DANCE_MODEL_PATH"] == f"{tmp_path}{os.pathsep}/opt/models"


@pytest.mark.slow
def test_a_first_model_that_cannot_be_made_is_a_mistake_in_the_configuration(
    tmp_path: Path, paths: StatePaths, store: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty_net.py").write_text("print('hello')\ndef make(n): raise OSError('no\\nweights')")
    monkeypatch.setenv("DANCE_MODEL_PATH", str(tmp_path))
    config = Config(model=Model(classes=("a", "b"), factory="chatty_net:make", size=(64, 48)))

    with pytest.raises(ConfigError) as caught:
        first_model.ensure(config, "site.toml", paths, Versions(paths, store, now=lambda: 0.0))  # type: ignore[arg-type]

    failed = "factory chatty_net:make failed: OSError: no weights"
    assert str(caught.value).startswith(f'site.toml: model.factory: found "chatty_net:make" ({failed})')
    assert len(str(caught.value).splitlines()) == 1
