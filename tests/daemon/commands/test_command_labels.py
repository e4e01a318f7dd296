from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from prometheus_client import CollectorRegistry

from dance_ondevice.complexity import make_indicator
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.control.instances import DaemonFile, write_daemon_file
from dance_ondevice.daemon.ingest.service import Ingest
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths, sample_id
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.policies.stream.data_slimming import SlimmingRules

SIZE = (24, 32)


@pytest.fixture
def ids(store: Store) -> list[str]:
    """Three stored frames without labels."""
    image = encode_jpeg(np.full((*SIZE, 3), 90, np.uint8))
    futures = [
        store.add_sample(
            NewSample(
                id=sample_id("front", 1_700_000_000.0 + seq, seq),
                camera="front",
                seq=seq,
                captured_at=1_700_000_000.0 + seq,
                received_at=1_700_000_000.0 + seq,
                data=image + bytes(seq),
                format="jpg",
                width=SIZE[1],
                height=SIZE[0],
                native_width=SIZE[1],
                native_height=SIZE[0],
                score=0.5,
                quantile=0.5,
                scale=1.0,
                weight=1.0,
                reason="test",
                label=None,
                label_source=None,
                classes=None,
            )
        )
        for seq in range(3)
    ]
    return [future.result(30).id for future in futures]


@pytest.fixture
def ingest(store: Store, paths: StatePaths) -> Iterator[Ingest]:
    with zmq.Context() as context:
        service = Ingest(
            sections.Ingest(bind=("tcp://127.0.0.1:*",)),
            context=context,
            indicator=make_indicator("detail_loss", (1.0, 0.5)),
            rules=SlimmingRules(),
            n_classes=11,
            store=store,
            mailbox=None,
            instruments=Instruments(CollectorRegistry()),
        )
        service.start()
        published = DaemonFile(pid=1, control="ipc:///none", ingest=tuple(service.endpoints))
        write_daemon_file(paths, published)
        yield service
        assert service.stop()
        assert service.failure is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "labels"
    made.mkdir()
    return made


def label(value: int, size: tuple[int, int] = SIZE) -> bytes:
    return encode_png(np.full(size, value, np.uint8))


def sources(store: Store) -> dict[int, str | None]:
    rows = store.submit(lambda db: list(db.query("select seq, label_source from samples"))).result(30)
    return {row["seq"]: row["label_source"] for row in rows}


@pytest.mark.usefixtures("ingest")
def test_labels_named_after_samples_are_stored(run_json, ids, folder: Path, paths: StatePaths, store: Store):
    for name in ids[:2]:
        (folder / f"{name}.png").write_bytes(label(3))
    (folder / "notes.txt").write_text("not a label")
    answer = run_json("labels", "import", str(folder), "--state-dir", str(paths.root))
    assert (answer["imported"], answer["refused"]) == (2, 0)
    labelled = sources(store)
    assert labelled[0]
    assert labelled[1]
    assert labelled[2] is None


@pytest.mark.usefixtures("ingest", "ids")
def test_with_a_camera_the_last_number_is_the_sequence_number(
    run, folder: Path, paths: StatePaths, store: Store
):
    (folder / "clip7_000002_label.png").write_bytes(label(3))
    args = ("labels", "import", str(folder), "--state-dir", str(paths.root))
    assert "1 refused" in run(*args, code=1).stdout
    assert "1 imported, 0 refused" in run(*args, "--camera", "front").stdout
    assert sources(store)[2]


@pytest.mark.usefixtures("ingest")
def test_refused_labels_are_listed_with_their_reasons(run_json, run, ids, folder: Path, paths: StatePaths):
    (folder / f"{ids[0]}.png").write_bytes(label(3))
    (folder / f"{ids[1]}.png").write_bytes(label(3, (5, 5)))
    (folder / f"{ids[2]}.png").write_bytes(label(77))
    (folder / "stranger.png").write_bytes(label(3))
    args = ("labels", "import", str(folder), "--state-dir", str(paths.root))
    answer = run_json(*args, code=1)
    assert (answer["imported"], answer["refused"]) == (1, 3)
    reasons = {result["file"]: result["error"] for result in answer["results"]}
    assert reasons[f"{ids[0]}.png"] is None
    assert "5" in reasons[f"{ids[1]}.png"]
    assert "77" in reasons[f"{ids[2]}.png"]
    assert "no sample" in reasons["stranger.png"]
    assert "stranger.png" in run(*args, code=1).stdout


def test_an_empty_folder_is_no_success(run, folder: Path, paths: StatePaths):
    assert "no .png" in run("labels", "import", str(folder), "--state-dir", str(paths.root), code=1).stderr


def test_without_a_daemon_it_says_how_to_start_one(run, folder: Path, paths: StatePaths):
    (folder / "a.png").write_bytes(label(3))
    errors = run("labels", "import", str(folder), "--state-dir", str(paths.root), code=1).stderr
    assert "dance-ondevice run" in errors


def test_a_missing_folder_is_wrong_usage(run, tmp_path: Path):
    run("labels", "import", str(tmp_path / "none"), code=2)
