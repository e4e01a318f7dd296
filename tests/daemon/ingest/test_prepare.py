"""A frame's pixels: measured small, stored as they came where possible."""

from __future__ import annotations

import numpy as np
import pytest
from ingest_harness import N_CLASSES, jpeg, label, picture

from dance_ondevice.complexity import grey_reduction
from dance_ondevice.daemon.ingest.pixels import CheckedFrame, check_frame, encode_for_store
from dance_ondevice.daemon.wire.messages import WireError
from dance_ondevice.images import codec as images
from dance_ondevice.images import headers as image_headers
from dance_ondevice.policies.stream.decoding import Decoding


def checked(image: bytes, shape: tuple[int, ...] | None = None) -> CheckedFrame:
    return check_frame(
        image, encoding=None, shape=shape, label=None, max_pixels=10_000_000, n_classes=N_CLASSES
    )


@pytest.mark.parametrize(
    ("size", "reduction"),
    [
        ((1, 1), 1),
        ((240, 320), 1),
        ((360, 480), 1),
        ((480, 640), 2),
        ((640, 480), 2),
        ((720, 1280), 4),
        ((1080, 1920), 4),
        ((2160, 3840), 8),
    ],
)
def test_grey_is_reduced_while_enough_is_left(size: tuple[int, int], reduction: int) -> None:
    assert grey_reduction(*size) == reduction
    grey = checked(jpeg(0, *size)).grey
    assert grey.shape == (-(-size[0] // reduction), -(-size[1] // reduction))


def test_raw_and_encoded_pixels_look_alike_to_the_indicator() -> None:
    bgr = picture(3, 480, 640)

    raw, encoded = checked(bgr.tobytes(), bgr.shape).grey, checked(images.encode_png(bgr)).grey

    assert raw.shape == encoded.shape == (240, 320)
    assert np.abs(raw.astype(int) - encoded).max() <= 2


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1)])
def test_grey_pixels_become_colour(shape: tuple[int, ...]) -> None:
    grey = picture()[:, :, 0]

    frame = checked(grey.tobytes(), shape)

    assert (np.frombuffer(frame.image, np.uint8).reshape(48, 64, 3) == grey[:, :, None]).all()
    assert image_headers.probe(encode_for_store(frame, 1.0).data).channels == 3


def test_the_fourth_channel_is_left_out() -> None:
    colour = picture()
    frame = checked(np.dstack([colour, colour[:, :, :1]]).tobytes(), (*colour.shape[:2], 4))
    assert (np.frombuffer(frame.image, np.uint8).reshape(colour.shape) == colour).all()


def test_image_that_stays_as_large_as_it_was_stays_as_it_was() -> None:
    assert encode_for_store(checked(jpeg()), 1.0).data == jpeg()
    tiny = checked(jpeg(0, 1, 1))
    assert encode_for_store(tiny, 0.5).data == jpeg(0, 1, 1)


def test_side_that_jpeg_cannot_hold_is_refused() -> None:
    long = np.zeros((1, 65_501, 3), np.uint8)

    with pytest.raises(WireError, match=r"\.jpg"):
        encode_for_store(checked(long.tobytes(), long.shape), 1.0)


def test_label_must_fit_raw_pixels_too() -> None:
    bgr = picture()
    with pytest.raises(WireError, match="64x47"):
        check_frame(
            bgr.tobytes(),
            encoding=None,
            shape=bgr.shape,
            label=label(47, 64),
            max_pixels=10_000,
            n_classes=N_CLASSES,
        )


@pytest.mark.parametrize(("first", "scale"), [(2, 0.5), (1, 0.5), (1, 0.75)])
def test_what_was_decoded_in_colour_is_stored_without_another_decode(
    first: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = jpeg(0, 480, 640)
    afresh = checked(image)
    shared = check_frame(
        image,
        encoding=None,
        shape=None,
        label=None,
        max_pixels=10_000_000,
        n_classes=N_CLASSES,
        decoding=lambda _measured_at: Decoding(colour=True, reduce=first),
    )
    assert np.abs(shared.grey.astype(int) - afresh.grey).mean() < 1
    expected = encode_for_store(afresh, scale)
    monkeypatch.setattr(images, "decode_colour", None)
    found = encode_for_store(shared, scale)
    assert (found.width, found.height) == (expected.width, expected.height)
    difference = images.decode_grey(found.data).astype(int) - images.decode_grey(expected.data)
    assert np.abs(difference).mean() < 3
