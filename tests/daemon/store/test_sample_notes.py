from __future__ import annotations

from typing import Any

import stored

from dance_ondevice.daemon.store.notes import SampleNotes
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Versions


def test_notes_are_written_in_groups_and_frames_that_were_not_kept_cost_nothing(
    store: Store, paths: StatePaths
) -> None:
    samples = [stored.new_sample(i) for i in range(2)]
    for sample in samples:
        store.add_sample(sample).result(10)
    now = 100.0
    notes = SampleNotes(store, monotonic=lambda: now)

    def rows() -> dict[str, dict[str, Any]]:
        store.submit(lambda db: None).result(10)
        return stored.rows(paths)

    notes.note(samples[0].id, 0.75, "dusk")
    notes.note("dropped-1-1", 0.5, "dusk")
    assert rows()[samples[0].id]["uncertainty"] is None
    now += 6.0
    notes.note(samples[1].id, 0.25, "")
    found = rows()
    assert (found[samples[0].id]["uncertainty"], found[samples[0].id]["condition"]) == (0.25, "dusk")
    assert (found[samples[1].id]["uncertainty"], found[samples[1].id]["condition"]) == (0.75, None)
    assert len(found) == 2


def test_how_unsure_a_model_was_is_known_of_the_live_version_alone(store: Store, paths: StatePaths) -> None:
    samples = [stored.new_sample(i) for i in range(3)]
    for sample in samples:
        store.add_sample(sample).result(10)
    versions = Versions(paths, store, now=lambda: 1.0)
    for _ in range(2):
        folder = paths.models / ".new"
        folder.mkdir(parents=True)
        (folder / "card.json").write_text("{}")
        versions.adopt(folder, status="candidate", round_id=None, changes={})
    versions.make_live("v0001", reason="test")
    notes = SampleNotes(store, monotonic=lambda: 0.0)
    notes.note(samples[0].id, 0.75, "dusk", "v0001")
    notes.flush()
    store.submit(lambda db: None).result(10)
    assert stored.rows(paths)[samples[0].id]["uncertainty"] == 0.25
    notes.note(samples[1].id, 0.75, "dusk", "v0001")
    versions.make_live("v0002", reason="test")
    notes.note(samples[2].id, 0.5, "dusk", "v0002")
    notes.flush()
    store.submit(lambda db: None).result(10)
    found = [stored.rows(paths)[sample.id] for sample in samples]
    assert [row["uncertainty"] for row in found] == [None, None, 0.5]
    assert [row["condition"] for row in found] == ["dusk"] * 3


def test_what_is_left_is_written_at_the_end(store: Store, paths: StatePaths) -> None:
    sample = stored.new_sample(1)
    store.add_sample(sample).result(10)
    notes = SampleNotes(store, monotonic=lambda: 0.0)
    notes.note(sample.id, 0.9, "rain")
    notes.flush()
    notes.flush()
    store.submit(lambda db: None).result(10)
    assert stored.rows(paths)[sample.id]["condition"] == "rain"
