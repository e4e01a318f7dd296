from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.conditions.arrays import CONDITIONS_FILE
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.conditions.store import decode, encode, load_conditions
from dance_ondevice.models.card import CheckpointError


def some(seed: int, *, affine: bool = False) -> NormStatistics:
    generator = torch.Generator().manual_seed(seed)
    return NormStatistics(
        {
            name: tuple(torch.rand(3, generator=generator) for _ in range(4 if affine else 2))
            for name in ("first.norm", "bottlenecks.0.expand.norm")
        }
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = {"c1": some(1), "c12": some(2, affine=True)}
    (tmp_path / CONDITIONS_FILE).write_bytes(encode(written, '{"any": "text"}'))
    read, about = load_conditions(tmp_path / "model.safetensors")
    assert about == '{"any": "text"}'
    assert read.keys() == written.keys()
    for name, statistics in written.items():
        assert read[name].layers.keys() == statistics.layers.keys()
        for layer, tensors in statistics.layers.items():
            assert len(read[name].layers[layer]) == len(tensors)
            assert all(torch.equal(a, b) for a, b in zip(read[name].layers[layer], tensors, strict=True))


def test_what_was_learnt_is_written_and_read() -> None:
    learnt = {"classifier.2.weight": torch.rand(2, 3, 1, 1).to(memory_format=torch.channels_last)}
    data = encode({"c1": NormStatistics(some(1).layers, learnt), "c2": some(2)}, "text")
    assert "learnt.c1/classifier.2.weight" in safetensors.torch.load(data)
    read, _ = decode(data, "here")
    assert read["c1"].layers.keys() == some(1).layers.keys()
    assert torch.equal(read["c1"].learnt["classifier.2.weight"], learnt["classifier.2.weight"])
    assert not read["c2"].learnt


def test_a_file_of_the_format_before_is_still_read() -> None:
    tensors = safetensors.torch.load(encode({"c1": some(1)}))
    read, about = decode(safetensors.torch.save(tensors, metadata={"format": "1", "about": "x"}), "here")
    assert about == "x"
    assert torch.equal(read["c1"].layers["first.norm"][0], some(1).layers["first.norm"][0])
    assert not read["c1"].learnt


def test_keys_are_those_that_a_checkpoint_has_room_for() -> None:
    keys = safetensors.torch.load(encode({"c1": some(1)})).keys()
    assert "norm.c1/bottlenecks.0.expand.norm.running_mean" in keys


def test_a_checkpoint_without_the_file_has_none(tmp_path: Path) -> None:
    assert load_conditions(tmp_path) == ({}, "")


def test_no_conditions_but_a_text() -> None:
    assert decode(encode({}, "text"), "here") == ({}, "text")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a file of conditions"),
        (b"\x10\0\0\0\0\0\0\0garbage", "not a file of conditions"),
        (safetensors.torch.save({"a": torch.ones(1).bfloat16()}), "not a file of conditions"),
        (safetensors.torch.save({}, metadata={"format": "7"}), "format '7'"),
        (safetensors.torch.save({"a": torch.ones(1)}, metadata={"format": "1"}), "unknown tensor 'a'"),
        (
            safetensors.torch.save({"norm.c1/x.running_mean": torch.ones(1)}, metadata={"format": "1"}),
            "needed are running_mean, running_var",
        ),
    ],
)
def test_a_damaged_file_is_told(data: bytes, said: str) -> None:
    with pytest.raises(CheckpointError, match=f"^here: .*{said}"):
        decode(data, "here")


@given(st.integers(0, 10_000), st.binary(max_size=8))
def test_any_damage_is_a_checkpoint_error_or_harmless(position: int, junk: bytes) -> None:
    data = encode({"c1": some(1)}, "text")
    position %= len(data)
    try:
        decode(data[:position] + junk + data[position + len(junk) :], "here")
    except CheckpointError:
        return
