from __future__ import annotations

import sys

import pytest
from fake_boards import joules

from dance_ondevice.energy.nvml import open_nvml
from dance_ondevice.energy.sensors import MeterUnavailable


class FakeNvml:
    """The part of pynvml that is used; a GPU is (millijoules, milliwatts), None where not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: tuple[int | None, int | None], driver: bool = True) -> None:
        self.gpus, self.driver = list(gpus), driver

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._value(handle, 0)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._value(handle, 1)

    def _value(self, handle: int, which: int) -> int:
        value = self.gpus[handle][which]
        if value is None:
            raise self.NVMLError("Not Supported")
        return value


def test_counters_are_preferred_and_power_is_integrated() -> None:
    nvml = FakeNvml((5_000_000, 40_000), (None, 20_000))
    meter = open_nvml(nvml)
    meter.read(0.0)
    nvml.gpus[0] = (5_020_000, 40_000)
    reading = meter.read(0.5)
    assert joules(reading) == {"gpu-0": pytest.approx(20), "gpu-1": pytest.approx(10)}
    assert [domain.method for domain in reading.domains] == ["counter", "integrated"]
    assert (meter.source, meter.method, meter.period_s) == ("nvml", "integrated", 0.1)


def test_a_gpu_that_falls_off_the_bus_is_unmeasured_time() -> None:
    nvml = FakeNvml((5_000_000, None))
    meter = open_nvml(nvml)
    meter.read(0.0)
    nvml.gpus[0] = (None, None)
    reading = meter.read(3.0)
    assert (reading.joules, reading.unmeasured_seconds) == (0, 3)
    assert meter.period_s == 1.0


@pytest.mark.parametrize("nvml", [FakeNvml((None, None)), FakeNvml(), FakeNvml(driver=False)])
def test_not_supported_is_simply_not_there(nvml: FakeNvml) -> None:
    with pytest.raises(MeterUnavailable) as error:
        open_nvml(nvml)
    assert error.value.remedy == ""


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MeterUnavailable, match=r"dance-ondevice\[nvml\]"):
        open_nvml()
