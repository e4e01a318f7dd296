"""The optimiser beside torch's own, to the bit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from dance_ondevice.training.adamw import AdamW


@pytest.mark.usefixtures("one_thread_one_seed")
def test_it_does_what_torchs_does() -> None:
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)).to(
        memory_format=torch.channels_last
    )
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)).to(
        memory_format=torch.channels_last
    )
    theirs.load_state_dict(ours.state_dict())
    mine = AdamW(ours.parameters(), weight_decay=0.05)
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    vectors = [p for p in theirs.parameters() if p.ndim <= 1]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], fused=True
    )
    for step in range(5):
        x = torch.rand(2, 3, 16, 16)
        mine.learning_rate = 0.01 * (step + 1)
        for group in reference.param_groups:
            group["lr"] = 0.01 * (step + 1)
        mine.zero_grad()
        reference.zero_grad()
        ours(x).square().mean().backward()
        theirs(x).square().mean().backward()
        if step == 2:  # a parameter without a gradient stays as it is, with its number of steps
            ours[2].bias.grad = theirs[2].bias.grad = None
        mine.step()
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        for key, value in reference.state[other].items():
            assert torch.equal(mine.state[one][key], value), key


@pytest.mark.slow
def test_training_does_not_import_torchs_compiler() -> None:
    code = """
import sys, torch
from dance_ondevice.daemon.trainer import main
from dance_ondevice.training.adamw import AdamW
layer = torch.nn.Conv2d(3, 2, 1)
optimiser = AdamW(layer.parameters(), weight_decay=0.1)
layer(torch.rand(1, 3, 4, 4)).square().sum().backward()
torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
optimiser.step()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
