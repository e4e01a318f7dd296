"""A model as a file for other programs: ONNX, TorchScript or ExecuTorch, kept only if it agrees with it.

What is exported takes a batch of one image, (1, 3, H, W) float32, RGB and normalised as the card says, and
gives logits (1, C, H, W). The padding to multiples of 32 is in the file, so that an image of any size gives
what this package computes; that is tried, at odd sizes too, in the runtime that the format is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.files import temporary_beside
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import STRIDE, logits, to_tensor
from dance_ondevice.models.layers import resize
from dance_ondevice.runtime.formats import (
    FORMATS,
    WRITERS,
    ExportError,
    Graph,
    MissingPackage,
    Run,
    first_line,
)

__all__ = ["Exported", "Parity", "export"]

#: Logits may differ by this share of the largest one: other orders of summation, not other models.
_TOLERANCE = 1e-3
#: Sizes that no network halves evenly: what promises any size is tried at them.
_ODD = ((181, 243), (33, 65))
#: Share of pixels whose class must be the same.
_AGREEMENT = 0.999


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How well a file agrees with its model.

    Attributes:
        frames: how many images both were run on.
        max_difference: the largest absolute difference of any two logits.
        largest_logit: the largest absolute logit, which gives the difference its scale.
        mask_agreement: share of the pixels of all frames that get the same class.
    """

    frames: int
    max_difference: float
    largest_logit: float
    mask_agreement: float

    @property
    def agrees(self) -> bool:
        """Whether the two are the same model; differences that are no number are not."""
        allowed = _TOLERANCE * max(1.0, self.largest_logit)
        return self.max_difference <= allowed and self.mask_agreement >= _AGREEMENT


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Attributes:
        format: one of :data:`FORMATS`.
        size: (height, width) that images must have; None where more than one is right.
        multiple_of: what both sides of an image must be a multiple of; 1 where any size is right.
        tried: the sizes that the file was compared with the model at, (height, width).
        parity: with the model.
        bytes: of the file.
    """

    format: str
    size: tuple[int, int] | None
    multiple_of: int
    tried: tuple[tuple[int, int], ...]
    parity: Parity
    bytes: int


def export(
    model: nn.Module,
    card: ModelCard,
    form: str,
    file: Path,
    *,
    size: tuple[int, int],
    frames: Sequence[NDArray[np.uint8]],
) -> Exported:
    """Write a model as a file, and read it again to see that it computes the same.

    A file for images of any size is tried first; where that does not agree, one for sides that are multiples
    of 32, and at last one for ``size`` alone.

    Args:
        model: in eval mode.
        card: the model's.
        form: one of :data:`FORMATS`.
        file: replaced where there is one, but only by one that agrees.
        size: (height, width) of the images; rounded up to multiples of 32.
        frames: (h, w, 3) uint8 BGR images to compare on, at least one; resized.

    Raises:
        ExportError: nothing was written.
        OSError: the disk.
    """
    if not frames:
        raise ExportError("there are no frames to compare the exported file with the model on")
    try:
        writer = WRITERS[form]
    except KeyError:
        raise ExportError(f"unknown format {form!r}; choose one of {', '.join(FORMATS)}") from None
    height, width = (side + -side % STRIDE for side in size)
    unfinished = temporary_beside(file)
    # The second size tells whether the first one was frozen into the graph.
    even = [(height, width), (height + STRIDE, width + 2 * STRIDE)]
    ways = [(1, [*even, size, *_ODD]), (STRIDE, even)] if writer.any_size else []
    problem = ""
    try:
        for multiple, sizes in [*ways, (0, [(height, width)])]:
            graph = Graph(model, pad=multiple == 1).eval()
            try:
                writer.write(graph, (height, width), multiple > 0, unfinished, card)
                parity = _compare(model, writer.read(unfinished), frames, dict.fromkeys(sizes), card)
            except (MissingPackage, OSError):
                raise
            except (
                Exception
            ) as error:  # exporters and runtimes raise classes of their own, and may run user code
                problem = first_line(error)
                continue
            if parity.agrees:
                unfinished.replace(file)
                return Exported(
                    format=form,
                    size=None if multiple else (height, width),
                    multiple_of=multiple,
                    tried=tuple(dict.fromkeys(sizes)),
                    parity=parity,
                    bytes=file.stat().st_size,
                )
            problem = (
                f"logits differ by up to {parity.max_difference:.3g} (the largest is "
                f"{parity.largest_logit:.3g}), {parity.mask_agreement:.2%} of the pixels get the same class"
            )
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    raise ExportError(f"no {form} file of this model agrees with it, and none was written: {problem}")


def _compare(
    model: nn.Module,
    run: Run,
    frames: Sequence[NDArray[np.uint8]],
    sizes: Iterable[tuple[int, int]],
    card: ModelCard,
) -> Parity:
    parity = Parity(frames=0, max_difference=0.0, largest_logit=0.0, mask_agreement=0.0)
    same = pixels = 0
    for height, width in sizes:
        for frame in frames:
            x = resize(to_tensor(frame, card.normalisation), (height, width))
            with torch.inference_mode():
                expected = logits(model, x)
            with torch.no_grad():
                found = run(x.clone())
            if found.shape != expected.shape:
                raise ExportError(
                    f"it gives {tuple(found.shape)}, the model {tuple(expected.shape)} for {height}x{width}"
                )
            difference = (found - expected).abs().max()
            same += int((found.argmax(dim=1) == expected.argmax(dim=1)).sum())
            pixels += height * width
            parity = replace(
                parity,
                frames=parity.frames + 1,
                # Written so that a NaN stays one.
                max_difference=float(torch.maximum(difference, torch.tensor(parity.max_difference))),
                largest_logit=max(parity.largest_logit, float(expected.abs().max())),
            )
    return replace(parity, mask_agreement=same / pixels)
