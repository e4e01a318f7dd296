"""Makes masks.jpg: the packaged base model on the synthetic street, as ``dance-ondevice watch`` paints masks.

Run from a checkout: ``python docs/images/make_masks.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg
from dance_ondevice.images.labels import class_colours
from dance_ondevice.images.overlay import overlay
from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.forward import predict


def picture(condition: str, number: int) -> NDArray[np.uint8]:
    """One frame in a condition, and beside it the mask over it."""
    model, card = checkpoint.load(packaged.FOLDER)
    frame, _ = StreetCamera(seed=4, height=240, width=320).render(number, condition)
    mask = predict(model.eval(), frame, card.normalisation).mask
    painted = overlay(mask, frame, card.classes, class_colours(len(card.classes)), caption=condition)
    return np.hstack([frame, painted])


if __name__ == "__main__":
    rows = [picture("day", 40), picture("dusk", 90), picture("rain", 140)]
    Path(__file__).with_name("masks.jpg").write_bytes(encode_jpeg(np.vstack(rows), 85))
