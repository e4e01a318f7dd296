"""Frames and labels through real sockets into a real store."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq
from ingest_harness import DROP_SECOND, PATIENCE, header, jpeg, label, label_parts, picture, running

from dance_ondevice.daemon.ingest.cameras import stored_cameras
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire.messages import Reply
from dance_ondevice.daemon.wire.receiver import AddressInUse, ListenError
from dance_ondevice.images import codec as images
from dance_ondevice.images import headers as image_headers
from dance_ondevice.policies.stream.data_slimming import SlimmingRules


def rows(paths: StatePaths) -> list[dict]:
    database = open_reader(paths)
    try:
        return list(database.query("select * from samples order by seq"))
    finally:
        database.close()


def test_kept_frame_is_stored_as_it_came_and_acknowledged(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        reply = harness.client().ask(header(seq=7), jpeg())

        assert reply == Reply(
            v=1,
            ok=True,
            id="front-1700000000250000-7",
            kept=True,
            score=reply.score,
            scale=1.0,
            reason=reply.reason,
            camera="front",
            seq=7,
        )
        assert 0 < reply.score < 1
        assert "kept" in reply.reason
        assert harness.recorder.frames == {("front", "kept"): 1}
        assert harness.recorder.scores == [("front", pytest.approx(reply.score, abs=1e-6))]
        assert list(harness.recorder.scales.values()) == [1]
        assert len(harness.recorder.seconds) == 1
    (row,) = rows(paths)
    assert (row["id"], row["camera"], row["seq"], row["captured_at"]) == (
        reply.id,
        "front",
        7,
        1_700_000_000.25,
    )
    assert (row["width"], row["height"], row["native_width"], row["native_height"]) == (64, 48, 64, 48)
    assert (paths.root / row["path"]).read_bytes() == jpeg()


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_reply_mirrors_the_delimiter(store: Store, kind: int) -> None:
    with running(store) as harness:
        client = harness.client(kind)

        client.socket.send_multipart([header(), jpeg()])
        first = client.socket.recv_multipart()
        assert len(first) == 1

        if kind == zmq.DEALER:
            client.socket.send_multipart([b"", header(), jpeg()])
            assert client.socket.recv_multipart()[0] == b""


def test_png_is_stored_as_it_came_and_webp_and_raw_as_jpeg(store: Store, paths: StatePaths) -> None:
    bgr = picture(1)
    png = images.encode_png(bgr)
    webp = cv2.imencode(".webp", bgr)[1].tobytes()
    with running(store) as harness:
        client = harness.client()
        assert client.ask(header(seq=0, encoding="png"), png).kept
        assert client.ask(header(seq=1, encoding="webp"), webp).kept
        assert client.ask(header(seq=2, encoding="raw", shape=[48, 64, 3], dtype="uint8"), bgr.tobytes()).kept

        offered = harness.mailbox.take(PATIENCE)
        assert offered is not None
        assert (offered.info, offered.raw_shape, offered.data) == (None, (48, 64, 3), bgr.tobytes())
    stored = rows(paths)
    assert [row["format"] for row in stored] == ["png", "jpg", "jpg"]
    assert (paths.root / stored[0]["path"]).read_bytes() == png
    raw = images.decode_colour((paths.root / stored[2]["path"]).read_bytes())
    assert np.abs(raw.astype(int) - bgr).mean() < 5


@pytest.mark.parametrize(("scale", "size"), [(0.75, (180, 240)), (0.5, (120, 160)), (0.3, (72, 96))])
def test_smaller_scale_is_resized_and_encoded(
    store: Store, paths: StatePaths, scale: float, size: tuple[int, int]
) -> None:
    rules = SlimmingRules(scales=(scale,), drop_fraction=0.0, warmup_frames=0)
    with running(store, rules=rules) as harness:
        reply = harness.client().ask(header(), jpeg(0, 240, 320), label(240, 320))

        assert (reply.kept, reply.scale) == (True, scale)
    (row,) = rows(paths)
    image = images.decode_colour((paths.root / row["path"]).read_bytes())
    assert image.shape == (*size, 3)
    assert (row["height"], row["width"], row["native_height"], row["native_width"]) == (*size, 240, 320)
    expected = cv2.resize(images.decode_colour(jpeg(0, 240, 320)), size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("size", [(16, 16), (16, 37), (241, 319), (481, 641)])
def test_any_size_works(store: Store, paths: StatePaths, size: tuple[int, int]) -> None:
    rules = SlimmingRules(scales=(0.5,), drop_fraction=0.0, warmup_frames=0)
    with running(store, rules=rules) as harness:
        reply = harness.client().ask(header(), jpeg(0, *size), label(*size))

        assert reply.kept, reply
    (row,) = rows(paths)
    assert (row["height"], row["width"]) == (max(1, round(size[0] / 2)), max(1, round(size[1] / 2)))


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 3000), (3000, 15)])
def test_a_sign_of_life_is_answered_and_neither_stored_nor_segmented(
    store: Store, paths: StatePaths, size: tuple[int, int]
) -> None:
    with running(store) as harness:
        client = harness.client()
        reply = client.ask(header(), jpeg(0, *size))

        assert (reply.ok, reply.kept) == (True, False)
        assert "16 pixels" in str(reply.reason)
        assert harness.mailbox.take(0) is None
        assert (harness.recorder.frames, harness.recorder.scores) == ({("front", "dropped"): 1}, [])
        # It counts nowhere in the camera's stream.
        assert "first frame" in str(client.ask(header(seq=1), jpeg(1)).reason)
    assert len(rows(paths)) == 1


def test_label_is_stored_with_its_classes(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        assert harness.client().ask(header(), jpeg(), label(classes=(10, 2, 255))).kept
    (row,) = rows(paths)
    assert row["classes"] == "[2, 10]" or row["classes"] == "[2,10]"
    assert (paths.root / row["label_path"]).read_bytes() == label(classes=(10, 2, 255))


def test_dropped_frame_is_acknowledged_offered_to_inference_and_not_stored(
    store: Store, paths: StatePaths
) -> None:
    with running(store, rules=DROP_SECOND) as harness:
        client = harness.client()
        assert client.ask(header(seq=0), jpeg()).kept

        reply = client.ask(header(seq=1), jpeg())

        assert (reply.ok, reply.kept, reply.id) == (True, False, "front-1700000000250000-1")
        assert "dropped" in reply.reason
        assert harness.recorder.frames == {("front", "kept"): 1, ("front", "dropped"): 1}
        offered = harness.mailbox.take(PATIENCE)
        assert offered is not None
        assert (offered.seq, offered.data, offered.label) == (1, jpeg(), None)
        assert offered.info == image_headers.probe(jpeg())
    assert [row["seq"] for row in rows(paths)] == [0]


def test_frame_sent_again_is_stored_once_and_scored_once(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        client = harness.client()
        first = client.ask(header(seq=3), jpeg())
        second = client.ask(header(seq=3), jpeg())

        assert (second.kept, second.id, second.reason) == (True, first.id, "already stored")
        assert (second.score, second.scale) == (first.score, first.scale)
        assert harness.recorder.frames == {("front", "kept"): 2}
        assert len(harness.recorder.scores) == 1
        assert sum(harness.recorder.scales.values()) == 1
    assert len(rows(paths)) == 1


def test_another_picture_under_the_same_number_and_time_is_refused(store: Store, paths: StatePaths) -> None:
    """A sender that counts nothing and dates by whole seconds: of its frames only the first is known."""
    with running(store) as harness:
        client = harness.client()
        client.ask(header(seq=0), jpeg(0))
        second = client.ask(header(seq=0), jpeg(1), label())
        assert (second.ok, second.code) == (False, "captured_at")
        assert "count seq up" in (second.error or "")
        assert client.ask(header(seq=0), jpeg(0)).reason == "already stored"
    with running(store) as harness:  # a daemon that was started since
        client = harness.client()
        for parts in ((jpeg(1), label()), (jpeg(2),)):
            refused = client.ask(header(seq=0), *parts)
            assert (refused.ok, refused.code) == (False, "captured_at")
        assert harness.recorder.frames == {("front", "rejected"): 2}
    assert [row["label_path"] for row in rows(paths)] == [None]


def test_dropped_frame_sent_again_stays_dropped(store: Store) -> None:
    with running(store, rules=DROP_SECOND) as harness:
        client = harness.client()
        client.ask(header(seq=0), jpeg())
        first = client.ask(header(seq=1), jpeg())

        assert not first.kept
        assert [client.ask(header(seq=1), jpeg()) for _ in range(5)] == [first] * 5


def test_every_frame_ends_in_exactly_one_outcome(store: Store) -> None:
    sent = 120
    with running(store, rules=SlimmingRules(), queue_frames=8) as harness:
        client = harness.client()
        for number in range(sent):
            image = b"no image" if number % 10 == 0 else jpeg(number)
            client.socket.send_multipart([header(seq=number), image])

        replies = [client.answer() for _ in range(sent)]

        assert sorted(reply.seq for reply in replies) == list(range(sent))
        told = {
            "kept": sum(reply.kept is True for reply in replies),
            "dropped": sum(reply.kept is False for reply in replies),
            "rejected": sum(not reply.ok and reply.code != "overflow" for reply in replies),
            "overflow": sum(reply.code == "overflow" for reply in replies),
        }
        assert told == {outcome: harness.recorder.count(outcome) for outcome in told}
        assert harness.recorder.count() == sent


def test_published_frames_are_taken_without_an_answer(store: Store, paths: StatePaths) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind("tcp://127.0.0.1:*")
        with running(store, bind=(), subscribe=(publisher.last_endpoint.decode(),)) as harness:
            assert publisher.poll(PATIENCE * 1000)
            assert publisher.recv() == b"\x01"
            publisher.send_multipart([header(seq=1), jpeg(), label()])
            publisher.send_multipart([header(seq=2), b"no image"])
            publisher.send_multipart([header(seq=3), jpeg(3)])
            harness.recorder.wait_for(lambda: harness.recorder.count() == 3)

            assert harness.recorder.frames == {("front", "kept"): 2, ("front", "rejected"): 1}
    assert [row["seq"] for row in rows(paths)] == [1, 3]


def test_label_for_an_earlier_frame(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        client = harness.client()
        sample = client.ask(header(), jpeg()).id

        reply = client.ask(*label_parts(sample, label(classes=(4, 255))))

        assert reply == Reply(v=1, ok=True, id=sample)
        assert harness.recorder.count() == 1
    (row,) = rows(paths)
    assert (paths.root / row["label_path"]).read_bytes() == label(classes=(4, 255))
    assert row["classes"] == "[4]"


def test_a_label_of_255_alone_takes_no_place(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        client = harness.client()
        first = client.ask(header(seq=0), jpeg(), label(classes=(4, 255)))
        empty = client.ask(*label_parts(str(first.id), label(classes=(255,))))
        assert (empty.ok, empty.code) == (False, "label_empty")
        # With a frame it is passed over, and the sender is told.
        second = client.ask(header(seq=1), jpeg(1), label(classes=(255,)))
        assert second.kept
        assert "255 (ignore) throughout and was ignored" in str(second.reason)
    assert [row["classes"] for row in rows(paths)] == ["[4]", None]


def test_a_camera_of_16_bits_is_warned_of_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    thermal = np.random.default_rng(0).integers(26_000, 31_100, (48, 64), dtype=np.uint16)
    png = cv2.imencode(".png", thermal)[1].tobytes()
    with running(store) as harness:
        client = harness.client()
        for seq in range(2):
            assert client.ask(header(seq=seq, encoding="png"), png).ok
    told = [record for record in caplog.records if "more than 8 bits" in record.getMessage()]
    assert len(told) == 1
    assert "camera=front bits=16" in told[0].getMessage()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sample": "front-1-1"}, "unknown_sample"),
        ({"png": label(47, 64)}, "label_size"),
        ({"png": label(classes=(11,))}, "label_ids"),
        ({"png": label(classes=(255,))}, "label_empty"),
        ({"png": b"no label"}, "label"),
        ({"png": b""}, "label"),
        ({"png": jpeg()}, "label"),
        ({"png": images.encode_png(picture())}, "label"),
    ],
)
def test_label_that_cannot_be_used_is_refused(store: Store, change: dict, code: str) -> None:
    with running(store) as harness:
        client = harness.client()
        sample = change.get("sample", client.ask(header(), jpeg()).id)

        reply = client.ask(*label_parts(sample, change.get("png", label())))

        assert (reply.ok, reply.code, reply.id) == (False, code, sample)
        assert harness.recorder.refusals == {code: 1}
        assert harness.recorder.count("rejected") == 0


def test_cameras_are_told_apart_up_to_a_limit(store: Store) -> None:
    with running(store, max_cameras=2) as harness:
        client = harness.client()
        assert not client.ask(header(camera="junk"), b"no image").ok
        assert client.ask(header(camera="a"), jpeg(0)).kept
        assert client.ask(header(camera="b"), jpeg(1)).kept

        reply = client.ask(header(camera="c"), jpeg(2))

        assert (reply.ok, reply.code) == (False, "cameras")
        assert "ingest.max_cameras" in reply.error
        assert client.ask(header(camera="a", seq=1), jpeg(3)).kept
        assert harness.recorder.frames == {("", "rejected"): 2, ("a", "kept"): 2, ("b", "kept"): 1}


def test_a_sender_of_ever_new_names_uses_up_its_own(store: Store) -> None:
    with running(store, max_cameras=8) as harness:
        a, b, c = (harness.client() for _ in range(3))
        assert a.ask(header(camera="front"), jpeg()).ok
        answers = [b.ask(header(camera=f"run-{number}"), jpeg()) for number in range(12)]
        assert [answer.code for answer in answers if not answer.ok] == ["cameras"] * 5

        assert c.ask(header(camera="gate"), jpeg()).ok
        assert a.ask(header(camera="front", seq=1), jpeg()).ok
        assert harness.recorder.forgotten == ["run-0"]

        # What a purge ends with frees the name.
        harness.ingest.forget_camera("run-3")
        assert b.ask(header(camera="run-12"), jpeg()).ok
        assert harness.recorder.forgotten == ["run-0", "run-3"]


def test_senders_that_share_a_name_are_counted_and_one_that_starts_anew_is_not(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with running(store) as harness:
        for seq in range(4):  # one that opens a connection for each frame
            assert harness.client().ask(header(seq=seq, camera="anew"), jpeg(seq)).ok
        a, b = harness.client(), harness.client()
        for seq in range(4, 8):
            for client in (a, b):
                assert client.ask(header(seq=seq, camera="front"), jpeg(seq)).ok
        assert harness.recorder.shared == {"front": 6}
    told = [record.getMessage() for record in caplog.records if "take turns" in record.getMessage()]
    assert [line.endswith("camera=front") for line in told] == [True]


def test_cameras_with_stored_samples_come_before_new_names(store: Store) -> None:
    with running(store, max_cameras=8) as harness:
        a, b = harness.client(), harness.client()
        for seq in range(2):
            assert a.ask(header(camera="front", seq=seq), jpeg(seq)).kept
        for number in range(7):
            assert b.ask(header(camera=f"run-{number}"), jpeg()).kept
    stored = store.submit(stored_cameras).result()
    assert stored[0] == ("front", 2)
    assert len(stored) == 8

    with running(store, max_cameras=8, cameras=stored) as harness:
        a, b, c = (harness.client() for _ in range(3))
        for number in range(20, 40):
            b.ask(header(camera=f"run-{number}"), jpeg())
        assert a.ask(header(camera="front", seq=5), jpeg()).ok
        assert c.ask(header(camera="gate"), jpeg()).ok
        assert "front" not in harness.recorder.forgotten


def test_each_camera_has_its_own_stream(store: Store) -> None:
    rules = SlimmingRules(drop_fraction=0.5, warmup_frames=3)
    with running(store, rules=rules) as harness:
        client = harness.client()
        reasons = [client.ask(header(camera=camera), jpeg()).reason for camera in ("a", "b")]

        assert all("frame 1 of the first 3" in reason for reason in reasons)


def test_address_in_use_names_the_key(store: Store) -> None:
    with running(store) as harness:
        with (
            pytest.raises(AddressInUse, match=r"ingest\.bind") as caught,
            running(store, bind=("tcp://127.0.0.1:*", harness.endpoint)),
        ):
            pass
        assert harness.endpoint in str(caught.value)
        assert harness.client().ask(header(), jpeg()).ok


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"bind": ("tcp://203.0.113.1:5555",)}, "ingest.bind"),
        ({"bind": ("nonsense",)}, "ingest.bind"),
        ({"bind": (), "subscribe": ("tcp://nowhere",)}, "ingest.subscribe"),
    ],
)
def test_impossible_endpoint_names_the_key(store: Store, settings: dict, key: str) -> None:
    with pytest.raises(ListenError, match=key.replace(".", r"\.")), running(store, **settings):
        pass


def test_several_endpoints_one_of_them_ipc(store: Store, tmp_path: Path) -> None:
    with running(store, bind=("tcp://127.0.0.1:*", f"ipc://{tmp_path}/frames")) as harness:
        assert harness.ingest.endpoints[1] == f"ipc://{tmp_path}/frames"
        client = harness.client()
        client.socket.connect(harness.ingest.endpoints[1])
        # A DEALER deals its messages out to both in turn.
        assert [client.ask(header(seq=n), jpeg(n)).ok for n in range(4)] == [True] * 4


@pytest.mark.slow
def test_heart_beats_while_nothing_comes(store: Store) -> None:
    with running(store) as harness:
        first = harness.ingest.last_beat
        deadline = time.monotonic() + PATIENCE
        while harness.ingest.last_beat == first and time.monotonic() < deadline:
            threading.Event().wait(0.05)

        assert harness.ingest.last_beat > first
