from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stored

from dance_ondevice.daemon.control.client import CommandError, request
from dance_ondevice.daemon.control.handlers import remove_samples
from dance_ondevice.daemon.control.instances import DaemonFile, read_daemon_file, write_daemon_file
from dance_ondevice.daemon.curation import purge as sample_purge
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths


def fill(store: Store) -> dict[str, str]:
    """Five labelled samples, three of one camera; one trained a version, one is in a running round."""
    names = {}
    for camera, seq in (("front", 0), ("front", 1), ("front", 2), ("rear", 0), ("rear", 1)):
        sample = stored.new_sample(seq, camera=camera, label=(1, 2))
        store.add_sample(sample).result(10)
        names[f"{camera}{seq}"] = sample.id

    def learn(db: Any) -> None:
        db["rounds"].insert_all(
            [
                {"id": "r1", "started_at": 1.0, "outcome": "promoted", "parent": "v1", "candidate": "v2"},
                {"id": "r2", "started_at": 2.0, "outcome": None},
            ]
        )
        db["versions"].insert({"version": "v2", "status": "live", "parent": "v1", "round_id": "r1"})
        db["round_samples"].insert_all(
            [
                {"round_id": "r1", "sample_id": names["front0"], "role": "new"},
                {"round_id": "r2", "sample_id": names["rear1"], "role": "gate"},
            ]
        )

    store.submit(learn).result(10)
    return names


def arguments(paths: StatePaths, *more: str) -> tuple[str, ...]:
    return ("samples", "purge", "--state-dir", str(paths.root), *more)


@pytest.fixture
def filled(paths: StatePaths) -> dict[str, str]:
    """The state folder of a daemon that has stopped."""
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    names = fill(store)
    assert store.stop(10)
    return names


def test_without_a_daemon_files_labels_and_rows_go(
    run_json, paths: StatePaths, filled: dict[str, str]
) -> None:
    answer = run_json(*arguments(paths, "--camera", "front", "--yes"))
    assert answer["removed"] == 3
    assert [(v["version"], v["direct"]) for v in answer["versions"]] == [("v2", True)]
    assert set(stored.rows(paths)) == {filled["rear0"], filled["rear1"]}
    assert not [name for name in stored.files(paths) if "front" in name]
    # Whoever asks later still learns who knows them.
    assert run_json(*arguments(paths, "--camera", "front", "--yes"))["removed"] == 0


def test_after_a_power_cut_the_daemons_file_misleads_nobody(
    run, run_json, paths: StatePaths, filled: dict[str, str], tmp_path: Path
) -> None:
    dead = DaemonFile(pid=1, control=f"ipc://{paths.root}/control.sock")
    write_daemon_file(paths, dead)
    assert run_json(*arguments(paths, "--camera", "front", "--yes"))["removed"] == 3
    (paths.root / "classes.json").write_text('["sky", "road"]')
    where = ("--state-dir", str(paths.root))
    assert "no card.json" in run("models", "import", str(tmp_path), *where, code=1).stderr
    assert "no daemon runs" in run("labels", "import", str(tmp_path), *where, code=1).stderr


def test_times_bound_what_goes_and_zones_are_understood(
    run_json, paths: StatePaths, filled: dict[str, str]
) -> None:
    # Samples are captured at 08:53:20.25, :21.25 and :22.25 UTC.
    after, before = "2025-10-09T08:53:21Z", "2025-10-09T10:53:22+02:00"
    answer = run_json(*arguments(paths, "--camera", "front", "--after", after, "--before", before, "--yes"))
    assert answer["removed"] == 1
    assert filled["front1"] not in stored.rows(paths)
    assert run_json(*arguments(paths, "--before", str(stored.START + 0.5), "--yes"))["removed"] == 2


def test_a_mistyped_camera_is_told(run, paths: StatePaths, filled: dict[str, str]) -> None:
    said = run(*arguments(paths, "--camera", "frnt")).stderr
    assert "no sample of camera 'frnt' is stored; samples are of: front, rear" in said


