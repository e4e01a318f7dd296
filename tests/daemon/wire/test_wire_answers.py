"""Wire version 1, the other way: replies and masks, as they are written and read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import WireError


def test_accepting_reply_on_the_wire() -> None:
    reply = wire.accepted(
        sample_id="front-1-7", camera="front", seq=7, kept=True, score=0.31, scale=0.5, reason="kept"
    )

    assert json.loads(reply) == {
        "v": 1,
        "ok": True,
        "id": "front-1-7",
        "kept": True,
        "score": 0.31,
        "scale": 0.5,
        "reason": "kept",
        "camera": "front",
        "seq": 7,
    }
    assert wire.parse_reply(reply).kept is True


def test_a_reply_says_that_a_frame_is_not_kept() -> None:
    reply = wire.accepted(
        sample_id="a-1-0", camera="a", seq=0, kept=False, score=0.0, scale=0.5, reason="dropped"
    )

    assert json.loads(reply)["kept"] is False
    assert json.loads(reply)["score"] == 0.0


def test_refusing_reply_on_the_wire() -> None:
    error = WireError("shape", "the shape is wrong", camera="front", seq=7)

    assert json.loads(wire.refused(error)) == {
        "v": 1,
        "ok": False,
        "error": "the shape is wrong",
        "code": "shape",
        "camera": "front",
        "seq": 7,
    }


def test_label_reply_on_the_wire() -> None:
    assert json.loads(wire.labelled("front-1-7")) == {"v": 1, "ok": True, "id": "front-1-7"}


@pytest.mark.parametrize("data", [b"OK", b"{}", b'{"v":1,"ok":1}', b"\xff", b'{"v":1,"ok":true,"id":"\xff"}'])
def test_reply_that_is_none_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError, match="reply"):
        wire.parse_reply(data)


def mask_parts() -> list[bytes]:
    return wire.mask_message(
        frame_id="front-1-7",
        camera="front",
        seq=7,
        captured_at=1.5,
        model_version="v3",
        scale=0.5,
        latency_s=0.0125,
        mean_confidence=0.9,
        mask_png=b"png",
    )


def test_mask_on_the_wire() -> None:
    topic, head, png = mask_parts()

    assert (topic, png) == (b"mask/front", b"png")
    assert json.loads(head) == {
        "v": 1,
        "id": "front-1-7",
        "camera": "front",
        "seq": 7,
        "captured_at": 1.5,
        "model_version": "v3",
        "scale": 0.5,
        "latency_s": 0.0125,
        "mean_confidence": 0.9,
        "repeated": False,
    }


def test_mask_is_read_back() -> None:
    message = wire.parse_mask(mask_parts())

    assert message.header.id == "front-1-7"
    assert message.header.latency_s == 0.0125
    assert message.png == b"png"


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:2],
        lambda parts: [*parts, b""],
        lambda parts: [b"mask/back", *parts[1:]],
        lambda parts: [parts[0], b"{}", parts[2]],
        lambda parts: [parts[0], b"\xff", parts[2]],
        lambda parts: [parts[0], parts[1].replace(b'"v":1', b'"v":2'), parts[2]],
    ],
)
def test_mask_that_is_none_is_an_error(change: Any) -> None:
    with pytest.raises(WireError):
        wire.parse_mask(change(mask_parts()))
