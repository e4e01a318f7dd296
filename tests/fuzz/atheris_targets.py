"""Coverage-guided fuzzing of one target with atheris, where that is installed: ``pip install atheris``.

Usage: python tests/fuzz/atheris_targets.py TARGET [libFuzzer's options, such as -max_total_time=60]

Starts from the committed corpus of the target and stops at the first input that lets an undeclared error out.
Coverage is that of the Python code: what C parses (JSON, images) tells nothing, so libFuzzer's own changes of
bytes take turns with the damages of ``fuzz_run.py``, which keep JSON and TOML whole more often than not.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dance_ondevice"]):
    from fuzz_targets import TARGETS, corpus
from mutations import mutate, mutate_value


def main() -> None:
    """Copy the corpus to where libFuzzer may add to it, and hand over."""
    name, *options = sys.argv[1:]
    target, seeds = TARGETS[name], corpus(name)
    folder = Path(tempfile.mkdtemp(prefix=f"atheris-{name}-"))
    for number, data in enumerate(seeds):
        (folder / str(number)).write_bytes(data)

    def one_input(data: bytes) -> None:
        target(data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = random.Random(seed)
        match dice.randrange(3):
            case 0:
                return bytes(atheris.Mutate(data, most))
            case 1:
                return mutate(dice, data, seeds)[:most]
            case _:
                return mutate_value(dice, data)[:most]

    arguments = [sys.argv[0], str(folder), "-max_len=65536", "-timeout=5", *options]
    atheris.Setup(arguments, one_input, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
