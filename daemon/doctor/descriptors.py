"""What the doctor looks at of open files: how many the daemon may have, and what connections get of them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.doctor.ports import running
from dance_ondevice.daemon.system import descriptors
from dance_ondevice.daemon.system.state import StatePaths

#: Above this part of its limit a daemon is close to turning away what is new.
_MUCH = 0.8


def check_descriptors(
    config: Config,
    paths: StatePaths,
    procfs: Path,
    *,
    hard_limit: Callable[[], int] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[1],
) -> Check:
    """The limit of open files leaves room for connections; of the running daemon where there is one.

    Args:
        config: the whole configuration.
        paths: of the state folder.
        procfs: where procfs is mounted.
        hard_limit: of this process, for a daemon that would be started like it; -1 is none.
    """
    name = "descriptors"
    daemon = running(paths)
    found = descriptors.limits_of(daemon.pid, procfs) if daemon else None
    if found is not None:
        limit, hard, used = found
        detail = f"the running daemon has {used} of {limit} open"
    else:
        limit = hard = hard_limit() if hard_limit() >= 0 else descriptors.UNLIMITED
        used, detail = 0, f"a daemon started from here may open {limit}"
    given = descriptors.shares(limit, config.ingest.max_cameras)
    detail += f"; connections: {given.senders} of senders, {given.readers} of readers of masks"
    remedy = (
        "raise the limit: LimitNOFILE= in the unit, ulimit -Hn in a shell, --ulimit nofile= for a container"
    )
    if hard < descriptors.LOW:
        return Check(name, "warning", f"{detail}; the hard limit is {hard}", remedy)
    if used > _MUCH * limit:
        return Check(
            name, "warning", f"{detail}: close to its limit", f"see who connects (ss -tp); or {remedy}"
        )
    return Check(name, "ok", detail)
