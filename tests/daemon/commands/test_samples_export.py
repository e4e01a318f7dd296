"""Out to a labelling tool and back: export, draw, import."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import stored
from label_imports import add

from dance_ondevice.daemon.control.labels import import_through
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import decode_label, encode_jpeg, encode_png

STORED, NATIVE = (48, 64), (96, 128)


@pytest.fixture
def ids(store: Store) -> list[str]:
    """Frames of a street, stored at half their size; each is there twice, as a camera that stands sees it."""
    camera = StreetCamera(seed=2, height=STORED[0], width=STORED[1])
    found = []
    for index in range(6):
        for again in (0, 1):
            seq = 2 * index + again
            sample = stored.new_sample(
                seq,
                data=encode_jpeg(camera.render(index, "day")[0], 95 - again),
                format="jpg",
                width=STORED[1],
                height=STORED[0],
                native_width=NATIVE[1],
                native_height=NATIVE[0],
                scale=0.5,
                score=0.5 + index / 20,
            )
            store.add_sample(sample).result(10)
            found.append(sample.id)
    return found


@pytest.fixture
def daemon(store: Store, serve: Callable[..., None]) -> None:
    """The part of a daemon that takes labels."""
    serve({"import_labels": partial(import_through, store, n_classes=11, max_pixels=1 << 20)})


def export(run_json: Any, paths: StatePaths, out: Path, count: int = 4, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = run_json(
        *(
            "samples",
            "export",
            "--for-labelling",
            str(count),
            "--out",
            str(out),
            "--state-dir",
            str(paths.root),
        ),
        **more,
    )
    return found


def test_the_export_has_the_images_worth_most_without_near_duplicates(
    run_json, ids: list[str], paths: StatePaths, store: Store, tmp_path: Path
) -> None:
    store.submit(
        lambda db: db.execute("update samples set uncertainty = iif(seq between 4 and 9, 0.9, 0.1)")
    ).result(10)
    told = export(run_json, paths, tmp_path / "out", 6)
    chosen = [image["id"] for image in told["images"]]
    assert told["candidates"] == 12
    # Of each pair one at most; what the model is least sure of first.
    assert len({ids.index(each) // 2 for each in chosen}) == len(chosen) == 6
    assert 4 <= ids.index(chosen[0]) < 10
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["classes"][3] == {"id": 3, "name": "road"}
    assert [image["id"] for image in manifest["images"]] == chosen
    for image in manifest["images"]:
        assert (tmp_path / "out" / image["file"]).read_bytes() == (paths.root / image["stored"]).read_bytes()
    assert (tmp_path / "out" / "labels").is_dir()


def test_labelled_samples_and_other_cameras_stay(
    run, run_json, ids: list[str], store: Store, tmp_path: Path
) -> None:
    paths = StatePaths(tmp_path / "state")
    store.add_label(ids[0], stored.label_png(NATIVE[1], NATIVE[0]), (1, 2), "wire").result(10)
    chosen = {image["id"] for image in export(run_json, paths, tmp_path / "out", 12)["images"]}
    assert ids[0] not in chosen
    args = ("samples", "export", "--for-labelling", "3", "--state-dir", str(paths.root))
    mistyped = run(*args, "--out", str(tmp_path / "b"), "--camera", "rear", code=1).stderr
    assert "no sample of camera 'rear' is stored; samples are of: front" in mistyped
    assert "not an empty folder" in run(*args, "--out", str(tmp_path / "out"), code=1).stderr
    for each in ids[1:]:
        store.add_label(each, stored.label_png(NATIVE[1], NATIVE[0]), (1, 2), "wire").result(10)
    done = run(*args, "--out", str(tmp_path / "b"), code=1).stderr
    assert "every stored sample has a label; send more frames" in done


@pytest.mark.usefixtures("daemon")
def test_masks_drawn_on_the_exported_images_come_back_by_name(
    run, run_json, ids: list[str], paths: StatePaths, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first, second = export(run_json, paths, out, 2)["images"]
    drawn = np.full(STORED, 3, np.uint8)
    drawn[:24] = 11  # what CamVid calls unlabelled
    (out / first["label"]).write_bytes(encode_png(drawn))
    (out / second["label"]).write_bytes(b"no image")
    (tmp_path / "map.toml").write_text('[classes]\n11 = "ignore"\n')
    args = ("labels", "import", str(out), "--state-dir", str(paths.root))
    untouched = export(run_json, paths, tmp_path / "untouched", 2)
    assert len(untouched["images"]) == 2
    nothing = run("labels", "import", str(tmp_path / "untouched"), *args[3:], code=1).stderr
    assert f"put the masks of its images into {tmp_path}/untouched/labels" in nothing
    # Without the map it is refused, and the answer says which map would do.
    plain = run_json(*args, code=1)
    assert plain["imported"] == 0
    assert "11" in plain["results"][0]["error"] + plain["results"][1]["error"]
    answer = run_json(*args, "--class-map", str(tmp_path / "map.toml"), code=1)
    assert (answer["imported"], answer["refused"]) == (1, 1)
    (bad,) = [result for result in answer["results"] if result["error"]]
    assert bad["file"] == f"{second['id']}.png"
    row = stored.rows(paths)[first["id"]]
    mask = decode_label((paths.root / row["label_path"]).read_bytes())
    assert mask.shape == NATIVE
    assert (mask[:48] == 255).all()
    assert (mask[48:] == 3).all()


def coco(ids: list[str], names: list[str]) -> dict[str, Any]:
    width, height = NATIVE[1], NATIVE[0]
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": width, "height": height}
            for i, name in enumerate(ids)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "image_id": i,
                "category_id": i % len(names),
                "segmentation": [[0, 0, width, 0, width, 48, 0, 48]],
            }
            for i in range(len(ids))
        ],
    }


@pytest.mark.usefixtures("daemon")
def test_a_tools_export_comes_back_whole_or_not_at_all(
    run, run_json, ids: list[str], paths: StatePaths, tmp_path: Path
) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(coco([*ids[:3], "stranger"], ["Road", "Auto", "Lorry"])))
    args = ("labels", "import", str(file), "--state-dir", str(paths.root))
    errors = run(*args, code=1).stderr
    assert "'Auto', 'Lorry'" in errors
    assert '"Auto" = ' in errors
    assert not [row for row in stored.rows(paths).values() if row["label_path"]]
    (tmp_path / "map.toml").write_text('background = "sky"\n[classes]\nAuto = "car"\nLorry = "ignore"\n')
    answer = run_json(*args, "--class-map", str(tmp_path / "map.toml"), code=1)
    assert (answer["imported"], answer["refused"]) == (3, 1)
    found = [stored.rows(paths)[each] for each in ids[:3]]
    assert [json.loads(row["classes"]) for row in found] == [[0, 3], [0, 8], [0]]
    assert (tmp_path / "map.toml").read_text().startswith("background")


def test_a_map_that_makes_no_sense_stops_the_import(
    run, ids: list[str], paths: StatePaths, tmp_path: Path, daemon: None
) -> None:
    (tmp_path / "map.toml").write_text('[classes]\na = "lake"\n')
    (tmp_path / "a.json").write_text(json.dumps(coco(ids[:1], ["a"])))
    args = ("labels", "import", str(tmp_path / "a.json"), "--class-map", str(tmp_path / "map.toml"))
    assert "'lake'" in run(*args, "--state-dir", str(paths.root), code=1).stderr


def test_an_exported_image_is_turned_by_no_program(
    store: Store, paths: StatePaths, run, tmp_path: Path
) -> None:
    """An orientation in the EXIF data is what cv2 and browsers obey, and what is stored does not."""
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:6] = 200
    jpeg = encode_jpeg(picture)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    sample = add(store, "cam-1795944712000000-0", "cam", turned)
    out = tmp_path / "out"
    run("samples", "export", "--for-labelling", "1", "--out", str(out), "--state-dir", str(paths.root))
    file = str(out / "images" / f"{sample}.jpg")
    plain = cv2.imread(file, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(cv2.imread(file), plain)
    original = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert not np.array_equal(original, plain), "the input must be one that is turned"
