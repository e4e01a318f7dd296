"""AdamW by torch's fused kernel, without the import of torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101).

    It equals ``torch.optim.AdamW(fused=True)`` to the bit. Any optimiser of ``torch.optim`` imports
    torch's compiler when it is made, which takes as long as importing torch: a cost of every round.

    Attributes:
        learning_rate: Learning rate of the next step.
        state: Parameter -> its number of steps ("step", a scalar) and moments ("exp_avg", "exp_avg_sq", of
            its shape); empty before its first step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float) -> None:
        """Begin without moments.

        Args:
            parameters: Parameters to train.
            weight_decay: Weight decay of parameters of two or more dimensions; biases and scales have none.
        """
        self.learning_rate = 0.0
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self._parameters = list(parameters)
        self._groups: dict[tuple[float, torch.device, torch.dtype], list[nn.Parameter]] = {}
        for one in self._parameters:
            key = (weight_decay if one.ndim > 1 else 0.0, one.device, one.dtype)
            self._groups.setdefault(key, []).append(one)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for one in self._parameters:
            one.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change all parameters that have a gradient, in place."""
        for (weight_decay, _, _), group in self._groups.items():
            gradients = {one: one.grad for one in group if one.grad is not None}
            if not gradients:
                continue
            moments = [self._state_of(one) for one in gradients]
            steps = [each["step"] for each in moments]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                list(gradients),
                list(gradients.values()),
                [each["exp_avg"] for each in moments],
                [each["exp_avg_sq"] for each in moments],
                [],
                steps,
                lr=self.learning_rate,
                beta1=_BETA1,
                beta2=_BETA2,
                weight_decay=weight_decay,
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if not self.state.get(parameter):
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
        return self.state[parameter]
