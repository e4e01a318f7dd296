from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.models.hrnet import Exchange, HRNet, exchange_path

SMALL = {"stem": 8, "bottlenecks": 1, "widths": (8, 8, 16, 16), "modules": (1, 1, 1), "blocks": 1}


def test_streams_keep_their_resolutions():
    widths = (4, 6, 8, 10)
    inputs = [torch.rand(2, width, 24 >> i, 32 >> i) for i, width in enumerate(widths)]
    outputs = Exchange(widths, 1)(inputs)
    assert [tuple(out.shape) for out in outputs] == [tuple(x.shape) for x in inputs]


def test_streams_of_odd_sizes_fit_together():
    inputs = [torch.rand(1, 4, 9, 7), torch.rand(1, 6, 5, 4), torch.rand(1, 8, 3, 2)]
    assert [x.shape for x in Exchange((4, 6, 8), 1)(inputs)] == [x.shape for x in inputs]


@pytest.mark.parametrize(("source", "strides"), [(0, [2, 2, 2]), (1, [2, 2]), (2, [2])])
def test_paths_down_halve_step_by_step_and_stay_linear_at_the_end(source: int, strides: list[int]):
    path = exchange_path(source, 3, (4, 6, 8, 10))
    assert [layer.conv.stride[0] for layer in path] == strides
    assert [layer.activation for layer in path] == [True] * (len(strides) - 1) + [False]
    assert path[-1].conv.out_channels == 10


def test_every_stream_hears_every_other():
    exchange = Exchange((4, 4, 4), 1).eval()
    inputs = [torch.rand(1, 4, 16 >> i, 16 >> i, requires_grad=True) for i in range(3)]
    for out in exchange(inputs):
        grads = torch.autograd.grad(out.sum(), inputs, retain_graph=True)
        assert all(grad.abs().sum() > 0 for grad in grads)


def test_without_its_paths_a_stream_stays_itself():
    exchange = Exchange((4, 4), 1).eval()
    for module in exchange.paths.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
    inputs = [torch.rand(1, 4, 8, 8), torch.rand(1, 4, 4, 4)]
    for stream, x, out in zip(exchange.streams, inputs, exchange(inputs), strict=True):
        assert torch.equal(out, stream(x))


def test_multi_scale_groups_name_the_streams_and_the_paths_to_coarser_ones():
    model = HRNet(5, **SMALL)
    groups = model.multi_scale_groups()
    assert set(groups) == {"stream 1/4", "stream 1/8", "stream 1/16", "stream 1/32"}
    assert groups["stream 1/4"] == ("open_finest", *(f"stages.{stage}.0.streams.0" for stage in range(3)))
    assert set(groups["stream 1/32"]) == {
        "open_stream.2",
        "stages.2.0.streams.3",
        *(f"stages.2.0.paths.{path}" for i in range(3) for path in (f"{i}_to_3", f"3_to_{i}")),
    }
    named = [name for names in groups.values() for name in names]
    paths = {name for name, _ in model.named_modules() if name.split(".")[-1].count("_to_")}
    assert paths <= set(named)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("wrong", [{"widths": (8, 8)}, {"modules": (1, 0, 1)}, {"modules": (1, 1)}])
def test_impossible_widths_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"at least 1|takes \d numbers"):
        HRNet(5, **{**SMALL, **wrong})
