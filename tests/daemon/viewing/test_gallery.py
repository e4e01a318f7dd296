from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlite_utils import Database
from stored import WAIT, label_png, new_sample

from dance_ondevice.daemon.curation import shortlist
from dance_ondevice.daemon.store.labelled import labelled_samples
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.viewing import gallery
from dance_ondevice.daemon.viewing.worklist import Worklist

MANY = 2 * gallery.PAGE + 5


@pytest.fixture
def db(paths: StatePaths, store: Store) -> Iterator[Database]:
    futures = [
        store.add_sample(
            new_sample(number, camera=("front", "yard")[number % 2], label=(1,) if number % 5 == 0 else None)
        )
        for number in range(MANY)
    ]
    for future in futures:
        future.result(WAIT)
    reader = open_reader(paths)
    yield reader
    reader.close()


def numbers(page: dict[str, object]) -> list[int]:
    samples = page["samples"]
    assert isinstance(samples, list)
    return [row["arrival"] for row in samples]


def test_pages_hold_every_sample_once_in_either_direction(db: Database) -> None:
    down, before = [], None
    while True:
        page = gallery.page(db, gallery.Filter(), before=before)
        down.append(numbers(page))
        before = page["older"]
        if before is None:
            break
    assert [number for each in down for number in each] == list(range(MANY, 0, -1))
    up, after = [down[-1]], down[-1][0]
    while after is not None:
        page = gallery.page(db, gallery.Filter(), after=after)
        up.append(numbers(page))
        after = page["newer"]
    assert [number for each in reversed(up) for number in each] == list(range(MANY, 0, -1))


def test_filters_leave_what_was_asked_for(db: Database) -> None:
    assert gallery.cameras(db) == ["front", "yard"]
    labelled = gallery.page(db, gallery.Filter(labelled=True, camera="yard"))
    assert len(labelled["samples"]) == 5
    assert all(row["labelled"] and row["camera"] == "yard" for row in labelled["samples"])
    assert labelled["older"] is labelled["newer"] is None
    assert gallery.page(db, gallery.Filter(source="person"))["samples"] == []
    assert len(gallery.page(db, gallery.Filter(split="none"))["samples"]) == gallery.PAGE
    assert gallery.page(db, gallery.Filter(split="gate"))["samples"] == []
    assert gallery.page(db, gallery.Filter(unreadable=True))["samples"] == []
    # What comes from outside is a value, never SQL.
    assert gallery.page(db, gallery.Filter(camera="' or 1 --"))["samples"] == []


def test_a_sample_is_known_by_its_id_alone(db: Database) -> None:
    found = gallery.sample(db, "front-1760000000250000-0")
    assert found is not None
    assert found["classes"] == [1]
    assert found["rounds"] == found["versions"] == []
    assert gallery.sample(db, "front-1-1") is None


def test_the_list_moves_on_as_frames_get_labels(
    db: Database,
    paths: StatePaths,
    store: Store,
) -> None:
    clock = [0.0]
    work = Worklist(paths, monotonic=lambda: clock[0])
    first = work.frames(db)["frames"]
    assert 1 < len(first) <= 12
    store.add_label(first[0]["id"], label_png(16, 12), (1, 2), "person").result(WAIT)
    assert [each["id"] for each in work.frames(db)["frames"]] == [each["id"] for each in first[1:]]
    work.labelled()
    assert first[0]["id"] not in [each["id"] for each in work.frames(db)["frames"]]


def test_of_many_samples_some_are_looked_at(db: Database) -> None:
    every = [each.info.id for each in shortlist.unlabelled(db)]
    some = [each.info.id for each in shortlist.unlabelled(db, most=10)]
    assert 5 <= len(some) <= 12
    assert set(some) < set(every)
    assert some == sorted(some, key=every.index)
    assert shortlist.unlabelled(db, most=1000) == shortlist.unlabelled(db)


def test_of_many_labelled_samples_the_last_are_compared(db: Database) -> None:
    every = [each.id for each in labelled_samples(db)]
    assert [each.id for each in labelled_samples(db, newest=3)] == every[-3:]
