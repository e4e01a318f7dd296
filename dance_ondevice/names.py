"""Names that a configuration may hold, apart from what they stand for: to read one takes no numpy."""

from __future__ import annotations

__all__ = ["INDICATORS", "LEARNT", "STREET_CLASSES"]

#: Classes of the street scenes, in order of their ids (the 11 classes of CamVid).
STREET_CLASSES: tuple[str, ...] = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
#: The indicators of ``dance_ondevice.complexity`` that are formulas.
INDICATORS = ("detail_loss", "edge_density", "luma_entropy", "jpeg_bits_per_pixel", "spectral_slope")
#: The indicator that rounds learn, see ``learnt_loss``.
LEARNT = "learnt"
