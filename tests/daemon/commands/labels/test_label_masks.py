"""Masks of colours and palettes, and ids that are one off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tool_scene
from label_imports import (
    SENTINEL,
    SIZE,
    guard,
    mask_of,
    put,
    rows,
)
from numpy.typing import NDArray
from palette_png import palette_png
from tool_scene import NAMES, truth

from dance_ondevice.daemon.commands.samples import labels as command
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_png

TOOLS = Path(__file__).parents[3] / "label_formats" / "fixtures"


def grey_palette(count: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in range(count)]


def coloured(mask: NDArray[np.uint8]) -> bytes:
    table = np.zeros((256, 3), np.uint8)
    table[: len(NAMES)] = tool_scene.COLOURS
    return encode_png(np.ascontiguousarray(table[mask][..., ::-1]))


def one_up(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As tools write it that put a background at 0."""
    return np.where(mask == 255, 0, mask + 1).astype(np.uint8)


@pytest.mark.usefixtures("daemon")
def test_a_palettes_indices_are_ids(bring, ids, folder: Path, paths: StatePaths) -> None:
    (folder / f"{ids[0]}.png").write_bytes(palette_png(truth(0), grey_palette(256)))
    small = np.where(truth(0) == 255, 10, truth(0)).astype(np.uint8)
    (folder / f"{ids[1]}.png").write_bytes(palette_png(small, grey_palette(16), bits=4))
    bring(folder)
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))
    np.testing.assert_array_equal(mask_of(paths, ids[1]), small)


@pytest.mark.usefixtures("daemon")
def test_greys_in_a_palette_of_another_order_are_not_read_by_their_indices(
    *, bring, refuse, ids, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    # As lossless optimisers of PNGs write a grey mask: its ids as colours, numbered as they come.
    greys = np.unique(truth(0))[::-1]
    numbered = np.searchsorted(-greys.astype(int), -truth(0).astype(int)).astype(np.uint8)
    (folder / f"{ids[0]}.png").write_bytes(palette_png(numbered, [(v, v, v) for v in greys.tolist()]))
    assert '"1,1,1" =' in " ".join(refuse(folder).split())
    known = [f'"{v},{v},{v}" = "{NAMES[v]}"' for v in greys.tolist() if v != 255]
    (tmp_path / "map.toml").write_text("\n".join(["[classes]", *known, '"255,255,255" = "ignore"']))
    assert bring(folder, "--class-map", str(tmp_path / "map.toml"))["imported"] == 1
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
def test_a_palettes_colours_go_by_the_table_beside_them(bring, ids, folder: Path, paths: StatePaths) -> None:
    table = [
        "background:0,0,0::",
        *(f"{n}:{r},{g},{b}::" for n, (r, g, b) in zip(NAMES, tool_scene.COLOURS, strict=True)),
    ]
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *table]))
    shifted = np.where(truth(0) == 255, 0, truth(0) + 1).astype(np.uint8)
    masks = folder / "SegmentationClass"
    masks.mkdir()
    (masks / f"{ids[0]}.png").write_bytes(palette_png(shifted, [(0, 0, 0), *tool_scene.COLOURS]))
    # Without colours the table still says what the ids are: those of its lines.
    (masks / f"{ids[1]}.png").write_bytes(encode_png(shifted))
    bring(masks)  # the table lies one folder up
    for sample in ids[:2]:
        np.testing.assert_array_equal(mask_of(paths, sample), truth(0))


