#!/usr/bin/env bash
# rosbags-image 0.10.4 (rosbags 0.11.9): `message_to_cvimage` never looks at `step`, the length of a row in bytes that every ROS image
# states. A driver may pad its rows (frame grabbers and zero-copy buffers align them), and then the padding is read as pixels: each row
# slides by as much as all above it were padded, the last rows are lost, and the array has the right shape and type. No error, no
# warning. Rows without padding are right.
#
#   a mask of 90x40, classes in four stripes, rows of 90 bytes: 0 of 3600 pixels wrong; the same in rows of 96 bytes: 2560 wrong
#
# Nothing here reads ROS images; who sends frames from a bag takes `data.reshape(height, step)[:, : width * channels]`.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'rosbags==0.11.9' 'rosbags-image==0.10.4' 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

WIDTH, HEIGHT = 90, 40
types = get_typestore(Stores.ROS2_HUMBLE).types
header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
mask = np.repeat(np.arange(4, dtype=np.uint8), [30, 20, 25, 15])[None].repeat(HEIGHT, axis=0)


def read(step):
    rows = np.zeros((HEIGHT, step), np.uint8)
    rows[:, :WIDTH] = mask
    message = types["sensor_msgs/msg/Image"](header, HEIGHT, WIDTH, "mono8", 0, step, rows.reshape(-1))
    by_hand = message.data.reshape(HEIGHT, step)[:, :WIDTH]
    return message_to_cvimage(message), by_hand


print(*(f"{name} {version(name)}" for name in ("rosbags-image", "rosbags")))
wrong = {}
for step in (90, 96):
    found, by_hand = read(step)
    wrong[step] = int((found != mask).sum())
    print(
        f"rows of {step} bytes: {found.shape} {found.dtype}, {wrong[step]} of {mask.size} pixels wrong, "
        f"by hand {int((by_hand != mask).sum())}"
    )
raise SystemExit(0 if wrong == {90: 0, 96: 2560} else 1)
PY
