"""One damaged or missing file costs itself, and not the round."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.sift import NothingReadableError, sift
from dance_ondevice.images.codec import encode_jpeg, encode_png

N_CLASSES = 3


def sample(folder: Path, name: str) -> jobs.JobSample:
    folder.mkdir(exist_ok=True)
    picture = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image, label = folder / f"{name}.jpg", folder / f"{name}.label.png"
    image.write_bytes(encode_jpeg(picture))
    label.write_bytes(encode_png(np.ones((24, 32), np.uint8)))
    return jobs.JobSample(id=name, image=str(image), label=str(label))


def job_of(folder: Path, **samples: tuple[jobs.JobSample, ...]) -> jobs.Job:
    return jobs.Job(
        **{"train": (), "rehearsal": (), "gate": (), **samples},
        round="r1",
        live="",
        frozen="",
        out=str(folder / "r1" / "candidate"),
        checkpoint="",
        n_classes=N_CLASSES,
        target_macs=None,
        size=(24, 32),
        steps=1,
        batch_size=2,
        learning_rate=0.1,
        precision="fp32",
        precision_cache="",
        threads=1,
        seed=0,
    )


def damage(name: str, found: jobs.JobSample) -> None:
    image, label = Path(found.image), Path(found.label)
    data = image.read_bytes()
    {
        "truncated": lambda: image.write_bytes(data[: len(data) // 2]),
        "zeroed": lambda: image.write_bytes(bytes(len(data))),
        "emptied": lambda: image.write_bytes(b""),
        "missing": image.unlink,
        "no-label": label.unlink,
        "label-cut": lambda: label.write_bytes(label.read_bytes()[:-20]),
        "label-of-another-class": lambda: label.write_bytes(encode_png(np.full((24, 32), 7, np.uint8))),
        "a-folder": lambda: (image.unlink(), image.mkdir()),
    }[name]()


KINDS = (
    *("truncated", "zeroed", "emptied", "missing", "no-label", "label-cut"),
    *("label-of-another-class", "a-folder"),
)


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    bad = [sample(store, name) for name in KINDS]
    good = sample(store, "good")
    gate = (sample(store, "g0"), sample(store, "g1"), sample(store, "g2"))
    for each in bad:
        damage(each.id, each)
    damage("truncated", gate[1])
    job = msgspec.structs.replace(
        job_of(tmp_path, train=(bad[0], good, *bad[1:4]), rehearsal=tuple(bad[4:]), gate=gate),
        gate_blocks=(0, 1, 2),
    )
    told: list[jobs.Event] = []
    found = sift(job, told.append)
    assert [s.id for s in found.train] == ["good"]
    assert found.rehearsal == ()
    assert [s.id for s in found.gate] == ["g0", "g2"]
    assert found.gate_blocks == (0, 2)
    errors = {event.id: event.error for event in told if isinstance(event, jobs.Unreadable)}
    assert set(errors) == {*KINDS, "g1"}
    assert all(str(store) in error for error in errors.values()), "each names the stored file"
    # What is removed while the round runs stays readable until its end, under its own name.
    Path(good.image).unlink()
    assert Path(found.train[0].image).name == "good.jpg"
    assert Path(found.train[0].image).read_bytes()[:2] == b"\xff\xd8"


def test_a_round_of_which_nothing_is_left_says_so(tmp_path: Path) -> None:
    lost, sound = sample(tmp_path, "missing"), sample(tmp_path, "sound")
    damage("missing", lost)
    with pytest.raises(NothingReadableError, match="to learn from"):
        sift(job_of(tmp_path, train=(lost,), gate=(sound,)), lambda event: None)
    with pytest.raises(NothingReadableError, match="held-out"):
        sift(job_of(tmp_path, train=(sound,), gate=(lost,)), lambda event: None)
