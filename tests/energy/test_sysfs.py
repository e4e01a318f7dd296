from __future__ import annotations

import os
from pathlib import Path

import pytest

from dance_ondevice.energy.sysfs import entries, number_or_none, read_attribute, read_number


def test_an_attribute_is_its_text_without_the_newline(tmp_path: Path) -> None:
    (tmp_path / "energy_uj").write_text("12500000\n")
    assert read_attribute(tmp_path / "energy_uj") == "12500000"
    assert read_number(tmp_path / "energy_uj", read_attribute) == 12_500_000


def test_a_busy_attribute_is_an_error_of_the_system_and_holds_nobody_up(tmp_path: Path) -> None:
    # A pipe that is open for writing and empty answers EAGAIN, as a sensor does that is still converting.
    os.mkfifo(tmp_path / "temp")
    writer = os.open(tmp_path / "temp", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError, match="temp"):
            read_attribute(tmp_path / "temp")
        assert number_or_none(tmp_path / "temp", read_attribute) is None
        os.write(writer, b"47500\n")
        assert read_number(tmp_path / "temp", read_attribute) == 47_500
    finally:
        os.close(writer)


@pytest.mark.parametrize("text", ["", "<not counted>", "nan", "inf", "1 2"])
def test_what_is_no_number_is_told_apart(tmp_path: Path, text: str) -> None:
    (tmp_path / "power1_input").write_text(text)
    with pytest.raises(ValueError, match="power1_input holds"):
        read_number(tmp_path / "power1_input", read_attribute)


def test_a_missing_folder_has_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path / "class" / "hwmon") == []
