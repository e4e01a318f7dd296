"""Tries a model from outside in a separate process, before it is adopted.

A well-formed folder may still not hold a working model: its tensors may not fit, its values may be undefined,
or a mask at its size may take more memory than the board has. As a program (``python -m
dance_ondevice.daemon.versions.tryout FOLDER``) it loads the folder and segments one image at the card's size.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dance_ondevice.daemon.children.watcher import memory_limit, resident_bytes

__all__ = ["check"]

#: CPU seconds that a model may take: what other programs leave it on a busy board is not its fault.
_CPU_SECONDS = 100
#: The longest wait in seconds of a thread that tells nobody it is alive, shorter than a silence that
#: is taken for a hang; and of one that does.
_SILENT_SECONDS, _LONGEST_SECONDS = 100.0, 600.0
_POLL_SECONDS = 0.2
#: The same limit as for ``model.size``.
_LARGEST_SIDE = 8192
#: Exit status of the program when the model cannot be used; its standard output says why.
_NO_USE = 3


def check(directory: Path, *, procfs: Path = Path("/proc"), beat: Callable[[], None] | None = None) -> None:
    """Load and run the model in a folder, in a separate process.

    Args:
        directory: The model's folder.
        procfs: Where procfs is mounted.
        beat: Called several times a second while it waits; without it, it waits less long.

    Raises:
        ValueError: It does not load, does not run, or takes too much time or memory; the message says which.
        OSError: The process cannot be started.
    """
    most = memory_limit(procfs)
    command = [sys.executable, "-m", "dance_ondevice.daemon.versions.tryout", str(directory)]
    longest = _LONGEST_SECONDS if beat else _SILENT_SECONDS
    deadline = time.monotonic() + longest
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    found, errors = child.communicate(timeout=_POLL_SECONDS)
                    break
                if beat:
                    beat()
                if (resident_bytes(procfs, child.pid) or 0) > most:
                    raise ValueError(f"{directory}: it takes more memory than this board can spare")
                if time.monotonic() >= deadline:
                    raise ValueError(f"{directory}: one image took it more than {longest:.0f} s")
        finally:
            child.kill()
    if child.returncode == 0:
        return
    if child.returncode == -signal.SIGXCPU:
        raise ValueError(f"{directory}: one image took it more than {_CPU_SECONDS} s of the processor")
    lines = (found if child.returncode == _NO_USE else errors).strip().splitlines()
    raise ValueError(lines[-1] if lines else f"{directory}: loading it ended with status {child.returncode}")


def main(arguments: Sequence[str]) -> int:
    """Load the model in a folder and segment one image; prints the error if there is one."""
    import math

    import numpy as np

    from dance_ondevice.models import checkpoint
    from dance_ondevice.models.card import CheckpointError, read_card
    from dance_ondevice.models.forward import predict

    directory = Path(arguments[0])
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 5))
    try:
        height, width = read_card(directory).macs_at
        if max(height, width) > _LARGEST_SIDE:
            raise CheckpointError(
                f"{directory}/card.json: macs_at is [{height}, {width}]; sides go to {_LARGEST_SIDE}"
            )
        model, card = checkpoint.load(directory)
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        confidence = predict(model, image, card.normalisation).mean_confidence
        if not math.isfinite(confidence):
            raise CheckpointError(f"{directory}: its answer to an image holds values that are no numbers")
    except Exception as error:  # the model may be the user's own: it may raise anything
        text = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        print(" ".join(text.split()))
        return _NO_USE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