@pytest.mark.usefixtures("daemon")
def test_colours_go_by_the_class_map_and_else_say_what_it_must_hold(
    *, bring, refuse, ids, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    (folder / f"{ids[0]}.png").write_bytes(coloured(truth(0)))
    said = refuse(folder)
    for told in ("labelmap.txt", "(128, 128, 128) 33.3%", '"128,64,128" ='):
        assert told in " ".join(said.split())
    lines = [f'"{r},{g},{b}" = "{n}"' for n, (r, g, b) in zip(NAMES, tool_scene.COLOURS, strict=True)]
    (tmp_path / "map.toml").write_text("\n".join(["[classes]", *lines]))
    assert bring(folder, "--class-map", str(tmp_path / "map.toml"))["imported"] == 1
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
def test_a_photograph_among_the_masks_is_named_as_such(bring, ids, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(noise))
    assert "photograph" in bring(folder, code=1)["results"][0]["error"]


@pytest.mark.usefixtures("daemon")
def test_one_id_more_than_there_are_classes_stops_everything(
    *, refuse, bring, ids, store: Store, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    guard(store, ids)
    # The first holds no bicyclist, and so no id that is wrong by itself.
    (folder / f"{ids[0]}.png").write_bytes(encode_png(one_up(np.minimum(truth(0), 8))))
    (folder / f"{ids[1]}.png").write_bytes(encode_png(one_up(truth(1))))
    said = refuse(folder)
    for told in (
        "12 ids usually start with a background",
        "Nothing was imported",
        '11 = "bicyclist"',
        "4 27.9%",
    ):
        assert told in " ".join(said.split()), said
    assert {row["label_source"] for row in rows(paths).values()} == {"wire"}
    (tmp_path / "map.toml").write_text(said[said.index("[classes]") : said.index("\n\nIf 0 is sky")])
    assert bring(folder, "--class-map", str(tmp_path / "map.toml"))["imported"] == 2
    np.testing.assert_array_equal(mask_of(paths, ids[1]), truth(1))


@pytest.mark.usefixtures("daemon")
def test_ids_of_a_longer_list_of_classes_stop_everything(
    *, refuse, bring, ids, folder: Path, paths: StatePaths
) -> None:
    """A background and two classes that the model has not: those who hold neither would be one class off."""
    longer = one_up(truth(1))
    longer[0, :2] = 12, 13
    (folder / f"{ids[0]}.png").write_bytes(encode_png(one_up(np.minimum(truth(0), 8))))
    (folder / f"{ids[1]}.png").write_bytes(encode_png(longer))
    said = " ".join(refuse(folder).split())
    for told in ("another list of classes", "Nothing was imported", '4 = "ignore"', "--trust-ids"):
        assert told in said
    assert {row["label_path"] for row in rows(paths).values()} == {None}
    assert bring(folder, "--trust-ids", code=1)["imported"] == 1


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("own", [True, False])
def test_ids_that_agree_with_known_labels_only_when_shifted_stop_everything(
    *, own: bool, refuse, bring, ids, store: Store, folder: Path, paths: StatePaths
) -> None:
    known = np.where(truth(0) == 10, 9, truth(0)).astype(np.uint8)  # no bicyclist: every id is one of ours
    put(store, ids[0 if own else 2], known)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(one_up(known)))
    said = refuse(folder)
    for told in ("every id is one higher", "--trust-ids", '4 = "road"'):
        assert told in " ".join(said.split())
    assert rows(paths)[ids[0]]["label_source"] == ("wire" if own else None)
    assert bring(folder, "--trust-ids")["imported"] == 1


@pytest.mark.usefixtures("daemon")
def test_masks_of_0_and_1_are_not_taken_for_the_first_two_classes(
    *, bring, refuse, ids, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    """Masks of the road alone, as many a tool writes one class."""
    road = truth(0) == NAMES.index("road")
    (folder / f"{ids[0]}.png").write_bytes(encode_png(road.astype(np.uint8)))
    said = refuse(folder)
    assert "0 and 1 alone" in " ".join(said.split())
    shown = said[said.index("[classes]") : said.index("\n\nIf 0")].replace('1 = "building"', '1 = "road"')
    (tmp_path / "map.toml").write_text(shown)
    assert bring(folder, "--class-map", str(tmp_path / "map.toml"))["imported"] == 1
    np.testing.assert_array_equal(mask_of(paths, ids[0]), np.where(road, 3, 255))
    assert bring(folder, "--trust-ids")["imported"] == 1


@pytest.mark.usefixtures("daemon")
def test_ids_of_the_same_classes_in_another_order_stop_everything(
    *, refuse, bring, ids, store: Store, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    """As of tools that sort classes by name: every id is one of ours, and means another."""
    put(store, ids[2], truth(1))
    by_name = np.append([sorted(NAMES).index(each) for each in NAMES], np.full(245, 255)).astype(np.uint8)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(by_name[truth(0)]))
    said = refuse(folder)
    for told in ("in another order", "Nothing was imported", "--trust-ids"):
        assert told in " ".join(said.split())
    assert rows(paths)[ids[0]]["label_path"] is None
    (tmp_path / "map.toml").write_text(said[said.index("[classes]") : said.index("\n\nIf the ids")])
    assert bring(folder, "--class-map", str(tmp_path / "map.toml"))["imported"] == 1
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
def test_what_moved_since_another_frame_is_no_other_order(bring, ids, store: Store, folder: Path) -> None:
    """Of labels of cars and people alone, or with all else, there are other ones at the same places later."""
    now = np.zeros(SIZE, np.uint8)
    for number, (before, after) in enumerate(((7, 9), (8, 7), (9, 10))):
        now[5 * number : 5 * number + 4, :8] = after
        now[5 * number : 5 * number + 4, 20:28] = before  # where it is now
    known = np.full(SIZE, 255, np.uint8)
    for number, before in enumerate((7, 8, 9)):
        known[5 * number : 5 * number + 4, :8] = before
    put(store, ids[2], known)
    for number, mask in enumerate((now, np.where(now > 0, now, 255).astype(np.uint8))):
        (folder / f"{ids[number]}.png").write_bytes(encode_png(mask))
    assert bring(folder)["imported"] == 2


@pytest.mark.usefixtures("daemon")
def test_ids_that_agree_with_nothing_that_is_known_are_told_of(
    bring, ids, store: Store, folder: Path
) -> None:
    """As numbers of instances, each of which is the id of a class as well."""
    put(store, ids[0], truth(0))
    numbers = np.repeat(np.array([5, 6, 7, 4, 2, 9, 5, 6], np.uint8), 4)[None].repeat(SIZE[0], 0)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(numbers))
    (told,) = [note for note in bring(folder, "--dry-run")["notes"] if "hardly agree" in note]
    assert "labels that are stored" in told
    (folder / f"{ids[0]}.png").write_bytes(encode_png(truth(1)))
    assert not any("hardly agree" in note for note in bring(folder)["notes"])


@pytest.mark.usefixtures("daemon")
def test_ids_that_agree_with_the_model_only_when_shifted_stop_everything(
    refuse, ids, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = np.where(truth(0) == 10, 9, truth(0)).astype(np.uint8)
    asked: list[Path] = []

    def sees(image: Path) -> Any:
        asked.append(image)
        return known

    monkeypatch.setattr(command, "_live_mask", lambda paths: sees)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(one_up(known)))
    assert "the live model" in refuse(folder)
    assert [image.stem for image in asked] == ids[:1]


@pytest.mark.usefixtures("daemon")
def test_a_table_that_may_begin_with_either_id_is_no_guess(refuse, ids, folder: Path) -> None:
    (folder / "label_colors.txt").write_text("\n".join(f" {name}" for name in NAMES))
    known = np.where(truth(0) == 10, 9, truth(0)).astype(np.uint8)
    (folder / f"{ids[0]}.png").write_bytes(encode_png(one_up(known)))
    assert "after a background" in " ".join(refuse(folder).split())


@pytest.mark.usefixtures("daemon")
def test_masks_of_0_and_255_are_not_taken_for_the_first_class(
    *, bring, refuse, store: Store, ids, folder: Path, tmp_path: Path, paths: StatePaths
) -> None:
    """MVTec's ground truth, and many a program's masks: 255 is what was drawn."""
    guard(store, ids[:1])
    mask = np.zeros(SIZE, np.uint8)
    mask[12:] = 255
    (folder / f"{ids[0]}_mask.png").write_bytes(encode_png(mask))
    text = refuse(folder)
    assert "0 and 255 alone" in text
    assert np.all(mask_of(paths, ids[0]) == SENTINEL)
    told = text[text.index("[classes]") : text.index("# the classes")]
    assert told == f'[classes]\n0 = "ignore"\n255 = "{NAMES[1]}"\n'
    (tmp_path / "map.toml").write_text(told)
    bring(folder, "--class-map", str(tmp_path / "map.toml"))
    np.testing.assert_array_equal(mask_of(paths, ids[0]), np.where(mask == 255, 1, 255))
    bring(folder, "--trust-ids")
    np.testing.assert_array_equal(mask_of(paths, ids[0]), mask)


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("class_names.txt", "\n".join(["_background_", *NAMES])),
        ("classification.txt", "\n".join(["__background__", *NAMES])),
        (
            "_classes.csv",
            "Pixel Value, Class\n" + "\n".join(f"{i}, {n}" for i, n in enumerate(["bg", *NAMES])),
        ),
        (
            "obj_class_to_machine_color.json",
            json.dumps({name: [number] * 3 for number, name in enumerate(NAMES, 1)}, indent=1),
        ),
    ],
)
def test_ids_go_by_the_table_of_names_beside_them(
    *, table: str, text: str, bring, ids, folder: Path, paths: StatePaths
) -> None:
    (folder / table).write_text(text)
    (folder / f"{ids[0]}_mask.png").write_bytes(encode_png(one_up(truth(0))))
    answer = folder.parent / "map.toml"
    answer.write_text('\ufeff[classes]\r\nbg = "ignore"')  # from an editor on Windows
    bring(folder, "--class-map", str(answer))
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("step", [1, 17])
def test_the_ids_of_v7_go_by_the_mapping_beside_them(
    *, step: int, bring, ids, folder: Path, paths: StatePaths
) -> None:
    """In the order of the alphabet behind a background; as greys they are spread from 0 to 255."""
    ordered = ["__background__", *sorted([*set(NAMES) - {"tree"}, *(f"a thing {i}" for i in range(5))])]
    assert ordered.index("sky") * 17 == 255
    mapping = [f"{name},{number * step}" for number, name in enumerate(ordered)]
    written = np.zeros(256, np.uint8)
    written[: len(NAMES)] = [step * ordered.index(name) if name in ordered else 0 for name in NAMES]
    (folder / "class_mapping.csv").write_text("\r\n".join(["class_name,class_color", *mapping]))
    (folder.parent / "class_mapping.csv").write_text("road,0\nsky,3\n")  # of something else
    (folder / "masks").mkdir()
    (folder / "masks" / f"{ids[0]}.png").write_bytes(encode_png(written[truth(0)]))
    bring(folder)
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))


