"""How long a model from outside may take: by the processor's time, since a busy board is not its fault."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dance_ondevice.daemon.versions import tryout

SPIN = """
from dance_ondevice.daemon.versions import tryout
from dance_ondevice.models import card

def spin(directory):
    while True:
        pass

tryout._CPU_SECONDS, card.read_card = 1, spin
tryout.main(["nowhere"])
"""


@pytest.mark.slow
def test_a_model_that_computes_for_too_long_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", SPIN], check=False, timeout=300)
    assert done.returncode == -signal.SIGXCPU


def test_which_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -XCPU $$\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ValueError, match="one image took it more than 100 s of the processor"):
        tryout.check(tmp_path)
