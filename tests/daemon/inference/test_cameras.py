"""The state of cameras and conditions that needs no model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dance_ondevice.conditions.arrays import encode
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.cameras import Conditions
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import condition_names
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE

SETTINGS = sections.Conditions(min_frames=8)


def test_as_many_cameras_are_remembered_as_may_send() -> None:
    seen = Conditions(
        SETTINGS, now=lambda: 0.0, on_alarm=lambda *_: None, on_switch=lambda: None, max_cameras=3
    )
    for number in range(20):
        seen.observe("front", np.zeros((8, 8, 3), np.uint8), 0.5)
        seen.observe(f"run-{number}", np.zeros((8, 8, 3), np.uint8), 0.5)
    known = json.loads(seen.encode())["cameras"]
    assert set(known) <= {"front", "run-18", "run-19"}
    assert "front" in known
    assert len(seen._drift) <= 3


@pytest.mark.parametrize("older", [True, False], ids=["an older count", "no count"])
def test_a_name_is_not_given_again_where_the_count_is_lost(
    older: bool, paths: StatePaths, store: Store
) -> None:
    def seen(opened: int) -> Conditions:
        return Conditions(
            SETTINGS, now=lambda: 0.0, on_alarm=lambda *_: None, on_switch=lambda: None, opened=opened
        )

    def name_of_the_next(found: Conditions) -> str:
        for camera, grey in (("front", 60), ("new", 200)):
            for _ in range(SETTINGS.min_frames):
                found.observe(camera, np.full((8, 8, 3), grey, np.uint8), 0.5)
        return found.condition_of("new")

    first = seen(0)
    before = first.encode()
    assert name_of_the_next(first) == "c1"
    row = {"id": "r1", "started_at": 0.0, "condition": "c6"}
    store.submit(lambda db: db.table("rounds").insert(row)).result()
    version = paths.models / "v0002"
    version.mkdir(parents=True)
    assert condition_names.opened(paths, store) == 6
    kept = encode({}, json.dumps({"state": json.loads(first.encode()) | {"opened": 8}}))
    (version / CONDITIONS_FILE).write_bytes(kept)
    assert condition_names.opened(paths, store) == 8

    after = seen(condition_names.opened(paths, store))
    if older:
        after.restore(before)
    assert name_of_the_next(after) == "c9"
