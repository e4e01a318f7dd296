"""Whatever arrives is answered, counted, and costs the frames after it nothing."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator

import cv2
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import N_CLASSES, Harness, header, jpeg, label, picture, running

from dance_ondevice.daemon.ingest.pixels import check_frame, check_label_png
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire.messages import WireError
from dance_ondevice.images import codec as images

MAX_BYTES = 12_000_000
RAW = {"encoding": "raw", "dtype": "uint8"}


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after its header, which claims a size."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + end


def jpeg_of(width: int, height: int) -> bytes:
    """A real JPEG whose frame header claims another size."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


BAD = {
    "zero bytes": ([header(), b""], "image", "0 bytes"),
    "truncated JPEG": ([header(), jpeg()[:-200]], "image", "truncated"),
    "truncated in its header": ([header(), jpeg()[:30]], "image", "truncated"),
    "truncated PNG": ([header(encoding="png"), images.encode_png(picture())[:-50]], "image", "truncated"),
    "no image": ([header(), b"this is not an image at all"], "image", "neither JPEG, PNG nor WebP"),
    "another format": ([header(encoding="png"), jpeg()], "encoding", "header says png"),
    "PNG bomb": ([header(encoding="png"), png_header(20_000, 20_000)], "pixels", "20000x20000"),
    "JPEG bomb": ([header(), jpeg_of(65_500, 65_500)], "pixels", "65500x65500"),
    "raw of another shape": ([header(**RAW, shape=[48, 64, 3]), bytes(100)], "shape", "9216 bytes"),
    "raw without a shape": ([header(**RAW), bytes(100)], "shape", "shape"),
    "raw of no pixels": ([header(**RAW, shape=[0, 64, 3]), bytes(100)], "shape", "[0, 64, 3]"),
    "3 GB declared": ([header(**RAW, shape=[32_768, 32_768, 3]), bytes(100)], "pixels", "32768x32768"),
    "label of another size": ([header(), jpeg(), label(48, 63)], "label_size", "63x48"),
    "label bomb": ([header(), jpeg(), png_header(20_000, 20_000)], "label_size", "20000x20000"),
    "label with unknown ids": ([header(), jpeg(), label(classes=(0, 11, 12))], "label_ids", "11, 12"),
    "label in colour": ([header(), jpeg(), images.encode_png(picture())], "label", "single-channel"),
    "label of zero bytes": ([header(), jpeg(), b""], "label", "0 bytes"),
    "truncated label": ([header(), jpeg(), label()[:-20]], "label", "truncated"),
    "1 part": ([header()], "parts", "1 part"),
    "4 parts": ([header(), jpeg(), label(), b"x"], "parts", "4 parts"),
    "50 parts": ([header(), jpeg(), *[bytes(1000)] * 48], "parts", "50 parts"),
    "header that is not UTF-8": ([b'{"v":1,"camera":"\xff\xfe"}', jpeg()], "header", "UTF-8"),
    "header of 10 MB": ([b" " * 10_000_000, jpeg()], "header_size", "10000000 bytes"),
    "unknown version": ([header(v=2), jpeg()], "version", "version 1"),
    "oversize image": ([header(), bytes(MAX_BYTES + 1)], "message_size", "max_message_bytes"),
    "oversize label": ([header(), jpeg(), bytes(MAX_BYTES)], "message_size", "max_message_bytes"),
    "empty header": ([b"", b""], "header", "JSON"),
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """One ingest thread for all: each bad message has to leave it intact for the next test, too."""
    from dance_ondevice.daemon.system.state import StatePaths

    store = Store(StatePaths(tmp_path_factory.mktemp("state")), quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    try:
        with running(store, max_message_bytes=MAX_BYTES) as harness:
            assert harness.client().ask(header(camera="other"), jpeg()).kept
            yield harness
    finally:
        assert store.stop(10)


def check_that_frames_are_accepted(harness: Harness) -> None:
    client = harness.client()
    kept = harness.recorder.count("kept")
    seq = time.monotonic_ns()
    assert client.ask(header(camera="other", seq=seq), jpeg(seq), label()).kept
    assert harness.recorder.count("kept") == kept + 1


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ], ids=["DEALER", "REQ"])
def test_bad_message_is_answered_and_counted_and_forgotten(harness: Harness, name: str, kind: int) -> None:
    parts, reason, words = BAD[name]
    rejected, refused = harness.recorder.count("rejected"), harness.recorder.refusals[reason]
    client = harness.client(kind)

    # A REQ adds an empty delimiter by itself; a DEALER may, and must if its header is empty.
    reply = client.ask(*(parts if kind == zmq.REQ or parts[0] else [b"", *parts]))

    assert (reply.ok, reply.code) == (False, reason), reply
    assert words in reply.error
    assert harness.recorder.count("rejected") == rejected + 1
    assert harness.recorder.refusals[reason] == refused + 1
    assert harness.recorder.told[-1][1] == reply.error
    assert harness.recorder.frames["front", "rejected"] == 0, "only cameras with good frames have a name"
    check_that_frames_are_accepted(harness)


