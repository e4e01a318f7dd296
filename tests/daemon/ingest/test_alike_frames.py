"""Real frames on a real socket: what is new is kept, copies and spoilt frames are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from ingest_harness import Harness, header, jpeg, label, picture, running

from dance_ondevice.complexity import INDICATORS, make_indicator
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.decision import FrameDecider
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire.messages import FrameMessage
from dance_ondevice.datasets.street import CONDITIONS, StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.policies.stream.data_slimming import CHOICES, Choice, SlimmingRules

#: Frames after a change of light that are looked at.
_FIRST = 100


def judged(segments: Sequence[Sequence[bytes]], indicator: str, choice: Choice) -> list[list[bool]]:
    """Whether each frame of each segment is kept."""
    decider = FrameDecider(
        indicator=make_indicator(indicator, (0.5,)),
        rules=SlimmingRules(choice=choice),
        n_classes=11,
        max_pixels=10**7,
        cameras=Cameras(1),
    )
    kept, seq = [], 0
    for segment in segments:
        kept.append([])
        for data in segment:
            message = FrameMessage(
                camera="front",
                seq=seq,
                captured_at=seq / 1.0,
                encoding="jpeg",
                shape=None,
                image=memoryview(data),
                label=None,
            )
            kept[-1].append(decider.decide(message, decider.measure(message), 0.0).decision.keep)
            seq += 1
    return kept


def assert_nothing_is_starved(kept: list[list[bool]], lights: Sequence[str]) -> None:
    fraction = SlimmingRules().drop_fraction
    for number, segment in enumerate(kept):
        following = [keep for later in kept[number:] for keep in later][:_FIRST]
        assert following.count(False) <= (fraction + 0.05) * len(following)
        if lights[number] not in lights[:number]:
            assert all(segment[:5]), "what is new is kept"
    for light in set(lights):
        own = [k for name, segment in zip(lights, kept, strict=True) if name == light for k in segment]
        assert own.count(False) <= (fraction + 0.05) * len(own)


@pytest.fixture(scope="module")
def street() -> list[list[bytes]]:
    camera = StreetCamera(seed=3, height=120, width=160)
    return [
        [images.encode_jpeg(camera.render(1000 * number + 4 * n, light)[0]) for n in range(60)]
        for number, light in enumerate(CONDITIONS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("indicator", INDICATORS)
def test_no_light_of_the_street_is_starved(street: list[list[bytes]], indicator: str, choice: Choice) -> None:
    kept = judged(street, indicator, choice)
    assert_nothing_is_starved(kept, CONDITIONS)
    assert sum(segment.count(False) for segment in kept) > 20, "it still drops"


def data_folder(variable: str, name: str) -> Path:
    shared = Path(__file__).resolve().parents[4] / "shared" / name
    folder = Path(os.environ.get(variable, shared))
    if not folder.is_dir():
        pytest.skip(f"no such data here: set {variable} to the folder of {name}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("indicator", INDICATORS)
def test_camvids_dusk_after_its_day_is_not_starved(indicator: str) -> None:
    found = sorted(
        (path.name, path) for path in data_folder("DANCE_CAMVID_DIR", "camvid").glob("t[re]*[nt]/*.jpg")
    )
    day = [path.read_bytes() for name, path in found if "0016E5" in name]
    dusk = [path.read_bytes() for name, path in found if "0001TP" in name]
    assert len(day) > 150
    assert len(dusk) > 100
    kept = judged([day[:150], dusk[:100], day[150:]], indicator, "random")
    assert_nothing_is_starved(kept, ("day", "dusk", "day"))


@pytest.mark.slow
@pytest.mark.parametrize("indicator", INDICATORS)
def test_no_drive_of_idd_lite_is_starved(indicator: str) -> None:
    """Hundreds of short drives, whose light changes from one to the next."""
    found = sorted(data_folder("DANCE_IDD_LITE_DIR", "idd_lite").glob("train/*.jpg"))
    drives = [
        [path.read_bytes() for path in drive]
        for _, drive in groupby(found, key=lambda path: path.name.partition("_")[0])
    ]
    assert len(drives) > 200
    kept = judged(drives, indicator, "complexity")
    following = [keep for drive in kept for keep in drive]
    most = (SlimmingRules().drop_fraction + 0.05) * _FIRST
    for drive in kept:
        assert following[:_FIRST].count(False) <= most
        following = following[len(drive) :]
    everything = [keep for drive in kept for keep in drive]
    assert everything.count(False) > len(everything) / 5, "it still drops"


def spoilt(number: int, level: int) -> bytes:
    found = picture(number)
    found[24:] = level
    return images.encode_jpeg(found)


def counts(harness: Harness) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, _, outcome), frames in harness.recorder.conditions.items():
        found[outcome] = found.get(outcome, 0) + frames
    return found


def test_a_frozen_camera_fills_nothing_and_is_noticed(store: Store) -> None:
    with running(store, rules=SlimmingRules(drop_fraction=0.0)) as harness:
        client = harness.client()
        for seq in range(20):
            client.ask(header(seq=seq), jpeg(seq))
        replies = [client.ask(header(seq=100 + seq), jpeg(3)) for seq in range(100)]
        assert sum(reply.kept for reply in replies) == 7
        assert "it repeats a picture that was kept" in (replies[-1].reason or "")
        assert counts(harness) == {"kept": 27, "repeated": 93}
        assert harness.recorder.stood == {"front": 100}
        # Copies with one and the same label are copies, too.
        labelled = [client.ask(header(seq=300 + seq), jpeg(3), label()) for seq in range(40)]
        assert sum(reply.kept for reply in labelled) <= 7
        assert client.ask(header(seq=400), jpeg(3), label(classes=(5, 6))).kept, "another label is news"
        assert client.ask(header(seq=401), jpeg(77)).kept
        assert harness.recorder.stood == {"front": 0}


def test_half_grey_and_half_green_frames_are_noticed_and_counted(store: Store) -> None:
    green = 79  # the luma of (0, 135, 0), which YUV of zeros becomes
    with running(store, rules=SlimmingRules(drop_fraction=0.0)) as harness:
        client = harness.client()
        replies = []
        for seq in range(50):
            image = spoilt(seq, 128) if seq % 5 == 3 else spoilt(seq, green) if seq % 5 == 4 else jpeg(seq)
            replies.append(client.ask(header(seq=seq), image))
        assert [reply.kept for reply in replies] == [seq % 5 not in (3, 4) for seq in range(50)]
        assert "a decoder leaves it that lost data" in (replies[3].reason or "")
        assert counts(harness) == {"kept": 30, "damaged": 20}
        assert harness.mailbox.take(5.0) is not None, "inference still sees the camera"


def test_black_bars_and_covered_lenses_are_no_damage(store: Store) -> None:
    with running(store, rules=SlimmingRules(drop_fraction=0.0)) as harness:
        client = harness.client()
        for seq in range(8):
            client.ask(header(seq=seq), jpeg(seq))
        assert client.ask(header(seq=20), spoilt(20, 16)).kept
        assert client.ask(header(seq=21), images.encode_jpeg(np.full((48, 64, 3), 128, np.uint8))).kept
