"""Fault tests use the daemon process, harness and cameras of the daemon's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "daemon"))
