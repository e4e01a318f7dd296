"""Terms of the training loss: weighted cross-entropy, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.forward import sampled_outputs

_ENET_CONSTANT = 1.02
#: Factor of ``Distillation``'s term of unlabelled pixels in a round, chosen by ``bench labelling`` on CamVid
#: by day; no figure is reported on its frames.
UNLABELLED = 10.0


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, sample_weights: Tensor, class_weights: Tensor
) -> Tensor:
    """Mean cross-entropy over the labelled pixels, weighted by class, times each sample's weight.

    ``sum_ip w_i c_y(ip) CE_ip / sum_ip c_y(ip)`` over samples i and their labelled pixels p: sample weights
    whose mean is 1 leave the size of the loss as it is, and a sample of weight 2 pulls twice as hard.

    Args:
        logits: (N,C,H,W) float32.
        labels: (N,H,W) uint8, 255 = ignore.
        sample_weights: (N,).
        class_weights: (C,).

    Returns:
        A scalar; 0 when nothing is labelled.
    """
    targets = labels.long()
    pixels = F.cross_entropy(logits, targets, class_weights, ignore_index=IGNORE, reduction="none")
    counts = torch.bincount(targets.flatten(), minlength=IGNORE + 1)[: len(class_weights)]
    total = (class_weights * counts).sum()
    weighted = (pixels.sum(dim=(1, 2)) * sample_weights).sum()
    return weighted / total.clamp_min(torch.finfo(total.dtype).tiny)


def class_weights(frequencies: NDArray[np.float64], largest_ratio: float = 10.0) -> NDArray[np.float64]:
    """Weights by rarity: ``1 / ln(1.02 + p)``, as in ENet (Paszke et al. 2016, arXiv 1606.02147, 5.2).

    Args:
        frequencies: Share p of the labelled pixels by class, (C,).
        largest_ratio: No class weighs more than this times the lightest one, so that classes of a few
            pixels do not drown the others.

    Returns:
        (C,) weights; their mean over the labelled pixels is 1.
    """
    weights = 1 / np.log(_ENET_CONSTANT + frequencies)
    weights = np.minimum(weights, largest_ratio * weights.min())
    mean = float((weights * frequencies).sum())
    scaled: NDArray[np.float64] = weights / (mean if mean > 0 else weights.mean())
    return scaled


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Distance of a model from a teacher's predictions: the mean over pixels of ``T^2 KL(teacher || model)``.

    As in Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531,
    section 2): both are softened by the temperature T, and its square keeps the gradient's size. Against
    forgetting as in Li and Hoiem, "Learning without Forgetting" (2016, arXiv 1606.09282).

    Args:
        logits: (N,C,H,W) float32.
        teacher_logits: of the same shape; no gradient flows into them.
        temperature: T.

    Returns:
        A scalar.
    """
    return _divergence(logits, teacher_logits, temperature).mean()


def _divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || model)`` of each pixel, (N,H,W)."""
    model = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    found = F.kl_div(model, teacher, reduction="none", log_target=True).sum(dim=1)
    return found * temperature**2


class Distillation:
    """Keeps a model close to a teacher's predictions where no label says otherwise; for ``Trainer``.

    That is on all pixels of old samples, and on the unlabelled pixels of samples that somebody corrected in
    part: the few pixels that were corrected are all mistakes, and a model that trains on them alone unlearns
    what it did right.

    The teacher predicts each batch anew, since augmentation changes the images: this costs a forward pass
    over the images of the batch that are held to it.
    """

    def __init__(
        self,
        teacher: nn.Module,
        samples: Collection[int],
        *,
        weight: float,
        temperature: float = 2.0,
        corrected: Collection[int] = (),
        unlabelled: float = 0.0,
    ) -> None:
        """Set the teacher to eval mode; it must not be the model in training.

        Args:
            teacher: Model whose predictions are the target.
            samples: Indices of the old samples, in the trainer's order.
            weight: Factor of their term relative to the cross-entropy.
            temperature: See ``distillation_loss``; of the old samples. The unlabelled pixels take 1, at which
                the term is the cross-entropy with the teacher's probabilities, less a constant.
            corrected: Indices of the samples that were corrected in part; none of the old ones.
            unlabelled: Factor of the term of their unlabelled pixels, which is a mean over all pixels of the
                batch: it fades as more is labelled.

        Raises:
            ValueError: A weight is negative or the temperature not above 0.
        """
        if not (weight >= 0 and unlabelled >= 0):
            raise ValueError(
                f"the weights of distillation are {weight} and {unlabelled}; they must be 0 or more"
            )
        if not temperature > 0:
            raise ValueError(f"the temperature is {temperature}; it must be above 0")
        self._teacher = teacher.eval().requires_grad_(False)
        self._samples = frozenset(samples if weight else ())
        self._weight = weight
        self._temperature = temperature
        self._corrected = frozenset(corrected if unlabelled else ()) - self._samples
        self._unlabelled = unlabelled

    def __call__(
        self,
        images: Tensor,
        logits: Tensor,
        labels: Tensor,
        members: Sequence[int],
        sampled: tuple[int, tuple[int, int]] = (1, (0, 0)),
    ) -> Tensor:
        """Compute the term for one batch.

        Args:
            images: Normalised images (N,3,H,W).
            logits: The model's logits (N,C,h,w), float32, from ``sampled_outputs``.
            labels: (N,h,w) uint8, 255 = unlabelled.
            members: Index of the sample of each image.
            sampled: Stride and offset of ``sampled_outputs``.

        Returns:
            A scalar; 0 if the batch has nothing to hold to the teacher.
        """
        old = torch.tensor([index in self._samples for index in members], device=logits.device)
        mended = torch.tensor([index in self._corrected for index in members], device=logits.device)
        chosen = old | mended
        if not bool(chosen.any()):
            return logits.sum() * 0
        with torch.no_grad():
            answers = sampled_outputs(self._teacher, images[chosen], *sampled)[0].float()
        found = logits.sum() * 0
        if bool(old.any()):
            whole = distillation_loss(logits[old], answers[old[chosen]], self._temperature)
            found = found + self._weight * whole
        if bool(mended.any()):
            gaps = _divergence(logits[mended], answers[mended[chosen]], 1.0)
            unsaid = labels[mended] == IGNORE
            found = found + self._unlabelled * (gaps * unsaid).sum() / labels.numel()
        return found
