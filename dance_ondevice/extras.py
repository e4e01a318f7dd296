"""How an extra of the installed package is added to the environment that runs it."""

from __future__ import annotations

import shlex
import sys


def install_command(extra: str) -> str:
    """Return the command that adds the extra here, in words for a shell.

    It works without an index that has this package, since pip finds the installed one.
    """
    return f"{shlex.quote(sys.executable)} -m pip install 'dance-ondevice[{extra}]'"
