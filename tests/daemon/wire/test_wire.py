"""Wire version 1: what is read, and what is refused and how."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.system.state import CAMERA_NAME
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.foreign import camera_name
from dance_ondevice.daemon.wire.messages import (
    ForeignFrame,
    FrameMessage,
    Goodbye,
    Header,
    LabelMessage,
    Message,
    WireError,
)

LIMITS = sections.Ingest(max_message_bytes=10_000, max_pixels=1_000, max_header_bytes=2_000)
IMAGE = b"an encoded image"
HEADER: dict[str, Any] = {
    "v": 1,
    "camera": "front",
    "seq": 7,
    "captured_at": 1_760_000_000.25,
    "encoding": "jpeg",
}


def header(**changes: Any) -> bytes:
    """The valid header, but for the changes; None takes a key away."""
    fields = {key: value for key, value in {**HEADER, **changes}.items() if value is not None}
    return json.dumps(fields).encode()


def refusal(*parts: bytes, limits: sections.Ingest = LIMITS) -> WireError:
    with pytest.raises(WireError) as caught:
        wire.parse(parts, limits)
    return caught.value


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp"])
def test_frame(encoding: str) -> None:
    assert wire.parse([header(encoding=encoding), IMAGE], LIMITS) == FrameMessage(
        camera="front", seq=7, captured_at=1_760_000_000.25, encoding=encoding, image=IMAGE
    )


def test_frame_with_label() -> None:
    message = wire.parse([header(), IMAGE, b"label"], LIMITS)

    assert isinstance(message, FrameMessage)
    assert message.label == b"label"


def test_parts_may_be_views() -> None:
    message = wire.parse([memoryview(header()), memoryview(IMAGE)], LIMITS)

    assert isinstance(message, FrameMessage)
    assert bytes(message.image) == IMAGE


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + header(), header() + b"\0", header() + b"\r\n"])
def test_what_other_languages_put_around_a_text_is_no_part_of_the_header(text: bytes) -> None:
    assert wire.parse([text, IMAGE], LIMITS) == wire.parse([header(), IMAGE], LIMITS)


def test_raw_frame() -> None:
    message = wire.parse([header(encoding="raw", shape=[2, 3, 3], dtype="uint8"), bytes(18)], LIMITS)

    assert isinstance(message, FrameMessage)
    assert message.shape == (2, 3, 3)


def test_unknown_keys_whole_numbers_and_shapes_of_encoded_images_are_tolerated() -> None:
    parts = [header(captured_at=5, shape=[9, 9, 3], dtype="uint8", exposure={"iso": [100]}), IMAGE]

    message = wire.parse(parts, LIMITS)

    assert isinstance(message, FrameMessage)
    assert message.captured_at == 5.0
    assert message.shape is None


@pytest.mark.parametrize("seq", [0, 2**63 - 1])
@pytest.mark.parametrize("camera", ["a", "9", "A-b_c.d", "x" * 64])
def test_extremes_that_are_allowed(seq: int, camera: str) -> None:
    assert isinstance(wire.parse([header(seq=seq, camera=camera), IMAGE], LIMITS), FrameMessage)


def test_label_for_an_earlier_frame() -> None:
    assert wire.parse((b'{"v":1,"label_for":"front-1-7"}', b"png"), LIMITS) == LabelMessage(
        sample_id="front-1-7", label=b"png"
    )


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"v": 2}, "version", "speaks version 1"),
        ({"v": "1"}, "version", "'1'"),
        ({"v": True}, "version", "True"),
        ({"v": 1.0}, "version", "1.0"),
        ({"v": 10**30}, "version", "19 digits"),
        ({"v": None}, "version", "none"),
        ({"camera": None}, "header", "camera"),
        ({"camera": 5}, "header", "$.camera"),
        ({"camera": ""}, "camera", "''"),
        ({"camera": "../etc"}, "camera", "letters"),
        ({"camera": ".hidden"}, "camera", "letters"),
        ({"camera": "front\n"}, "camera", "letters"),
        ({"camera": "x" * 65}, "camera", "64"),
        ({"camera": "kühe"}, "camera", "letters"),
        ({"seq": None}, "header", "seq"),
        ({"seq": -1}, "header", "$.seq"),
        ({"seq": 2**63}, "header", "$.seq"),
        ({"seq": 1.5}, "header", "$.seq"),
        ({"seq": "7"}, "header", "$.seq"),
        ({"seq": True}, "header", "$.seq"),
        ({"captured_at": None}, "header", "captured_at"),
        ({"captured_at": "now"}, "header", "$.captured_at"),
        ({"captured_at": 0}, "captured_at", "1970"),
        ({"captured_at": -5.0}, "captured_at", "1970"),
        ({"captured_at": 1e11}, "captured_at", "1e+11"),
        ({"captured_at": 1760000000123}, "captured_at", "milliseconds, so divide by 1000"),
        ({"encoding": None}, "header", "encoding"),
        ({"encoding": "bmp"}, "header", "bmp"),
        ({"encoding": "raw"}, "shape", "dtype"),
        ({"encoding": "raw", "shape": [2, 3, 3]}, "shape", "dtype"),
        ({"encoding": "raw", "shape": [2, 3], "dtype": "uint8"}, "header", "$.shape"),
        ({"encoding": "raw", "shape": [2, 3, 3], "dtype": "float32"}, "header", "float32"),
        ({"encoding": "raw", "shape": [2, 3, 3], "dtype": "uint8"}, "shape", "18 bytes"),
        ({"encoding": "raw", "shape": [2, 3, 4], "dtype": "uint8"}, "shape", "[height, width, 3]"),
        ({"encoding": "raw", "shape": [0, 3, 3], "dtype": "uint8"}, "shape", "[0, 3, 3]"),
        ({"encoding": "raw", "shape": [-2, -3, 3], "dtype": "uint8"}, "shape", "[-2, -3, 3]"),
        ({"encoding": "raw", "shape": [32768, 32768, 3], "dtype": "uint8"}, "pixels", "max_pixels"),
        ({"encoding": "raw", "shape": [10**30, 1, 3], "dtype": "uint8"}, "pixels", "19 digits"),
    ],
)
def test_wrong_header_is_refused(changes: dict[str, Any], reason: str, words: str) -> None:
    error = refusal(header(**changes), IMAGE)

    assert error.reason == reason
    assert words in str(error)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        *(
            ({"encoding": name}, ["jpeg", "png", "webp", "raw"])
            for name in ("jpg", "JPEG", "avif", "x" * 999)
        ),
        ({"encoding": None}, ["encoding", "jpeg", "png", "webp", "raw"]),
        ({"encoding": 5}, ["jpeg", "png", "webp", "raw"]),
        ({"dtype": "float32"}, ["uint8"]),
        ({"shape": [1, 2]}, ["[height, width, 3]"]),
        ({"seq": -1}, ["0 to 2^63 - 1"]),
        ({"captured_at": "now"}, ["seconds since 1970"]),
        ({"captured_at": None}, ["captured_at", "seconds since 1970"]),
        ({"v": 2}, ["version 1"]),
    ],
)
def test_a_refusal_names_what_is_allowed(changes: dict[str, Any], allowed: list[str]) -> None:
    error = refusal(header(**changes), IMAGE)

    assert all(word in str(error) for word in allowed), error


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"v"',
        b"\xff\xfe",
        b'{"v":1,"note":"\xff"}',
        b'{"v":1e999}',
        b'{"v":NaN}',
        b'{"v":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"v":' + b"9" * 1900 + b"}",
        header() + b"x",
    ],
)
def test_header_that_is_no_json_object_is_refused(text: bytes) -> None:
    error = refusal(text, IMAGE)

    assert error.reason in ("header", "version")
    assert json.loads(wire.refused(error))["ok"] is False


def test_deep_nesting_is_refused() -> None:
    deep = b'{"v":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    limits = sections.Ingest(max_message_bytes=100_000, max_header_bytes=65_536)

    assert refusal(deep, IMAGE, limits=limits).reason == "header"


@pytest.mark.parametrize("count", [1, 4, 50])
def test_wrong_number_of_parts_is_refused(count: int) -> None:
    error = refusal(*[header()] * count)

    assert (error.reason, error.camera, error.seq) == ("parts", "front", 7)
    assert f"{count} part" in str(error)


def test_parts_that_were_not_kept_are_counted() -> None:
    with pytest.raises(WireError, match="50 parts"):
        wire.parse([header(), IMAGE, IMAGE], LIMITS, 50)


def test_no_part_at_all_is_refused() -> None:
    assert refusal().reason == "header"


def test_sizes_are_limited() -> None:
    assert refusal(b" " * 2_001, IMAGE).reason == "header_size"
    error = refusal(header(), bytes(10_001))
    assert (error.reason, error.camera, error.seq) == ("message_size", "front", 7)
    assert refusal(b'{"msg":"cam"}', bytes(10_001)).protocol == "imagezmq"
    assert refusal(b'{"v":1,"label_for":"a-1-1"}', bytes(10_001)).sample_id == "a-1-1"
    assert refusal(header(), bytes(5_000), bytes(5_000)).reason == "message_size"
    exact = 10_000 - len(header())
    assert isinstance(wire.parse([header(), bytes(exact)], LIMITS), FrameMessage)


def test_empty_image_is_refused() -> None:
    assert refusal(header(), b"").reason == "image"


def test_refusal_names_the_frame_as_far_as_the_header_tells() -> None:
    error = refusal(header(encoding="bmp"), IMAGE)
    assert (error.camera, error.seq) == ("front", 7)
    error = refusal(header(camera="../etc"), IMAGE)
    assert (error.camera, error.seq) == ("", 7)
    error = refusal(header(seq=-1), IMAGE)
    assert (error.camera, error.seq) == ("front", None)


def test_long_texts_from_the_network_are_cut() -> None:
    assert len(str(refusal(header(camera="é" * 500), IMAGE))) <= 300


@pytest.mark.parametrize(
    "text",
    [
        b'{"v":1,"label_for":""}',
        b'{"v":1,"label_for":5}',
        b'{"v":1,"label_for":null}',
        b'{"v":1,"label_for":"' + b"x" * 201 + b'"}',
    ],
)
def test_wrong_label_header_is_refused_as_a_label(text: bytes) -> None:
    error = refusal(text, b"png")

    assert error.reason == "header"
    assert error.sample_id is not None


def test_label_with_an_image_is_refused() -> None:
    error = refusal(b'{"v":1,"label_for":"front-1-7"}', b"png", b"png")

    assert (error.reason, error.sample_id) == ("parts", "front-1-7")


def test_imagezmq_jpeg() -> None:
    assert wire.parse([b'{"msg":"front door"}', IMAGE], LIMITS) == ForeignFrame(
        protocol="imagezmq", camera="front_door", image=IMAGE
    )


@pytest.mark.parametrize("shape", [[2, 3, 3], [2, 3, 4], [2, 3, 1], [2, 3]])
def test_imagezmq_array(shape: list[int]) -> None:
    head = json.dumps({"msg": "cam", "dtype": "uint8", "shape": shape}).encode()

    message = wire.parse([head, bytes(math.prod(shape))], LIMITS)

    assert message == ForeignFrame(
        protocol="imagezmq", camera="cam", image=bytes(math.prod(shape)), shape=tuple(shape)
    )


@pytest.mark.parametrize(
    ("head", "image", "reason"),
    [
        ({"dtype": "float32", "shape": [2, 3, 3]}, bytes(18), "shape"),
        ({"dtype": "uint8", "shape": [2, 3, 2]}, bytes(12), "shape"),
        ({"dtype": "uint8", "shape": [2]}, bytes(2), "shape"),
        ({"dtype": "uint8", "shape": []}, bytes(2), "shape"),
        ({"dtype": "uint8", "shape": [2, 3, 3]}, bytes(17), "shape"),
        ({"dtype": "uint8", "shape": [1000, 1000, 3]}, bytes(18), "pixels"),
        ({"dtype": "uint8", "shape": "big"}, bytes(18), "header"),
        ({}, b"", "image"),
    ],
)
def test_wrong_imagezmq_message_is_refused_in_plain_text(
    head: dict[str, Any], image: bytes, reason: str
) -> None:
    error = refusal(json.dumps({"msg": "cam", **head}).encode(), image)

    assert (error.reason, error.protocol) == (reason, "imagezmq")
    assert wire.refused(error) == f"ERROR {error}".encode()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("front", "front"),
        ("rpi 4/kitchen", "rpi_4_kitchen"),
        ("..hidden", "hidden"),
        ("", "imagezmq"),
        ("///", "imagezmq"),
        ("Büro 2", "Buro_2"),
        ("摄像头", "imagezmq-" + hashlib.sha256("摄像头".encode()).hexdigest()[:8]),
        ("x" * 80, "x" * 55 + "-" + hashlib.sha256(b"x" * 80).hexdigest()[:8]),
    ],
)
def test_camera_name(text: str, name: str) -> None:
    assert camera_name(text) == name


def test_names_that_differ_in_what_cannot_be_kept_stay_apart() -> None:
    texts = ["摄像头", "相机二", "cam 摄", "cam 相", "x" * 70 + "1", "x" * 70 + "2"]
    assert len({camera_name(text) for text in texts}) == len(texts)


def test_of_a_list_or_an_object_a_text_names_the_camera() -> None:
    for msg, name in (
        (["yard", 12.5], "yard"),
        ([7], "imagezmq"),
        (None, "imagezmq"),
        ({"camera": "door", "name": "x", "t": 1.5}, "door"),
        ({"name": "gate 2"}, "gate_2"),
        ({"camera": 1}, "imagezmq"),
    ):
        message = wire.parse([json.dumps({"msg": msg}).encode(), IMAGE], LIMITS)
        assert isinstance(message, ForeignFrame)
        assert message.camera == name


@given(st.text())
def test_every_text_makes_a_camera_name(text: str) -> None:
    assert CAMERA_NAME.fullmatch(camera_name(text))


def test_header_is_written_without_what_it_does_not_need() -> None:
    parts = wire.frame_parts(Header(**HEADER), IMAGE)

    assert json.loads(bytes(parts[0])) == HEADER
    assert parts[1:] == (IMAGE,)
    assert wire.frame_parts(Header(**HEADER), IMAGE, b"label")[1:] == (IMAGE, b"label")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)
header_keys = st.sampled_from(
    [
        "v",
        "camera",
        "seq",
        "captured_at",
        "encoding",
        "shape",
        "dtype",
        "msg",
        "label_for",
        "terminate_flag",
        "compression",
    ]
)
likely = st.one_of(
    json_values,
    st.just(1),
    st.sampled_from(["jpeg", "raw", "uint8", "front"]),
    st.lists(st.integers(-1, 40), min_size=1, max_size=4),
)
headers = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda key, depth: b'{"%s":%s%s}' % (key.encode(), b"[" * depth, b"]" * depth),
        header_keys,
        st.integers(1, 900),
    ),
    st.dictionaries(header_keys, likely).map(
        lambda fields: json.dumps(fields).encode("utf-8", "surrogatepass")
    ),
    st.dictionaries(header_keys, likely).map(lambda fields: json.dumps({**HEADER, **fields}).encode()),
)


@given(st.tuples(headers, st.binary(max_size=64)) | st.lists(headers, max_size=5).map(tuple))
def test_any_message_is_read_or_refused_and_answered(parts: tuple[bytes, ...]) -> None:
    try:
        message = wire.parse(parts, LIMITS)
    except WireError as error:
        refused = error
    else:
        check_message(message)
        return
    assert refused.protocol != "v1" or msgspec.json.decode(wire.refused(refused))["ok"] is False
    assert refused.camera == "" or CAMERA_NAME.fullmatch(refused.camera)


def check_message(message: Message | Goodbye) -> None:
    if isinstance(message, Goodbye):
        return
    if isinstance(message, LabelMessage):
        assert message.sample_id
        return
    assert CAMERA_NAME.fullmatch(message.camera)
    assert len(message.image) > 0
    if message.shape is not None:
        assert math.prod(message.shape) == len(message.image)
        assert message.shape[0] * message.shape[1] <= LIMITS.max_pixels
    if isinstance(message, FrameMessage):
        assert 0 <= message.seq < 2**63
        assert 0 < message.captured_at < 1e11
        assert (message.shape is not None) == (message.encoding == "raw")


@given(
    st.from_regex(CAMERA_NAME, fullmatch=True),
    st.integers(0, 2**63 - 1),
    st.floats(1e-3, 9e10),
    st.binary(min_size=1, max_size=64),
    st.none() | st.binary(max_size=64),
)
def test_what_is_written_is_read(
    camera: str, seq: int, captured_at: float, image: bytes, label: bytes | None
) -> None:
    head = Header(v=1, camera=camera, seq=seq, captured_at=captured_at, encoding="png")

    assert wire.parse(wire.frame_parts(head, image, label), LIMITS) == FrameMessage(
        camera=camera, seq=seq, captured_at=captured_at, encoding="png", image=image, label=label
    )
