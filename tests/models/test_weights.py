"""Weights without a card: what fits is taken, what does not is told, and nothing is ever run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.checkpoint import save
from dance_ondevice.models.registry import build
from dance_ondevice.models.weights import WeightsError, load_weights, read_state


def tiny(classes: int = 5) -> nn.Module:
    return build("fastscnn", classes, SMALL["fastscnn"])


def write(path: Path, state: Any) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({name: t.contiguous() for name, t in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.ckpt", "w.bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model/"])
def test_a_state_dict_of_the_model_fills_it(name: str, prefix: str, tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    state = source.state_dict()
    report = load_weights(model, write(tmp_path / name, prefixed(prefix, state)))
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert set(report.loaded) == set(state)
    assert report.missing == report.misshapen == report.unexpected == ()
    assert report.complete
    assert report.summary() == f"{len(state)} of {len(state)} tensors matched"


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_training_programs_file_is_searched(key: str, tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    file = write(tmp_path / "w.pt", {"epoch": 3, key: source.state_dict(), "optimizer": {"lr": 0.1}})
    assert load_weights(model, file).complete


def test_what_trainers_wrap_around_a_model_is_looked_through(tmp_path: Path) -> None:
    source = tiny()
    state = source.state_dict()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    adam = {"state": {0: {"exp_avg": torch.zeros(3)}}, "more": {f"x{n}": torch.zeros(1) for n in range(999)}}
    older = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    for number, content in enumerate(
        (
            {"model": {"state_dict": prefixed("module.", half)}, "optimizer": adam},
            {"state_dict": {**prefixed("segmentor.", state), "criterion.weight": torch.ones(5)}, "epoch": 3},
            {"state_dict": prefixed("student.segmentor.", state)},
            {"epoch": torch.tensor(3), "params_ema": state},
            {"model_ema": older, "model": state, "teacher": older},
        )
    ):
        model = tiny()
        report = load_weights(model, write(tmp_path / f"{number}.pth", content))
        assert report.complete, number
        assert all(
            torch.allclose(tensor, state[key], atol=1e-2) for key, tensor in model.state_dict().items()
        ), number


def test_a_checkpoints_own_tensors_are_weights_too(tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    save(
        tmp_path,
        source,
        ModelCard(
            architecture="fastscnn", arguments=SMALL["fastscnn"], classes=tuple("abcde"), macs_at=(64, 64)
        ),
    )
    assert load_weights(model, tmp_path / "model.safetensors").complete


def test_what_does_not_match_is_told_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, model = tiny(classes=7), tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = source.state_dict()
    del state["fusion.deep.conv.weight"]
    state["decoder.weight"] = torch.ones(3)
    with caplog.at_level("INFO"):
        report = load_weights(model, write(tmp_path / "w.safetensors", state))
    assert report.missing == ("fusion.deep.conv.weight",)
    assert report.unexpected == ("decoder.weight",)
    assert "classifier.3.weight (7x16x1x1, not 5x16x1x1)" in report.misshapen
    assert not report.complete
    after = model.state_dict()
    for name in ("fusion.deep.conv.weight", "classifier.3.weight", "classifier.3.bias"):
        assert torch.equal(after[name], before[name])
    assert torch.equal(after["fusion.shallow.conv.weight"], state["fusion.shallow.conv.weight"])
    assert "missing fusion.deep.conv.weight" in caplog.text
    assert "unexpected decoder.weight" in caplog.text


def test_missing_heads_of_training_leave_nothing_to_wish_for(tmp_path: Path) -> None:
    state = {n: t for n, t in tiny().state_dict().items() if not n.startswith("auxiliary.")}
    state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    report = load_weights(tiny(), write(tmp_path / "w.pt", state))
    assert report.complete
    assert any(name.startswith("auxiliary.") for name in report.missing)


def test_numbers_of_another_type_are_converted(tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    half = {n: t.half() if t.is_floating_point() else t for n, t in source.state_dict().items()}
    assert load_weights(model, write(tmp_path / "w.pt", half)).complete
    assert model.classifier[3].weight.dtype == torch.float32
    assert torch.allclose(model.classifier[3].weight, source.classifier[3].weight, atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = tiny()
    file = write(tmp_path / "w.pt", nn.Sequential(nn.Conv2d(3, 5, 1)).state_dict())
    with pytest.raises(
        WeightsError, match=r"no weight has the name and shape .* it holds 0.weight, 0.bias, .*"
    ):
        load_weights(model, file)


class Trap:
    """Unpickled without care it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.path, "caught")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    target = tmp_path / "caught"
    for state in ({"state_dict": {"a": torch.ones(1)}, "extra": Trap(target)}, Trap(target)):
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="not a file of weights alone"):
            read_state(tmp_path / "w.pt")
        (tmp_path / "w.pth").write_bytes(pickle.dumps(state))
        with pytest.raises(WeightsError):
            read_state(tmp_path / "w.pth")
    torch.save(nn.Conv2d(3, 5, 1), tmp_path / "whole.pt")  # a whole module is code as well
    with pytest.raises(WeightsError, match=r"holds torch.nn.*Conv2d\).*torch.save\(model") as told:
        read_state(tmp_path / "whole.pt")
    assert "weights_only" not in str(told.value)  # torch's advice to read it without care
    assert not target.exists()


def test_a_program_is_told_how_to_give_its_weights(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(nn.Conv2d(3, 5, 1), torch.rand(1, 3, 8, 8)).save(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"TorchScript .* torch.save\(torch.jit.load"):
        read_state(tmp_path / "w.pt")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    """As 8-bit quantisation leaves them, with scales beside them that nothing here multiplies by."""
    state = tiny().state_dict()
    state["classifier.3.weight"] = (state["classifier.3.weight"] * 100).to(torch.int8)
    report = load_weights(tiny(), write(tmp_path / "w.pt", state))
    assert not report.complete
    assert report.misshapen == ("classifier.3.weight (5x16x1x1 of int8, not 5x16x1x1)",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"", "damaged, or no weights file"),
        ("w.pt", b"PK\x03\x04 not a zip", "damaged, or no weights file|not a file of weights"),
        ("w.safetensors", b"\xff" * 20, "damaged, or no weights file"),
        ("w.safetensors", b"", "damaged, or no weights file"),
        ("w.onnx", b"", "a weights file ends in .safetensors, .pt, .pth, .ckpt, .bin"),
        ("w.pkl", None, "a weights file ends in"),
        ("missing.pt", None, "cannot read the weights"),
    ],
)
def test_what_is_no_weights_file_is_refused(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {"state_dict": {}}])
def test_a_file_without_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_state(tmp_path / "w.pt")
