"""The checks of ``check.sh``: one line for each, and an exit status; see there.

``--device cpu`` goes through the same steps on the CPU, which shows that the script itself works; what needs
a GPU is then left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dance_ondevice.daemon.children import jobs
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.models import packaged
from dance_ondevice.models.card import read_card
from dance_ondevice.policies.rounds import pace

NO_GPU = 3
#: By how much the gate's mIoU may differ between the devices after the same round: what another order of
#: sums makes of a short training.
_GATE_TOLERANCE = 0.03
#: Share of pixels that may get another class.
_MASK_TOLERANCE = 0.005
_HEIGHT, _WIDTH = 192, 256


class Failure(Exception):  # noqa: N818 - the name says what happened
    """A check failed; the message says how."""


def main(arguments: Sequence[str]) -> int:
    """Run the checks; returns the exit status."""
    device = arguments[1] if list(arguments[:1]) == ["--device"] else "cuda"
    if device == "cuda" and (missing := _no_gpu()):
        print(f"no GPU: {missing}; nothing was checked", file=sys.stderr)
        return NO_GPU
    failed = False
    with tempfile.TemporaryDirectory(prefix="dance-device-") as name:
        folder = Path(name)
        job = _job(folder, _samples(folder))
        for title, check in (
            ("a round on both devices comes to the same gate", same_gate),
            ("a round that was killed goes on", killed),
            ("out of memory is told as such", out_of_memory),
            ("masks are the same", same_masks),
            ("the GPU's joules are measured", joules),
        ):
            started = time.monotonic()
            try:
                found = check(folder, job, device)
            except (Failure, subprocess.TimeoutExpired) as error:
                failed, found = True, f"FAILED: {error}"
            print(f"{title}: {found} ({time.monotonic() - started:.0f} s)", flush=True)
    return int(failed)


def same_gate(folder: Path, job: jobs.Job, device: str) -> str:
    """Train the same round on the CPU and on the device."""
    found = {}
    for name in ("cpu", device):
        events = list(_round(folder / f"gate-{name}-{len(found)}", _on(job, name)))
        done = _last(events, "done")
        found[name] = _last([e for e in events if e.get("model") == "candidate"], "evaluated")["scores"][
            "miou"
        ]
        placed = _last(events, "on_device")
        if placed["device"] != name:
            raise Failure(f"trained on {placed['device']}: {placed['reason']}")
        print(f"  {name}: mIoU {found[name]:.4f}, precision {done['precision']}")
    if abs(found["cpu"] - found[device]) > _GATE_TOLERANCE:
        raise Failure(f"mIoU {found}")
    return "passed"


def killed(folder: Path, job: jobs.Job, device: str) -> str:
    """Kill the trainer in the middle; the next one goes on from the state that was saved."""
    place, job = folder / "killed", _on(job, device)
    process = _start(place, job)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        # States are saved before each look at the gate.
        if event["type"] == "curve_point" and event["step"] > 0:
            process.kill()
            break
    process.wait(60)
    steps = [event["step"] for event in _round(place, job) if event["type"] == "step"]
    if not steps or steps[0] == 1 or steps[-1] != job.steps:
        raise Failure(f"the second part took the steps {steps[:1]} to {steps[-1:]} of {job.steps}")
    return f"passed, from step {steps[0]} on"


def out_of_memory(folder: Path, job: jobs.Job, device: str) -> str:
    """Ask for a batch that no GPU holds: the trainer must say that memory was short, then a round shrinks."""
    if device == "cpu":
        return "left out: needs a GPU"
    huge = msgspec.structs.replace(
        _on(job, device),
        batch_size=4096,
        train=tuple(msgspec.structs.replace(s, scale=4.0) for s in job.train),
    )
    last = list(_round(folder / "memory", huge, may_fail=True))[-1]
    if last["type"] != "failed" or not last["memory"]:
        raise Failure(f"it ended with {last}")
    return "passed"


def same_masks(folder: Path, job: jobs.Job, device: str) -> str:
    """Compare the masks of onnxruntime on the device with those on the CPU."""
    from dance_ondevice.models import checkpoint
    from dance_ondevice.runtime.engines import gpu_provider
    from dance_ondevice.runtime.serving import GraphServer
    from dance_ondevice.runtime.serving_graph import graph_of

    if device == "cuda" and gpu_provider() is None:
        return "left out: this build of onnxruntime has no provider for GPUs"
    model, card = checkpoint.load(Path(job.live))
    graph = graph_of(model, (_HEIGHT, _WIDTH))
    camera = StreetCamera(seed=9, height=_HEIGHT, width=_WIDTH)
    frames = [camera.render(5 * number, "day")[0] for number in range(8)]
    here, there = (
        GraphServer(graph, "onnxruntime", card.normalisation, threads=1, device=place)
        for place in ("cpu", "cuda" if device == "cuda" else "cpu")
    )
    masks = [[s.predict(f, "", None, f.shape[:2]).mask for f in frames] for s in (here, there)]
    differ = float(np.mean([np.mean(a != b) for a, b in zip(*masks, strict=True)]))
    if differ > _MASK_TOLERANCE:
        raise Failure(f"{100 * differ:.2f} % of the pixels differ")
    return f"passed, {100 * differ:.3f} % of the pixels differ"


def joules(folder: Path, job: jobs.Job, device: str) -> str:
    """Read the GPU's meter around a round."""
    if device == "cpu":
        return "left out: needs a GPU"
    from dance_ondevice.energy.nvml import open_nvml
    from dance_ondevice.energy.sensors import MeterUnavailable

    try:
        meter = open_nvml()
    except MeterUnavailable as error:  # a Jetson has no NVML: its rails are read by ina3221
        return f"left out: {error}"
    started = time.monotonic()
    before = meter.read(started).joules
    for event in _round(folder / "joules", _on(job, device)):
        del event
        spent = meter.read(time.monotonic()).joules - before  # power is summed up between two readings
    if not spent > 0:
        raise Failure("the meter stands still")
    return f"passed, {spent:.0f} J in {time.monotonic() - started:.0f} s"


