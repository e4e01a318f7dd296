"""Networks of unusual structure: what cannot be slimmed is said, what is tied together goes together."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from slim_small import SIZE, assert_sound, slim_to
from torch import Tensor, nn

from dance_ondevice.models.channels import channels_of, layer_channels
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import logits
from dance_ondevice.slimming import walking
from dance_ondevice.slimming.groups import NotPrunable
from dance_ondevice.slimming.slim import slim

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


class Shuffled(nn.Module):
    """Half the channels go one way, half the other: the halves are fixed numbers in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.last = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.last(x.reshape(x.shape[0], 8, 2, *x.shape[2:]).sum(dim=2))
        return out


class Detached(nn.Module):
    """Autograd, and with it the trace, sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out.detach()


class Grouped(nn.Module):
    """What group normalisation and a bare parameter touch stays; the rest can be slimmed."""

    def __init__(self) -> None:
        super().__init__()
        self.stay = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.thin = nn.Conv2d(16, 32, 1)
        self.scale = nn.Parameter(torch.ones(1, 24, 1, 1))
        self.scaled = nn.Conv2d(32, 24, 1)
        self.last = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.thin(self.grouped(self.norm(self.stay(x))))
        out: Tensor = self.last(self.scaled(x) * self.scale)
        return out


@pytest.mark.parametrize("make", [Shuffled, Detached, lambda: nn.Sequential(nn.Conv2d(3, 5, 1))])
def test_what_cannot_be_slimmed_is_said_and_left_alone(make: Callable[[], nn.Module]):
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NotPrunable):
        slim_to(model, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    logits(model, torch.rand(1, 3, 32, 32))


def test_layers_without_a_rule_stay_while_others_go():
    model = Grouped()
    report = slim_to(model, 0.8, round_to=1)
    assert_sound(model, report)
    assert (model.stay.out_channels, model.norm.num_channels, model.grouped.in_channels) == (16, 16, 16)
    assert model.grouped.groups == 4
    assert model.grouped.out_channels in (4, 8, 12, 16)
    assert model.scaled.out_channels == 24
    assert model.thin.out_channels < 32


@pytest.mark.parametrize("last", [nn.BatchNorm2d(5), nn.Conv2d(5, 5, 3, padding=1, groups=5)])
def test_classes_stay_though_the_last_layer_keeps_channels_apart(last: nn.Module):
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 1), copy.deepcopy(last))
    report = slim(model, target_macs=1, size=SIZE, round_to=1, min_channels=1)
    assert_sound(model, report)
    assert model[0].out_channels == 1


class Joined(nn.Module):
    """Two layers put together and filtered channel by channel: their channels are one group."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 12, 1)
        self.narrow = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.depthwise(torch.cat([self.wide(x), self.narrow(x)], dim=1)))
        return out


@pytest.mark.parametrize("min_channels", [1, 4])
def test_no_layer_of_a_joined_group_is_left_empty(min_channels: int):
    model = Joined()
    with torch.no_grad():
        model.narrow.weight.mul_(0.01)  # it matters least
        model.depthwise.weight[12:] = 0.01
    report = slim(model, target_macs=1, size=SIZE, round_to=1, min_channels=min_channels)
    assert_sound(model, report)
    assert model.narrow.out_channels == 1
    assert model.wide.out_channels == max(1, min_channels - 1)


class Shuffled(nn.Module):
    """Halves of the channels are interleaved between two convolutions, as in ShuffleNet."""

    def __init__(self, *, shuffle: bool = True) -> None:
        super().__init__()
        self.shuffle = shuffle
        self.first = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.shuffle:
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.second(x))


class ChannelMean(Shuffled):
    """The mean over channels gates all of them: it changes when channels leave that nothing else reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.head(self.second(x * x.mean(dim=1, keepdim=True)))


MIXED = [Shuffled, ChannelMean]


@pytest.mark.parametrize("make", MIXED)
def test_channels_that_are_mixed_without_a_layer_are_refused_and_the_model_stays(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    model.second[2] = nn.GroupNorm(4, 32)  # what it touches stays, and nothing else is left to cut
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NotPrunable, match="not understood"):
        slim(model, target_macs=count_macs(model, 64, 64) // 2, size=(64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("make", MIXED)
def test_around_channels_that_are_mixed_without_a_layer_the_rest_is_slimmed(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model, x = make().eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        model.second[1].weight[:20] = model.second[1].bias[:20] = 0.0
        before = model(x)
        slim_to(model, 0.75, round_to=4, min_channels=12)
        assert (model.first[0].out_channels, model.second[0].out_channels < 32) == (32, True)
        assert torch.allclose(model(x), before, atol=1e-5)


class Doubled(nn.Module):
    """Channels meet their copies: a channel of the wide layer goes with its partner in the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        out: Tensor = self.head(self.wide(x) + torch.cat([narrow, narrow], dim=1))
        return out


def test_channels_that_meet_go_together() -> None:
    model = Doubled()
    assert_sound(model, slim_to(model, 0.5, round_to=1))
    assert model.wide.out_channels == 2 * model.narrow.out_channels < 32


