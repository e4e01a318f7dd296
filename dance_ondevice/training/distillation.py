"""Distillation from the live model on old samples: a further term of the loss, against forgetting."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from dance_ondevice.models.forward import sampled_outputs
from dance_ondevice.training.losses import distillation_loss


class Distillation:
    """Keeps a model near a teacher's answers on some of the samples; made to be handed to ``Trainer``.

    The teacher's answers are worked out anew for each batch, since augmentation changes the images: it costs
    a forward pass over the old images of the batch.
    """

    def __init__(
        self, teacher: nn.Module, samples: Collection[int], *, weight: float, temperature: float = 2.0
    ) -> None:
        """``teacher`` is another object than the model in training, and runs in eval mode.

        Args:
            teacher: the model whose answers count.
            samples: indices of the samples that it answers for, in the trainer's order.
            weight: factor of this term beside the cross-entropy.
            temperature: see ``distillation_loss``.

        Raises:
            ValueError: the weight is negative or the temperature not above 0.
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
        """The term for one batch.

        Args:
            images: (N,3,H,W) as the model takes them.
            logits: (N,C,h,w) the model's, float32, as ``sampled_outputs`` gives them.
            members: index of the sample of each image.
            stride: of ``sampled_outputs``.
            offset: of ``sampled_outputs``.

        Returns:
            A scalar; 0 when the teacher answers for none of them.
        """
        chosen = torch.tensor([index in self._samples for index in members], device=logits.device)
        if not bool(chosen.any()):
            return logits.sum() * 0
        with torch.no_grad():
            answers = sampled_outputs(self._teacher, images[chosen], stride, offset)[0].float()
        return self._weight * distillation_loss(logits[chosen], answers, self._temperature)
