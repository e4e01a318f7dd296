"""Writes the corpus: small, valid inputs of each kind, and a few that once broke something.

Usage: python tests/fuzz/make_corpus.py
"""

from __future__ import annotations

import json
import struct
import zlib

import cv2
import numpy as np
from fuzz_targets import CORPUS, PART_END
from rle_encoders import compress

from dance_ondevice.daemon.config import load as config
from dance_ondevice.images import codec as images
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models.card import ModelCard, encode_card


def main() -> None:
    """Write every file anew."""
    CORPUS.mkdir(exist_ok=True)
    for name, data in files().items():
        (CORPUS / name).write_bytes(data)


def files() -> dict[str, bytes]:
    """Name and content of each."""
    ramp = np.arange(16 * 24 * 3, dtype=np.uint32).reshape(16, 24, 3)
    picture = (ramp * 7 % 251).astype(np.uint8)
    jpeg, png = images.encode_jpeg(picture, 60), images.encode_png(picture)
    _, webp = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])
    _, lossy = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 40])
    _, progressive = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    label = images.encode_png(np.resize(np.array([0, 3, 10, 255], np.uint8), (16, 24)))
    return {
        "image-baseline": jpeg,
        "image-progressive": progressive.tobytes(),
        "image-png": png,
        "image-webp-lossless": webp.tobytes(),
        "image-webp-lossy": lossy.tobytes(),
        "image-grey": images.encode_png(picture[..., 0]),
        "label-street": label,
        "label-ignored": images.encode_png(np.full((4, 4), 255, np.uint8)),
        **{f"message-{name}": PART_END.join(parts) for name, parts in messages(jpeg, png, label).items()},
        **answers(label),
        "config-template": config.template().encode(),
        "config-small": b'[ingest]\nbind = ["tcp://127.0.0.1:*"]\n[training]\ninterval = "1h"\nepochs = 2\n'
        b'[energy]\nmax_watts = 4.5\n[model]\nsize = [64, 48]\nclasses = ["a", "b"]\n',
        "config-paths": b'[daemon]\nstate_dir = "x"\n[model]\nweights = "none"\n[labels]\nteacher = "none"\n',
        "card-plain": encode_card(
            ModelCard(classes=STREET_CLASSES, macs_at=(64, 96), architecture="fastscnn", version="v0001")
        ),
        "card-slimmed": encode_card(
            ModelCard(
                classes=("a", "b"),
                macs_at=(32, 32),
                architecture="pspnet",
                channels={"stem.conv": (3, 16, 1)},
                removed_branches=("pool.6",),
                macs=1000,
                unslimmed_macs=2000,
                training={"frames": 12, "joules": 3.5},
                gate={"miou": {"v0001": 0.5}},
            )
        ),
        **exports(),
        **once_broken(label),
        "toolmask-colours": images.encode_png(np.full((4, 4, 3), (128, 64, 128), np.uint8)),
        "toolmask-palette": palette(),
        "colours-camvid": b"128 128 128\tsky\n128 64 128 road\n pole\n",
        "colours-voc": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\n",
        "classmap-street": b'background = "ignore"\n[classes]\nCar = "car"\n"7" = 3\nroadway = "road"\n',
    }


