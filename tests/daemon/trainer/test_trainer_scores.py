from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.daemon.trainer import main
from dance_ondevice.daemon.trainer import scores as trainer_scores
from dance_ondevice.images import codec as images
from dance_ondevice.images.confusion import miou
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate

torch.set_num_threads(1)


class Model(nn.Module):
    """Sees class 1 where the picture is bright."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        bright = x.mean(dim=1, keepdim=True) - self.level
        return torch.cat([-bright, bright], dim=1)


@pytest.fixture
def gate(tmp_path: Path) -> list[tuple[str, TrainingSample]]:
    found = []
    for index in range(3):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        label = (image.mean(axis=2) > 120).astype(np.uint8)
        label[:4] = 255
        (tmp_path / f"{index}.png").write_bytes(images.encode_png(image))
        (tmp_path / f"{index}.label.png").write_bytes(images.encode_png(label))
        found.append(
            (f"s{index}", TrainingSample(tmp_path / f"{index}.png", tmp_path / f"{index}.label.png"))
        )
    return found


def test_the_counts_of_the_samples_sum_to_the_whole(gate: list[tuple[str, TrainingSample]]) -> None:
    model, normalisation = Model(0.2).eval(), Normalisation()
    card, counts = trainer_scores.score(model, gate, normalisation, 2)
    whole = evaluate(model, [sample for _, sample in gate], normalisation, 2)
    assert card.miou == pytest.approx(miou(whole))
    assert card.samples == 3
    assert [each.id for each in counts] == ["s0", "s1", "s2"]
    assert np.array_equal(np.sum([each.truth for each in counts], axis=0), whole.sum(axis=1))
    assert np.array_equal(np.sum([each.predicted for each in counts], axis=0), whole.sum(axis=0))
    assert np.array_equal(np.sum([each.hits for each in counts], axis=0), np.diag(whole))
    assert tuple(np.sum([each.truth for each in counts], axis=0)) == card.pixels_per_class


def test_the_fastest_of_each_model_counts_and_they_take_turns(gate: list[tuple[str, TrainingSample]]) -> None:
    live, candidate = Model(0.0).eval(), Model(0.0).eval()

    def ticks() -> Iterator[float]:
        # Each mask is two looks at the clock; live takes 5 ms and more, the candidate 3 ms and more.
        now = 0.0
        for turn in range(100):
            for least in (0.005, 0.003):
                yield now
                now += least + (0.004 if turn % 2 else 0.0)
                if turn:
                    yield now

    looks = ticks()
    threads = torch.get_num_threads()
    found = trainer_scores.time_masks(live, candidate, gate[0][1], Normalisation(), clock=lambda: next(looks))
    assert (found.live_ms, found.candidate_ms) == pytest.approx((5.0, 3.0))
    assert live.calls == candidate.calls > 2
    assert torch.get_num_threads() == threads


def test_a_round_that_goes_on_takes_the_scores_that_it_has(
    gate: list[tuple[str, TrainingSample]], tmp_path: Path
) -> None:
    model = Model(0.2).eval()
    job: Any = SimpleNamespace(out=str(tmp_path / "candidate"))

    def scored(of: list[tuple[str, TrainingSample]]) -> tuple[Any, Any]:
        return main._scored_once("live", job, of, lambda: trainer_scores.score(model, of, Normalisation(), 2))

    first, calls = scored(gate), model.calls
    assert scored(gate) == first
    assert model.calls == calls, "no sample is seen twice"
    # Other samples, as of another round, are scored.
    assert scored(gate[:2])[0].scores.samples == 2
    assert model.calls > calls
