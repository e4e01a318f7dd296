"""Statistics that are believed as far as masks of an image and of its mirror image agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.agreement import MARGIN, agreement, blends, estimate_agreeing
from dance_ondevice.models.card import Normalisation

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Lopsided(nn.Module):
    """Classifies the normalised image by a filter that sees more of one side."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean = torch.rand(3)
        self.norm.running_var = torch.rand(3) * 0.2 + 0.01
        self.last = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(x))
        return out


def pictures(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200)
    return [rng.integers(low, low + 56, (16, 24, 3), np.uint8) for _ in range(count)]


def as_it_is(image: np.ndarray) -> np.ndarray:
    return image


@given(seed=st.integers(0, 10_000), count=st.integers(1, 20))
@settings(max_examples=25)
def test_statistics_never_agree_clearly_less_with_themselves_than_the_models_own(
    seed: int, count: int
) -> None:
    model, images = Lopsided(seed).eval(), pictures(count, seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = agreement(model, images[:: -(-count // 6)], PLAIN)
    found = estimate_agreeing(model, images, as_it_is, PLAIN)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert list(found.tried) == list(blends(count))
    assert found.tried[0.0] == own
    conditions.apply(model, found.statistics)
    reached = agreement(model, images[:: -(-count // 6)], PLAIN)
    assert reached == found.tried[found.blend] >= own - MARGIN
    others = {blend: value for blend, value in found.tried.items() if blend > 0}
    if found.blend:
        # The best, and of those that agree alike the least.
        assert reached == max(others.values())
        assert all(value < reached for blend, value in others.items() if blend < found.blend)
    else:
        assert max(others.values()) < own - MARGIN


@given(count=st.integers(0, 200))
def test_blends_rise_from_none_to_what_so_many_images_allow(count: int) -> None:
    tried = blends(count)
    assert tried[0] == 0.0
    assert list(tried) == sorted(set(tried))
    assert tried[-1] == conditions.trust(count)


def test_what_sees_both_sides_alike_agrees_wholly_and_takes_the_least_blend() -> None:
    model = Lopsided(1).eval()
    model.last = nn.Conv2d(3, 4, 1)
    images = pictures(6, 2)
    assert agreement(model, images, PLAIN) == 1.0
    found = estimate_agreeing(model, images, as_it_is, PLAIN)
    assert found.blend == 0.25
    given = estimate_agreeing(model, images, as_it_is, PLAIN, blend=0.25)
    expected = conditions.estimate(model, images, PLAIN, blend=0.25)
    assert given.tried == {}
    for each in (found, given):
        torch.testing.assert_close(each.statistics.layers["norm"], expected.layers["norm"])


def test_statistics_that_make_masks_disagree_are_refused() -> None:
    model, images = Lopsided(25).eval(), pictures(6, 25)
    found = estimate_agreeing(model, images, as_it_is, PLAIN)
    assert max(value for blend, value in found.tried.items() if blend) < found.tried[0.0] - MARGIN
    assert found.blend == 0.0
    own = conditions.capture(model).layers["norm"]
    assert all(torch.equal(a, b) for a, b in zip(found.statistics.layers["norm"], own, strict=True))


def test_images_of_several_sizes_are_read_one_after_the_other() -> None:
    model = Lopsided(3).eval()
    sizes = [(16, 24), (16, 24), (8, 24), (16, 24)]
    images = [np.full((*size, 3), 90 + 10 * i, np.uint8) for i, size in enumerate(sizes)]
    found = estimate_agreeing(model, range(4), images.__getitem__, PLAIN, batch_size=2, blend=1.0)
    expected = conditions.estimate(model, images, PLAIN, batch_size=2)
    torch.testing.assert_close(found.statistics.layers["norm"], expected.layers["norm"])
    for wrong in ([], [0]):
        with pytest.raises(ValueError, match="no images" if not wrong else "blend is 2"):
            estimate_agreeing(model, wrong, images.__getitem__, PLAIN, blend=2.0 if wrong else None)
    with pytest.raises(ValueError, match="mirror"):
        agreement(model, [], PLAIN)
