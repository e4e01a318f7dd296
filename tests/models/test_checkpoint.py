from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dance_ondevice.models.card import CheckpointError, ModelCard, encode_card, read_card
from dance_ondevice.models.checkpoint import load, load_for, save
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import build, build_from_factory

ARGUMENTS = {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 16}
CARD = ModelCard(
    version="v1",
    architecture="fastscnn",
    arguments=ARGUMENTS,
    classes=("sky", "road", "car"),
    macs_at=(64, 96),
    training={"steps": 3},
)


def trained(model: nn.Module) -> nn.Module:
    """Run a few batches through in training mode, so that statistics and scales are not all alike."""
    for tensor in model.parameters():
        if tensor.dim() == 1:
            nn.init.uniform_(tensor, -1.0, 1.0)
    for _ in range(2):
        logits(model.train(), torch.rand(2, 3, 64, 64))
    return model


@pytest.fixture
def model() -> nn.Module:
    return trained(build("fastscnn", 3, ARGUMENTS))


def assert_same_outputs(one: nn.Module, other: nn.Module) -> None:
    with torch.inference_mode():
        for size in ((64, 96), (17, 13)):
            x = torch.rand(1, 3, *size)
            assert torch.equal(logits(one.eval(), x), logits(other.eval(), x))


def forge(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a card after the fact."""
    card = json.loads((directory / "card.json").read_bytes())
    change(card)
    (directory / "card.json").write_text(json.dumps(card))


def forge_tensors(directory: Path, data: bytes) -> None:
    """Replace the tensors, with a card that vouches for them."""
    (directory / "model.safetensors").write_bytes(data)
    forge(directory, lambda card: card.update(sha256=hashlib.sha256(data).hexdigest()))


def test_a_model_comes_back_bit_for_bit(model: nn.Module, tmp_path: Path):
    written = save(tmp_path / "new" / "v1", model, CARD)
    for path in (tmp_path / "new" / "v1", tmp_path / "new" / "v1" / "model.safetensors"):
        found, card = load(path)
        assert card == written == read_card(path)
        assert not any(module.training for module in found.modules())
        assert_same_outputs(model, found)
    assert sorted(p.name for p in (tmp_path / "new" / "v1").iterdir()) == ["card.json", "model.safetensors"]


def test_a_file_of_halves_is_half_as_large_and_computes_as_before(model: nn.Module, tmp_path: Path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    save(whole, model, CARD)
    save(half, model, CARD, half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    found, _ = load(half)
    x = torch.rand(2, 3, 64, 96)

    assert sizes[1] < 0.7 * sizes[0]
    assert {tensor.dtype for tensor in found.parameters()} == {torch.float32}
    with torch.inference_mode():
        assert torch.allclose(logits(found, x), logits(model.eval(), x), atol=0.02)
    again = save(tmp_path / "again", found, CARD, half=True)
    assert again.sha256 == read_card(half).sha256


def test_other_classes_get_a_fresh_head_and_keep_the_rest(model: nn.Module, tmp_path: Path):
    save(tmp_path, model, CARD)
    same, same_card = load_for(tmp_path, CARD.classes)
    other, card = load_for(tmp_path, ("a", "b", "c", "d", "e"))
    renamed, _ = load_for(tmp_path, ("a", "b", "c"))
    before = model.state_dict()

    assert_same_outputs(model, same)
    assert same_card.classes == CARD.classes
    assert card.classes == ("a", "b", "c", "d", "e")
    assert logits(other, torch.rand(1, 3, 32, 32)).shape[1] == 5
    for found in (other, renamed):
        state = found.state_dict()
        kept = {name for name, tensor in before.items() if torch.equal(tensor, state[name])}
        assert before.keys() - kept == {"classifier.3.weight", "classifier.3.bias"}
    save(tmp_path / "other", other, card)
    assert_same_outputs(load(tmp_path / "other")[0], other)


def test_auxiliary_heads_are_fresh_for_other_classes_too(tmp_path: Path):
    save(
        tmp_path,
        trained(build("fastscnn", 3, {**ARGUMENTS, "auxiliary": True})),
        replace(CARD, arguments={**ARGUMENTS, "auxiliary": True}),
    )
    other, _ = load_for(tmp_path, ("a", "b", "c", "d"))

    assert all(found.shape[1] == 4 for found in other.train()(torch.rand(2, 3, 64, 64)))


def test_the_card_states_facts_of_the_model(model: nn.Module, tmp_path: Path):
    card = save(tmp_path, model, replace(CARD, macs=1, parameters=1, sha256="x", channels={"no": (1, 1, 1)}))
    assert card.macs == card.unslimmed_macs == count_macs(model, 64, 96)
    assert card.parameters == count_parameters(model)
    assert card.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert card.channels["downsample.0.conv"] == (3, 8, 1)
    assert card.channels["downsample.1.depthwise"] == (8, 8, 8)
    assert card.training_only == ()
    assert (card.classes, card.training) == (CARD.classes, {"steps": 3})
    assert save(tmp_path, model, replace(CARD, unslimmed_macs=10**9)).unslimmed_macs == 10**9


def test_a_model_in_channels_last_is_saved_too(model: nn.Module, tmp_path: Path):
    save(tmp_path, model.to(memory_format=torch.channels_last), CARD)
    found, _ = load(tmp_path)
    assert all(
        torch.equal(one, other)
        for one, other in zip(model.state_dict().values(), found.state_dict().values(), strict=True)
    )


def test_auxiliary_heads_are_stored_and_said_to_be(tmp_path: Path):
    model = trained(build("fastscnn", 3, {**ARGUMENTS, "auxiliary": True}))
    card = save(tmp_path, model, replace(CARD, arguments={**ARGUMENTS, "auxiliary": True}))
    assert card.training_only == ("auxiliary",)
    found, _ = load(tmp_path)
    x = torch.rand(2, 3, 32, 32)
    for module in (model, found):
        module.eval().training = True  # the heads speak, normalisation and dropout stay as in inference
    assert all(torch.equal(one, other) for one, other in zip(model(x), found(x), strict=True))


def test_a_users_model_comes_back(unet_factory: str, tmp_path: Path):
    model = trained(build_from_factory(unet_factory, 3))
    save(tmp_path, model, ModelCard(factory=unet_factory, classes=("a", "b", "c"), macs_at=(32, 32)))
    found, card = load(tmp_path)
    assert card.factory == unet_factory
    assert type(found) is type(model)
    assert_same_outputs(model, found)


def test_a_factory_that_is_gone_is_named(unet_factory: str, tmp_path: Path):
    model = build_from_factory(unet_factory, 3)
    save(tmp_path, model, ModelCard(factory=unet_factory, classes=("a", "b", "c"), macs_at=(32, 32)))
    forge(tmp_path, lambda card: card.update(factory="gone_with_the_board:make"))
    with pytest.raises(CheckpointError, match=r"gone_with_the_board.*; give --config, .* DANCE_MODEL_PATH"):
        load(tmp_path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_found(data: st.DataObject, tmp_path: Path):
    directory = tmp_path / "flip"
    if not directory.exists():
        save(directory, build("fastscnn", 3, ARGUMENTS), CARD)
    file = directory / "model.safetensors"
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(damaged)
    try:
        with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
            load(directory)
    finally:
        file.write_bytes(whole)
    load(directory)


@pytest.mark.parametrize("length", [0, 7, 100])
def test_a_truncated_file_is_found(model: nn.Module, tmp_path: Path, length: int):
    save(tmp_path, model, CARD)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:length])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)
    forge_tensors(tmp_path, whole[:length])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_missing_file_is_named(model: nn.Module, tmp_path: Path, name: str):
    save(tmp_path, model, CARD)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: cannot read"):
        load(tmp_path)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_not_opened(model: nn.Module, tmp_path: Path):
    save(tmp_path, model, CARD)
    buffer = io.BytesIO()
    torch.save({"trap": Trap(tmp_path / "sprung")}, buffer)
    forge_tensors(tmp_path, buffer.getvalue())
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c.update(architecture="resnet"), "unknown architecture 'resnet'"),
        (lambda c: c.update(arguments={"size": 3}), "size"),
        (lambda c: c["classes"].append("tree"), "has 3 classes, the card names 4"),
        (lambda c: c["channels"].update({"downsample.9": [1, 1, 1]}), "no layer 'downsample.9'"),
        (lambda c: c["channels"].update({"downsample.0.conv": [3, 2**60, 1]}), "downsample.0.conv"),
        (lambda c: c["channels"].update({"downsample.0.conv": [3, 8, 8]}), "cannot have"),
        (lambda c: c["channels"].update({"downsample.1.depthwise": [8, 4, 8]}), "cannot have"),
        (lambda c: c.update(sha256=""), "damaged"),
        (lambda c: c.update(arguments={**ARGUMENTS, "auxiliary": True}), "missing auxiliary"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    model: nn.Module, tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
):
    save(tmp_path, model, CARD)
    forge(tmp_path, change)
    with pytest.raises(CheckpointError, match=named):
        load(tmp_path)


def test_layers_that_do_not_fit_together_are_refused(model: nn.Module, tmp_path: Path):
    save(tmp_path, model, CARD)
    state = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    state["model/classifier.3.weight"] = torch.zeros(3, 5, 1, 1)
    forge_tensors(tmp_path, safetensors.torch.save(state))
    forge(tmp_path, lambda card: card["channels"].update({"classifier.3": [5, 3, 1]}))
    with pytest.raises(CheckpointError, match="does not run"):
        load(tmp_path)


def test_tensors_of_another_type_are_refused(model: nn.Module, tmp_path: Path):
    save(tmp_path, model, CARD)
    state = {f"model/{name}": tensor.half() for name, tensor in model.state_dict().items()}
    forge_tensors(tmp_path, safetensors.torch.save(state))
    with pytest.raises(CheckpointError, match="float16"):
        load(tmp_path)


def test_groups_of_tensors_from_later_versions_are_passed_over(model: nn.Module, tmp_path: Path):
    save(tmp_path, model, CARD)
    state = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    state["norm.dusk/downsample.0.norm.running_mean"] = torch.full((8,), 9.0)
    forge_tensors(tmp_path, safetensors.torch.save(state))
    found, _ = load(tmp_path)
    assert_same_outputs(model, found)


def test_nothing_is_written_for_a_card_of_another_model(model: nn.Module, tmp_path: Path):
    for wrong in (
        replace(CARD, arguments={}),
        replace(CARD, classes=("sky",)),
        replace(CARD, architecture="x"),
    ):
        with pytest.raises(CheckpointError, match="does not describe this model"):
            save(tmp_path / "out", model, wrong)
    assert not (tmp_path / "out").exists()


def test_overwriting_halfway_is_found_out(model: nn.Module, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    save(first, model, CARD)
    save(second, trained(build("fastscnn", 3, ARGUMENTS)), CARD)
    (second / "model.safetensors").replace(first / "model.safetensors")
    with pytest.raises(CheckpointError, match="not the file that its card was written for"):
        load(first)


def test_a_failed_write_leaves_the_old_checkpoint(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path, model, CARD)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, trained(build("fastscnn", 3, ARGUMENTS)), CARD)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "model.safetensors"]


def test_loading_and_saving_leave_the_random_numbers_alone(model: nn.Module, tmp_path: Path):
    state = torch.random.get_rng_state()
    save(tmp_path, model, CARD)
    load(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_channels_may_be_left_out_where_they_are_the_architectures_own(model: nn.Module, tmp_path: Path):
    card = save(tmp_path, model, CARD)
    (tmp_path / "card.json").write_bytes(encode_card(replace(card, channels={})))
    assert_same_outputs(model, load(tmp_path)[0])


@pytest.mark.parametrize(("value", "half"), [(float("nan"), False), (1e5, True)])
def test_what_could_not_be_loaded_is_not_saved(
    model: nn.Module, tmp_path: Path, value: float, half: bool
) -> None:
    save(tmp_path / "m", model, CARD)
    with torch.no_grad():
        next(model.parameters()).fill_(value)
    with pytest.raises(CheckpointError, match=r"not finite .* in downsample"):
        save(tmp_path / "m", model, CARD, half=half)
    load(tmp_path / "m")  # the one before
