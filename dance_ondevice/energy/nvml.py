"""Discrete NVIDIA GPUs through NVML (the extra ``nvml``, package nvidia-ml-py).

GPUs since Volta have counters in mJ (``nvmlDeviceGetTotalEnergyConsumption``), older ones power in mW. A
Jetson answers "not supported" to both, which is not an error: its INA3221 measures the GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from dance_ondevice.energy.sensors import (
    COUNTER_PERIOD_S,
    POWER_PERIOD_S,
    MeterUnavailable,
    Sample,
    SensorMeter,
)
from dance_ondevice.energy.tracks import CounterTrack, PowerTrack, Track
from dance_ondevice.extras import install_command


def open_nvml(pynvml: Any = None) -> SensorMeter:
    """Open all GPUs that report their energy or power.

    Args:
        pynvml: Module of that name; it is imported if this is None.

    Raises:
        MeterUnavailable: The package or the driver is missing, or no GPU reports energy or power.
    """
    if pynvml is None:
        try:
            pynvml = importlib.import_module("pynvml")
        except ImportError:
            raise MeterUnavailable(
                "nvml", "the package nvidia-ml-py is not installed", install_command("nvml")
            ) from None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise MeterUnavailable("nvml", f"the driver does not answer: {error}") from error
    reads: dict[str, Callable[[], float]] = {}
    tracks: dict[str, Track] = {}
    for index, handle in enumerate(handles):
        for call, track in (
            (pynvml.nvmlDeviceGetTotalEnergyConsumption, CounterTrack()),
            (pynvml.nvmlDeviceGetPowerUsage, PowerTrack()),
        ):
            try:
                call(handle)
            except pynvml.NVMLError:  # not supported; or lost, and then no meter for this GPU
                continue
            reads[f"gpu-{index}"] = _milli(call, handle)
            tracks[f"gpu-{index}"] = track
            break
    if not tracks:
        raise MeterUnavailable(
            "nvml", f"none of {len(handles)} GPUs reports its energy or power (a Jetson never does)"
        )

    def sample() -> Sample:
        values, faults = {}, {}
        for domain, value in reads.items():
            try:
                values[domain] = value()
            except pynvml.NVMLError as error:
                faults[domain] = str(error)
        return Sample(values, faults)

    counted = all(track.method == "counter" for track in tracks.values())
    return SensorMeter(
        source="nvml",
        about=f"NVML: {', '.join(tracks)}; the rest of the machine is not measured",
        period_s=COUNTER_PERIOD_S if counted else POWER_PERIOD_S,
        sample=sample,
        whole=tracks,
        may_rest=True,  # a laptop's GPU is switched off while it is not used
    )


def _milli(call: Callable[[Any], int], handle: Any) -> Callable[[], float]:
    return lambda: call(handle) / 1e3