@pytest.mark.usefixtures("daemon")
def test_ids_in_three_equal_channels_are_ids_where_no_colour_has_a_name(
    bring, ids, folder: Path, paths: StatePaths
) -> None:
    (folder / f"{ids[0]}.png").write_bytes(encode_png(np.repeat(truth(0)[..., None], 3, 2)))
    assert bring(folder)["imported"] == 1
    np.testing.assert_array_equal(mask_of(paths, ids[0]), truth(0))
    (folder / f"{ids[0]}.png").write_bytes(encode_png(np.full((*SIZE, 3), 128, np.uint8)))
    (folder / "label_colors.txt").write_text("128 128 128 Sky\n128 0 0 Building\n")
    assert bring(folder)["results"][0]["classes"] == {"sky": 1.0}


@pytest.mark.usefixtures("daemon")
def test_drawings_and_pictures_of_masks_beside_them_are_one_label(bring, ids, folder: Path) -> None:
    def put_mask(name: str, mask: NDArray[np.uint8]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(mask))

    plain, shown = truth(0), np.repeat(truth(0)[..., None], 3, 2)[..., :3] // 2 + np.uint8([1, 2, 3])
    put_mask(f"masks/{ids[0]}.png", plain)
    put_mask(f"colormaps/{ids[0]}.png", shown)
    put_mask(f"instances/{ids[0]}.png", shown)
    put_mask(f"gtFine/{ids[1]}_gtFine_labelIds.png", plain)
    (folder / "gtFine" / f"{ids[1]}_gtFine_polygons.json").write_text(
        '{"imgHeight": 24, "imgWidth": 32, "objects": [{"label": "car", "polygon": [[0, 0], [9, 0], [9, 9]]}'
        "]}"
    )
    put_mask(f"ds/masks_machine/{ids[2]}.png", plain)
    (folder / "ds" / "ann").mkdir()
    (folder / "ds" / "ann" / f"{ids[2]}.jpg.json").write_text(
        '{"size": {"height": 24, "width": 32}, "objects": [{"classTitle": "car", '
        '"geometryType": "rectangle", "points": {"exterior": [[0, 0], [9, 9]], "interior": []}}]}'
    )
    assert bring(folder)["imported"] == 3
