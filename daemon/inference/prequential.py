"""The prequential score: mIoU of the live model on labelled frames, each judged before it is learnt from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dance_ondevice.images.confusion import confusion_matrix, miou

__all__ = ["PrequentialScore"]

#: Weight of earlier labelled frames with each new one: about 50 frames count (Gama, Sebastiao, Rodrigues, "On
#: evaluating stream learning algorithms", 2013: fading factors).
FADING = 0.98
#: The faded counts are fractions; they are rounded to thousandths, because scores are ratios of counts.
_FIXED_POINT = 1000


class PrequentialScore:
    """A confusion matrix in which earlier frames fade; one thread adds to it, any thread may read it."""

    def __init__(self) -> None:
        self._matrix: npt.NDArray[np.float64] | None = None

    @property
    def miou(self) -> float | None:
        """Faded mIoU over the labelled frames; None without any."""
        matrix = self._matrix
        return None if matrix is None else miou(np.rint(matrix * _FIXED_POINT).astype(np.int64))

    def add(self, label: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], n_classes: int) -> None:
        """Count a frame: label and mask (h, w) of class ids; other classes than before begin anew."""
        fresh = confusion_matrix(label, mask, n_classes)
        if self._matrix is None or self._matrix.shape != fresh.shape:
            self._matrix = fresh.astype(np.float64)
        else:
            self._matrix = self._matrix * FADING + fresh
