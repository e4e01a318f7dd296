"""Removes folders of old rounds: the latest stay, and of older ones only what a rebuilt index needs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

from dance_ondevice.daemon.store.rebuild import Roles
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import write_durably

__all__ = ["KEPT", "size", "tidy"]

#: Number of folders of ended rounds that stay, newest first.
KEPT = 50


def tidy(paths: StatePaths, store: Store, *, keep: int = KEPT) -> int:
    """Remove the folders of old rounds; returns their number.

    What they record about samples that are still stored is kept in ``rounds/roles.json``, so that a rebuilt
    index does not hold out a sample that was learnt from.

    Args:
        paths: Paths of the state folder.
        store: The sample store, which knows the ended rounds in their order, and the stored samples.
        keep: Number of folders of ended rounds that stay.
    """
    ended = store.submit(
        lambda db: [
            row[0]
            for row in db.execute("select id from rounds where outcome is not null order by rowid desc")
        ]
    ).result()
    old = [paths.rounds / name for name in ended[keep:] if (paths.rounds / name).is_dir()]
    if not old:
        return 0
    stored = store.submit(lambda db: {row[0] for row in db.execute("select id from samples")}).result()
    roles = Roles([paths.rounds / Roles.FILE, *(folder / "job.json" for folder in old)])
    learnt = Counter({name: count for name, count in roles.learnt.items() if name in stored})
    kept = {"learnt": learnt, "gate": sorted(roles.gate & stored)}
    write_durably(paths.rounds / Roles.FILE, json.dumps(kept).encode())
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size if file.is_file() else 0
        except OSError:  # removed in the meantime
            continue
    return total
