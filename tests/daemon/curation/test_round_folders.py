"""What rounds leave is bounded: folders, and rows of the index."""

from __future__ import annotations

import json

from stored import new_sample, rows

from dance_ondevice.daemon.curation import round_folders as folders
from dance_ondevice.daemon.rounds import record
from dance_ondevice.daemon.store.rebuild import Roles
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.policies.rounds.start import RoundPlan


def run(paths: StatePaths, store: Store, number: int, *, outcome: str | None = "rejected") -> None:
    """A round as it is left, over three samples and an anchor."""
    name, ids = f"r{number}", [new_sample(seq).id for seq in range(3)]
    plan = RoundPlan(train=(ids[0],), rehearsal=(ids[1], "anchor:a"), gate=(ids[2],), reason="")
    store.submit(lambda db: record.open_round(db, {"id": name, "started_at": 1.0}, plan)).result(30)
    (paths.rounds / name).mkdir()
    job = {"train": [{"id": ids[0]}], "rehearsal": [{"id": ids[1]}], "gate": [{"id": ids[2]}]}
    (paths.rounds / name / "job.json").write_text(json.dumps(job))
    (paths.rounds / name / "trainer.log").write_bytes(bytes(5000))
    if outcome is not None:
        store.submit(lambda db: db["rounds"].update(name, {"outcome": outcome})).result(30)


def test_old_folders_go_and_what_they_say_of_stored_samples_stays(paths: StatePaths, store: Store) -> None:
    for seq in range(2):  # the third sample is gone
        store.add_sample(new_sample(seq, label=(1,))).result(30)
    run(paths, store, 0, outcome=None)
    for number in range(1, 8):
        run(paths, store, number)
    assert folders.tidy(paths, store, keep=3) == 4
    assert folders.tidy(paths, store, keep=3) == 0
    assert {p.name for p in paths.rounds.iterdir()} == {"r0", "r5", "r6", "r7", Roles.FILE}
    assert folders.size(paths.rounds) < 5 * 6000
    run(paths, store, 8)
    assert folders.tidy(paths, store, keep=3) == 1
    roles = Roles.of(paths)
    assert roles.rounds_used(new_sample(0).id) == 9, "each round is counted once"
    assert roles.split(new_sample(1).id) == "train"
    assert new_sample(2).id not in json.loads((paths.rounds / Roles.FILE).read_text())["gate"]


def test_rows_of_ended_rounds_go_with_their_samples(paths: StatePaths, store: Store) -> None:
    for seq in range(3):
        store.add_sample(new_sample(seq, label=(1,))).result(30)
    run(paths, store, 1)
    run(paths, store, 2, outcome=None)
    store.remove_samples([new_sample(0).id]).result(30)

    def left() -> set[tuple[str, str]]:
        query = "select round_id, sample_id from round_samples"
        return {(r, s) for r, s in store.submit(lambda db: db.execute(query).fetchall()).result(30)}

    first, second = new_sample(0).id, new_sample(1).id
    assert ("r1", first) not in left()
    assert ("r2", first) in left(), "the round has not ended"
    store.submit(lambda db: db["rounds"].update("r2", {"outcome": "failed"})).result(30)
    store.submit(record.tidy).result(30)
    assert {sample for _, sample in left()} == {second, new_sample(2).id}
    # What decides on the next round from past ones does not need the rows.
    assert [row["new_samples"] for row in rows(paths, "rounds").values()] == [1, 1]


def test_the_index_stops_growing_on_a_site_whose_samples_stay(paths: StatePaths, store: Store) -> None:
    for seq in range(3):
        store.add_sample(new_sample(seq, label=(1,))).result(30)
    for number in range(70):
        run(paths, store, number)
        store.submit(record.tidy).result(30)
    (count,) = store.submit(lambda db: db.execute("select count(*) from round_samples").fetchone()).result(30)
    assert count <= 50 * 4
