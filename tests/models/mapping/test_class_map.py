"""Class maps are read from a file, and what is wrong with one is said with what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dance_ondevice.models.mapping.class_map import ClassMapError, read_class_map

BASE = ("road", "sidewalk", "car", "truck", "background")
SITE = ("vehicle", "street")
RIGHT = """
base = ["road", "sidewalk", "car", "truck", "background"]
unused = ["background"]
[classes]
street = ["road", "sidewalk"]
vehicle = ["car", "truck"]
"""


def read(tmp_path: Path, text: str, known: tuple[str, ...] = ()) -> list[list[int]]:
    file = tmp_path / "map.toml"
    file.write_text(text)
    return read_class_map(file, SITE, known).indices(SITE)


def test_it_gives_the_outputs_of_each_class_of_the_site(tmp_path: Path) -> None:
    assert read(tmp_path, RIGHT) == [[2, 3], [0, 1]]
    without = "\n".join(line for line in RIGHT.splitlines() if not line.startswith("base"))
    assert read(tmp_path, without, BASE) == [[2, 3], [0, 1]]
    file = tmp_path / "map.json"
    file.write_text(
        json.dumps({"base": ["a", "b"], "classes": {"vehicle": ["a"], "street": ["b"]}, "unused": []})
    )
    assert read_class_map(file, SITE).indices(SITE) == [[0], [1]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("street =", "lawn =", "'lawn' is none of the site's classes: vehicle, street"),
        ('["road", "sidewalk"]', "[]", "no class of the network stands for 'street'"),
        ('"sidewalk"]', '"pavement"]', "'pavement' is none of the network's classes: road, sidewalk"),
        ('["road", "sidewalk"]', '["road", "car"]', "'car' stands for more than one class"),
        ('["road", "sidewalk"]', '["road"]', "sidewalk of the network is not mapped"),
        ('unused = ["background"]', "", "background of the network is not mapped"),
        (
            'unused = ["background"]',
            'unused = ["background", "car"]',
            "'car' is listed as unused, but stands",
        ),
        (
            'base = ["road", "sidewalk", "car", "truck", "background"]',
            "",
            "name the network's classes as base",
        ),
        ("[classes]", "[clases]", "not a class map"),
        ('"truck", "background"]', '"truck", "truck"]', "base has truck twice"),
        ("base =", "base", "not a class map"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in RIGHT
    with pytest.raises(ClassMapError, match=said):
        read(tmp_path, RIGHT.replace(old, new, 1))


def test_a_card_that_knows_other_classes_is_not_overruled(tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match="the model's card has road, car"):
        read(tmp_path, RIGHT, ("road", "car"))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match="cannot read the class map"):
        read_class_map(tmp_path / "none.toml", SITE)
