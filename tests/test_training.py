"""The trainer: it learns, resumes exactly, respects weights, and stops where the numbers end."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dance_ondevice.evaluation import evaluate, miou
from dance_ondevice.images import encode_jpeg, encode_png
from dance_ondevice.labels import IGNORE
from dance_ondevice.models.cost import count_macs, layer_macs
from dance_ondevice.models.forward import Normalisation
from dance_ondevice.models.registry import build
from dance_ondevice.training import (
    SampleError,
    StateError,
    Trainer,
    TrainingDiverged,
    TrainingOptions,
    TrainingSample,
    class_weights,
    learning_rate_factor,
    measure_precision,
    weighted_cross_entropy,
)

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

SIZE = (48, 64)
NORMALISATION = Normalisation()


class TinyNet(nn.Module):
    """Two convolutions with normalisation, dropout, and an auxiliary output while training."""

    def __init__(self, classes: int = 3, *, auxiliary: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)
        )
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)
        self.auxiliary = nn.Conv2d(8, classes, 1) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        shallow = self.body(x)
        logits = self.head(self.deep(shallow))
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(shallow)
        return logits


def tiny(seed: int = 0, **arguments: bool) -> TinyNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyNet(**arguments).eval()


def rectangles(
    folder: Path, name: str, seed: int, size: tuple[int, int] = SIZE, **fields: float
) -> TrainingSample:
    """Red and blue rectangles (classes 1 and 2) on green noise (class 0), with a border to ignore."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    image[..., 1] += 120
    label = np.zeros(size, np.uint8)
    for class_id, channel in ((1, 2), (2, 0)):
        top, left = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
        box = np.s_[top : top + size[0] // 3, left : left + size[1] // 3]
        image[box] = rng.integers(0, 60, image[box].shape, dtype=np.uint8)
        image[(*box, channel)] += 150
        label[box] = class_id
    label[:2] = IGNORE
    (folder / f"{name}.jpg").write_bytes(encode_jpeg(image))
    (folder / f"{name}.png").write_bytes(encode_png(label))
    return TrainingSample(folder / f"{name}.jpg", folder / f"{name}.png", **fields)


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    return [rectangles(tmp_path, f"train{i}", i) for i in range(12)]


def options(**fields: object) -> TrainingOptions:
    return replace(TrainingOptions(steps=6, num_classes=3, batch_size=4, learning_rate=0.02), **fields)  # type: ignore[arg-type]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Learning.


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
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


# Determinism and resuming.


def test_the_same_training_gives_the_same_weights_whatever_the_global_state(
    samples: list[TrainingSample],
) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = tiny()
        before = torch.random.get_rng_state()
        list(Trainer(model, samples, options(), NORMALISATION))
        assert torch.equal(torch.random.get_rng_state(), before)
        results.append(state_of(model))
    assert same(*results)
    other = tiny()
    list(Trainer(other, samples, options(seed=1), NORMALISATION))
    assert not same(results[0], state_of(other))


@pytest.mark.parametrize("killed_at", [0, 1, 3, 5, 6])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resuming_equals_never_having_stopped(
    tmp_path: Path, samples: list[TrainingSample], killed_at: int, precision: str
) -> None:
    chosen = options(precision=precision)
    whole = tiny()
    expected = [report.loss for report in Trainer(whole, samples, chosen, NORMALISATION)]

    first = Trainer(tiny(), samples, chosen, NORMALISATION)
    losses = [report.loss for report in islice(first, killed_at)]
    first.save_state(tmp_path / "state")

    model = tiny(seed=9)
    second = Trainer(model, samples, chosen, NORMALISATION)
    second.load_state(tmp_path / "state")
    reports = list(second)
    assert losses + [report.loss for report in reports] == expected
    assert same(state_of(model), state_of(whole))
    if reports:
        assert reports[-1].samples_seen == 4 * chosen.steps


def test_iterating_again_goes_on(samples: list[TrainingSample]) -> None:
    whole, stopped = tiny(), tiny()
    list(Trainer(whole, samples, options(), NORMALISATION))
    trainer = Trainer(stopped, samples, options(), NORMALISATION)
    for report in trainer:
        if report.step == 2:
            break
    assert [report.step for report in trainer] == [3, 4, 5, 6]
    assert same(state_of(whole), state_of(stopped))


def test_state_is_replaced_and_old_files_go(tmp_path: Path, samples: list[TrainingSample]) -> None:
    trainer = Trainer(tiny(), samples, options(), NORMALISATION)
    trainer.save_state(tmp_path / "state")
    (tmp_path / "state" / ".state-1-0.safetensors.7.part").write_bytes(b"of a killed process")
    for _ in trainer:
        trainer.save_state(tmp_path / "state")
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_state_of_another_training_is_refused(tmp_path: Path, samples: list[TrainingSample]) -> None:
    Trainer(tiny(), samples, options(), NORMALISATION).save_state(tmp_path)
    for trainer in (
        Trainer(tiny(), samples, options(seed=5), NORMALISATION),
        Trainer(tiny(), samples[1:], options(), NORMALISATION),
        Trainer(tiny(), [replace(s, weight=2.0) for s in samples], options(), NORMALISATION),
        Trainer(tiny(auxiliary=False), samples, options(), NORMALISATION),
    ):
        with pytest.raises(StateError, match="start afresh"):
            trainer.load_state(tmp_path)


@pytest.mark.parametrize(
    "damage", ["nothing there", "cut tensors", "other tensors", "no tensors", "not json"]
)
def test_damaged_state_is_refused(tmp_path: Path, samples: list[TrainingSample], damage: str) -> None:
    trainer = Trainer(tiny(), samples, options(), NORMALISATION)
    if damage != "nothing there":
        trainer.save_state(tmp_path / "state")
        (tensors,) = (tmp_path / "state").glob("*.safetensors")
        if damage == "cut tensors":
            tensors.write_bytes(tensors.read_bytes()[:-10])
        elif damage == "other tensors":
            tensors.write_bytes(b"\0" + tensors.read_bytes()[1:])
        elif damage == "no tensors":
            tensors.unlink()
        else:
            (tmp_path / "state" / "state.json").write_text("{")
    model_before = state_of(trainer.model)
    with pytest.raises(StateError, match="state"):
        trainer.load_state(tmp_path / "state")
    assert same(model_before, state_of(trainer.model))


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


def test_weighted_cross_entropy_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(2, 3, 4, 5)), dtype=torch.float32)
    labels = torch.tensor(rng.choice([0, 1, 2, IGNORE], size=(2, 4, 5)).astype(np.uint8))
    weights, classes = torch.tensor([0.5, 1.5]), torch.tensor([1.0, 2.0, 5.0])
    above, below = 0.0, 0.0
    logarithms = logits.log_softmax(dim=1)
    for i, y, x in np.ndindex(2, 4, 5):
        target = int(labels[i, y, x])
        if target != IGNORE:
            above -= float(weights[i] * classes[target] * logarithms[i, target, y, x])
            below += float(classes[target])
    assert float(weighted_cross_entropy(logits, labels, weights, classes)) == pytest.approx(
        above / below, rel=1e-5
    )


def test_loss_of_nothing_labelled_is_zero_and_has_no_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = weighted_cross_entropy(logits, labels, torch.ones(2), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_class_weights() -> None:
    frequencies = np.array([0.9, 0.09, 0.01, 0.0])
    weights = class_weights(frequencies)
    assert (np.diff(weights) >= 0).all()
    assert (weights * frequencies).sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(math.log(1.02 + 0.9) / math.log(1.02 + 0.09))
    assert weights.max() / weights.min() <= 10 + 1e-9
    assert np.isfinite(class_weights(np.zeros(3))).all()


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
        ({"precision": "fp16"}, "precision"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_options(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        options(**fields)
