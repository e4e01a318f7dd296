"""Runs mutated inputs through every target, for as many inputs as asked: ``make fuzz``.

Usage: python tests/fuzz/fuzz_run.py [--inputs N] [--seed N] [--target NAME]

Prints what was refused and for which reasons, findings with the input that makes them, and how the process's
memory grew after the first tenth. Exit status 1 for a finding or for growth beyond 8 MiB.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import random
import sys
import time
import traceback
from pathlib import Path

from fuzz_targets import TARGETS, corpus
from mutations import mutate, mutate_value

#: Bytes that the heap of an interpreter wanders by without anything being kept.
ALLOWED_GROWTH = 8 << 20


def resident_bytes() -> int:
    """Of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(
    name: str, inputs: int, seed: int, findings: dict[str, str]
) -> tuple[int, int, collections.Counter[str]]:
    """Fuzz one target; returns how many inputs it refused, bytes of growth, and its reasons."""
    target, seeds = TARGETS[name], corpus(name)
    chance = random.Random(f"{name}-{seed}")
    reasons: collections.Counter[str] = collections.Counter()
    before = 0
    for number in range(inputs):
        if number == inputs // 10:
            before = resident_bytes()
        data = chance.choice(seeds)
        for _ in range(chance.randrange(3)):
            data = mutate_value(chance, data)
        if chance.random() < 0.6:
            data = mutate(chance, data, seeds)
        try:
            reason = target(data)
        # The point of the exercise: whatever comes out is a finding.
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            about = f"{name}: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            if about not in findings or len(repr(data)) < len(findings[about]):
                findings[about] = repr(data)
            reason = "FOUND"
        if reason is not None:
            reasons[reason] += 1
    return sum(reasons.values()), resident_bytes() - before, reasons


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, action="append")
    arguments = parser.parse_args()
    chosen = arguments.target or list(TARGETS)
    # libpng and libjpeg tell every damage that they meet.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    findings: dict[str, str] = {}
    grown = 0
    for name in chosen:
        started = time.process_time()
        each = max(1, arguments.inputs // len(chosen))
        refused, growth, reasons = run(name, each, arguments.seed, findings)
        grown = max(grown, growth)
        seconds = time.process_time() - started
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        print(
            f"{name}: {each} inputs, {refused} refused, {seconds:.1f} s, growth {growth >> 10} KiB: {told}",
            flush=True,
        )
    for about, data in findings.items():
        print(f"\n{about}\n  {data[:2000]}")
    print(f"findings: {len(findings)}; largest growth of resident memory: {grown / 2**20:.1f} MiB")
    return 1 if findings or grown > ALLOWED_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
