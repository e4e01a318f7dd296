"""The store against a plain dict, over any order of operations, restarts and lost indexes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import stored
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dance_ondevice.daemon.store.reconcile import reconcile
from dance_ondevice.daemon.store.samples import UnknownSample
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

WAIT = 60
QUOTA = 5_000
CAMERAS = st.sampled_from(["a", "b-1"])
SEQS = st.integers(0, 5)
LABELS = st.none() | st.sets(st.integers(0, 10), min_size=1, max_size=3)


class StoreAgainstDict(RuleBasedStateMachine):
    """The model maps a sample's id to its data and its classes, None without a label."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.paths = StatePaths(self.folder)
        self.model: dict[str, tuple[bytes, set[int] | None]] = {}

    @initialize()
    def open(self) -> None:
        self.store = Store(self.paths, quota_bytes=QUOTA, min_free_bytes=0)
        self.store.start()

    @rule(frames=st.lists(st.tuples(CAMERAS, SEQS, LABELS), min_size=1, max_size=6))
    def add(self, frames: list[tuple[str, int, set[int] | None]]) -> None:
        samples = [
            stored.new_sample(seq, camera=camera, label=None if label is None else sorted(label))
            for camera, seq, label in frames
        ]
        futures = [self.store.add_sample(sample) for sample in samples]
        for sample, future, (_, _, label) in zip(samples, futures, frames, strict=True):
            result = future.result(WAIT)
            assert result.id == sample.id
            if result.duplicate:
                data, known = self.model[sample.id]
                self.model[sample.id] = (data, label if known is None else known)
            else:
                self.model[sample.id] = (sample.data, label)
        self.forget_evicted()

    @rule(camera=CAMERAS, seq=SEQS, classes=st.sets(st.integers(0, 10), min_size=1, max_size=3))
    def label(self, camera: str, seq: int, classes: set[int]) -> None:
        sample = stored.new_sample(seq, camera=camera)
        png = stored.label_png(16, 12, sorted(classes))
        future = self.store.add_label(sample.id, png, sorted(classes), "import")
        if sample.id in self.model:
            future.result(WAIT)
            self.model[sample.id] = (self.model[sample.id][0], classes)
            self.forget_evicted()
        else:
            with pytest.raises(UnknownSample):
                future.result(WAIT)

    @rule(camera=CAMERAS, seqs=st.sets(SEQS))
    def remove(self, camera: str, seqs: set[int]) -> None:
        ids = [stored.new_sample(seq, camera=camera).id for seq in seqs]
        known = [identifier for identifier in ids if identifier in self.model]
        assert self.store.remove_samples(ids).result(WAIT) == len(known)
        for identifier in known:
            del self.model[identifier]

    @rule(lose_index=st.booleans())
    def restart(self, lose_index: bool) -> None:
        assert self.store.stop(WAIT)
        if lose_index:
            self.paths.database.unlink()
        report = reconcile(self.paths)
        assert report.samples == len(self.model)
        assert report.adopted == (len(self.model) if lose_index else 0)
        assert (report.removed, report.labels_attached, report.strays, report.unknown) == (0, 0, 0, 0)
        self.open()

    @invariant()
    def index_files_and_model_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = stored.rows(self.paths)
        found: dict[str, Any] = {
            identifier: (
                (self.paths.root / row["path"]).read_bytes(),
                None if row["classes"] is None else set(map(int, row["classes"][1:-1].split(","))),
            )
            for identifier, row in rows.items()
        }
        assert found == self.model
        labels = [row["label_path"] for row in rows.values() if row["label_path"]]
        assert stored.files(self.paths) == sorted([row["path"] for row in rows.values()] + labels)
        snapshot = self.store.snapshot()
        assert snapshot.bytes == stored.total_bytes(self.paths) <= QUOTA
        assert (snapshot.samples_labelled, snapshot.samples_unlabelled) == (
            len(labels),
            len(rows) - len(labels),
        )

    def forget_evicted(self) -> None:
        rows = stored.rows(self.paths)
        gone = self.model.keys() - rows.keys()
        size = sum(row["bytes"] for row in rows.values())
        assert not gone or size > QUOTA // 2, "evicted without need"
        for identifier in gone:
            del self.model[identifier]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.stop(WAIT)
            assert self.store.failure is None
        shutil.rmtree(self.folder)


TestStoreAgainstDict = pytest.mark.slow(StoreAgainstDict.TestCase)
# Shrinking a failure would take minutes of flushing files.
TestStoreAgainstDict.settings = settings(
    max_examples=12,
    stateful_step_count=15,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
