"""The trainer: it learns, counts, respects weights, and stops where the numbers end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NORMALISATION, SIZE, TinyNet, options, rectangles, same, state_of, tiny
from torch import Tensor

from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.confusion import miou
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.cost import count_macs, layer_macs
from dance_ondevice.models.registry import build
from dance_ondevice.training.batches import SampleError, TrainingSample
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.precision import measure_precision
from dance_ondevice.training.trainer import Trainer, TrainingDiverged, learning_rate_factor

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    return [rectangles(tmp_path, f"train{i}", i) for i in range(12)]


# Learning.


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_learns_to_segment(tmp_path: Path, samples: list[TrainingSample], precision: str) -> None:
    model = tiny()
    unseen = [rectangles(tmp_path, f"test{i}", 100 + i) for i in range(6)]
    before = miou(evaluate(model, unseen, NORMALISATION, 3))
    reports = list(Trainer(model, samples, options(steps=60, precision=precision), NORMALISATION))
    losses = [report.loss for report in reports]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])
    assert before < 0.5
    assert miou(evaluate(model, unseen, NORMALISATION, 3)) > 0.85


@pytest.mark.slow
def test_trains_the_real_architecture_on_odd_sizes(tmp_path: Path) -> None:
    sizes = ((47, 63), (47, 63), (47, 63), (33, 40))
    mixed = [rectangles(tmp_path, f"{i}", i, size) for i, size in enumerate(sizes)]
    model = build("fastscnn", 3)
    reports = list(Trainer(model, mixed, options(steps=4, batch_size=2), NORMALISATION))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert all(math.isfinite(report.loss) for report in reports)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


# Reports.


def test_reports_count_steps_samples_and_macs(samples: list[TrainingSample]) -> None:
    model = tiny()
    reports = list(Trainer(model, samples, options(steps=3, augment=False), NORMALISATION))
    macs = count_macs(model, *SIZE)
    assert [(r.step, r.steps, r.samples_seen, r.macs) for r in reports] == [
        (n, 3, 4 * n, 3 * 4 * n * macs) for n in (1, 2, 3)
    ]


def test_frozen_layers_cost_no_backward_pass(samples: list[TrainingSample]) -> None:
    model = tiny()
    model.body.requires_grad_(False)
    (report,) = Trainer(model, samples, options(steps=1, augment=False), NORMALISATION)
    macs = layer_macs(model, *SIZE)
    assert report.macs == 4 * (3 * sum(macs.values()) - 2 * macs["body.0"])


def test_small_samples_cost_less(tmp_path: Path) -> None:
    def macs(scale: float) -> int:
        (report,) = Trainer(
            tiny(), [rectangles(tmp_path, "a", 0, (64, 64), scale=scale)], options(steps=1), NORMALISATION
        )
        return report.macs

    assert macs(0.5) * 4 == macs(1.0)


def test_model_is_in_eval_mode_between_steps(samples: list[TrainingSample]) -> None:
    model = tiny()
    for _ in Trainer(model, samples, options(steps=2), NORMALISATION):
        assert not any(module.training for module in model.modules())


# The loss.


def gradient(samples: list[TrainingSample]) -> Tensor:
    """What one step moves, to first order: the gradient that the trainer left behind."""
    model = tiny(auxiliary=False)
    model.body[3].p = 0.0
    trainer = Trainer(
        model,
        samples,
        options(steps=1, augment=False, class_weighting=False, max_gradient_norm=1e9),
        NORMALISATION,
    )
    list(trainer)
    assert model.head.weight.grad is not None
    return model.head.weight.grad.flatten().clone()


def test_sample_weights_change_the_gradient(samples: list[TrainingSample]) -> None:
    pair = samples[:2]
    plain = gradient(pair)
    first = gradient([replace(pair[0], weight=1.0), replace(pair[1], weight=0.0)])
    second = gradient([replace(pair[0], weight=0.0), replace(pair[1], weight=1.0)])
    assert not torch.allclose(first, second)
    assert torch.allclose(first + second, plain, atol=1e-6)
    assert torch.allclose(gradient([replace(s, weight=3.0) for s in pair]), 3 * plain, rtol=1e-4, atol=1e-6)


def test_class_weighting_is_used(samples: list[TrainingSample]) -> None:
    losses = {
        on: next(iter(Trainer(tiny(), samples, options(class_weighting=on), NORMALISATION))).loss
        for on in (True, False)
    }
    assert losses[True] != losses[False]


def test_auxiliary_outputs_are_trained(samples: list[TrainingSample]) -> None:
    moved = {}
    for weight in (0.4, 0.0):
        model = tiny()
        assert model.auxiliary is not None
        before = model.auxiliary.weight.clone()
        list(Trainer(model, samples, options(auxiliary_weight=weight, weight_decay=0.0), NORMALISATION))
        moved[weight] = not torch.equal(before, model.auxiliary.weight)
    assert moved == {0.4: True, 0.0: False}


# Where the numbers end.


def blank(folder: Path, name: str) -> TrainingSample:
    """A sample without a labelled pixel."""
    sample = rectangles(folder, name, 0)
    sample.label.write_bytes(encode_png(np.full(SIZE, IGNORE, np.uint8)))
    return sample


def test_unlabelled_batches_are_skipped(tmp_path: Path) -> None:
    model = tiny()
    before = state_of(model)
    trainer = Trainer(model, [blank(tmp_path, f"{i}") for i in range(3)], options(), NORMALISATION)
    assert list(trainer) == []
    assert trainer.step == trainer.options.steps
    assert same(before, state_of(model))


def test_unlabelled_samples_among_others_do_no_harm(tmp_path: Path, samples: list[TrainingSample]) -> None:
    mixed = [blank(tmp_path, f"blank{i}") for i in range(12)] + samples[:2]
    model = tiny()
    reports = list(Trainer(model, mixed, options(steps=12, batch_size=2), NORMALISATION))
    assert 0 < len(reports) < 12
    assert all(math.isfinite(report.loss) for report in reports)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_one_sample_is_enough(samples: list[TrainingSample]) -> None:
    model = build("fastscnn", 3)
    (report,) = Trainer(model, samples[:1], options(steps=1, batch_size=1), NORMALISATION)
    assert report.samples_seen == 2
    assert math.isfinite(report.loss)


class Broken(TinyNet):
    """Gives NaN from the third forward pass in training mode on."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.training:
            self.calls += 1
        found = super().forward(x)
        return (
            (found[0] * (math.nan if self.calls >= 3 else 1.0), found[1])
            if isinstance(found, tuple)
            else found
        )


