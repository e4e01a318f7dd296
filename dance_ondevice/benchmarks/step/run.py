"""Times training steps of this build and of another one in turns, so that load affects both alike."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dance_ondevice.benchmarks.step import worker
from dance_ondevice.benchmarks.step.report import StepCost, StepReport
from dance_ondevice.datasets.listing import Dataset, with_plain_labels

#: Root of the source tree that this package was imported from.
HERE = Path(__file__).resolve().parents[3]
#: Number of training images; one epoch uses each of them once.
_IMAGES = 64
_FULL = (360, 480)


class StepFailed(RuntimeError):  # noqa: N818 - the name states what happened
    """Error: a training process ended early; its messages are on stderr."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One kind of step.

    Attributes:
        macs_fraction: MACs of the model as a fraction of those before slimming.
        size: (height, width) of a batch.
        zoom: Smallest and largest random magnification.
        batch_size: Images in each step.
    """

    macs_fraction: float = 1.0
    size: tuple[int, int] = _FULL
    zoom: tuple[float, float] = (0.75, 1.75)
    batch_size: int = 8


#: Steps to time: dense training, and the last stages of DANCE+, also with larger batches.
CONFIGURATIONS = {
    "dense": Configuration(),
    "dance+": Configuration(macs_fraction=0.45, size=(180, 240), zoom=(1.0, 2.3), batch_size=4),
    "dance+, batches of 8": Configuration(macs_fraction=0.45, size=(180, 240), zoom=(1.0, 2.3)),
    "dance+, batches of 16": Configuration(
        macs_fraction=0.45, size=(180, 240), zoom=(1.0, 2.3), batch_size=16
    ),
}


def measure(
    dataset: Dataset, tree: Path, against: str, work: Path, *, epochs: int, precision: str
) -> StepReport:
    """Time the configurations.

    Args:
        dataset: Data set to train on.
        tree: Checkout of the other build.
        against: Description of the other build.
        work: Folder for translated labels.
        epochs: Number of epochs to time.
        precision: "fp32" or "bf16".

    Raises:
        StepFailed: A training process ended early.
        DatasetError: The data set has no training images.
    """
    items = dataset.images(("train",))
    items = items[:: max(1, len(items) // _IMAGES)][:_IMAGES]
    plain = with_plain_labels(items, dataset.read_label, work)
    common = {
        "architecture": "fastscnn",
        "classes": len(dataset.classes),
        "full": _FULL,
        "void": (),
        "samples": [(str(item.image), str(item.label)) for item in plain],
        "precision": precision,
    }
    here: dict[str, StepCost] = {}
    there: dict[str, StepCost] = {}
    for name, configuration in CONFIGURATIONS.items():
        job = {**common, **asdict(configuration)}
        trees = (HERE, tree) if configuration.batch_size != 16 else (HERE,)
        with contextlib.ExitStack() as running:
            trainers = [running.enter_context(_training(each, job)) for each in trees]
            turns = [[_epoch(each) for each in trainers] for _ in range(epochs + 1)][1:]
        for found, costs in zip((here, there), zip(*turns, strict=True), strict=False):
            found[name] = _cost(costs)
    dense = here["dense"].seconds_a_tmac
    base = {name: there[name if name == "dense" else "dance+"].ms_an_image for name in here}
    return StepReport(
        architecture="fastscnn",
        precision=precision,
        against=against,
        images=len(items),
        epochs=epochs,
        here=here,
        there=there,
        ratios={name: cost.ms_an_image / base[name] for name, cost in here.items()},
        macs_ratio={name: cost.seconds_a_tmac / dense for name, cost in here.items()},
    )


@contextlib.contextmanager
def _training(tree: Path, job: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(worker.__file__)), str(tree), json.dumps(job)]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env={**os.environ, **one_thread, "PYTHONPATH": str(tree)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _epoch(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # reported below
        process.stdin.write("\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise StepFailed(f"a training process ended with {process.wait()}; its messages are above")
    answer: dict[str, float] = json.loads(line)
    return answer


def _cost(epochs: Sequence[dict[str, float]]) -> StepCost:
    return StepCost(
        ms_an_image=median(1e3 * each["seconds"] / each["images"] for each in epochs),
        seconds_a_tmac=median(1e12 * each["seconds"] / each["macs"] for each in epochs),
    )