def test_refusal_is_counted_for_a_camera_that_is_known(harness: Harness) -> None:
    before = harness.recorder.frames["other", "rejected"]

    assert not harness.client().ask(header(camera="other"), b"no image").ok

    assert harness.recorder.frames["other", "rejected"] == before + 1


def test_sender_of_a_monster_is_cut_off_and_nobody_else(harness: Harness) -> None:
    bystander = harness.client()
    assert bystander.ask(header(camera="other", seq=1), jpeg(1)).kept
    monster = harness.client()
    with monster.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as events:
        monster.socket.send_multipart([header(), bytes(2 * MAX_BYTES + 1)])

        assert events.poll(10_000), "the connection stays although the part is larger than ZMQ may take"
        monster.socket.disable_monitor()
    monster.socket.close()

    assert bystander.ask(header(camera="other", seq=2), jpeg(2)).kept
    check_that_frames_are_accepted(harness)


def test_sender_that_leaves_before_its_answer_harms_nobody(harness: Harness) -> None:
    before = harness.recorder.count()
    with zmq.Context() as context, context.socket(zmq.DEALER) as rude:
        rude.connect(harness.endpoint)
        for seq in range(5):
            rude.send_multipart([header(camera="other", seq=seq), jpeg()])
    # Leaving the block flushes what was sent and hangs up.
    harness.recorder.wait_for(lambda: harness.recorder.count() == before + 5)

    check_that_frames_are_accepted(harness)


def check(image: bytes, encoded_label: bytes | None = None) -> None:
    """Raises nothing but a WireError."""
    try:
        frame = check_frame(
            image, encoding=None, shape=None, label=encoded_label, max_pixels=100_000, n_classes=N_CLASSES
        )
    except WireError:
        return
    assert frame.height * frame.width <= 100_000
    assert frame.grey.size > 0


ENCODED = [
    jpeg(),
    images.encode_png(picture()),
    cv2.imencode(".webp", picture())[1].tobytes(),
]
damage = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20)


@given(st.sampled_from(ENCODED), damage, st.integers(0, 10_000))
def test_damaged_image_is_decoded_or_refused(image: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(image)
    for position, value in changes:
        data[position % len(data)] = value
    check(bytes(data))
    check(bytes(data[: cut % len(data)]))


@given(damage)
def test_damaged_label_is_decoded_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(label())
    for position, value in changes:
        data[position % len(data)] = value
    check(jpeg(), bytes(data))


@given(st.binary(max_size=64))
def test_any_bytes_are_no_label(data: bytes) -> None:
    with pytest.raises(WireError):
        check_label_png(data, size=None, max_pixels=100_000, n_classes=N_CLASSES)
