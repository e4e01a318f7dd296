"""Cameras at their own pace: both builds get each frame, one half a period after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from dance_ondevice.benchmarks.ingest.run import percentiles
from dance_ondevice.benchmarks.service.daemons import Daemon, Viewer
from dance_ondevice.benchmarks.service.report import Scene, Used
from dance_ondevice.benchmarks.service.scenes import Frame
from dance_ondevice.images import codec as images
from dance_ondevice.images.confusion import confusion_matrix, miou
from dance_ondevice.images.labels import STREET_CLASSES

#: Frames before the counters are read: caches are filled, warm-up frames stored, the subscription stands.
_WARM_UP = 20


def serve(
    name: str,
    daemons: Sequence[Daemon],
    frames: Sequence[Frame],
    *,
    fps: float,
    seconds: float,
    score: bool,
    say: Callable[[str], None],
) -> Scene:
    """Send frames in turn for some seconds.

    Args:
        name: Of the scene.
        daemons: This build's, and the other's if there is one.
        frames: Sent over and over.
        fps: Frames a second, for each daemon.
        seconds: Of the stream.
        score: Whether masks are compared with the labels.
        say: Told what goes on.

    Raises:
        DaemonDied: A daemon ended.
        ClientError: It does not answer.
    """
    count = max(1, round(fps * seconds))
    say(f"{name}: {count} frames at {fps:g} a second")
    with contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(daemon)) for daemon in daemons]
        _send(viewers, frames, _WARM_UP, fps=max(fps, 5.0))
        for daemon in daemons:
            stack.enter_context(daemon.memory)
        kept = [viewer.kept for viewer in viewers]
        for viewer in viewers:
            viewer.masks.clear()
        before = [(daemon.cpu(), daemon.joules()[0]) for daemon in daemons]
        _send(viewers, frames, count, fps=fps)
        used = [daemon.cpu() - cpu for daemon, (cpu, _) in zip(daemons, before, strict=True)]
        time.sleep(1.5)  # the daemons split their joules about once a second
        found = []
        for daemon, viewer, cpu, (_, joules), stored in zip(
            daemons, viewers, used, before, kept, strict=True
        ):
            after = daemon.joules()[0]
            found.append(
                Used(
                    sent=count,
                    kept=viewer.kept - stored,
                    masks=len(viewer.masks),
                    repeated=sum(bool(header.get("repeated")) for header, _ in viewer.masks),
                    cpu_seconds=cpu.own,
                    children_cpu_seconds=cpu.children,
                    joules=None if joules is None or after is None else after - joules,
                    resident_mb=daemon.memory.median_mb,
                    peak_mb=daemon.memory.peak_mb(),
                    latency_ms=_latency(viewer),
                    miou=_miou(viewer, frames) if score else None,
                )
            )
    here, there = found[0], found[1] if len(found) > 1 else None
    return Scene(
        name=name,
        fps=fps,
        seconds=seconds,
        here=here,
        there=there,
        cpu_ratio=None if there is None else _cpu(here) / max(1e-9, _cpu(there)),
        miou_delta=(
            None if there is None or here.miou is None or there.miou is None else here.miou - there.miou
        ),
    )


def _send(viewers: Sequence[Viewer], frames: Sequence[Frame], count: int, *, fps: float) -> None:
    started = time.monotonic()
    first = [viewer.sent for viewer in viewers]
    for number in range(count):
        for place, viewer in enumerate(viewers):
            due = started + (number + place / len(viewers)) / fps
            while (left := due - time.monotonic()) > 0:
                for each in viewers:
                    each.take()
                time.sleep(min(left, 0.05))
            viewer.send(frames[viewer.sent % len(frames)].jpeg)
    for viewer, sent in zip(viewers, first, strict=True):
        viewer.finish(sent)


def _cpu(used: Used) -> float:
    return used.cpu_seconds + used.children_cpu_seconds


def _latency(viewer: Viewer) -> dict[str, float]:
    seconds = [float(header["latency_s"]) for header, _ in viewer.masks]
    return percentiles(seconds) if seconds else {}


def _miou(viewer: Viewer, frames: Sequence[Frame]) -> float | None:
    if not viewer.masks:
        return None
    classes = len(STREET_CLASSES)
    total = np.zeros((classes, classes), np.int64)
    for header, png in viewer.masks:
        label = frames[header["seq"] % len(frames)].label
        total += confusion_matrix(label, images.decode_label(png), classes)
    return miou(total)
