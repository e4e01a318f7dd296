"""The state of cameras and conditions that needs no model."""

from __future__ import annotations

import json

import numpy as np

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.cameras import Conditions

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
