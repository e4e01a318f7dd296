"""The names of conditions that a state folder has given: none is given to another condition again.

The live version's file counts them. Where that file, or the version, is damaged, an older count serves, while
stored samples, rounds and other versions still know the later names.
"""

from __future__ import annotations

import re

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import condition_file

_NUMBERED = re.compile(r"c([0-9]{1,9})")


def opened(paths: StatePaths, store: Store) -> int:
    """Return the number of conditions that were opened, as far as anything in the state folder knows."""
    rows = store.submit(
        lambda db: db.execute("select condition from samples union select condition from rounds").fetchall()
    ).result()
    numbers = [int(found[1]) for (name,) in rows if (found := _NUMBERED.fullmatch(name or ""))]
    files = paths.models.glob(f"*/{condition_file.CONDITIONS_FILE}")
    return max([*numbers, *(condition_file.read(file.parent).opened for file in files)], default=0)
