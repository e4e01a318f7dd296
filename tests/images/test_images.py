from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from encoded_images import ENCODINGS, SIZES, each_encoding, encoded, jpeg_header, png_header, scene
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dance_ondevice.images.codec import (
    decode_colour,
    decode_grey,
    decode_label,
    encode_jpeg,
    encode_label,
    encode_png,
    resize_area,
)
from dance_ondevice.images.confusion import confusion_matrix
from dance_ondevice.images.headers import ImageError, probe


class TestDecode:
    @each_encoding
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("reduce", [1, 2, 4, 8])
    def test_reduced_sizes_are_rounded_up(self, encoding: str, size: tuple[int, int], reduce: int) -> None:
        data = encoded(encoding, scene(*size))
        expected = (-(-size[0] // reduce), -(-size[1] // reduce))
        assert decode_grey(memoryview(data), reduce).shape == expected
        colour = decode_colour(data, reduce)
        assert colour.shape == (*expected, 3)
        assert colour.dtype == np.uint8

    @each_encoding
    def test_pixels_come_back_in_bgr_order(self, encoding: str) -> None:
        image = scene(48, 64)
        back = decode_colour(encoded(encoding, image)).astype(int)
        assert np.abs(back - image).mean() < (0.01 if encoding in ("png", "webp lossless") else 4)
        grey = decode_grey(encoded(encoding, image), 4).astype(int)
        expected = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (16, 12), interpolation=cv2.INTER_AREA)
        assert np.abs(grey - expected).mean() < 4

    def test_alpha_is_dropped_and_sixteen_bits_become_eight(self) -> None:
        alpha = np.dstack([scene(8, 9), np.full((8, 9), 100, np.uint8)])
        assert np.array_equal(decode_colour(encode_png(alpha)), scene(8, 9))
        deep = cv2.imencode(".png", np.full((4, 5), 0x8000, np.uint16))[1].tobytes()
        assert decode_grey(deep).tolist() == np.full((4, 5), 0x80).tolist()

    def test_exif_orientation_is_ignored(self) -> None:
        plain = encoded("jpeg", scene(8, 16))
        tiff = b"MM\0*\0\0\0\x08" + struct.pack(
            ">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0
        )  # "rotate by 90 degrees"
        exif = b"Exif\0\0" + tiff
        turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
        assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (16, 8, 3)
        assert np.array_equal(decode_colour(turned), decode_colour(plain))
        assert decode_grey(turned, 2).shape == (4, 8)

    @each_encoding
    @pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
    def test_a_cut_file_is_refused_not_painted_grey(self, encoding: str, keep: float) -> None:
        data = encoded(encoding, np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
        cut = data[: int(len(data) * keep)]
        for decode in (decode_colour, decode_grey):
            with pytest.raises(ImageError, match="truncated"):
                decode(cut)

    def test_bytes_after_the_end_do_no_harm(self) -> None:
        for encoding in ENCODINGS:
            data = encoded(encoding, scene(48, 64))
            assert np.array_equal(decode_colour(data + bytes(64)), decode_colour(data))

    @pytest.mark.parametrize("data", [png_header(5, 5), jpeg_header(5, 5), jpeg_header(5, 5) + b"\xff\xd9"])
    def test_a_header_alone_is_refused(self, data: bytes) -> None:
        with pytest.raises(ImageError):
            decode_colour(data)

    def test_reduce_is_checked(self) -> None:
        with pytest.raises(ValueError, match="reduce is 3"):
            decode_grey(encode_png(scene(4, 4)), 3)


class TestLabels:
    def test_every_id_survives(self) -> None:
        label = np.arange(256, dtype=np.uint8).reshape(8, 32)
        assert np.array_equal(decode_label(memoryview(encode_png(label))), label)
        assert np.array_equal(decode_label(encode_label(label)), label)

    @pytest.mark.skipif(not hasattr(cv2, "IMWRITE_PNG_FILTER_UP"), reason="OpenCV before 4.12 cannot")
    def test_a_mask_takes_fewer_bytes_than_a_picture(self) -> None:
        mask = np.repeat(np.arange(8, dtype=np.uint8)[:, None] * (np.arange(320) // 40 + 1), 30, axis=0)
        mask = mask.astype(np.uint8)
        assert len(encode_label(mask)) < len(encode_png(mask))

    @pytest.mark.parametrize(
        "data",
        [
            encode_png(scene(8, 8)),
            encode_jpeg(scene(8, 8)[..., 0]),
            cv2.imencode(".png", np.zeros((8, 8), np.uint16))[1].tobytes(),
            png_header(8, 8, colour=3),
            png_header(8, 8, depth=4, colour=0),
        ],
        ids=["colour", "jpeg", "16 bit", "palette", "4 bit"],
    )
    def test_only_grey_8_bit_png(self, data: bytes) -> None:
        with pytest.raises(ImageError, match="a label is an 8-bit single-channel PNG"):
            decode_label(data)

    def test_a_transparent_id_stays_an_id(self) -> None:
        label = np.arange(64, dtype=np.uint8).reshape(8, 8)
        data = encode_png(label)
        chunk = b"tRNS\x00\x07"
        with_trns = (
            data[:33] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
        )
        assert np.array_equal(decode_label(with_trns), label)


class TestEncode:
    def test_quality_matters_and_grey_is_allowed(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        assert len(encode_jpeg(image, 50)) < len(encode_jpeg(image))
        assert probe(encode_jpeg(image[..., 0])).channels == 1

    @pytest.mark.parametrize("array", [np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)])
    def test_other_arrays_are_refused(self, array: np.ndarray) -> None:
        for encode in (encode_jpeg, encode_png):
            with pytest.raises(ImageError, match="cannot encode"):
                encode(array)


class TestResize:
    @given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.5))
    def test_sizes_are_rounded_and_never_zero(self, h: int, w: int, scale: float) -> None:
        resized = resize_area(scene(h, w), scale)
        assert resized.shape == (max(1, round(h * scale)), max(1, round(w * scale)), 3)

    def test_averages_areas(self) -> None:
        image = np.array([[0, 100], [100, 200]], np.uint8)
        assert resize_area(image, 0.5).tolist() == [[100]]

    def test_scale_one_copies_nothing(self) -> None:
        image = scene(4, 6)
        assert resize_area(image, 1.0) is image

    def test_scale_zero_is_refused(self) -> None:
        with pytest.raises(ValueError, match="scale is 0"):
            resize_area(scene(4, 6), 0)


def only_image_errors(data: bytes) -> None:
    """Whatever the bytes are, an ImageError or a result that agrees with itself comes out."""
    try:
        info = probe(data)
    except ImageError:
        info = None
    for decode in (decode_colour, decode_grey, decode_label):
        try:
            shape = decode(data).shape
        except ImageError:
            continue
        assert info is not None
        assert shape[:2] == (info.height, info.width)


MAGIC = [
    b"\xff\xd8",
    b"\xff\xd8\xff\xc0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x20\0\0\0WEBPVP8X",
    b"RIFF\x20\0\0\0WEBPVP8L\0\0\0\0\x2f",
]
WHOLE = [encoded(encoding, scene(17, 23)) for encoding in ENCODINGS] + [encode_png(scene(17, 23)[..., 0])]


@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=200))
@example(b"", b"")
def test_random_bytes_raise_image_errors_only(magic: bytes, tail: bytes) -> None:
    only_image_errors(magic + tail)