def test_channels_that_go_with_too_many_others_stay_while_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that misreads an operation would find ever more of them, without end."""
    widths = ((3, 48), (48, 8), (8, 8), (8, 5))
    model = nn.Sequential(*(nn.Conv2d(*sides, 3, padding=1) for sides in widths))
    monkeypatch.setattr(walking, "MOST_OF_ROOT", 48)
    assert_sound(model, slim_to(model, 0.8, round_to=1))
    assert [layer.out_channels for layer in model] == [48, model[1].out_channels, model[2].out_channels, 5]
    assert model[1].out_channels < 8
    monkeypatch.setattr(walking, "MOST", 50)
    with pytest.raises(NotPrunable, match="more others than can be followed"):
        slim_to(model, 0.5)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_layers_without_a_rule_are_named_where_they_leave_nothing_to_slim() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 16, 1)), nn.GroupNorm(4, 16), nn.Conv2d(16, 5, 1))
    with pytest.raises(NotPrunable, match=r"no rule for its 1 layers .* by weight_norm .* 1 GroupNorm"):
        slim_to(model, 0.5)


def test_the_same_net_without_a_shuffle_is_slimmed() -> None:
    torch.manual_seed(0)
    model = Shuffled(shuffle=False).eval()
    assert slim(model, target_macs=count_macs(model, 64, 64) // 2, size=(64, 64)).reached


class TwoShuffled(nn.Module):
    """Grouped convolutions with a shuffle that is a module between them, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.shuffle = nn.ChannelShuffle(3)
        self.grouped = nn.Sequential(nn.Conv2d(24, 32, 3, padding=1, groups=2), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.grouped(self.shuffle(self.first(x))))
        return out


@pytest.mark.parametrize("fraction", [0.7, 0.4])
def test_a_shuffle_that_is_a_module_is_cut_through(fraction: float) -> None:
    torch.manual_seed(0)
    model = TwoShuffled().eval()
    report = slim_to(model, fraction, round_to=1)
    first, grouped = model.first[0], model.grouped[0]
    assert report.macs_after < report.macs_before
    assert grouped.groups == 2
    assert first.out_channels == grouped.in_channels < 24
    assert grouped.in_channels % 6 == 0  # a place of each of the three groups, in each of the two blocks
    assert grouped.out_channels % 2 == 0
    assert_sound(model, report)


def test_dead_channels_leave_a_shuffled_network_and_are_not_missed() -> None:
    torch.manual_seed(0)
    model, x = TwoShuffled().eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():  # places 1, 3, 5 and 7 of each group of the shuffle, and 10 of 16 of each block
        for norm, dead in (
            (model.first[1], [8 * group + place for group in range(3) for place in (1, 3, 5, 7)]),
            (model.grouped[1], [*range(10), *range(16, 26)]),
        ):
            norm.weight[dead] = 0.0
            norm.bias[dead] = 0.0
        before = model(x)
        slim(model, target_macs=1, size=(64, 64), round_to=1, min_channels=12)
        assert model.first[0].out_channels == model.grouped[0].out_channels == 12
        assert torch.allclose(model(x), before, atol=1e-5)


class SubPixel(nn.Module):
    """Upsamples by moving channels into space, whose channels a trace takes for those of the next layer."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 128, 3, 2, 1), nn.ReLU())
        self.up = nn.Sequential(nn.PixelShuffle(2), after)
        self.last = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.up(self.down(x)))
        return out


@pytest.mark.parametrize("after", [nn.Identity(), nn.BatchNorm2d(32)], ids=["plain", "normalised"])
def test_around_a_sub_pixel_layer_all_is_slimmed_but_what_it_moves(after: nn.Module) -> None:
    torch.manual_seed(0)
    model = SubPixel(after).eval()
    before = count_macs(model, 64, 64)
    slim(model, target_macs=before * 3 // 4, size=(64, 64))
    assert count_macs(model, 64, 64) < before
    assert model.down[0].out_channels == 128
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)


class NonLocal(nn.Module):
    """Attention between pixels, made of convolutions and views that a trace takes for views of channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 8, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.share = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        query, key, value = (layer(x).view(n, -1, h * w) for layer in (self.query, self.key, self.value))
        weights = torch.bmm(query.permute(0, 2, 1), key).softmax(dim=-1)
        return self.share * torch.bmm(value, weights.permute(0, 2, 1)).view(n, c, h, w) + x


def test_around_attention_of_convolutions_the_rest_is_slimmed() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=4, padding=1)]
    for _ in range(3):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), NonLocal(64)]
    layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 5, 1)]
    model = nn.Sequential(*layers)
    assert_sound(model, slim_to(model, 0.9))


class JoinsInTraining(nn.Module):
    """Its auxiliary head, which inference never runs, splits channels by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.last, self.further = nn.Conv2d(32, 5, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.stem(x)
        if not self.training:
            return (self.last(found),)
        return self.last(found), self.further(found[:, :16] + found[:, 16:])


def test_what_would_no_longer_train_is_refused() -> None:
    model = JoinsInTraining()
    before = channels_of(model)
    with pytest.raises(NotPrunable, match="no longer runs"):
        slim(model, target_macs=count_macs(model, 64, 64) // 2, size=(64, 64))
    assert channels_of(model) == before
    assert len(model.train()(torch.rand(1, 3, 64, 64))) == 2


def test_layers_that_share_a_weight_share_it_still() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 5, 1),
    )
    model[4].weight = model[2].weight
    report = slim(model, target_macs=count_macs(model, 64, 64) * 3 // 4, size=(64, 64), round_to=1)
    assert report.macs_after < report.macs_before
    assert model[4].weight is model[2].weight
    assert layer_channels(model[2]) == (32, 32, 1)
