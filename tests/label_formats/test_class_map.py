from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from dance_ondevice.label_formats.class_map import (
    ClassMap,
    ClassMapError,
    UnknownClasses,
    read_class_map,
    suggest,
)
from dance_ondevice.label_formats.colours import read_table

CLASSES = ("sky", "road", "traffic sign")


def test_names_match_without_capitals_and_the_map_wins() -> None:
    mapped = read_class_map('[classes]\nAuto = "ignore"\nRoad = "sky"\n"Strasse" = 1\n', CLASSES)
    names = ["Sky", "Traffic_Sign", "Auto", "Road", "Strasse"]
    assert mapped.resolve(names, CLASSES) == {
        "Sky": 0, "Traffic_Sign": 2, "Auto": 255, "Road": 0, "Strasse": 1,
    }  # fmt: skip


def test_the_map_has_names_in_any_spelling_unless_a_class_has_it() -> None:
    mapped = read_class_map('[classes]\n"Street-lamp" = "ignore"\nRoad = "sky"\n', CLASSES)
    assert mapped.resolve(["street lamp", "ROAD"], CLASSES) == {"street lamp": 255, "ROAD": 1}


def test_unknown_names_come_all_at_once_with_a_map_that_would_do() -> None:
    with pytest.raises(UnknownClasses) as caught:
        ClassMap().resolve(["sky", "Trafic Sign", "unicorn"], CLASSES)
    text = str(caught.value)
    assert "'Trafic Sign', 'unicorn'" in text
    # What the error proposes is itself a class map, and resolves what was unknown.
    proposal = text[text.index("[classes]") :]
    fixed = read_class_map(proposal, CLASSES).resolve(["sky", "Trafic Sign", "unicorn"], CLASSES)
    assert fixed == {"sky": 0, "Trafic Sign": 2, "unicorn": 255}


def test_classes_that_differ_by_spelling_alone_stay_apart() -> None:
    classes = ("Car", "car", "traffic-light", "Bäume")
    empty = ClassMap()
    assert empty.resolve(["car", "Car", "Traffic Light"], classes) == {"car": 1, "Car": 0, "Traffic Light": 2}
    assert empty.lookup("CAR", classes) is None  # of two classes: somebody has to say which
    assert read_class_map('[classes]\nCAR = "Car"\nauto = "car"\n', classes).targets == {"CAR": 0, "auto": 1}
    with pytest.raises(ClassMapError, match="cAR"):
        read_class_map('[classes]\nauto = "cAR"\n', classes)
    # An accent as a sign of its own, as macOS writes it.
    assert empty.lookup(unicodedata.normalize("NFD", "bäume"), classes) == 3
    assert ClassMap({"lkw": 0, "LKW": 1}).lookup("Lkw", classes) is None


def test_a_class_called_ignore_is_no_background() -> None:
    classes = ("ignore", "road")
    assert read_class_map("[classes]\nway = 'road'\n", classes).background == 255
    assert read_class_map("background = 'ignore'\n", classes).background == 0


def test_a_proposal_is_toml_whatever_the_names_are() -> None:
    names = ['say "cheese"', "ice, snow", "\N{DECIDUOUS TREE}", "a\nb", "\x7f", "back\\slash"]
    proposal = suggest(names, [*CLASSES, "c\nd"])
    assert read_class_map(proposal, CLASSES).resolve(names, CLASSES) == dict.fromkeys(names, 255)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_dict.csv", 'name,r,g,b\n"ice, snow",255,255,255\n"road",128,64,128\n'),
        ("class_dict.csv", "name;r;g;b\nice, snow;255;255;255\nroad;128;64;128\n"),
        ("_classes.csv", 'Pixel Value, Class\n0, "ice, snow"\n1, road\n'),
        ("_classes.csv", "Pixel Value;Class\n0;ice, snow\n1;road\n"),
        ("_classes.csv", "Pixel Value, Class\n0, ice, snow\n1, road\n"),
        ("_classes.csv", 'Pixel Value, Class\n0, "ice, snow\n1, road\n'),
    ],
)
def test_names_in_quotes_and_with_commas_are_read(file: str, text: str) -> None:
    assert [name for name, _ in read_table(file, text.encode()).rows] == ["ice, snow", "road"]
    unspaced = read_table(file, text.replace("ice, snow", "ice,snow").encode()).rows
    assert [name for name, _ in unspaced] == ["ice,snow", "road"]


def test_ids_of_masks_are_replaced() -> None:
    mapped = read_class_map('background = "sky"\n[classes]\n11 = "ignore"\n3 = "road"\n', CLASSES)
    assert mapped.background == 0
    mask = np.array([[0, 3, 11, 255]], np.uint8)
    np.testing.assert_array_equal(mapped.apply(mask), [[0, 1, 255, 255]])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[classes", "not TOML"),
        ('colour = "red"', "'colour'"),
        ('[classes]\na = "nothing"\nb = 3\nc = true', "'a' = 'nothing', 'b' = 3, 'c' = True"),
        ("classes = 1", "must be a table"),
        ('background = "lake"', "'lake'"),
    ],
)
def test_all_that_is_wrong_with_a_map_is_said(text: str, told: str) -> None:
    with pytest.raises(ClassMapError, match=r".*") as caught:
        read_class_map(text, CLASSES)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "merged"),
    [
        (15, {}),
        (19, {174: "c01 or c13"}),
        (29, {70: "c01 or c08", 149: "c02 or c17", 228: "c03 or c26"}),
    ],
)
def test_a_grey_that_v7_gives_to_several_classes_is_none_of_them(
    classes: int, merged: dict[int, str]
) -> None:
    """The greys that masks of darwin-py 3.6.3 have: the first of 19 classes that of the thirteenth."""
    names = ["__background__", *(f"c{number:02}" for number in range(1, classes + 1))]
    lines = [f"{name},{int(index * 255 / classes)}" for index, name in enumerate(names)]
    table = read_table("class_mapping.csv", "\r\n".join(["class_name,class_color", *lines]).encode())
    found = {grey: name for grey, (name, _) in enumerate(table.rows) if " or " in name}
    assert found == merged
    for name in merged.values():
        with pytest.raises(UnknownClasses, match=name):
            ClassMap().resolve([name], names)
