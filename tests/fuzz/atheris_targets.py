"""Coverage-guided fuzzing of one target with atheris, where that is installed: ``pip install atheris``.

Usage: python tests/fuzz/atheris_targets.py TARGET [libFuzzer's options, such as -runs=100000]

Starts from the committed corpus of the target and stops at the first input that lets an undeclared error out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dance_ondevice"]):
    from fuzz_targets import TARGETS, corpus


def main() -> None:
    """Copy the corpus to where libFuzzer may add to it, and hand over."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"atheris-{name}-"))
    for number, data in enumerate(corpus(name)):
        (folder / str(number)).write_bytes(data)

    def one_input(data: bytes) -> None:
        target(data)

    atheris.Setup([sys.argv[0], str(folder), "-max_len=65536", "-timeout=5", *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
