"""Arguments that make each architecture tiny, auxiliary heads included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Architecture -> arguments of ``dance_ondevice.models.registry.build``.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "fastscnn": {
        "downsample": [8, 8, 16],
        "bottlenecks": [16, 16, 24],
        "repeats": [1, 1, 1],
        "fusion": 16,
        "auxiliary": True,
    },
    "deeplabv3plus": {
        "stem": 8,
        "widths": [8, 8, 8, 16, 16, 16, 24],
        "repeats": [1, 1, 1, 1, 1, 2, 1],
        "pyramid": 16,
        "low_level": 8,
        "decoder": [16, 16],
    },
    "pspnet": {"widths": [8, 16, 16, 32], "repeats": [1, 1, 1, 1]},
    "bisenetv2": {
        "detail": [8, 8, 16],
        "semantic": [8, 8, 16, 16],
        "head": 16,
        "auxiliary_width": 8,
        "expansion": 2,
    },
    "hrnet": {"stem": 8, "bottlenecks": 1, "widths": [8, 8, 16, 16], "modules": [1, 1, 1], "blocks": 1},
    "espnetv2": {"widths": [16, 32, 48, 80], "repeats": [1, 1], "decoder": [16, 12, 8], "pyramid": 6},
}
