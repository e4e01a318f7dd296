"""The arithmetic of masks in the browser, run by node where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed (apt install nodejs)")
def test_masks() -> None:
    script = Path(__file__).with_name("masks.test.mjs")
    done = subprocess.run([str(NODE), "--test", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 11" in done.stdout
