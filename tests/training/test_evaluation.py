"""Confusion matrices and IoU: against counting by hand, and over files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.confusion import confusion_matrix, iou_per_class, miou
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.batches import SampleError, TrainingSample
from dance_ondevice.training.evaluation import evaluate

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

CLASSES = 4
RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
masks = arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))
predictions = arrays(np.uint8, (5, 7), elements=st.integers(0, CLASSES - 1))


@given(masks, predictions)
def test_confusion_matrix_counts_every_labelled_pixel_once(label: np.ndarray, prediction: np.ndarray) -> None:
    matrix = confusion_matrix(label, prediction, CLASSES)
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for truth, guess in zip(label.ravel(), prediction.ravel(), strict=True):
        if truth != IGNORE:
            expected[truth, guess] += 1
    assert matrix.dtype == np.int64
    assert np.array_equal(matrix, expected)


@given(masks, predictions)
def test_iou_is_intersection_over_union(label: np.ndarray, prediction: np.ndarray) -> None:
    ious = iou_per_class(confusion_matrix(label, prediction, CLASSES))
    counted = label != IGNORE
    for class_id, iou in enumerate(ious):
        truth, guess = (label == class_id) & counted, (prediction == class_id) & counted
        union = (truth | guess).sum()
        assert iou == ((truth & guess).sum() / union if union else None)


@given(masks, predictions)
def test_miou_is_between_0_and_1_and_1_only_when_all_is_right(
    label: np.ndarray, prediction: np.ndarray
) -> None:
    value = miou(confusion_matrix(label, prediction, CLASSES))
    counted = label != IGNORE
    assert 0 <= value <= 1
    assert (value == 1) == bool(counted.any() and (label == prediction)[counted].all())


def test_miou_leaves_out_classes_that_the_truth_does_not_hold() -> None:
    matrix = np.array([[8, 0, 2], [0, 0, 0], [0, 0, 10]])
    assert iou_per_class(matrix) == (0.8, None, 10 / 12)
    assert miou(matrix) == pytest.approx((0.8 + 10 / 12) / 2)
    stray = np.array([[8, 1, 1], [0, 0, 0], [0, 0, 10]])
    assert iou_per_class(stray)[1] == 0.0
    assert miou(stray) == pytest.approx((0.8 + 10 / 11) / 2)


def test_nothing_labelled() -> None:
    matrix = confusion_matrix(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8), CLASSES)
    assert iou_per_class(matrix) == (None,) * CLASSES
    assert miou(matrix) == 0.0


@pytest.mark.parametrize(
    ("label", "prediction", "word"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "shape"),
        (np.full((2, 2), CLASSES), np.zeros((2, 2)), "label holds class id 4"),
        (np.zeros((2, 2)), np.full((2, 2), CLASSES), "prediction holds class id 4"),
    ],
)
def test_what_cannot_be_compared(label: np.ndarray, prediction: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        confusion_matrix(label.astype(np.uint8), prediction.astype(np.uint8), CLASSES)


class Brightest(nn.Module):
    """Class 0, 1, 2 where red, green, blue is brightest: right by construction on the images below."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape[2:]))
        return x * self.gain


def stripes(
    folder: Path, name: str, label_size: tuple[int, int], image_size: tuple[int, int], **fields: Any
) -> TrainingSample:
    def columns(size: tuple[int, int]) -> np.ndarray:
        return np.broadcast_to(np.arange(size[1]) * 3 // size[1], size).astype(np.uint8)

    # Class 0 is red, which comes last in BGR.
    image = np.eye(3, dtype=np.uint8)[2 - columns(image_size)] * 255
    (folder / f"{name}.jpg").write_bytes(encode_png(image))
    (folder / f"{name}.png").write_bytes(encode_png(columns(label_size)))
    return TrainingSample(folder / f"{name}.jpg", folder / f"{name}.png", **fields)


def test_evaluate_at_the_size_of_the_label(tmp_path: Path) -> None:
    samples = [
        stripes(tmp_path, "same", (33, 60), (33, 60)),
        stripes(tmp_path, "stored at half size", (64, 96), (32, 48)),
        stripes(tmp_path, "looked at at half size", (64, 96), (64, 96), scale=0.5),
    ]
    model = Brightest().train()
    done: list[int] = []
    matrix = evaluate(model, samples, RAW, 3, on_sample=done.append)
    assert matrix.sum() == sum(height * width for height, width in ((33, 60), (64, 96), (64, 96)))
    assert miou(matrix) > 0.95
    assert done == [1, 2, 3]
    assert model.training
    assert model.shapes == [(64, 64), (32, 64), (32, 64)]  # padded to multiples of 32


def test_evaluate_ignores_void(tmp_path: Path) -> None:
    sample = stripes(tmp_path, "a", (32, 30), (32, 30), void=(2,))
    assert evaluate(Brightest(), [sample], RAW, 3)[2].sum() == 0
    assert evaluate(Brightest(), [sample], RAW, 2 + 1).sum() == 32 * 20


def test_evaluate_names_what_it_cannot_read(tmp_path: Path) -> None:
    sample = stripes(tmp_path, "a", (8, 8), (8, 8))
    sample.image.write_bytes(b"no image")
    model = Brightest().eval()
    with pytest.raises(SampleError, match=r"a\.jpg"):
        evaluate(model, [sample], RAW, 3)
    assert not model.training


def test_evaluate_nothing() -> None:
    assert miou(evaluate(Brightest(), [], RAW, 3)) == 0.0
