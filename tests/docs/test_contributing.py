"""The examples of CONTRIBUTING.md, added as the page says and used as anybody would use them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dance_ondevice import complexity
from dance_ondevice.daemon.planning import scope
from dance_ondevice.energy import choose
from dance_ondevice.label_formats import reader
from dance_ondevice.models import registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FINDINGS = ROOT / "findings"
BLOCKS = dict(re.findall(r"```python\n# ([^\n]+)\n(.*?)```", PAGE, re.DOTALL))


def module(monkeypatch: pytest.MonkeyPatch, path: str, **names: Any) -> ModuleType:
    """The module that a block of the page would be, importable by the name of its file."""
    name = path.removesuffix(".py").replace("/", ".")
    made = ModuleType(name if name.startswith("dance_ondevice") else f"dance_ondevice.{name}")
    made.__dict__.update(names)
    exec("from __future__ import annotations\n" + BLOCKS[path], made.__dict__)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def row(text: str, **names: Any) -> Any:
    return eval(BLOCKS[f"a row of {text}"], names)


def test_a_meter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = module(monkeypatch, "dance_ondevice/energy/example.py")
    new = row("dance_ondevice/energy/choose.py: TABLE", Source=choose.Source, open_example=made.open_example)
    monkeypatch.setattr(choose, "TABLE", (*choose.TABLE, new))
    section = re.search(r"@auto (\w+) ([\d.]+)\n(\S+): (\d+)\n", PAGE)
    assert section is not None
    name, watts, file, value = section.groups()
    machine = choose.Machine(sysfs=tmp_path, run=lambda _: "")
    before, _ = choose.best_meter(machine)
    assert before is None
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(value)
    meter, _ = choose.best_meter(machine)
    assert meter is not None
    meter.read(0.0)
    seconds = 1.0
    assert (meter.source, meter.read(seconds).joules) == (name, pytest.approx(float(watts) * seconds))


def test_an_indicator(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module(monkeypatch, "dance_ondevice/complexity.py", **vars(complexity))
    new = row("dance_ondevice/complexity.py: INDICATORS", GreyRange=made.GreyRange)
    monkeypatch.setattr(complexity, "INDICATORS", {**complexity.INDICATORS, **new})
    indicator = complexity.make_indicator("grey_range", (1.0, 0.5))
    flat, ramp = np.full((8, 8), 90, np.uint8), np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    assert indicator.measure(flat).score == 0
    assert indicator.measure(ramp).score == pytest.approx(0.9, abs=0.02)


def test_a_label_format(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module(monkeypatch, "dance_ondevice/label_formats/boxes.py")
    new = row("dance_ondevice/label_formats/reader.py: FORMATS", LabelFormat=reader.LabelFormat, boxes=made)
    monkeypatch.setattr(reader, "FORMATS", {**reader.FORMATS, **new})
    found = reader.read_bytes("a.txt", b"#boxes\nf1.jpg 10 8 car 2 2 6 5\n")
    (image,) = found.images
    mask = np.zeros((8, 10), np.uint8)
    image.regions[0].paint(mask, 1)
    assert (image.image, image.regions[0].name, int(mask.sum())) == ("f1.jpg", "car", 12)
    with pytest.raises(reader.FormatError, match="not a box"):
        reader.read_bytes("a.txt", b"#boxes\nf1.jpg 10\n")


@pytest.mark.slow
def test_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    module(monkeypatch, "dance_ondevice/models/tiny.py")
    new = row("dance_ondevice/models/registry.py: ARCHITECTURES")
    monkeypatch.setattr(registry, "ARCHITECTURES", {**registry.ARCHITECTURES, **new})
    model = registry.build("tiny", 5, {"width": 8})
    assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 16, 24)


def test_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = module(monkeypatch, "policies/budget/reserve.py").keep_for_night
    assert (keep(1000.0, 0.1, 2.0), keep(100.0, 1.0, 1.0)) == (280.0, 0.0)


def test_a_kind_of_round(monkeypatch: pytest.MonkeyPatch) -> None:
    careful = module(monkeypatch, "daemon/planning/scope.py", **vars(scope)).CAREFUL
    assert (careful.kind, careful.slims, careful.distils) == ("whole", False, True)


@pytest.mark.parametrize("file", sorted(FINDINGS.glob("*")), ids=lambda file: file.name)
def test_a_finding_has_the_form_that_the_page_asks_for(file: Path) -> None:
    text = file.read_text()
    first, comment = text.split("\n", 1)
    assert first in ("#!/usr/bin/env bash", "#!/bin/sh")
    assert comment.startswith("# "), "what is found, and in which version"
    assert os.access(file, os.X_OK)
    assert re.search(r"^(\w+)=\$\(mktemp -d\)\ntrap 'rm -rf \"\$\1\"' EXIT$", text, re.M)
    packages = re.findall(r"pip\"? install (.*)", text.replace("\\\n", ""))
    of_npm = re.findall(r"npm install [^'\n]*'([^'\n]+)'", text)
    assert packages or of_npm
    for name in (word for line in packages for word in re.findall(r"'([^']+)'|(\b[a-z][\w-]+==\S+)", line)):
        assert re.search(r"==\d", "".join(name)), name
    for name in of_npm:
        assert re.search(r"@\d", name), name