def test_what_doctor_finds_damaged_can_be_purged_but_not_a_disk_that_is_away(
    run_json, paths: StatePaths, filled: dict[str, str]
) -> None:
    rows = stored.rows(paths)
    (paths.root / rows[filled["front1"]]["path"]).unlink()
    (paths.root / rows[filled["front2"]]["path"]).write_bytes(bytes(100))
    told = run_json(*arguments(paths, "--unreadable", "--yes", "--json"))
    assert told["removed"] == 2
    assert stored.rows(paths).keys() == rows.keys() - {filled["front1"], filled["front2"]}
    paths.samples.rename(paths.root / "away")
    assert run_json(*arguments(paths, "--unreadable", "--yes", "--json"))["removed"] == 0


def test_what_a_running_round_uses_stays(run, paths: StatePaths, filled: dict[str, str]) -> None:
    result = run(*arguments(paths, "--camera", "rear", "--yes"), code=1)
    assert "1 samples removed" in result.stdout
    assert "has not ended" in result.stderr
    assert filled["rear1"] in stored.rows(paths)
    assert filled["rear0"] not in stored.rows(paths)


@pytest.mark.usefixtures("filled")
def test_it_asks_and_takes_no_for_an_answer(run, paths: StatePaths) -> None:
    result = run(*arguments(paths, "--camera", "front"), code=1)
    assert "Remove 3 samples for good? 1 model versions have learnt from them." in result.stdout
    assert len(stored.rows(paths)) == 5


@pytest.mark.parametrize(
    ("more", "why"),
    [((), "say which samples"), (("--camera", "x", "--json"), "--yes"), (("--before", "soon"), "no time")],
)
def test_wrong_usage(run, paths: StatePaths, more: tuple[str, ...], why: str) -> None:
    assert why in run(*arguments(paths, *more), code=2).stderr


def test_a_running_daemon_does_it(run_json, serve, store: Store, paths: StatePaths) -> None:
    names = fill(store)
    serve({"remove_samples": lambda query: remove_samples(store, query)})
    answer = run_json(*arguments(paths, "--camera", "front", "--yes"))
    assert answer["removed"] == 3
    assert store.snapshot().samples_labelled == 2
    published = read_daemon_file(paths)
    assert published is not None
    with pytest.raises(CommandError, match=names["rear1"]):
        request(published.control, "remove_samples", 10.0, ids=[names["rear0"], names["rear1"]])
    for wrong in (None, "rear", [1], ["x"] * (sample_purge.MOST_AT_ONCE + 1)):
        with pytest.raises(CommandError, match="list of at most"):
            request(published.control, "remove_samples", 10.0, ids=wrong)
    assert len(stored.rows(paths)) == 2


def test_a_round_that_opens_while_a_purge_is_under_way_keeps_its_samples(
    store: Store, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(store)
    really = store.remove_samples

    def remove(*arguments: Any, **options: Any) -> Any:
        def open_round(db: Any) -> None:
            db["round_samples"].insert({"round_id": "r2", "sample_id": names["front1"], "role": "new"})

        store.submit(open_round).result(10)  # the rounds thread is a moment faster
        return really(*arguments, **options)

    monkeypatch.setattr(store, "remove_samples", remove)
    with pytest.raises(sample_purge.PurgeError, match=names["front1"]):
        sample_purge.remove_through(store, [names["front0"], names["front1"]])
    assert len(stored.rows(paths)) == 5


def test_a_round_that_a_daemon_left_open_since_keeps_its_samples(
    paths: StatePaths, filled: dict[str, str]
) -> None:
    with pytest.raises(sample_purge.SampleInUseError, match=filled["rear1"]):
        sample_purge.remove_here(paths, [filled["rear0"], filled["rear1"]])
    assert len(stored.rows(paths)) == 5


def test_a_daemon_that_cannot_be_reached_keeps_the_files(
    run, paths: StatePaths, filled: dict[str, str]
) -> None:
    from dance_ondevice.daemon.system.state import StateLock

    with StateLock(paths):  # a daemon that starts has the lock before its control socket
        assert "in use" in run(*arguments(paths, "--camera", "front", "--yes"), code=1).stderr
    assert len(stored.rows(paths)) == 5
    assert Path(paths.root / stored.rows(paths)[filled["front0"]]["path"]).is_file()
