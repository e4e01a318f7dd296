"""What a condition learns: late layers and the affine parameters of batch norms, and nothing else moves."""

from __future__ import annotations

import pytest
import torch
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import StatisticsMismatch
from dance_ondevice.conditions.learning import LATE, Additions, interpolated, learning, own_parameters
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.mapping.mapped import Mapped
from dance_ondevice.models.registry import build
from dance_ondevice.slimming.slim import slim

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


class Own(nn.Module):
    """A brought model: none of its layers is named like a late one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x)))
        return out


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_architecture_has_late_layers_and_its_encoder_is_none_of_them(name: str) -> None:
    model = build(name, 3, SMALL[name])
    own = own_parameters(model)
    assert own
    assert len(own) < len(list(model.parameters()))
    encoders = ("stem", "downsample", "encoder", "base_net", "stages", "auxiliary")
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    shared = {name for name, _ in model.named_parameters()} - set(own)
    assert shared
    assert not any(name.startswith(LATE) for name in shared)
    assert all(name.rpartition(".")[0] in norms for name in own if name.startswith(encoders))
    assert {name.rpartition(".")[0] for name in own} >= norms
    joined = Mapped(model, [[0, 1], [2]])
    assert own_parameters(joined) == tuple(f"network.{each}" for each in own)
    if name == "espnetv2":  # not the fallback, which is its batch norms alone
        assert "bu_dec_l4.merge_layer.3.weight" in own


def test_a_brought_model_learns_the_affine_parameters_of_its_norms() -> None:
    assert own_parameters(Own()) == ("norm.weight", "norm.bias")
    assert own_parameters(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, affine=False))) == ()


@pytest.mark.parametrize("name", ["own", "fastscnn"])
def test_only_those_learn_and_statistics_stay(name: str) -> None:
    model = Own() if name == "own" else build(name, 2, SMALL[name])
    own, before = own_parameters(model), snapshot(model)
    asked = {name: p.requires_grad for name, p in model.named_parameters()}
    with learning(model, own, own_statistics=True):
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.train()
        found = model(torch.randn(2, 3, 64, 64))
        (found if isinstance(found, Tensor) else found[0]).square().sum().backward()
        optimiser.step()
    # A gradient may be zero behind a ReLU, but not that of the last layer.
    assert {"norm.bias" if name == "own" else "classifier.3.bias"} <= changed(model, before) <= set(own)
    assert not any(module.training for module in model.modules())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == asked
    # Afterwards statistics follow the batches again.
    model.train()
    model(torch.randn(2, 3, 64, 64))
    assert any("running_mean" in name for name in changed(model, before))


def test_what_one_condition_learnt_goes_when_another_takes_over() -> None:
    model = build("fastscnn", 2, SMALL["fastscnn"]).eval()
    before = snapshot(model)
    own = own_parameters(model)
    base = conditions.capture(model, learnt=own)
    dusk = NormStatistics(base.layers, {name: tensor + 1 for name, tensor in base.learnt.items()})
    rain = NormStatistics({name: (m + 1, v) for name, (m, v) in base.layers.items()})
    conditions.apply(model, dusk)
    assert changed(model, before) == set(own)
    conditions.apply(model, rain.over(base))
    assert not changed(model, before) & set(own)
    assert changed(model, before)
    conditions.apply(model, base)
    assert not changed(model, before)
    assert dusk.nbytes == base.nbytes > rain.nbytes


@pytest.mark.parametrize("learnt", [{"elsewhere": torch.ones(2)}, {"last.bias": torch.ones(7)}])
def test_what_does_not_fit_is_refused_whole(learnt: dict[str, Tensor]) -> None:
    model = Own()
    before = snapshot(model)
    layers = {"norm": (torch.ones(4), torch.ones(4))}
    with pytest.raises(StatisticsMismatch, match=next(iter(learnt))):
        conditions.apply(model, NormStatistics(layers, {"last.weight": torch.zeros(2, 4, 1, 1), **learnt}))
    assert not changed(model, before)


def test_the_straight_line_keeps_its_ends_and_whole_numbers() -> None:
    start, end = (
        {"a": torch.zeros(3), "n": torch.tensor(3)},
        {"a": torch.full((3,), 4.0), "n": torch.tensor(9)},
    )
    assert torch.equal(interpolated(start, end, 0.25)["a"], torch.ones(3))
    assert interpolated(start, end, 0.25)["n"] == 3
    assert interpolated(start, end, 1)["a"] is end["a"]
    assert torch.equal(interpolated(start, end, 0.0)["a"], start["a"])


def learnt_by(model: nn.Module, names: tuple[str, ...], shift: float) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() + shift for name in names}


def test_what_a_condition_added_is_added_to_what_the_model_becomes() -> None:
    model = Own()
    names = own_parameters(model)
    dusk, rain = learnt_by(model, names, 0.5), learnt_by(model, names[:1], -0.25)
    additions = Additions(model, {"dusk": dusk, "rain": rain, "day": {}})
    unchanged = additions.on(model)
    assert unchanged.keys() == {"dusk", "rain"}
    for found, given in ((unchanged["dusk"], dusk), (unchanged["rain"], rain)):
        assert found.keys() == given.keys()
        for name in given:
            torch.testing.assert_close(found[name], given[name])
    with torch.no_grad():
        model.norm.weight += 2.0
    moved = additions.on(model)
    torch.testing.assert_close(moved["dusk"]["norm.weight"], dusk["norm.weight"] + 2.0)
    torch.testing.assert_close(moved["rain"]["norm.weight"], rain["norm.weight"] + 2.0)
    torch.testing.assert_close(moved["dusk"]["norm.bias"], dusk["norm.bias"])


def test_what_a_condition_added_loses_the_channels_that_the_model_loses() -> None:
    model = build("fastscnn", 3, {**SMALL["fastscnn"], "auxiliary": False}).eval()
    additions = Additions(model, {"dusk": learnt_by(model, own_parameters(model), 0.5)})
    report = slim(
        model,
        target_macs=int(0.7 * count_macs(model, 64, 96)),
        size=(64, 96),
        round_to=1,
        companions=additions.companions,
    )
    assert report.macs_after < report.macs_before
    found = additions.on(model)["dusk"]
    now = dict(model.named_parameters())
    assert found.keys() == set(own_parameters(model))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, now[name] + 0.5)
    conditions.apply(model, NormStatistics({}, found))


def test_where_nothing_was_learnt_nothing_is_copied() -> None:
    model = Own()
    additions = Additions(model, {"dusk": {}})
    assert additions.companions == ()
    assert additions.on(model) == {}
