"""The process that trains: ``python worker.py TREE JOB``, one epoch for each line on its standard input.

It runs against the package that lies in TREE, this one or an earlier build, and answers each line with the
CPU seconds of the epoch.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def main(tree: str, job: dict[str, Any]) -> int:
    """Train one epoch for each line of standard input; returns the exit status."""
    sys.path.insert(0, tree)
    import torch

    with contextlib.suppress(ImportError, AttributeError):  # a tree from before it
        import_module("dance_ondevice.runtime.heap").keep_freed()
    trainer = _trainer(job)
    torch.set_num_threads(1)
    steps = iter(trainer)
    per_epoch = trainer.plan.steps_per_epoch
    for _ in sys.stdin:
        macs, seen, before = trainer.macs, trainer.samples_seen, time.process_time()
        for _ in range(per_epoch):
            next(steps)
        seconds = time.process_time() - before
        answer = {"seconds": seconds, "images": trainer.samples_seen - seen, "macs": trainer.macs - macs}
        print(json.dumps(answer), flush=True)
    return 0


def _trainer(job: dict[str, Any]) -> Any:
    models, card = (
        import_module("dance_ondevice.models.registry"),
        import_module("dance_ondevice.models.card"),
    )
    try:
        slimming = import_module("dance_ondevice.slimming.slim")
        batches = import_module("dance_ondevice.training.batches")
        training = import_module("dance_ondevice.training.trainer")
    except ModuleNotFoundError:  # a build from before these packages existed
        slimming = import_module("dance_ondevice.slimming")
        batches = import_module("dance_ondevice.batches")
        training = import_module("dance_ondevice.training")
    import torch

    torch.manual_seed(0)
    model = models.build(job["architecture"], job["classes"])
    full = tuple(job["full"])
    if job["macs_fraction"] < 1:
        macs = import_module("dance_ondevice.models.cost").count_macs(model, *full)
        slimming.slim(model, target_macs=round(job["macs_fraction"] * macs), size=full)
    samples = [
        batches.TrainingSample(Path(image), Path(label), void=tuple(job["void"]))
        for image, label in job["samples"]
    ]
    options = training.TrainingOptions(
        steps=10**6,
        num_classes=job["classes"],
        size=tuple(job["size"]),
        batch_size=job["batch_size"],
        zoom=tuple(job["zoom"]),
        precision=job["precision"],
    )
    named = card.ModelCard(classes=tuple(str(n) for n in range(job["classes"])), macs_at=full)
    return training.Trainer(model, samples, options, named.normalisation)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
