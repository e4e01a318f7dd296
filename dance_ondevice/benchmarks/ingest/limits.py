"""Upper limits of the board (decoding, messages, disk, arithmetic), which figures can be compared with."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from dance_ondevice.benchmarks.ingest.baseline import receiver
from dance_ondevice.benchmarks.ingest.report import Limits
from dance_ondevice.benchmarks.ingest.sending import Cameras
from dance_ondevice.images import codec as images

_REPEATS = 40
_CHANNELS, _SIDE = 64, 64


def measure_limits(frame: bytes, reduction: int, folder: Path, *, messages: int, window: int) -> Limits:
    """Measure what one core, loopback and the disk under ``folder`` can do.

    Args:
        frame: One frame as JPEG.
        reduction: By how much the grey decode makes the image smaller: 1, 2 or 4.
        folder: Folder in which files are written and flushed.
        messages: Number of frames sent over ZMQ.
        window: Number of frames that may wait for an answer at a time.

    Raises:
        Stuck: The receiver does not answer.
        OSError: A file cannot be written.
    """
    with receiver(0) as loop, Cameras(loop.endpoint, ["front"], [frame], window) as cameras:
        passed = cameras.stream(messages)
    return Limits(
        decode_grey_us=1e6 * _median(lambda: images.decode_grey(frame, reduction)),
        decode_colour_us=1e6 * _median(lambda: images.decode_colour(frame)),
        zmq_messages_per_second=passed.answered / passed.seconds,
        fsync_ms=1e3 * _median(lambda: _flush(folder / "fsync-probe", frame)),
        conv_gflops=conv_gflops(),
    )


def conv_gflops() -> float | None:
    """Giga-operations a second of a 3x3 convolution on one thread; None without torch."""
    try:
        import torch

        from dance_ondevice.models.forward import channels_last
    except ImportError:
        return None
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        layer = channels_last(torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False))
        x = torch.rand(1, _CHANNELS, _SIDE, _SIDE).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            seconds = _median(lambda: layer(x))
    finally:
        torch.set_num_threads(before)
    return float(2 * 9 * _CHANNELS**2 * _SIDE**2 / seconds / 1e9)


def _median(step: Callable[[], object]) -> float:
    found = []
    step()
    for _ in range(_REPEATS):
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _flush(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        file.unlink()
