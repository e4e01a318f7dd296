"""Running a model on frames of any size: padding, normalisation, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.layers import resize

__all__ = ["STRIDE", "Normalisation", "Prediction", "logits", "outputs", "predict", "to_tensor"]

#: Sides are padded to a multiple of this: the deepest downsampling of the architectures.
STRIDE = 32


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model sees in one frame.

    Attributes:
        mask: (H, W) uint8, the most likely class of each pixel.
        mean_confidence: mean over the pixels of that class's softmax probability, 0 to 1.
    """

    mask: NDArray[np.uint8]
    mean_confidence: float


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """The class scores of each pixel: (N, 3, H, W) -> (N, C, H, W), for any H, W >= 1.

    The first of :func:`outputs`.
    """
    return outputs(model, x)[0]


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """All outputs of a model (in training mode there may be auxiliary ones), each at the input's size.

    The input is padded below and to the right by repeating its edge until both sides are multiples of 32;
    smaller outputs are upsampled to the padded size, and the padding is cut off again.

    Args:
        model: returns logits (N, C, h, w), or a tuple or list of such, the real ones first.
        x: (N, 3, H, W) floats.

    Raises:
        ValueError: not a batch of images.
        TypeError: the model returned something else.
    """
    if x.dim() != 4 or min(x.shape) < 1:
        raise ValueError(f"expected a batch of images (N, 3, H, W), found shape {tuple(x.shape)}")
    height, width = x.shape[2:]
    below, right = -height % STRIDE, -width % STRIDE
    padded = F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
    found = model(padded)
    heads = (found,) if isinstance(found, Tensor) else found
    if not isinstance(heads, (tuple, list)) or not heads or not all(_is_map(head) for head in heads):
        raise TypeError(
            f"{type(model).__name__} must return logits (N, C, h, w) or a tuple of such with the logits "
            f"first, it returned {_describe(found)}"
        )
    return tuple(resize(head, padded.shape[2:])[..., :height, :width] for head in heads)


def to_tensor(bgr: NDArray[np.uint8], normalisation: Normalisation) -> Tensor:
    """Turn an image (H, W, 3) uint8 BGR into the model's input (1, 3, H, W) float32 RGB.

    In memory the channels come last, as in the image.

    Raises:
        ValueError: another shape or dtype.
    """
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or bgr.size == 0:
        raise ValueError(f"expected an image (H, W, 3) of uint8, found {bgr.shape} of {bgr.dtype}")
    # A copy even where none is needed: torch must not share memory with a read-only buffer off the wire.
    rgb = torch.from_numpy(np.array(bgr[..., ::-1], order="C"))
    scale = torch.tensor([1.0 / (255.0 * s) for s in normalisation.std])
    shift = torch.tensor([-m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)])
    return rgb.to(torch.float32).mul_(scale).add_(shift).permute(2, 0, 1).unsqueeze(0)


def predict(
    model: nn.Module,
    bgr: NDArray[np.uint8],
    normalisation: Normalisation,
    out_size: Sequence[int] | None = None,
) -> Prediction:
    """Segment one image.

    Args:
        model: in eval mode.
        bgr: (h, w, 3) uint8, at the resolution to infer at.
        normalisation: the one that the model was trained with.
        out_size: (H, W) of the mask; the image's own by default. The logits are upsampled, not the mask, so
            edges stay smooth when inferring on a reduced frame.

    Raises:
        ValueError: a wrong image or size, or a model in training mode: it would learn its statistics from
            the frame.
    """
    if model.training:
        raise ValueError("predict needs a model in eval mode: call model.eval() first")
    if out_size is not None and (len(out_size) != 2 or min(out_size) < 1):
        raise ValueError(f"out_size is (height, width), both at least 1, found {tuple(out_size)}")
    with torch.inference_mode():
        x = to_tensor(bgr, normalisation).to(next(model.parameters()).device)
        scores = resize(logits(model, x), out_size or x.shape[2:]).float()
        best, mask = scores.max(dim=1)
        confidence = (scores - best.unsqueeze(1)).exp_().sum(dim=1).reciprocal_().mean()
        return Prediction(mask[0].to(torch.uint8).cpu().numpy(), float(confidence))


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of " + (", ".join(_describe(item) for item in value) or "nothing")
    return f"a {type(value).__name__}"