def palette() -> bytes:
    """A mask of 4x2 pixels of 4 bits with a palette, which OpenCV does not write."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 2, 4, 3, 0, 0, 0)),
        (b"PLTE", bytes([0, 0, 0, 128, 64, 128])),
        (b"IDAT", zlib.compress(b"\0\x01\x10\0\x11\x00")),
        (b"IEND", b""),
    )
    framed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def messages(jpeg: bytes, png: bytes, label: bytes) -> dict[str, list[bytes]]:
    """Messages of each kind, by parts."""
    head = {"v": 1, "camera": "front", "seq": 7, "captured_at": 1760000000.25}

    def header(**more: object) -> bytes:
        return json.dumps(head | more).encode()

    return {
        "jpeg": [header(encoding="jpeg"), jpeg],
        "labelled": [header(encoding="png"), png, label],
        "raw": [header(encoding="raw", shape=[2, 4, 3], dtype="uint8"), bytes(range(24))],
        "label": [json.dumps({"v": 1, "label_for": "front-1760000000250000-7"}).encode(), label],
        "imagezmq": [json.dumps({"msg": "Garage cam #1"}).encode(), jpeg],
        "imagezmq-raw": [
            json.dumps({"dtype": "uint8", "shape": [2, 4, 3], "msg": "yard"}).encode(),
            bytes(range(24)),
        ],
        "netgear": [
            json.dumps(
                {"terminate_flag": False, "compression": {"colorspace": "BGR"}, "message": {"camera": "yard"}}
            ).encode(),
            jpeg,
        ],
        "netgear-goodbye": [b'{"terminate_flag": true}'],
    }


def answers(label: bytes) -> dict[str, bytes]:
    """What the daemon sends."""
    mask = {
        **{"v": 1, "id": "front-1-7", "camera": "front", "seq": 7, "captured_at": 1.0, "scale": 0.5},
        **{"model_version": "v0001", "latency_s": 0.01, "mean_confidence": 0.9},
    }
    return {
        "answer-kept": b'{"v":1,"ok":true,"id":"front-1-7","kept":true,"score":0.31,"scale":0.5}',
        "answer-refused": b'{"v":1,"ok":false,"error":"the image is empty","code":"image"}',
        "answer-mask": PART_END.join([b"mask/front", json.dumps(mask).encode(), label]),
    }


def exports() -> dict[str, bytes]:
    """One image of 8x6 with drawings, as each tool writes it."""
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6.5, 1, 6, 5]]},
            {"image_id": 1, "category_id": 1, "segmentation": {"size": [6, 8], "counts": [3, 5, 40]}},
            {
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"size": [6, 8], "counts": compress([3, 5, 4, 6, 30])},
            },
        ],
    }
    cvat = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><image id="0" name="a.jpg" width="8" height="6">
<polygon label="car" points="1,1;6.5,1;6,5" z_order="1"></polygon>
<box label="road" xtl="0" ytl="3" xbr="8" ybr="6" rotation="10" z_order="0"></box>
<ellipse label="tree" cx="4" cy="3" rx="2" ry="1" rotation="30"></ellipse>
<mask label="sign" rle="1,2,3" left="1" top="2" width="3" height="2"></mask>
</image></annotations>"""
    shapes = (
        ("polygonlabels", {"points": [[10, 10], [80, 10], [60, 90]]}),
        ("rectanglelabels", {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 15}),
        ("brushlabels", {"format": "rle", "rle": [0, 0, 0, 192, 57, 27, 252, 95, 128]}),
    )
    task = {
        "id": 3,
        "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
        "annotations": [
            {
                "result": [
                    {
                        "type": kind,
                        "original_width": 8,
                        "original_height": 6,
                        "value": {kind: ["car"], **value},
                    }
                    for kind, value in shapes
                ]
            }
        ],
    }
    return {
        "coco-all-kinds": json.dumps(coco).encode(),
        "cvat-all-kinds": cvat.encode(),
        "labelstudio-all-kinds": json.dumps([task]).encode(),
        "labelstudio-polygon": json.dumps(
            [{**task, "annotations": [{"result": task["annotations"][0]["result"][:3]}]}]  # type: ignore[index]
        ).encode(),
    }


def once_broken(label: bytes) -> dict[str, bytes]:
    """What once let an undeclared error out, or cost seconds."""
    deep, huge, long = b"[" * 900 + b"]" * 900, b"0x" + b"f" * 4000, b"x" * 5000
    shape = b'{"type": %s, "original_width": 8, "original_height": 6, "value": %s}'
    task = b'[{"data": {"image": "%s"}, "annotations": [{"result": [%s]}]}]'
    box = b'{"rectanglelabels": ["car"], "x": 1%s, "y": 1, "width": 3, "height": 3}' % (b"0" * 400)
    coco = b'{"images": [{"id": 1, "file_name": "a", "width": 8, "height": 6}], "categories": [], %s}'
    cvat = b'<annotations><image name="a" width="8" height="6">%s</image></annotations>'
    return {
        # The decoder would make room for 1.2 GB.
        "label-forged-length": label[:33] + b"IENDIDAT" + label[41:],
        "coco-list-as-image": coco % b'"annotations": [{"image_id": []}]',
        "coco-list-as-category": coco % b'"annotations": [{"image_id": 1, "category_id": {}}]',
        "cvat-turned-for-ever": cvat % b'<ellipse label="a" cx="4" cy="3" rx="2" ry="1" rotation="inf"/>',
        "cvat-unknown-encoding": b'<?xml version="1.0" encoding="no-such"?><annotations/>',
        "cvat-wide-encoding": b'<?xml version="1.0" encoding="utf-7"?><annotations/>',
        "labelstudio-list-as-type": task % (b"a.jpg", shape % (b"[]", b"{}")),
        "labelstudio-no-address": task % (b"http://[", b""),
        "labelstudio-far-away": task % (b"a.jpg", shape % (b'"rectanglelabels"', box)),
        "classmap-deep": b"[classes]\na = " + deep,
        "classmap-huge": b"[classes]\na = " + huge,
        "config-deep": b"[training]\nepochs = " + deep,
        "config-digits": b"[training]\nepochs = " + b"9" * 5000,
        "config-huge": b"[training]\nepochs = " + huge,
        "config-long-name": b'[model]\nweights = "' + long + b'"\n[training]\nanchors = "' + long + b'"',
    }


if __name__ == "__main__":
    main()
