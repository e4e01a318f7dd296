"""The last resort: serving a version in torch, in this process; imported only where nothing else serves."""

from __future__ import annotations

from pathlib import Path

import torch

from dance_ondevice.models import checkpoint
from dance_ondevice.models.forward import channels_last
from dance_ondevice.runtime.serving import Server
from dance_ondevice.runtime.torch_server import TorchServer

__all__ = ["torch_server"]


def torch_server(directory: Path, threads: int) -> Server:
    """Load the version in a folder into torch.

    Args:
        directory: The version's folder.
        threads: Number of CPU threads of a forward pass.

    Raises:
        CheckpointError: The folder does not hold a model that loads.
    """
    torch.set_num_threads(threads)
    model, card = checkpoint.load(directory)
    return TorchServer(channels_last(model), card.normalisation, size=card.macs_at)
