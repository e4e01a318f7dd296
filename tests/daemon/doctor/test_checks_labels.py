from __future__ import annotations

import stored

from dance_ondevice.daemon.doctor.labels import check_labels
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths


def test_a_class_that_no_label_shows_is_named(store: Store, paths: StatePaths) -> None:
    for seq in range(8):
        # Masks of 0 and 255, of which the sender means 255 to be road.
        store.add_sample(stored.new_sample(seq, label=[0])).result(30)
    found = check_labels(paths, ("background", "road"))
    assert found is not None
    assert (found.status, found.name) == ("warning", "labels")
    assert "no pixel of road in any of 8 labels" in found.detail
    assert "255 is ignore" in found.remedy
    complete = check_labels(paths, ("background",))
    assert complete is not None
    assert complete.status == "ok"


def test_without_an_index_nothing_is_said(paths: StatePaths) -> None:
    assert check_labels(paths, ("background", "road")) is None
