"""What a header tells, what of it is refused, and whether an image is whole."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from encoded_images import SIZES, each_encoding, encoded, jpeg_header, png_header, scene

from dance_ondevice.images import turbo
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.headers import ImageError, check_complete, in_one_scan, probe


class TestProbe:
    @each_encoding
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("grey", [False, True])
    def test_tells_what_the_decoder_finds(self, encoding: str, size: tuple[int, int], grey: bool) -> None:
        image = scene(*size)[..., 0] if grey else scene(*size)
        info = probe(memoryview(encoded(encoding, image)))
        assert (info.height, info.width) == size
        assert info.format == encoding.split(maxsplit=1)[0]
        assert info.channels == (1 if grey and info.format != "webp" else 3)
        assert info.bit_depth == 8

    def test_alpha_and_sixteen_bits(self) -> None:
        alpha = np.dstack([scene(8, 9), np.full((8, 9), 100, np.uint8)])
        assert probe(encode_png(alpha)).channels == 4
        for quality in (80, 101):
            webp = cv2.imencode(".webp", alpha, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
            assert probe(webp).channels == 4
            assert (probe(webp).height, probe(webp).width) == (8, 9)
        deep = cv2.imencode(".png", np.zeros((4, 5), np.uint16))[1].tobytes()
        assert (probe(deep).channels, probe(deep).bit_depth) == (1, 16)
        assert probe(png_header(5, 4, depth=4, colour=3)).channels == 3

    def test_skips_fill_bytes_and_segments(self) -> None:
        thumbnail = encoded("jpeg", scene(8, 8))
        segments = (
            b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + b"\xff\xff\xff\xfe\x00\x02"
        )
        info = probe(jpeg_header(640, 480, before=segments))
        assert (info.width, info.height, info.channels) == (640, 480, 1)

    def test_reads_declared_sizes_of_bombs_without_the_pixels(self) -> None:
        assert probe(png_header(20000, 20000)).width == 20000
        assert probe(jpeg_header(65535, 65535)).height == 65535

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "empty"),
            (b"\xff", "truncated"),
            (b"\x89PN", "truncated"),
            (b"GIF89a\x01\x00\x01\x00", "neither JPEG, PNG nor WebP.*47 49 46"),
            (b"/9j/4AAQSkZJRgABAQ", "base64: send the bytes"),
            (b"not an image at all", "neither"),
            (b"\xff\xd8\xff\xe0\x00", "truncated"),
            (b"\xff\xd8\xff\xe0\x00\x01", "length 1"),
            (b"\xff\xd8\xff\xff\xff", "truncated"),
            (b"\xff\xd8\x00\x00\x00\x00", "no marker"),
            (b"\xff\xd8\xff\xda\x00\x02", "ffda before its frame header"),
            (jpeg_header(0, 5), "0x5"),
            (jpeg_header(5, 0), "5x0"),
            (jpeg_header(5, 5)[:-1], "truncated"),
            (jpeg_header(5, 5, before=b"\xff\xfe\x00\x02" * 2000), "no frame header within"),
            (jpeg_header(5, 5, marker=0xC4), "truncated"),
            (png_header(0, 5), "0x5"),
            (png_header(5, 5, depth=3), "bit depth 3"),
            (png_header(5, 5, colour=5), "colour type 5"),
            (png_header(5, 5, interlace=2), "interlace 2"),
            (png_header(5, 5)[:-1], "truncated within its header"),
            (png_header(5, 5)[:-1] + b"\0", "valid IHDR"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated within its header"),
            (b"RIFF\x10\0\0\0WEBPVP8Z" + bytes(30), "unknown chunk"),
            (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(30), "key frame"),
            (b"RIFF\x10\0\0\0WEBPVP8L" + bytes(30), "VP8L signature"),
        ],
    )
    def test_refuses_with_a_reason(self, data: bytes, says: str) -> None:
        with pytest.raises(ImageError, match=says):
            probe(data)
        with pytest.raises(ImageError, match=says):
            probe(memoryview(data))


class TestCompleteness:
    def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(self) -> None:
        data, thumbnail = encoded("jpeg", scene(48, 64)), encoded("jpeg", scene(8, 8))
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        whole = data[:2] + segment + data[2:]
        check_complete(whole, probe(whole))
        with pytest.raises(ImageError, match="no end-of-image marker"):
            check_complete(whole[:-2], probe(whole))

    def test_a_jpeg_of_countless_scans_is_refused(self) -> None:
        scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"\x55"
        data = jpeg_header(5, 5) + scan * 200 + b"\xff\xd9"
        with pytest.raises(ImageError, match="more than 100 scans"):
            check_complete(data, probe(data))

    def test_only_a_sequential_scan_of_all_components_tells_its_own_end(self) -> None:
        whole = encoded("jpeg", scene(48, 64))
        assert in_one_scan(whole, probe(whole))
        assert in_one_scan(memoryview(whole[:-40]), probe(whole))
        progressive = cv2.imencode(".jpg", scene(48, 64), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
        assert not in_one_scan(progressive, probe(progressive))
        scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x55"
        apart = whole[: probe(whole).body] + 3 * scan + b"\xff\xd9"
        assert not in_one_scan(apart, probe(apart))
        assert not in_one_scan(whole[: probe(whole).body] + b"\xff\xd9", probe(whole))
        with pytest.raises(ImageError, match="truncated"):
            in_one_scan(whole[: probe(whole).body], probe(whole))

    @pytest.mark.parametrize("grey", [True, False])
    def test_a_decode_without_a_warning_has_seen_the_end(self, grey: bool) -> None:
        pytest.importorskip("simplejpeg")
        whole = encoded("jpeg", scene(16, 24))
        assert turbo.decode(whole, (16, 24), grey=grey) is not None
        for length in range(len(whole)):
            assert turbo.decode(whole[:length], (16, 24), grey=grey) is None, length
        # A further scan of all components, of which there may be a million, is refused where it begins.
        again = whole[:-2] + whole[whole.rindex(b"\xff\xda") :]
        assert in_one_scan(again, probe(again))
        assert turbo.decode(again, (16, 24), grey=grey) is None
