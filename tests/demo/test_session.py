"""The camera against the real daemon, with a model that has learnt nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.demo import records, run
from dance_ondevice.demo.process import DaemonDied, DaemonProcess, write_config
from dance_ondevice.demo.session import PhasePlan, Progress, Stream, StreamOptions, describe_rounds

PLANS = (PhasePlan("calm", "day", drifted=False), PhasePlan("busy", "dusk", drifted=True))


def noise(index: int, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames with more or less detail, whose label is the upper and the lower half."""
    rng = np.random.default_rng(index)
    grain = rng.integers(0, 20 + 10 * (index % 20), (48, 64, 3))
    label = np.zeros((48, 64), np.uint8)
    label[24:] = 3
    return grain.astype(np.uint8), label


@pytest.fixture
def daemon(tmp_path: Path) -> DaemonProcess:
    values = run.configuration(Path())
    values["model"] = {"size": [64, 48]}
    values["training"] = {"min_new_samples": 1000}
    values["data_slimming"] = {"warmup_frames": 4}
    write_config(tmp_path / "demo.toml", values)
    return DaemonProcess(tmp_path / "demo.toml", tmp_path / "state", tmp_path / "daemon.log")


@pytest.mark.slow
def test_stream_is_answered_counted_and_seen(daemon: DaemonProcess) -> None:
    seen: list[str] = []

    def look(progress: Progress) -> None:
        seen.append(progress.phase)

    with daemon:
        facts = daemon.wait_ready(60, lambda: None)
        stream = Stream(daemon, facts, noise, StreamOptions(fps=20.0), on_progress=look)
        calm, busy = stream.run(PLANS, 4.0)
        assert daemon.stop() == 0

    progress = stream.progress
    assert calm.frames + busy.frames == progress.sent == progress.answered
    assert progress.kept > 0
    assert progress.dropped > 0
    assert busy.scrape.total("dance_frames_total", outcome="kept") == progress.kept
    assert busy.scrape.total("dance_frames_total", outcome="dropped") == progress.dropped
    assert calm.scrape.total("dance_frames_total") < busy.scrape.total("dance_frames_total")
    assert progress.masks > 0
    assert calm.capped
    assert (calm.rounds, busy.rounds) == (0, 0)
    assert calm.live_version == busy.live_version == progress.frozen_version
    assert seen[0] == "calm"
    assert seen[-1] == "busy"
    found = records.read(daemon.paths, lambda _: "")
    assert sum(found.kept_by_scale.values()) == progress.kept
    assert 0 < found.labelled < progress.kept


@pytest.mark.slow
def test_a_rejected_round_at_the_end_makes_room_for_another_and_a_daemon_that_dies_is_noticed(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is paused while the round runs that may be the last, and no longer than that."""
    last = PhasePlan("calm", "day", drifted=False, promotions=1, rounds=1, most_rounds=3)
    looks: list[list[str | None]] = [[], [None], ["rejected"], ["rejected", None], ["rejected", "promoted"]]
    found = iter(looks)
    monkeypatch.setattr(records, "outcomes", lambda *_: next(found, []))
    paused: list[bool] = []
    with daemon:
        facts = daemon.wait_ready(60, lambda: None)
        stream = Stream(
            daemon,
            facts,
            noise,
            StreamOptions(fps=20.0),
            on_progress=lambda _: paused.append(daemon.status()["paused"]),
        )
        (phase,) = stream.run((last,), 120.0)
        dying = Stream(
            daemon, facts, noise, StreamOptions(fps=20.0), on_progress=lambda _: daemon.stop() and None
        )
        with pytest.raises(DaemonDied, match=r"(?s)ended with status 0.*stopped"):
            dying.run(PLANS, 20.0)

    assert not phase.capped
    assert phase.rounds == 2
    # Before each look, and once more at the end.
    assert paused == [False, False, True, False, True, True]


@pytest.mark.parametrize(
    ("promotions", "outcomes", "learnt"),
    [
        (0, [], False),
        (0, ["rejected", None], False),
        (0, ["rejected", "promoted"], True),
        (2, ["rejected", "promoted", None], False),
        (2, ["promoted", "rejected", "promoted"], True),
        (2, ["rejected"] * 3, False),
        (2, ["rejected"] * 4, True),
    ],
)
def test_a_phase_ends_after_enough_rounds(promotions: int, outcomes: list[str | None], learnt: bool) -> None:
    plan = PhasePlan("p", "day", drifted=True, rounds=2, promotions=promotions, most_rounds=4)

    assert plan.is_learnt(outcomes) is learnt


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ({}, "0 done; next: waiting for samples"),
        (
            {"count": 3, "promoted": 2, "rejected": 1, "waiting_for": "5 of 24 samples"},
            "3 done (2 promoted, 1 rejected); next: 5 of 24 samples",
        ),
        ({"running": "r4", "step": 7, "steps": 40, "count": 0}, "round r4 runs, step 7 of 40; 0 done"),
        ({"running": "r4", "step": None, "steps": None, "count": 0}, "round r4 runs; 0 done"),
    ],
)
def test_rounds_in_words(rounds: dict[str, object], said: str) -> None:
    assert describe_rounds(rounds) == said
