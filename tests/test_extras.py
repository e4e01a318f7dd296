from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import metadata

from dance_ondevice.extras import install_command


def test_the_command_is_of_this_environment_and_needs_no_index_for_the_package_itself() -> None:
    command = shlex.split(install_command("console"))

    assert command[0] == sys.executable
    # Nothing is downloaded: the package and what the tests need of its extras are here.
    result = subprocess.run(
        [*command, "--no-index", "--dry-run", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_every_extra_that_a_message_names_is_there() -> None:
    extras = metadata("dance-ondevice").get_all("Provides-Extra") or []

    assert {"console", "executorch", "nvml", "onnx", "openvino", "plots"} <= set(extras)
