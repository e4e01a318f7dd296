"""Training as an iterator over optimiser steps, which the caller may stop after any step.

No threads, no clock: batches are decoded where they are used; stopping, saving and resuming are the caller's.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.cost import training_macs
from dance_ondevice.models.forward import channels_last, sampled_outputs
from dance_ondevice.training.adamw import AdamW
from dance_ondevice.training.batches import (
    Batch,
    BatchOptions,
    BatchPlan,
    Image,
    TrainingSample,
    class_frequencies,
)
from dance_ondevice.training.decoded import Decoded
from dance_ondevice.training.losses import class_weights, weighted_cross_entropy
from dance_ondevice.training.precision import GradientScaler, Precision, autocast, exact_layers
from dance_ondevice.training.state import StateError, TrainingState, read_state, write_state

__all__ = ["Moments", "StepReport", "Trainer", "TrainingDiverged", "TrainingOptions", "learning_rate_factor"]

log = logging.getLogger(__name__)

#: (images (N,3,H,W), logits (N,C,h,w), labels (N,h,w), index of each image's sample, stride and offset of the
#: logits among the pixels, see ``sampled_outputs``) -> a scalar.
FurtherLoss = Callable[[Tensor, Tensor, Tensor, Sequence[int], tuple[int, tuple[int, int]]], Tensor]
#: Parameter name -> AdamW's "step", "exp_avg" and "exp_avg_sq".
Moments = Mapping[str, Mapping[str, Tensor]]

#: Side of the squares of which the loss uses one pixel, another one each step. Logits are far coarser than
#: pixels, so hardly any accuracy is lost, and a step on a CPU is faster.
_LOSS_STRIDE = 2
#: What the names of tensors in a saved training begin with; ``optimiser.`` is followed by a moment's name.
_WEIGHT, _MOMENT = "model.", "optimiser."
#: Name of the factor by which gradients are scaled in fp16.
_GRADIENT_SCALE = "gradient_scale"


class TrainingDiverged(RuntimeError):  # noqa: N818 - the name says what happened
    """The loss or the gradient is no longer finite; the weights are those of the last good step."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(BatchOptions):
    """Options of a training; for those of the batches see ``BatchOptions``.

    Attributes:
        steps: Optimiser steps of the whole training.
        learning_rate: AdamW's, at the end of the warm-up.
        weight_decay: AdamW's, of convolution and linear weights; none for biases and normalisation.
        warmup: Share of the steps in which the learning rate rises from 0; then it falls to 0 with the power
            0.9 of the steps left ("poly").
        auxiliary_weight: Of every further output of a model that returns several while training.
        class_weighting: Weight classes by their rarity in the training labels.
        max_gradient_norm: Longer gradients are shortened to this.
        precision: fp32, or bf16 or fp16 for the convolutions (autocast); fp16 with scaled gradients.
        span: (start, end) of these steps in a longer training, in [0, 1]: the learning rate follows the whole
            training's course, of which this is a part.
    """

    steps: int
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    auxiliary_weight: float = 0.4
    class_weighting: bool = True
    max_gradient_norm: float = 5.0
    precision: Precision = "fp32"
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be 1 or more")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it must be in [0, 1)")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise ValueError(f"precision is {self.precision!r}; it must be 'fp32', 'bf16' or 'fp16'")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ValueError(f"span is {self.span}; it must be (start, end) with 0 <= start < end <= 1")

    def rate(self, step: int) -> float:
        """Learning rate of ``step``, counted from 0 within the span."""
        start, end = self.span
        whole = self.steps / (end - start)
        return self.learning_rate * learning_rate_factor(start * whole + step, whole, self.warmup)


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes:
        step: Number of the step, from 1.
        steps: Steps of the whole training.
        loss: Of this step's batch, class and sample weights included.
        samples_seen: Images trained on so far, repetitions counted.
        macs: Multiply-accumulates so far, ``dance_ondevice.models.cost.training_macs`` an image.
    """

    step: int
    steps: int
    loss: float
    samples_seen: int
    macs: int


class Trainer:
    """Trains a model in place.

    Iterate over it: every item is one optimiser step that has been done; stop iterating whenever you like and
    go on by iterating again. Between steps the model is in eval mode: it can be evaluated or saved as it is.
    Steps depend on the samples, the options and the model alone: not on the global random state, and not on
    whether they were interrupted by ``save_state`` and ``load_state``.

    Runs on the device that the model is on. Not thread-safe.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Sequence[TrainingSample],
        options: TrainingOptions,
        normalisation: Normalisation,
        *,
        distillation: FurtherLoss | None = None,
        after_backward: Callable[[], None] | None = None,
        decoded: Decoded | None = None,
        resting: Sequence[nn.Module] = (),
    ) -> None:
        """Plan the batches and weigh the classes (reads every label, and image headers without ``size``).

        ``distillation`` gives a further term of the loss: see ``losses.Distillation``.
        ``after_backward`` may look at the gradients of a step and change them, before they are clipped.
        ``decoded`` keeps decoded images and labels; None: as many as ``Decoded`` does by default.
        ``resting`` are parts of the model that work as in inference: with their own statistics, unchanged.

        Raises:
            SampleError: A sample cannot be used.
            ValueError: There are no samples.
        """
        self.model = channels_last(model)
        self.options = options
        decoded = decoded if decoded is not None else Decoded()
        self.plan = BatchPlan(samples, options, decoded)
        self._distillation = distillation
        self._after_backward = after_backward
        self._resting = tuple(resting)
        self.step = 0
        self._samples_seen = 0
        self._macs = 0
        self._macs_by_size: dict[tuple[int, int], int] = {}
        self._device = next(model.parameters()).device
        self._scale = torch.tensor([1.0 / (255.0 * s) for s in normalisation.std])
        self._shift = torch.tensor(
            [-m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)]
        )
        frequencies = class_frequencies(samples, options.num_classes, decoded)
        weights = class_weights(frequencies) if options.class_weighting else np.ones_like(frequencies)
        self._class_weights = torch.tensor(weights, dtype=torch.float32, device=self._device)
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimiser = AdamW(self._parameters.values(), weight_decay=options.weight_decay)
        self._scaler = GradientScaler(enabled=options.precision == "fp16")

    def __iter__(self) -> Iterator[StepReport]:
        """Do the steps that are left.

        A batch without a labelled pixel uses up its step but changes nothing and yields nothing.

        Raises:
            TrainingDiverged: The loss or the gradient is not finite; the model keeps its last weights.
            SampleError: A file went missing or is damaged.
        """
        while self.step < self.options.steps:
            batch = self.plan.load(self.step)
            if not (batch.labels != IGNORE).any():
                log.info("batch skipped step=%d reason=no_labelled_pixels", self.step + 1)
                self.step += 1
                continue
            loss = self._advance(batch)
            self.step += 1
            self._samples_seen += len(batch.weights)
            self._macs += self._training_macs(batch.images.shape[1:3]) * len(batch.weights)
            yield StepReport(self.step, self.options.steps, loss, self._samples_seen, self._macs)

    @property
    def samples_seen(self) -> int:
        """Images trained on so far, repetitions counted."""
        return self._samples_seen

    @property
    def macs(self) -> int:
        """Multiply-accumulates so far."""
        return self._macs

    def save_state(self, directory: Path) -> None:
        """Write weights, optimiser moments and counters, so that a kill at any instant leaves a usable state.

        Args:
            directory: Made when missing; an older state in it is replaced.
        """
        tensors = {f"{_WEIGHT}{name}": value for name, value in self.model.state_dict().items()}
        for name, moments in self.moments().items():
            tensors.update({f"{_MOMENT}{key}.{name}": value for key, value in moments.items()})
        tensors[_GRADIENT_SCALE] = torch.tensor(self._scaler.scale)
        state = TrainingState(self._fingerprint(), self.step, self._samples_seen, self._macs)
        write_state(directory, state, tensors)

    def load_state(self, directory: Path) -> None:
        """Resume the training that ``save_state`` saved.

        Raises:
            StateError: There is no state, it is damaged, or it was saved by a training with another model,
                other samples or other options.
        """
        state, tensors = read_state(directory)
        if state.fingerprint != self._fingerprint():
            raise StateError(
                f"{directory}: the saved training used other samples, options or model shapes; start afresh"
            )
        weights = {name[len(_WEIGHT) :]: x for name, x in tensors.items() if name.startswith(_WEIGHT)}
        self.model.load_state_dict(weights)
        moments: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(_MOMENT):
                key, parameter = name[len(_MOMENT) :].split(".", 1)
                moments.setdefault(parameter, {})[key] = value
        self.adopt_moments(moments)
        if _GRADIENT_SCALE in tensors:
            self._scaler.scale = float(tensors[_GRADIENT_SCALE])
        self.step, self._samples_seen, self._macs = state.step, state.samples_seen, state.macs

    def moments(self) -> Moments:
        """The optimiser's state by parameter name, for a training that goes on with a slimmed model."""
        return {
            name: dict(state)
            for name, parameter in self._parameters.items()
            if (state := self._optimiser.state.get(parameter))
        }

    def adopt_moments(self, moments: Moments) -> None:
        """Copy an optimiser's state; parameters that it does not contain start without moments.

        Args:
            moments: Tensors as ``moments`` gives them: "step" a scalar, the others of the parameter's shape.

        Raises:
            ValueError: A moment has another shape than its parameter; it names the parameter.
        """
        self._optimiser.state.clear()
        for name, state in moments.items():
            parameter = self._parameters.get(name)
            if parameter is None:
                continue
            for key, value in state.items():
                if key != "step" and value.shape != parameter.shape:
                    raise ValueError(
                        f"the moment {key} of {name} has shape {tuple(value.shape)}, "
                        f"the parameter {tuple(parameter.shape)}"
                    )
                like = value if key == "step" else parameter
                own = torch.empty_like(like, device=parameter.device, requires_grad=False)
                self._optimiser.state.setdefault(parameter, {})[key] = own.copy_(value)

    def probe(self, step: int) -> None:
        """Leave the gradients of batch ``step`` in the parameters, without a step of the optimiser.

        Normalisation statistics see the batch as in training.
        """
        self._backward(self.plan.load(step), step)

    def _advance(self, batch: Batch) -> float:
        """Do one optimiser step and return the loss."""
        options = self.options
        rate = options.rate(self.step)
        self._optimiser.learning_rate = rate
        value = self._backward(batch, self.step)
        if self._after_backward is not None:
            self._after_backward()
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), options.max_gradient_norm))
        if math.isfinite(value) and self._scaler.overflowed(norm):
            return value  # fp16 could not hold the gradients: this batch changes nothing
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"step {self.step + 1} of {options.steps}: the loss is {value:g}, the length of the gradient "
                f"{norm:g}; try a lower learning rate (it was {rate:g})"
            )
        self._optimiser.step()
        return value

    def _backward(self, batch: Batch, step: int) -> float:
        """Compute the gradients of a batch and return the loss."""
        options = self.options
        images = self._images(batch.images)
        rng = np.random.default_rng((options.seed, 2, step))
        top, left = (min(int(rng.integers(_LOSS_STRIDE)), side - 1) for side in batch.labels.shape[1:])
        looked_at = np.ascontiguousarray(batch.labels[:, top::_LOSS_STRIDE, left::_LOSS_STRIDE])
        labels = torch.from_numpy(looked_at).to(self._device)
        weights = torch.from_numpy(batch.weights).to(self._device)
        with self._in_training_mode():
            with torch.random.fork_rng(devices=[]), autocast(self.model, options.precision):
                torch.manual_seed(int(rng.integers(2**63)))  # for dropout
                heads = sampled_outputs(self.model, images, _LOSS_STRIDE, (top, left))
            losses = [
                weighted_cross_entropy(head.float(), labels, weights, self._class_weights) for head in heads
            ]
            loss = losses[0]
            for auxiliary in losses[1:]:
                loss = loss + options.auxiliary_weight * auxiliary
            if self._distillation is not None:
                members = self.plan.members(step)[1]
                sampled = (_LOSS_STRIDE, (top, left))
                loss = loss + self._distillation(images, heads[0].float(), labels, members, sampled)
            self._optimiser.zero_grad()
            (loss * self._scaler.scale).backward()  # type: ignore[no-untyped-call]  # it has no types
        self._scaler.unscale(self._parameters.values())
        return float(loss.detach())

    @contextlib.contextmanager
    def _in_training_mode(self) -> Iterator[None]:
        """Around forward and backward pass: checkpointed blocks run once more in the latter."""
        self.model.train()
        for part in self._resting:
            part.eval()
        try:
            with exact_layers(self.model, self.options.precision):
                yield
        finally:
            self.model.eval()

    def _images(self, bgr: Image) -> Tensor:
        """(N,H,W,3) uint8 BGR to normalised (N,3,H,W) float32 RGB, channels last in memory."""
        import cv2  # on use: its pixel limit is read at its first import, see images.codec.limit_pixels

        count, height, width, _ = bgr.shape
        rgb = cv2.cvtColor(bgr.reshape(count * height, width, 3), cv2.COLOR_BGR2RGB)
        rows = torch.from_numpy(rgb).to(self._device).view(count, height, 3 * width).float()
        # Whole rows at a time: three values at a time take several times as long.
        scale, shift = (x.repeat(width).to(self._device) for x in (self._scale, self._shift))
        return rows.mul_(scale).add_(shift).view(count, height, width, 3).permute(0, 3, 1, 2)

    def _training_macs(self, size: tuple[int, int]) -> int:
        if size not in self._macs_by_size:
            self._macs_by_size[size] = training_macs(self.model, *size)
        return self._macs_by_size[size]

    def _fingerprint(self) -> str:
        """Digest of what the remaining steps depend on: options, samples and shapes of the model."""
        samples = [(s.image.name, s.label.name, s.weight, s.scale, s.void) for s in self.plan.samples]
        shapes = [(name, tuple(value.shape)) for name, value in self.model.state_dict().items()]
        return hashlib.sha256(repr((self.options, samples, shapes)).encode()).hexdigest()


def learning_rate_factor(step: float, steps: float, warmup: float) -> float:
    """Factor of the learning rate at ``step`` (from 0): linear warm-up, then "poly" decay, in (0, 1].

    The decay ``(1 - t) ** 0.9`` is that of DeepLab (Chen et al. 2017, arXiv 1606.00915, section 4.1).
    """
    rising = math.floor(steps * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    return float((1 - (step - rising) / (steps - rising)) ** 0.9)
