from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_boards import PMIC_OUTPUT, joules, no_command, parts
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.energy.pmic import COMMAND, open_pmic, parse_rails, run_command
from dance_ondevice.energy.sensors import MeterUnavailable


class Vcgencmd:
    def __init__(self, output: str = PMIC_OUTPUT) -> None:
        self.output: str | OSError = output

    def __call__(self, command: Sequence[str]) -> str:
        assert tuple(command) == COMMAND
        if isinstance(self.output, OSError):
            raise self.output
        return self.output


def test_rails_pair_by_name_and_not_by_number() -> None:
    rails = parse_rails(PMIC_OUTPUT)
    assert len(rails) == 12
    assert rails["VDD_CORE"] == pytest.approx(1.212694 * 0.720381)
    assert rails["0V8_AON"] == pytest.approx(0.00372405 * 0.795787)
    assert not {"EXT5V", "BATT"} & rails.keys()  # a voltage alone


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    assert all(isinstance(watts, float) for watts in parse_rails(text).values())


def test_the_rails_are_summed_under_a_name_that_does_not_claim_the_board() -> None:
    meter = open_pmic(Vcgencmd())
    for second in range(11):
        reading = meter.read(float(second))
    total = sum(parse_rails(PMIC_OUTPUT).values())
    assert joules(reading) == {"pmic-rails": pytest.approx(10 * total)}
    assert parts(reading)["VDD_CORE"] == pytest.approx(10 * 1.212694 * 0.720381)
    assert (meter.source, meter.method, meter.period_s) == ("pmic", "integrated", 1.0)
    assert "USB" in meter.about


def test_a_sum_that_lacks_a_rail_is_no_sum() -> None:
    command = Vcgencmd()
    meter = open_pmic(command)
    meter.read(0.0)
    command.output = "\n".join(line for line in PMIC_OUTPUT.splitlines() if "VDD_CORE_A" not in line)
    for second in range(1, 11):
        reading = meter.read(float(second))
    assert (reading.joules, reading.unmeasured_seconds) == (0, 10)


def test_a_command_that_fails_later_is_unmeasured_time() -> None:
    command = Vcgencmd()
    meter = open_pmic(command)
    meter.read(0.0)
    command.output = TimeoutError("vcgencmd did not answer")
    for second in range(1, 8):
        reading = meter.read(float(second))
    assert (reading.joules, reading.unmeasured_seconds) == (0, 7)


def test_other_boards_have_none() -> None:
    with pytest.raises(MeterUnavailable, match="no command vcgencmd"):
        open_pmic(no_command)
    with pytest.raises(MeterUnavailable, match="Command not registered") as error:
        open_pmic(Vcgencmd('error=1 error_msg="Command not registered"'))
    assert error.value.remedy == ""


def test_a_missing_right_names_the_remedy() -> None:
    command = Vcgencmd()
    command.output = OSError("vcgencmd pmic_read_adc: Can't open device file: /dev/vcio")
    with pytest.raises(MeterUnavailable) as error:
        open_pmic(command)
    assert "group video" in error.value.remedy


def test_commands_are_really_run(tmp_path: Path) -> None:
    assert run_command([sys.executable, "-c", "print('volt')"]) == "volt\n"
    with pytest.raises(OSError, match="broken"):
        run_command([sys.executable, "-c", "raise SystemExit('broken')"])
    with pytest.raises(FileNotFoundError):
        run_command([str(tmp_path / "vcgencmd")])
