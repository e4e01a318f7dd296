"""Distillation from the live model on old samples: a second term of the loss that reduces forgetting."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from dance_ondevice.models.forward import sampled_outputs
from dance_ondevice.training.losses import distillation_loss


class Distillation:
    """Keeps a model close to a teacher's predictions on some of the samples; an argument of ``Trainer``.

    The teacher predicts each batch anew, since augmentation changes the images: this costs a forward pass
    over the old images of the batch.
    """

    def __init__(
        self, teacher: nn.Module, samples: Collection[int], *, weight: float, temperature: float = 2.0
    ) -> None:
        """Set the teacher to eval mode; it must not be the model in training.

        Args:
            teacher: Model whose predictions are the target.
            samples: Indices of the old samples, in the trainer's order.
            weight: Factor of this term relative to the cross-entropy.
            temperature: See ``distillation_loss``.

        Raises:
            ValueError: The weight is negative or the temperature not above 0.
        """
        if not weight >= 0:
            raise ValueError(f"the weight of distillation is {weight}; it must be 0 or more")
        if not temperature > 0:
            raise ValueError(f"the temperature is {temperature}; it must be above 0")
        self._teacher = teacher.eval().requires_grad_(False)
        self._samples = frozenset(samples)
        self._weight = weight
        self._temperature = temperature

    def __call__(
        self,
        images: Tensor,
        logits: Tensor,
        members: Sequence[int],
        stride: int = 1,
        offset: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Compute the term for one batch.

        Args:
            images: Normalised images (N,3,H,W).
            logits: The model's logits (N,C,h,w), float32, from ``sampled_outputs``.
            members: Index of the sample of each image.
            stride: Stride of ``sampled_outputs``.
            offset: Offset of ``sampled_outputs``.

        Returns:
            A scalar; 0 if the batch has no old sample.
        """
        chosen = torch.tensor([index in self._samples for index in members], device=logits.device)
        if not bool(chosen.any()):
            return logits.sum() * 0
        with torch.no_grad():
            answers = sampled_outputs(self._teacher, images[chosen], stride, offset)[0].float()
        return self._weight * distillation_loss(logits[chosen], answers, self._temperature)
