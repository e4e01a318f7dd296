from __future__ import annotations

import mmap

import pytest
import torch

from dance_ondevice.benchmarks.device import device_clock, forget_peak, peak_bytes


def test_a_cpu_is_timed_by_its_own_seconds() -> None:
    clock = device_clock("cpu")
    before = clock()
    total = sum(range(2_000_000))
    assert total > 0
    assert clock() > before
    assert peak_bytes("cpu") > 10_000_000


def test_a_peak_can_be_forgotten() -> None:
    forget_peak()
    before = peak_bytes("cpu")
    with mmap.mmap(-1, 200_000_000) as much:  # given back to the system, whatever the heap keeps
        for page in range(0, len(much), mmap.PAGESIZE):
            much[page] = 1
        high = peak_bytes("cpu")
        assert high > before + 0.9 * len(much)
    assert peak_bytes("cpu") >= high
    forget_peak()
    assert peak_bytes("cpu") < high - 100_000_000


def test_a_gpu_is_timed_when_its_queue_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    drained: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: drained.append("yes"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    clock = device_clock("cuda")
    assert clock() <= clock()
    assert drained == ["yes", "yes"]
    assert peak_bytes("cuda") == 7
