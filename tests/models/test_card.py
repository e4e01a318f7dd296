from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.models.card import (
    CheckpointError,
    ModelCard,
    Normalisation,
    decode_card,
    encode_card,
    read_card,
)

CARD = ModelCard(
    version="v7",
    architecture="fastscnn",
    arguments={"auxiliary": True, "downsample": [8, 8, 16]},
    classes=("sky", "road"),
    normalisation=Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    parent="v6",
    created_at=1.5,
    channels={"a.b": (3, 8, 1)},
    macs_at=(240, 320),
    macs=50,
    unslimmed_macs=100,
    training={"steps": 3},
    gate={"miou": 0.5},
)


def test_a_card_comes_back_as_it_was(tmp_path: Path):
    assert decode_card(encode_card(CARD), "here") == CARD
    (tmp_path / "card.json").write_bytes(encode_card(CARD))
    for path in (tmp_path, tmp_path / "card.json", tmp_path / "model.safetensors"):
        assert read_card(path) == CARD


def test_a_card_reads_as_json():
    found = json.loads(encode_card(CARD))
    assert found["classes"] == ["sky", "road"]
    assert found["channels"] == {"a.b": [3, 8, 1]}
    assert found["normalisation"] == {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def test_macs_fraction():
    assert CARD.macs_fraction == 0.5
    assert replace(CARD, unslimmed_macs=0).macs_fraction == 1.0


def test_fields_from_later_versions_are_passed_over():
    raw = {**json.loads(encode_card(CARD)), "mood": "good"}
    assert decode_card(json.dumps(raw).encode(), "here") == CARD


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"classes": []}, "no classes"),
        ({"classes": "sky"}, "classes"),
        ({"macs_at": [0, 3]}, "macs_at"),
        ({"channels": {"a": [3, -8, 1]}}, "channels"),
        ({"channels": {"a": [3, 8]}}, "channels"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "std positive"),
        ({"macs": None}, "macs"),
        ({"format": 2}, "update"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], named: str):
    raw = {**json.loads(encode_card(CARD)), **change}
    with pytest.raises(CheckpointError, match=named) as caught:
        decode_card(json.dumps(raw).encode(), "models/v7/card.json")
    assert "models/v7/card.json" in str(caught.value)


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode) | st.just(b"[" * 100_000))
def test_anything_else_is_refused(data: bytes):
    with pytest.raises(CheckpointError, match="not a model card"):
        decode_card(data, "here")


def test_a_missing_card_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"card\.json: cannot read"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0, 0.0, float("nan")), (1.0, 1.0, 1.0)), ((0.0,) * 3, (1.0, -1.0, 1.0))]
)
def test_impossible_normalisation_is_refused(
    mean: tuple[float, float, float], std: tuple[float, float, float]
):
    with pytest.raises(ValueError, match="std"):
        Normalisation(mean, std)


def test_cards_are_read_without_torch(tmp_path: Path):
    (tmp_path / "card.json").write_bytes(encode_card(CARD))
    code = (
        "import sys, pathlib; from dance_ondevice.models.card import read_card; "
        "assert read_card(pathlib.Path(sys.argv[1])).version == 'v7'; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
