from __future__ import annotations

from pathlib import Path

import pytest
from fake_boards import FakeBoard, busy, denied, gone, joules, parts

from dance_ondevice.energy.rapl import RaplMeter, find_zones, open_rapl
from dance_ondevice.energy.sensors import MeterUnavailable

ZONES = {"package": "0", "core": "0:0", "uncore": "0:1", "dram": "0:2", "psys": "1"}


class Nuc:
    """The NUC's counters, in joules by zone; ``meter`` reads them a second later each time."""

    def __init__(self, folder: Path) -> None:
        self.board = FakeBoard("nuc", folder)
        self.joules = {"package": 1000.0, "core": 400.0, "uncore": 50.0, "dram": 300.0, "psys": 5000.0}
        self.meter = open_rapl(self.board.sysfs, self.board.read)
        self.now = 0.0
        self.first = self.meter.read(self.now)

    def use(self, **steps: float):
        for name, step in steps.items():
            self.joules[name] += step
            for control in ("intel-rapl", "intel-rapl-mmio"):
                path = f"class/powercap/{control}:{ZONES[name]}/energy_uj"
                if control == "intel-rapl" or name == "package":
                    self.board.put(path, int(self.joules[name] * 1e6))
        self.now += 1.0
        return self.meter.read(self.now)


@pytest.fixture
def nuc(tmp_path: Path) -> Nuc:
    return Nuc(tmp_path)


def test_every_thing_is_a_zone_once(nuc: Nuc) -> None:
    zones = find_zones(nuc.board.sysfs)
    assert [zone.domain for zone in zones] == [
        "package-0",
        "package-0/core",
        "package-0/uncore",
        "package-0/dram",
        "psys",
    ]
    assert all("mmio" not in str(zone.energy) for zone in zones)


def test_psys_alone_when_it_counts_what_it_contains(nuc: Nuc) -> None:
    reading = nuc.use(package=10, core=6, uncore=1, dram=2, psys=25)
    assert joules(reading) == {"psys": pytest.approx(25)}
    assert parts(reading) == {"package-0": pytest.approx(10), "package-0/dram": pytest.approx(2)}
    assert (nuc.meter.source, nuc.meter.method, nuc.meter.period_s) == ("rapl", "counter", 1.0)
    assert "psys" in nuc.meter.about


@pytest.mark.parametrize("psys", [0.0, 3.0])
def test_packages_and_memory_when_psys_stands_still_or_counts_another_unit(nuc: Nuc, psys: float) -> None:
    reading = nuc.use(package=10, core=6, uncore=1, dram=2, psys=psys)
    assert joules(reading) == {"package-0": pytest.approx(10), "package-0/dram": pytest.approx(2)}
    assert parts(reading) == {"package-0/core": pytest.approx(6), "package-0/uncore": pytest.approx(1)}


def test_no_joule_is_booked_twice_when_psys_stops_being_plausible(nuc: Nuc) -> None:
    nuc.use(package=40, dram=2, psys=60)
    for _ in range(3):
        reading = nuc.use(package=40, dram=2, psys=0)
    assert reading.joules <= 60 + 3 * 42
    nuc.use(package=40, dram=2, psys=0)
    settled = nuc.meter.read(nuc.now).joules
    assert nuc.use(package=40, dram=2, psys=0).joules == pytest.approx(settled + 42)


def test_a_psys_that_is_lost_gives_way_and_its_return_books_no_gap_twice(nuc: Nuc) -> None:
    nuc.use(package=10, dram=2, psys=20)
    nuc.board.faults["intel-rapl:1/energy_uj"] = gone
    for _ in range(4):
        assert nuc.use(package=10, dram=2, psys=20).joules == pytest.approx(20)
    assert nuc.use(package=10, dram=2, psys=20).joules == pytest.approx(20 + 12)
    reading = nuc.use(package=10, dram=2, psys=20)
    assert (reading.joules, reading.unmeasured_seconds) == (pytest.approx(20 + 24), 4)
    del nuc.board.faults["intel-rapl:1/energy_uj"]
    assert nuc.use(package=10, dram=2, psys=20).joules == pytest.approx(20 + 36)
    assert nuc.use(package=10, dram=2, psys=20).joules == pytest.approx(20 + 56)


def test_zone_numbers_are_hexadecimal_and_wrap_by_their_own_range(tmp_path: Path) -> None:
    for zone in range(12):
        for name, value in (
            ("name", f"package-{zone}"),
            ("energy_uj", 1000 + zone),
            ("max_energy_range_uj", 65_532_610_987),
        ):
            path = tmp_path / f"class/powercap/intel-rapl:{zone:x}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
    zones = find_zones(tmp_path)
    assert [zone.domain for zone in zones] == [f"package-{n}" for n in range(12)]
    meter = RaplMeter(zones)
    last = tmp_path / "class/powercap/intel-rapl:b/energy_uj"
    last.write_text("65532610000")
    meter.read(0.0)
    last.write_text("999013")
    assert joules(meter.read(1.0))["package-11"] == pytest.approx(1.0, abs=1e-3)


def test_the_core_of_amd_is_one_core_and_no_part_to_show(tmp_path: Path) -> None:
    board = FakeBoard("amd", tmp_path)
    meter = open_rapl(board.sysfs)
    meter.read(0.0)
    board.put("class/powercap/intel-rapl:0/energy_uj", 20_008_000_000)
    board.put("class/powercap/intel-rapl:0:0/energy_uj", 3_003_000_000)
    reading = meter.read(1.0)
    assert joules(reading) == {"package-0": pytest.approx(8)}
    assert parts(reading) == {}
    assert "not the rest of the board" in meter.about


def test_mmio_is_taken_where_it_is_all_there_is(tmp_path: Path) -> None:
    board = FakeBoard("nuc", tmp_path)
    for zone in ("0", "0:0", "0:1", "0:2", "1"):
        board.faults[f"intel-rapl:{zone}/name"] = gone
    assert [zone.domain for zone in find_zones(board.sysfs, board.read)] == ["package-0", "package-0/dram"]


def test_forbidden_counters_name_the_remedy(tmp_path: Path) -> None:
    board = FakeBoard("nuc", tmp_path)
    board.faults["energy_uj"] = denied
    with pytest.raises(MeterUnavailable, match="Permission denied") as error:
        open_rapl(board.sysfs, board.read)
    root = Path(__file__).resolve().parents[2]
    for name in ("systemd/99-dance-ondevice-rapl.rules", "systemd/dance-ondevice.sysusers.conf"):
        assert name in error.value.remedy
        assert "dance-energy" in (root / name).read_text()


def test_a_busy_counter_is_there(tmp_path: Path) -> None:
    board = FakeBoard("nuc", tmp_path)
    board.faults["energy_uj"] = busy
    meter = open_rapl(board.sysfs, board.read)
    meter.read(0.0)
    assert meter.read(2.0).unmeasured_seconds == 2


def test_no_counters_at_all_says_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match="class/powercap") as error:
        open_rapl(tmp_path)
    assert error.value.remedy == ""
