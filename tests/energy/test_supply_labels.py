"""Labels as real drivers and device trees write them, and what each means."""

from __future__ import annotations

import pytest

from dance_ondevice.energy.supply.labels import Role, kind_of, pair_key, plain, role_of

LABELS = {
    Role.INPUT: [
        "VIN",
        "in",
        "in1",
        "DC_IN",
        "VDD_12V_IN",
        "VBUS_IN",
        "12V_IN",
        "VIN_12V",
        "dc_input",
        "AC Input Power",
        "Input Power",
        "PSU1 Input",
        "PS2 Input Power",
    ],
    Role.TOTAL: ["power total", "Total System Power", "sys_total", "total", "System", "Board", "Total Power"],
    Role.MODULE: ["VDD_IN", "POM_5V_IN", "5V_IN", "Module Power Socket 0"],
    Role.SUBTOTAL: ["Grace Power Socket 0", "soc_pkg", "cpu_gpu", "Heatpipe Power"],
    Role.PART: [
        "VIN_SYS_5V0",
        "VDD_GPU",
        "VDD_MUX",
        "power +12v",
        "3.8 V Rail Power",
        "out1",
        "SysIO Power",
        "CPU power",
        "Total CPU Power",
        "VBUS",
    ],
    Role.BATTERY: ["VBAT", "Battery Power", "bat0"],
    Role.NO_POWER: ["pl1", "syspl2", "ewma_pl1", "budget_cpu", "PD Contract Voltage", "NC"],
}


@pytest.mark.parametrize(
    ("role", "label"), [(role, label) for role, all_ in LABELS.items() for label in all_]
)
def test_a_label_tells_what_is_measured(role: Role, label: str) -> None:
    assert role_of(label, "ina226") is role


def test_a_meter_in_a_usb_cable_calls_its_line_vbus() -> None:
    assert role_of("VBUS", "powerz") is Role.INPUT


def test_labels_of_nothing_in_particular_are_none() -> None:
    assert [plain(label) for label in ("Power", "ISENSE", "VP-VM", "")] == [""] * 4


def test_labels_of_one_line_and_of_one_kind_agree() -> None:
    for one, other in (("VBUS", "IBUS"), ("vin", "iin"), ("AC Input Voltage", "AC Input Current")):
        assert pair_key(one) == pair_key(other)
    assert pair_key("VCC1") != pair_key("IBUS")
    assert kind_of("Module Power Socket 0") == kind_of("Module Power Socket 12")
