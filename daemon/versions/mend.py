"""Brings ``models/live.json`` back where it was damaged: the index knows the same facts."""

from __future__ import annotations

import errno
import json
import logging
from dataclasses import asdict
from pathlib import Path

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Pointer, VersionError, age_key, read_pointer
from dance_ondevice.files import write_durably

__all__ = ["live_file"]

log = logging.getLogger(__name__)

#: What a folder, a pipe or a link to itself answers in the place of a file.
_NO_FILE = (errno.EISDIR, errno.EINVAL, errno.ELOOP)


def live_file(paths: StatePaths, store: Store) -> str | None:
    """Write the file anew from the index if it cannot be read; the damaged one is moved aside.

    Nothing is done where the index does not know which version is live although there are some: then a person
    has to say.

    Returns:
        What was done, for ``status``; None where nothing was.

    Raises:
        OSError: The disk failed.
    """
    try:
        read_pointer(paths)
    except VersionError as error:
        problem = str(error.__cause__)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        problem = error.strerror or str(error)
    else:
        return None
    there = sorted((card.parent.name for card in paths.models.glob("[!.]*/card.json")), key=age_key)
    rows = store.submit(lambda db: {r["version"]: dict(r) for r in db["versions"].rows}).result()
    live = [name for name in there if name in rows and rows[name]["status"] == "live"]
    if there and not live:
        return None
    aside = _move_aside(paths.live_file)
    said = f"{paths.live_file} was damaged ({problem}) and is {aside.name} now"
    if live:
        parent = rows[live[-1]]["parent"]
        pointer = Pointer(live[-1], parent if parent in there else None, there[0])
        write_durably(paths.live_file, json.dumps(asdict(pointer)).encode())
        said += f"; {pointer.version} stays live, as the index says"
    log.error("live pointer mended %s", said)
    return said


def _move_aside(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    return file.rename(aside)
