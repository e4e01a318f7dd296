"""Stored samples that labels are imported for, and files of labels."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tool_scene import HEIGHT, WIDTH

from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths, parse_sample_id
from dance_ondevice.images.codec import decode_label, encode_jpeg, encode_png

SIZE = (HEIGHT, WIDTH)
#: What every sample has for a label before an import that must not lose it.
SENTINEL = 5

Import = Callable[..., Any]


def add(store: Store, identifier: str, camera: str, data: bytes | None = None) -> str:
    numbers = parse_sample_id(camera, identifier)
    assert numbers is not None
    image = encode_jpeg(np.full((*SIZE, 3), 90, np.uint8)) + identifier.encode() if data is None else data
    return (
        store.add_sample(
            NewSample(
                id=identifier,
                camera=camera,
                seq=numbers[1],
                captured_at=numbers[0],
                received_at=numbers[0],
                data=image,
                format="jpg",
                width=SIZE[1],
                height=SIZE[0],
                native_width=SIZE[1],
                native_height=SIZE[0],
                score=0.5,
                quantile=0.5,
                scale=1.0,
                weight=1.0,
                reason="test",
            )
        )
        .result(30)
        .id
    )


def label(value: int, size: tuple[int, int] = SIZE) -> bytes:
    return encode_png(np.full(size, value, np.uint8))


def put(store: Store, sample: str, mask: NDArray[np.uint8], source: str = "wire") -> None:
    classes = [int(i) for i in np.unique(mask) if i != 255]
    store.add_label(sample, encode_png(mask), classes, source).result(30)


def guard(store: Store, samples: Iterable[str]) -> None:
    """Give samples a good label, which must not be lost."""
    for sample in samples:
        put(store, sample, np.full(SIZE, SENTINEL, np.uint8))


def rows(paths: StatePaths) -> dict[str, dict[str, Any]]:
    database = open_reader(paths)
    try:
        return {row["id"]: row for row in database.query("select * from samples")}
    finally:
        database.close()


def mask_of(paths: StatePaths, sample: str) -> NDArray[np.uint8] | None:
    path = rows(paths)[sample]["label_path"]
    return None if path is None else decode_label((paths.root / path).read_bytes())


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.rglob("*")):
            archive.write(each, each.relative_to(folder))
    return file


def coco(*names: str, annotations: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(names, 1)
    ]
    return {"images": images, "annotations": list(annotations), "categories": [{"id": 1, "name": "car"}]}


CAR = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 16, 0, 16, 12, 0, 12]]}


def task(address: str | dict[str, str], *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    data = address if isinstance(address, dict) else {"image": address}
    return {
        "id": 1,
        "data": data,
        "annotations": [{"result": [{**size, **each} for each in results]}],
        **more,
    }


def polygon(name: str = "car") -> dict[str, Any]:
    points = [[0, 0], [50, 0], [50, 50], [0, 50]]
    return {"type": "polygonlabels", "value": {"points": points, "polygonlabels": [name]}}
