"""A teacher inside the whole daemon: frames without labels in, labels in the store, joules on the account."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_process import Camera, Daemon

pytestmark = pytest.mark.slow

TEACHER = """
import torch

class Sky(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.arange(classes, 0, -1.0).reshape(1, classes, 1, 1) * 5)

    def forward(self, x):
        return self.scores.expand(len(x), -1, *x.shape[2:])

def make(classes):
    return Sky(classes)
"""


def test_frames_without_labels_get_a_teachers_and_a_purge_takes_them_away(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "the_teacher.py").write_text(TEACHER)
    daemon = Daemon(tmp_path, extra='[labels]\nteacher_factory = "the_teacher:make"\n')
    daemon.config.write_text(daemon.config.read_text().replace('interval = "1h"', 'interval = "1s"'))
    daemon.start(PYTHONPATH=str(tmp_path / "code"))
    try:
        camera = Camera(daemon.facts["ingest"][0])
        kept = sum(camera.send(index, labelled=False)["kept"] for index in range(16))
        camera.close()
        status = daemon.wait_until(lambda now: now["labelling"]["labelled"] >= 8)
        assert status["labelling"]["state"] in {"waiting", "running"}
        assert status["labelling"]["teacher"].startswith("the_teacher:make")
        assert status["labelling"]["last"]["gross_joules"] > 0
        assert status["energy"]["workload_joules"]["labelling"] > 0
        assert status["energy"]["workload_joules"]["training"] == 0
        # All labels come from a model: there is nothing to judge a candidate by, so no round starts.
        assert status["rounds"]["count"] == 0
        assert daemon.run_cli("status").stdout.count("labels since the start") == 1
        gone = daemon.run_cli("samples", "purge", "--camera", "front", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert f"{kept} samples removed" in gone.stdout
        assert not list((daemon.state / "samples").rglob("*.*"))
        assert daemon.stop() == 0
    finally:
        daemon.stop(9)
