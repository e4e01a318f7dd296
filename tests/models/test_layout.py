from __future__ import annotations

import torch
from torch import nn

from dance_ondevice.models.forward import channels_last


def test_weights_lie_with_their_channels_last_and_are_the_same() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = channels_last(model)
    assert moved is model
    for convolution in (moved[0], moved[2]):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
        assert not convolution.weight.is_contiguous()
    assert all(torch.equal(tensor, before[name]) for name, tensor in moved.state_dict().items())
