from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.training.losses import Distillation, distillation_loss

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


class Linear(nn.Module):
    """(N,3,H,W) -> (N,2,H,W), one matrix for all pixels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def labels(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.zeros(count, side, side, dtype=torch.uint8)


def test_it_is_the_divergence_from_the_teacher_at_a_temperature() -> None:
    student = torch.tensor([[[[1.0]], [[0.0]]]])
    teacher = torch.tensor([[[[0.0]], [[2.0]]]])
    p = torch.softmax(torch.tensor([0.0, 1.0]), 0)
    q = torch.softmax(torch.tensor([0.5, 0.0]), 0)
    expected = 4 * float((p * (p / q).log()).sum())
    found = distillation_loss(student, teacher, temperature=2.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(teacher, teacher)) == pytest.approx(0.0, abs=1e-6)


def test_only_the_samples_that_the_teacher_answers_for_pull() -> None:
    student, teacher = Linear(0), Linear(1)
    distillation = Distillation(teacher, {7, 9}, weight=0.5)
    x = images()
    logits = student(x)
    loss = distillation(x, logits, labels(), (7, 8, 9))
    chosen = torch.tensor([True, False, True])
    assert loss.item() == pytest.approx(
        0.5 * distillation_loss(logits[chosen], teacher(x)[chosen]).item(), rel=1e-5
    )
    grad = torch.autograd.grad(loss, logits)[0]
    assert float(grad[1].abs().sum()) == 0.0
    assert float(grad[0].abs().sum()) > 0.0
    none = distillation(x, student(x), labels(), (1, 2, 3))
    assert none.item() == 0.0
    none.backward()  # a batch without old samples trains like any other


def test_the_teacher_learns_nothing_and_the_student_comes_nearer() -> None:
    student, teacher = Linear(0), Linear(1)
    before = [p.clone() for p in teacher.parameters()]
    distillation = Distillation(teacher, range(3), weight=1.0)
    optimiser = torch.optim.SGD([*student.parameters()], lr=0.1)
    x = images()
    losses = []
    for _ in range(30):
        loss = distillation(x, student(x), labels(), (0, 1, 2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


@pytest.mark.parametrize(
    "bad",
    [{"weight": -1.0}, {"weight": 1.0, "temperature": 0.0}, {"weight": 0.0, "unlabelled": -1.0}],
)
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Distillation(Linear(0), (), **bad)


def test_at_a_pixel_of_every_square_the_teacher_answers_for_the_same_pixels() -> None:
    student, teacher = Linear(0), Linear(1)
    x = images()
    logits = student(x)[..., 1::2, 0::2]
    loss = Distillation(teacher, range(3), weight=1.0)(x, logits, labels(side=16), (0, 1, 2), (2, (1, 0)))
    answers = teacher(x)[..., 1::2, 0::2]
    assert loss.item() == pytest.approx(distillation_loss(logits, answers).item(), rel=1e-5)


def test_unlabelled_pixels_of_corrected_samples_are_held_to_the_teacher_and_no_others() -> None:
    student, teacher = Linear(0), Linear(1)
    held = Distillation(teacher, {0}, weight=0.0, corrected={1, 2}, unlabelled=3.0)
    x, said = images(), labels()
    said[:, :, 8:] = IGNORE
    said[2] = IGNORE
    logits = student(x)
    loss = held(x, logits, said, (0, 1, 9))  # the third image is of another sample
    gap = distillation_loss(logits[1:2, :, :, 8:], teacher(x)[1:2, :, :, 8:], temperature=1.0)
    assert loss.item() == pytest.approx(3.0 * gap.item() * (24 / 32) / 3, rel=1e-5)
    grad = torch.autograd.grad(loss, logits)[0].abs().sum(dim=1)
    assert float(grad[0].sum() + grad[2].sum() + grad[1, :, :8].sum()) == 0.0
    assert bool((grad[1, :, 8:] > 0).any())
    assert held(x, logits, labels(), (1, 2, 1)).item() == 0.0  # where all is labelled nothing is left to hold