def test_nan_is_told_and_the_weights_stay_good(samples: list[TrainingSample]) -> None:
    model = Broken()
    trainer = Trainer(model, samples, options(), NORMALISATION)
    steps = iter(trainer)
    next(steps)
    next(steps)
    good = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(TrainingDiverged, match="step 3 of 6: the loss is nan"):
        next(steps)
    assert all(torch.equal(good[name], p) for name, p in model.named_parameters())
    assert not model.training


def test_a_file_that_goes_missing_is_named(samples: list[TrainingSample]) -> None:
    trainer = Trainer(tiny(), samples, options(), NORMALISATION)
    for sample in samples:
        sample.image.unlink()
    with pytest.raises(SampleError, match=r"train\d+\.jpg"):
        list(trainer)


# Schedule, precision, options.


def test_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1
    assert np.argmax(factors) == 10
    assert (np.diff(factors[:11]) > 0).all()
    assert (np.diff(factors[10:]) < 0).all()
    assert 0 < factors[-1] < 0.03
    assert learning_rate_factor(0, 1, 0.1) == 1


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"), [(1.0, 0.5, "bf16"), (1.0, 0.95, "fp32"), (1.0, 2.0, "fp32")]
)
def test_precision_is_the_faster_one_by_a_margin(fp32: float, bf16: float, chosen: str) -> None:
    moments = iter(np.cumsum([step for seconds in (fp32, bf16) for _ in range(3) for step in (0.0, seconds)]))
    model = tiny()
    before, dice = state_of(model), torch.random.get_rng_state()
    assert measure_precision(model, SIZE, 2, steps=2, clock=lambda: float(next(moments))) == chosen
    assert same(before, state_of(model))
    assert torch.equal(dice, torch.random.get_rng_state())
    assert not model.training


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup": 1.0}, "warmup"),
        ({"precision": "fp8"}, "precision"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_options(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        options(**fields)
