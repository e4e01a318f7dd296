"""Running a model on frames of any size: padding, normalisation, masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dance_ondevice.images.masks import STRIDE, Decide, Prediction, decide
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.layers import resize

__all__ = ["as_parameters", "coarse", "logits", "outputs", "predict", "sampled_outputs", "to_tensor"]


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Compute the class scores of each pixel: (N, 3, H, W) to (N, C, H, W), for any H, W >= 1.

    They are the first of :func:`outputs`.
    """
    return outputs(model, x)[0]


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Compute all outputs of a model (also auxiliary ones in training mode), each at the input's size.

    The input is padded below and to the right by repeating its edge until both sides are multiples of 32;
    smaller outputs are upsampled to the padded size, and the padding is cut off again.

    Args:
        model: Model that returns logits (N, C, h, w), or a tuple or list of logits, the main ones first, or a
            mapping with the main ones as "out", as torchvision's models do, or "logits", as Hugging Face's.
        x: Images (N, 3, H, W) of floats.

    Raises:
        ValueError: The input is not a batch of images.
        TypeError: The model returned something else.
    """
    heads, padded = _heads(model, x)
    height, width = x.shape[2:]
    return tuple(resize(head, padded)[..., :height, :width] for head in heads)


def sampled_outputs(model: nn.Module, x: Tensor, stride: int, offset: tuple[int, int]) -> tuple[Tensor, ...]:
    """All outputs of a model at one pixel in every square of ``stride``, for a loss that looks at no more.

    Outputs that are coarser than that are upsampled no farther: upsampling and its backward pass take a fifth
    of a step on small windows. They lie up to half a pixel beside the pixels that they stand for.

    Args:
        model: as for :func:`outputs`.
        x: (N, 3, H, W) floats.
        stride: a divisor of 32.
        offset: (row, column) of the first pixel, below ``stride``.

    Returns:
        (N, C, h, w) each: as many rows and columns as ``[offset::stride]`` of the image has.

    Raises:
        ValueError, TypeError: see :func:`outputs`.
    """
    heads, padded = _heads(model, x)
    height, width = x.shape[2:]
    rows, columns = len(range(offset[0], height, stride)), len(range(offset[1], width, stride))
    small = (padded[0] // stride, padded[1] // stride)
    found = []
    for head in heads:
        if head.shape[2] <= small[0] and head.shape[3] <= small[1]:
            found.append(resize(head, small)[..., :rows, :columns])
        else:
            whole = resize(head, padded)[..., :height, :width]
            found.append(whole[..., offset[0] :: stride, offset[1] :: stride])
    return tuple(found)


def coarse(model: nn.Module) -> Callable[[Tensor], object]:
    """Return what computes a model's outputs at its own resolution.

    A model that enlarges its logits by itself may offer this as a method ``coarse_logits`` of its class:
    masks are then decided from fewer numbers.
    """
    # Of its class: a layer of this name would be found on the model itself.
    if not hasattr(type(model), "coarse_logits"):
        return model
    found: Callable[[Tensor], object] = model.coarse_logits  # type: ignore[assignment]  # a method
    return found


def heads_of(found: object) -> Sequence[Tensor]:
    """Return the outputs in a model's return value, see :func:`outputs`; empty if it is something else.

    Further maps of other widths, such as boundaries or features, are no scores of the classes: left out.
    """
    if isinstance(found, Tensor):
        found = (found,)
    elif isinstance(found, Mapping):
        main = "out" if "out" in found else "logits"
        found = (found.get(main), *(value for name, value in found.items() if name != main))
    if not isinstance(found, (tuple, list)):
        return ()
    heads = [head for head in found if head is not None]
    if not heads or heads[0] is not found[0] or not all(_is_map(head) for head in heads):
        return ()
    return [head for head in heads if head.shape[1] == heads[0].shape[1]]


def _heads(
    model: nn.Module, x: Tensor, run: Callable[[Tensor], object] | None = None
) -> tuple[Sequence[Tensor], tuple[int, int]]:
    """The outputs as the model or ``run`` gives them, and the padded (height, width) that each spans."""
    if x.dim() != 4 or min(x.shape) < 1:
        raise ValueError(f"expected a batch of images (N, 3, H, W), found shape {tuple(x.shape)}")
    height, width = x.shape[2:]
    below, right = -height % STRIDE, -width % STRIDE
    found = (run or model)(F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x)
    heads = heads_of(found)
    if not heads:
        raise TypeError(
            f"{type(model).__name__} must return logits (N, C, h, w), a tuple of such with the logits first, "
            f'or a dict with them as "out" or "logits"; it returned {_describe(found)}'
        )
    return heads, (height + below, width + right)


def to_tensor(bgr: NDArray[np.uint8], normalisation: Normalisation) -> Tensor:
    """Turn an image (H, W, 3) uint8 BGR into the model's input (1, 3, H, W) float32 RGB.

    In memory the channels come last, as in the image.

    Raises:
        ValueError: The image has another shape or dtype.
    """
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or bgr.size == 0:
        raise ValueError(f"expected an image (H, W, 3) of uint8, found {bgr.shape} of {bgr.dtype}")
    height, width = bgr.shape[:2]
    rgb = torch.from_numpy(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)).view(height, 3 * width)
    # Whole rows at a time: three values at a time take several times as long.
    scale = torch.tensor([1.0 / (255.0 * s) for s in normalisation.std]).repeat(width)
    shift = torch.tensor([-m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)])
    found = rgb.to(torch.float32).mul_(scale).add_(shift.repeat(width))
    return found.view(height, width, 3).permute(2, 0, 1).unsqueeze(0)


def predict(
    model: nn.Module,
    bgr: NDArray[np.uint8],
    normalisation: Normalisation,
    out_size: Sequence[int] | None = None,
    *,
    by: Decide = decide,
) -> Prediction:
    """Segment one image.

    Args:
        model: Model in eval mode.
        bgr: Image (h, w, 3) uint8, at the resolution to infer at.
        normalisation: Normalisation that the model was trained with.
        out_size: Size (H, W) of the mask; None takes the image's. The logits are upsampled, not the mask, so
            edges stay smooth when inferring on a reduced frame.
        by: Makes the mask of coarse logits (C, h, w), their span and the mask's size; see ``images.masks``.

    Raises:
        ValueError: The image or size is invalid, or the model is in training mode, in which it would learn
            its statistics from the frame.
    """
    if model.training:
        raise ValueError("predict needs a model in eval mode: call model.eval() first")
    if out_size is not None and (len(out_size) != 2 or min(out_size) < 1):
        raise ValueError(f"out_size is (height, width), both at least 1, found {tuple(out_size)}")
    with torch.no_grad():  # not inference mode: a model may keep tensors, and be trained on afterwards
        x = as_parameters(model, to_tensor(bgr, normalisation))
        heads, padded = _heads(model, x, coarse(model))
        scores = heads[0][0].float().cpu().contiguous().numpy()
    height, width = bgr.shape[:2]
    rows, columns = out_size or (height, width)
    span = (padded[0] / height * rows, padded[1] / width * columns)
    return by(scores, span, (rows, columns))


def as_parameters(model: nn.Module, x: Tensor) -> Tensor:
    """The input on the device and in the precision of a model's weights; as it is for a model without any."""
    like = next((each for each in model.parameters() if each.is_floating_point()), None)
    return x if like is None else x.to(like.device, like.dtype)


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of " + (", ".join(_describe(item) for item in value) or "nothing")
    if isinstance(value, Mapping):
        items = (f"{name!r}: {_describe(item)}" for name, item in value.items())
        return f"a {type(value).__name__} of " + (", ".join(items) or "nothing")
    return f"a {type(value).__name__}"


Model = TypeVar("Model", bound=nn.Module)


def channels_last(model: Model) -> Model:
    """The same model, its convolutions' weights now with the channels last in memory, as images have them."""
    moved: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return moved