def _no_gpu() -> str:
    import torch

    from dance_ondevice.runtime import devices

    chosen = devices.choose("cuda")
    if chosen.name == "cpu":
        return chosen.reason
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {devices.lowered_precision()}")
    return ""


def _samples(folder: Path) -> list[jobs.JobSample]:
    camera = StreetCamera(seed=1, height=_HEIGHT, width=_WIDTH)
    found = []
    for number in range(48):
        image, label = camera.render(7 * number, "dusk")
        files = folder / f"{number}.jpg", folder / f"{number}.png"
        files[0].write_bytes(encode_jpeg(image, 90))
        files[1].write_bytes(encode_png(label))
        found.append(jobs.JobSample(id=str(number), image=str(files[0]), label=str(files[1])))
    return found


def _job(folder: Path, samples: Sequence[jobs.JobSample]) -> jobs.Job:
    steps = 30
    return jobs.Job(
        round="device",
        live=str(packaged.FOLDER),
        frozen=str(packaged.FOLDER),
        out="",
        checkpoint="",
        n_classes=len(read_card(packaged.FOLDER).classes),
        train=tuple(samples[:36]),
        rehearsal=(),
        gate=tuple(samples[36:]),
        target_macs=None,
        size=(_HEIGHT, _WIDTH),
        steps=steps,
        batch_size=8,
        learning_rate=1e-3,
        precision="auto",
        precision_cache=str(folder / "precision.json"),
        threads=min(4, os.cpu_count() or 1),
        seed=0,
        looks=pace.evaluation_steps(steps),
        min_gain=-1.0,
    )


def _on(job: jobs.Job, device: str) -> jobs.Job:
    return msgspec.structs.replace(job, device=device)


def _start(place: Path, job: jobs.Job) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    job = msgspec.structs.replace(job, out=str(place / "candidate"), checkpoint=str(place / "checkpoint"))
    (place / "job.json").write_bytes(jobs.encode(job))
    command = [sys.executable, "-m", "dance_ondevice.daemon.trainer.main", str(place / "job.json")]
    with (place / "trainer.log").open("a") as log:
        return subprocess.Popen(
            [*command, str(os.getpid()), "normal"], stdout=subprocess.PIPE, stderr=log, text=True
        )


def _round(place: Path, job: jobs.Job, *, may_fail: bool = False) -> Iterator[dict[str, Any]]:
    process = _start(place, job)
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    if process.wait(60) != 0 and not may_fail:
        raise Failure((place / "trainer.log").read_text()[-600:])


def _last(events: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [event for event in events if event["type"] == kind]
    if not found:
        raise Failure(f"the trainer told of no {kind}: {events[-1:]}")
    return found[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
