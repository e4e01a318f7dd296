"""The samples from which a round learns what the model loses on smaller images."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database

from dance_ondevice.complexity import LEARNT
from dance_ondevice.daemon.children.counts import SampleCapture, block_numbers
from dance_ondevice.daemon.children.jobs import JobSample, ScaleFit
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.store.labelled import BOUNDED

__all__ = ["scale_fit"]

#: The most samples, spread evenly over time: each costs about two inferences.
_MOST = 128


def scale_fit(db: Database, config: Config, state_dir: Path) -> ScaleFit | None:
    """Return labelled samples that are stored at full size; None if the configuration asks for no fit.

    What is stored smaller does not show what it has lost. Samples of one condition and one block of time
    (``training.gate_block``) form a group.
    """
    scales = tuple(sorted(scale for scale in config.data_slimming.scales if scale < 1))
    if config.complexity.indicator != LEARNT or not config.data_slimming.enabled or not scales:
        return None
    rows = list(
        db.query(
            f"select id, camera, {BOUNDED}, path, label_path, condition from samples "
            "where label_path is not null and scale = 1 and unreadable is null order by captured_at, id"
        )
    )
    count = min(_MOST, len(rows))
    rows = [rows[len(rows) * place // count] for place in range(count)]
    captures = {
        row["id"]: SampleCapture(
            camera=row["camera"], captured_at=row["captured_at"], condition=row["condition"] or ""
        )
        for row in rows
    }
    blocks = block_numbers([row["id"] for row in rows], captures, parse_duration(config.training.gate_block))
    names = [(row["condition"] or "", block) for row, block in zip(rows, blocks, strict=True)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return ScaleFit(
        samples=tuple(
            JobSample(
                id=row["id"],
                image=str(state_dir / row["path"]),
                label=str(state_dir / row["label_path"]),
                condition=row["condition"] or "",
            )
            for row in rows
        ),
        groups=tuple(numbers[name] for name in names),
        scales=scales,
    )
