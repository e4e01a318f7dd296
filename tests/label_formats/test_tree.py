"""Folders, zips and names: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dance_ondevice.label_formats import tree
from dance_ondevice.label_formats.names import last_number, stems
from dance_ondevice.label_formats.regions import FormatError
from dance_ondevice.label_formats.tree import Tree

UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def packed(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def paths_in(path: Path) -> dict[str, bytes]:
    with Tree(path) as found:
        return {str(entry.path): entry.read() for entry in found.entries}


def test_a_folder_and_its_zips_are_one_tree(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_bytes(b"1")
    packed(tmp_path / "tool.zip", deep__b=b"2")
    (tmp_path / "here").symlink_to(tmp_path / "annotations" / "a.json")
    (tmp_path / "out").symlink_to("/etc/hostname")
    assert paths_in(tmp_path) == {"annotations/a.json": b"1", "here": b"1", "tool/deep/b": b"2"}


def test_a_file_is_a_tree_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"1")
    assert paths_in(tmp_path / "a.json") == {"a.json": b"1"}


@pytest.mark.parametrize("name", ["../a", "/a", "x/../../a", "..\\a", "C:/a", "C:\\a"])
def test_a_path_that_leaves_a_zip_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(FormatError, match="path out of the zip"):
        paths_in(tmp_path / "a.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", a=bytes(4 << 20))
    with pytest.raises(FormatError, match="200 times"):
        paths_in(tmp_path / "a.zip")


def test_too_many_files_and_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path / "a.zip", a=b"1", b=b"2")
    monkeypatch.setattr(tree, "MOST_MEMBERS", 1)
    with pytest.raises(FormatError, match="2 files; 1 are allowed"):
        paths_in(tmp_path / "a.zip")
    monkeypatch.setattr(tree, "MOST_MEMBERS", 2)
    monkeypatch.setattr(tree, "ZIP_BYTES", 1)
    with pytest.raises(FormatError, match="to 2 bytes"):
        paths_in(tmp_path / "a.zip")
    monkeypatch.setattr(tree, "MOST_FILES", 0)
    with pytest.raises(FormatError, match="more than 0 files"):
        paths_in(tmp_path)


@pytest.mark.parametrize("damage", ["no zip", "cut", "encrypted", "other bytes"])
def test_a_damaged_zip_says_so(tmp_path: Path, damage: str) -> None:
    file = packed(tmp_path / "a.zip", a=b"text" * 100)
    data = bytearray(file.read_bytes())
    if damage == "no zip":
        data = bytearray(b"nothing")
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "encrypted":
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    else:
        data[35] ^= 255
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"a\.zip"):
        paths_in(file)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam-1795944712000000-7.jpg", ["cam-1795944712000000-7"]),
        ("20250101-1795944712000000-7.jpg", ["20250101-1795944712000000-7", "1795944712000000-7"]),
        ("a/b\\0a1b2c3d-cam-17-7.jpg", ["0a1b2c3d-cam-17-7", "cam-17-7"]),
        ("images/0a1b2c3d__cam-17-7.jpg", ["0a1b2c3d__cam-17-7", "cam-17-7"]),
        ("cam.1-17-7", ["cam.1-17-7"]),
        (f"{UUID}_cam-17-7.jpg", [f"{UUID}_cam-17-7", "cam-17-7"]),
        ("https://b.example/x/cam-17-7.jpg?X-Expires=9&n=3", ["cam-17-7"]),
        ("cam-17-7.jpg.png", ["cam-17-7.jpg", "cam-17-7"]),
        ("cam-17-7_gtFine_labelIds.png", ["cam-17-7_gtFine_labelIds", "cam-17-7"]),
        ("cam-17-7.label.png", ["cam-17-7.label", "cam-17-7"]),
        ("cam-17-7_mask.png", ["cam-17-7_mask", "cam-17-7"]),
        ("cam-17-7_label_ground-truth_semantic.png", ["cam-17-7_label_ground-truth_semantic", "cam-17-7"]),
        ("cam-17-7_JPG_jpg.rf.4d9F.jpg", ["cam-17-7_JPG_jpg.rf.4d9F", "cam-17-7"]),
        ("cam-17-7-Mask.png", ["cam-17-7-Mask", "cam-17-7"]),
        ("cam-17-7.jpg___fuse.png", ["cam-17-7.jpg___fuse", "cam-17-7.jpg", "cam-17-7"]),
        ("cam-17-7_semantic_mask.png", ["cam-17-7_semantic_mask", "cam-17-7"]),
        ("cam-17-7 (1).png", ["cam-17-7 (1)", "cam-17-7"]),
        ("cam-17-7 - Copy.png", ["cam-17-7 - Copy", "cam-17-7"]),
        (
            "cam-17-7_jpg.rf.4d9f_mask.png",
            [*(f"cam-17-7_jpg.rf.4d9f{end}" for end in ("_mask", "")), "cam-17-7"],
        ),
    ],
)
def test_a_name_counts_as_it_is_before_anything_is_cut(name: str, expected: list[str]) -> None:
    assert list(stems(name)) == expected


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("clip7_000002_label.png", 2),
        ("cam_7_leftImg8bit.png", 7),
        ("cam-7_gtFine_labelIds", 7),
        ("cam", None),
        ("clip_000002_png.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg", 2),
        ("https://b.example/clip_000002.jpg?expires=7", 2),
        ("0_2024-05-01T10:00:07.123456.png", None),
        ("2024-05-01 10-00-07.png", None),
        ("IMG_20240501_100007.jpg", None),
        ("clip_20240501_100007_000002.jpg", 2),
        ("clip_20240501_2.jpg", 2),
        ("clip_002024.jpg", 2024),
        ("a8f3e2c1.jpg", None),
        (f"{UUID}.png", None),
        ("facade0002.png", 2),
        ("clip_000002_hflip.png", None),
        ("clip_000002_aug_1.png", None),
        ("clip_000002_rot90.png", None),
        ("clip_000002_flip_1_2.png", None),
        ("clip_000002_cropped_1.png", None),
        ("day_flip_000012.png", 12),
        ("day_crop_0012.png", 12),
        ("wheat_crop_12.png", 12),
        ("mirror_000002.png", 2),  # a camera, or a recording, that is called so
        ("Label_2.png", None),  # MATLAB's second mask, of whatever image
    ],
)
def test_the_last_number_is_the_frames_own(name: str, number: int | None) -> None:
    assert last_number(name) == number
