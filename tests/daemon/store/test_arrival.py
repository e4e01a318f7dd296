"""Age goes by arrival: no clock, the sender's or the board's, makes a sample old or new."""

from __future__ import annotations

import pytest
from stored import START, new_sample, opened, rows

from dance_ondevice.daemon.planning import simulation
from dance_ondevice.daemon.rounds import record
from dance_ondevice.daemon.store.labelled import labelled_samples
from dance_ondevice.daemon.system.state import StatePaths

MONTH = 30 * 86_400.0
DAY = 86_400.0


@pytest.mark.parametrize("ahead", [MONTH, -MONTH])
def test_frames_of_a_wrong_clock_do_not_push_out_those_that_come_after(
    paths: StatePaths, ahead: float
) -> None:
    size = new_sample(0).size
    with opened(paths, quota_bytes=40 * size + 200) as store:
        for seq in range(36):
            store.add_sample(new_sample(seq, at=START + ahead + seq)).result(30)
        for seq in range(36, 80):
            assert store.add_sample(new_sample(seq)).result(30).kept
    left = sorted(row["seq"] for row in rows(paths).values())
    assert left[-1] == 79
    assert left == list(range(80 - len(left), 80)), "the newest stay, whatever they are dated"


@pytest.mark.slow
def test_the_newest_held_out_samples_are_those_that_came_last(paths: StatePaths) -> None:
    size = new_sample(0).size
    with opened(paths) as store:
        for seq in range(160):
            at = START + MONTH + seq if seq < 20 else None
            store.add_sample(new_sample(seq, at=at, label=(1,))).result(30)
        store.submit(lambda db: db.execute("UPDATE samples SET split = 'gate'")).result(30)
        quota = store.snapshot().bytes - 15 * size
        store.set_limits(quota_bytes=quota, min_free_bytes=0).result(30)
        store.add_sample(new_sample(200)).result(30)
    gone = set(range(160)) - {row["seq"] for row in rows(paths).values()}
    assert gone
    assert gone <= set(range(32)), "the first to come are the old ones"


def test_a_number_of_arrival_is_never_given_out_again(paths: StatePaths) -> None:
    with opened(paths) as store:
        for seq in range(3):
            store.add_sample(new_sample(seq)).result(30)
        store.remove_samples([new_sample(seq).id for seq in range(3)]).result(30)
        store.add_sample(new_sample(3)).result(30)
    assert [row["arrival"] for row in rows(paths).values()] == [4]


def test_decisions_take_a_frame_for_no_newer_than_its_arrival(paths: StatePaths) -> None:
    ahead = new_sample(1, at=START + MONTH, label=(1,), received_at=START + 1)
    with opened(paths) as store:
        store.add_sample(ahead).result(30)
        store.add_sample(new_sample(2, label=(1,))).result(30)
        found = store.submit(labelled_samples).result(30)
        places = store.submit(lambda db: record.origins(db, [ahead.id])).result(30)
    assert [(each.id, each.captured_at) for each in found] == [
        (ahead.id, START + 1),
        (new_sample(2).id, START + 2),
    ]
    assert places[ahead.id].capture.captured_at == START + 1


@pytest.mark.parametrize("leap", [56 * 365 * DAY, -56 * 365 * DAY, -3600.0])
def test_a_replayed_stream_has_no_leaps_and_keeps_the_time_of_day(leap: float) -> None:
    times = [0.5 * DAY, 0.5 * DAY + 60, 0.5 * DAY + 120 + leap, 0.5 * DAY + 180 + leap]
    found = simulation._in_order(times)
    assert found == sorted(found)
    assert found[-1] - found[0] < 2 * DAY
    assert [time % DAY for time in found] == pytest.approx([time % DAY for time in times])
    weekend = [0.0, 2.5 * DAY]
    assert simulation._in_order(weekend) == weekend


def test_frames_that_came_since_are_told_apart_although_the_newest_before_them_went(
    paths: StatePaths,
) -> None:
    with opened(paths) as store:
        for seq in range(3):
            store.add_sample(new_sample(seq)).result(30)
        before = store.submit(record.newest_sample).result(30)
        store.remove_samples([new_sample(2).id]).result(30)
        store.add_sample(new_sample(3)).result(30)
        seen = store.submit(lambda db: record.seen_since(db, before, 0.0, 9, paths.root)).result(30)
    assert [each.sample.id for each in seen] == [new_sample(3).id]
