"""The class maps of the documentation work: written, trained from, refused, and in the examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from small_models import SMALL

from dance_ondevice.daemon.cli import main
from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models.checkpoint import load
from dance_ondevice.models.forward import predict
from dance_ondevice.models.mapping.class_map import read_class_map
from dance_ondevice.models.registry import build

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks() -> list[str]:
    page = (DOCS / "your-own-data.md").read_text()
    return re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's folder: configuration, class map, images, labels, and weights of six classes."""
    monkeypatch.chdir(tmp_path)
    config, class_map = blocks()[:2]
    (tmp_path / "site.toml").write_text(config.replace("[320, 240]", "[64, 48]"))
    (tmp_path / "map.toml").write_text(class_map)
    rng = np.random.default_rng(0)
    for folder, encode in (("images", encode_jpeg), ("labels", encode_png)):
        (tmp_path / folder).mkdir()
        for name in "abcde":
            shape = (48, 64, 3) if folder == "images" else (48, 64)
            picture = rng.integers(0, 256 if folder == "images" else 3, shape, np.uint8)
            suffix = "jpg" if folder == "images" else "png"
            (tmp_path / folder / f"{name}.{suffix}").write_bytes(encode(picture))
    torch.manual_seed(0)
    state = build("espnetv2", 6, SMALL["espnetv2"]).state_dict()
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    return tmp_path


def pretrain(*more: object) -> Result:
    words = ("--images", "images", "--labels", "labels", "--config", "site.toml", "--out", "base", "--force")
    return CliRunner().invoke(main, ["pretrain", *words, *map(str, more)])


WORDS = ("--init", "weights.safetensors", "--class-map", "map.toml", "--architecture", "espnetv2")


@pytest.mark.slow
def test_weights_of_other_classes_become_a_base_of_the_sites(site: Path) -> None:
    done = pretrain(*WORDS, "--epochs", 0, "--json")
    assert done.exit_code == 0, done.output
    model, card = load(site / "base")
    assert card.classes == ("ballast", "rail", "person")
    assert card.class_map is not None
    assert card.class_map.members["person"] == ("worker", "passenger")
    image = cv2.imread("images/a.jpg")
    before = predict(model, image, card.normalisation).mask
    assert set(np.unique(before)) <= {0, 1, 2}

    trained = pretrain(
        "--init", "base", "--class-map", "map.toml", "--architecture", "espnetv2", "--epochs", 1
    )
    assert trained.exit_code == 0, trained.output
    _, again = load(site / "base")
    assert (again.class_map, again.parent) == (card.class_map, card.version)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--class-map", "map.toml"), "name it by --init"),
        (("--init", "weights.safetensors"), "does not say what its classes are: give --class-map"),
        ((*WORDS[:4], "--architecture", "fastscnn", "--epochs", 0), "weights of the architecture espnetv2"),
        (("--epochs", 0), "0 writes the model of --init as it is"),
    ],
)
def test_what_does_not_go_together_is_said(site: Path, words: tuple[Any, ...], said: str) -> None:
    done = pretrain(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_a_class_that_is_forgotten_is_named(site: Path) -> None:
    file = site / "map.toml"
    file.write_text(file.read_text().replace('["sleeper", "gravel"]', '["gravel"]'))
    done = pretrain(*WORDS, "--epochs", 0)
    assert done.exit_code == 2
    assert "sleeper of the network is not mapped" in " ".join(done.output.split())
    assert not (site / "base" / "card.json").exists()


def test_the_examples_map_to_the_classes_of_their_data_sets() -> None:
    from dance_ondevice.images.labels import STREET_CLASSES as CLASSES

    found = read_class_map(DOCS / "examples" / "camvid-from-cityscapes.toml", CLASSES)
    assert len(found.base) == 20
    assert json.loads(json.dumps(found.members["tree"])) == ["vegetation", "terrain"]
    other = read_class_map(DOCS / "examples" / "idd-lite-from-cityscapes.toml", IDD_LITE_CLASSES)
    assert other.base == found.base
    assert other.members["non-drivable"] == ("sidewalk", "terrain")
    read_class_map(DOCS / "examples" / "idd-lite-from-street.toml", IDD_LITE_CLASSES, STREET_CLASSES)
