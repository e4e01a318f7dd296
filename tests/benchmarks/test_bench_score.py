"""``bench score``: models as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from small_models import SMALL

from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.benchmarks.score.report import ScoreReport
from dance_ondevice.benchmarks.tables import render
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.confusion import miou
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.mapping.class_map import ClassMap
from dance_ondevice.models.mapping.mapped import mapped
from dance_ondevice.models.registry import build
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate

SIZE = (64, 96)
BASE = ("highway", "lane", *STREET_CLASSES[1:])
#: The first class of the street stands for two of the network's.
MAP = ClassMap(
    base=BASE, members={STREET_CLASSES[0]: BASE[:2], **{name: (name,) for name in STREET_CLASSES[1:]}}
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model = mapped(build("espnetv2", len(BASE), SMALL["espnetv2"]), MAP, STREET_CLASSES)
    card = ModelCard(
        version="brought", architecture="espnetv2", arguments=SMALL["espnetv2"], classes=STREET_CLASSES,
        macs_at=SIZE, class_map=MAP,
    )  # fmt: skip
    checkpoint.save(tmp_path / "base", model, card)
    return tmp_path / "base"


@pytest.mark.usefixtures("one_thread_one_seed")
def test_a_model_with_a_class_map_is_scored_as_it_is(tmp_path: Path, camvid_tree: Path, base: Path) -> None:
    out = tmp_path / "score.json"
    words = ["bench", "score", "--dataset", "camvid", "--root", str(camvid_tree), "--size", "96x64"]
    done = CliRunner().invoke(main, [*words, "--model", str(base), "--out", str(out)])

    assert done.exit_code == 0, done.output
    found = as_body(read_result(out), ScoreReport).models["base"]
    assert found.class_map[STREET_CLASSES[0]] == list(BASE[:2])
    model, card = checkpoint.load(base)
    for split in ("val", "test"):
        samples = [
            TrainingSample(image, camvid_tree / f"{split}annot" / f"{image.stem}.png")
            for image in sorted((camvid_tree / split).iterdir())
        ]
        expected = miou(evaluate(model, samples, card.normalisation, len(STREET_CLASSES)))
        assert found.splits[split].miou == pytest.approx(expected)
        assert found.splits[split].images == 2
    assert f"highway, lane -> {STREET_CLASSES[0]}" in render(tmp_path)

    again = CliRunner().invoke(main, [*words, "--model", str(base), "--model", f"{base}/../base"])
    assert again.exit_code == 2
    assert "folders of the same name" in again.output
