from __future__ import annotations

import sys

import numpy as np
import pytest

from dance_ondevice.images import codec, turbo

pytest.importorskip("simplejpeg")


def picture(height: int = 61, width: int = 83) -> bytes:
    ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    return codec.encode_jpeg(np.stack([ramp, 255 - ramp, ramp // 2], axis=-1), 95)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
def test_both_decoders_give_the_same_image(reduce: int, grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = codec.decode_grey if grey else codec.decode_colour
    quick = decode(picture(), reduce)
    monkeypatch.setattr(turbo, "decode", lambda *_, **__: None)
    slow = decode(picture(), reduce)
    assert quick.shape == slow.shape
    assert np.abs(quick.astype(int) - slow).max() <= 2


def test_what_it_does_not_decode_without_a_warning_is_left_to_the_other() -> None:
    data = picture()
    damaged = data[:-150] + bytes(100) + data[-50:]
    assert turbo.decode(damaged, (61, 83), grey=True) is None
    assert turbo.decode(b"no jpeg", (61, 83), grey=True) is None
    assert codec.decode_grey(damaged).shape == (61, 83)


def test_without_the_package_the_other_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    turbo._decoder.cache_clear()
    try:
        assert turbo.decode(picture(), (61, 83), grey=True) is None
        assert codec.decode_grey(picture(), 2).shape == (31, 42)
    finally:
        turbo._decoder.cache_clear()
