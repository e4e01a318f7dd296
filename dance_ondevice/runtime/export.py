"""Export of a model for other programs: ONNX, TorchScript or ExecuTorch, kept only if they agree.

The exported model maps a batch of one image, (1, 3, H, W) float32, RGB and normalised as the card says, to
logits (1, C, H, W). The padding to multiples of 32 is in the file, so that an image of any size gives the
results of this package; that is tested, also at odd sizes, in the runtime of the format.
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

from dance_ondevice.files import check_replaceable, temporary_beside
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import logits, to_tensor
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

#: Allowed difference of logits, as a share of the largest one: the order of summation may differ.
_TOLERANCE = 1e-3
#: Odd sizes at which a file for images of any size is tested, since no network halves them evenly.
_ODD = ((181, 243), (33, 65))
#: Least share of pixels whose class must be the same.
_AGREEMENT = 0.999


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Agreement of an exported file with its model.

    Attributes:
        frames: Number of images that both were run on.
        max_difference: Largest absolute difference of any two logits.
        largest_logit: Largest absolute logit, the scale of the difference.
        mask_agreement: Share of the pixels of all frames that get the same class.
    """

    frames: int
    max_difference: float
    largest_logit: float
    mask_agreement: float

    @property
    def agrees(self) -> bool:
        """Return whether file and model agree; they do not if a difference is not a number."""
        allowed = _TOLERANCE * max(1.0, self.largest_logit)
        return self.max_difference <= allowed and self.mask_agreement >= _AGREEMENT


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported file.

    Attributes:
        format: Format, one of :data:`FORMATS`.
        size: Required size (height, width) of images; None if more than one is allowed.
        multiple_of: Number that both sides of an image must be a multiple of; 1 if any size is allowed.
        tried: Sizes (height, width) at which the file was compared with the model.
        parity: Agreement with the model.
        bytes: Size of the file in bytes.
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
    """Export a model to a file, and read it again to check that it computes the same.

    A file for images of any size is tried first; if that does not agree, one for sides that are multiples of
    32, and at last one for ``size`` alone.

    Args:
        model: Model in eval mode.
        card: Card of the model.
        form: Format, one of :data:`FORMATS`.
        file: Path of the file; an existing one is replaced only by a file that agrees.
        size: Size (height, width) of the images; rounded up to multiples of 32.
        frames: Images (h, w, 3) uint8 BGR to compare on, at least one; they are resized.

    Raises:
        ExportError: The export failed or does not agree; nothing was written.
        OSError: The file cannot be written.
    """
    if not frames:
        raise ExportError("there are no frames to compare the exported file with the model on")
    try:
        writer = WRITERS[form]
    except KeyError:
        raise ExportError(f"unknown format {form!r}; choose one of {', '.join(FORMATS)}") from None
    height, width = (side + -side % STRIDE for side in size)
    check_replaceable(file)
    unfinished = temporary_beside(file)
    # The second size shows whether the first one was frozen into the graph.
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
