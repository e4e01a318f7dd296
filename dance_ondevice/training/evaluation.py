"""Evaluation of a model on labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from dance_ondevice.images.codec import resize_area
from dance_ondevice.images.confusion import Matrix, confusion_matrix
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import TrainingSample, read_image, read_label


def evaluate(
    model: nn.Module,
    samples: Sequence[TrainingSample],
    normalisation: Normalisation,
    n_classes: int,
    *,
    on_sample: Callable[[int], None] | None = None,
) -> Matrix:
    """Predict every sample at its scale and compare with its label at the label's own size.

    Args:
        model: Left in the mode (train or eval) in which it came.
        samples: What to evaluate on; weights are not used.
        normalisation: The model's.
        n_classes: Number of classes.
        on_sample: Called with the number of samples done, after each.

    Returns:
        One (n_classes, n_classes) confusion matrix over all samples; rows are the label.

    Raises:
        SampleError: A file is missing or not what it should be.
    """
    matrix = np.zeros((n_classes, n_classes), np.int64)
    training = model.training
    model.eval()
    try:
        for done, sample in enumerate(samples, start=1):
            image = resize_area(read_image(sample), sample.scale)
            label = read_label(sample, n_classes)
            height, width = label.shape
            prediction = predict(model, image, normalisation, out_size=(height, width))
            matrix += confusion_matrix(label, prediction.mask, n_classes)
            if on_sample is not None:
                on_sample(done)
    finally:
        model.train(training)
    return matrix