@settings(max_examples=200)
@given(st.sampled_from(WHOLE), st.data())
def test_mutated_images_raise_image_errors_only(whole: bytes, data: st.DataObject) -> None:
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutated)))
        end = min(len(mutated), start + data.draw(st.integers(0, 8)))
        mutated[start:end] = data.draw(st.binary(max_size=8))
    only_image_errors(bytes(mutated[: data.draw(st.sampled_from([None, len(mutated) // 2, 40, 12]))]))


def in_python(code: str) -> str:
    """Run code in a fresh interpreter, since OpenCV reads its limit at import."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr


PREPARE = """
from dance_ondevice.images import codec as images, headers as image_headers
import sys
assert "cv2" not in sys.modules
images.limit_pixels(1000)
import numpy as np
"""


#: Everything that one process may ask with a limit of 1000 pixels, as JSON.
LIMITED = f"""{PREPARE}
import json
import cv2
images.limit_pixels(1000)
said = {{"again": "fine"}}
for extension in (".jpg", ".png", ".webp"):
    small, large = (cv2.imencode(extension, np.zeros(s, np.uint8))[1].tobytes() for s in ((40, 25), (40, 26)))
    assert image_headers.probe(large).width == 26
    for reduce in (1, 8):
        images.decode_grey(small, reduce), images.decode_colour(small, reduce)
        errors = said[f"{{extension}} {{reduce}}"] = []
        for decode in (images.decode_grey, images.decode_colour):
            try:
                decode(large, reduce)
            except image_headers.ImageError as error:
                errors.append(str(error))
try:
    cv2.imdecode(cv2.imencode(".png", np.zeros((40, 26), np.uint8))[1], 0)
except cv2.error as error:
    said["opencv"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def limited() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(in_python(LIMITED).splitlines()[-1])
    return said


class TestLimit:
    @pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
    @pytest.mark.parametrize("reduce", [1, 8])
    def test_holds_for_every_format_and_reduction(
        self, limited: dict[str, Any], extension: str, reduce: int
    ) -> None:
        errors = limited[f"{extension} {reduce}"]
        assert len(errors) == 2
        assert all("declares 26x40 pixels, the limit is 1000" in error for error in errors)

    def test_reaches_opencv_itself(self, limited: dict[str, Any]) -> None:
        assert "CV_IO_MAX_IMAGE_PIXELS" in limited["opencv"]

    def test_the_same_limit_twice_is_fine(self, limited: dict[str, Any]) -> None:
        assert limited["again"] == "fine"

    def test_too_late_is_an_error(self) -> None:
        said = in_python("""
import cv2
from dance_ondevice.images import codec as images
try:
    images.limit_pixels(1000)
except RuntimeError as error:
    print(error)
""")
        assert "before anything imports cv2" in said

    def test_nonsense_is_refused(self) -> None:
        said = in_python("from dance_ondevice.images import codec as images\nimages.limit_pixels(0)")
        assert "max_pixels is 0" in said


@pytest.mark.parametrize("array", [np.full((4, 4), 0.5), np.full((4, 4), 40000, np.uint16), np.eye(4) > 0])
def test_only_bytes_are_encoded(array: Any) -> None:
    # OpenCV would write black, white and ones.
    for encode in (encode_jpeg, encode_png):
        with pytest.raises(ImageError, match="uint8"):
            encode(array)


def test_what_opencv_encodes_is_decoded_without_a_copy_to_bytes() -> None:
    picture = scene(40, 300)
    for ending in (".jpg", ".png"):
        found = cv2.imencode(ending, picture)[1]
        np.testing.assert_array_equal(decode_colour(found), decode_colour(found.tobytes()))
        assert probe(memoryview(found.view(np.int8))) == probe(found.tobytes())
    mask = cv2.imencode(".png", picture[..., 0])[1]
    np.testing.assert_array_equal(decode_label(mask), picture[..., 0])


@pytest.mark.parametrize(
    ("label", "prediction"),
    [([[0, 1]], [[-1, 1]]), ([[-1, 1]], [[0, 1]]), ([[0.5, 1]], [[0, 1]]), ([[0, 1]], [[0.0, 1.0]])],
)
def test_a_confusion_matrix_counts_class_ids_alone(label: Any, prediction: Any) -> None:
    with pytest.raises(ValueError, match=r"-1|float"):
        confusion_matrix(np.array(label), np.array(prediction), 3)


def test_a_confusion_matrix_of_two_classes_takes_booleans() -> None:
    label, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[True, True, False]])
    assert confusion_matrix(label, prediction, 2).tolist() == [[0, 1], [0, 1]]
