"""What a variant's round decides and what it counts: a made-up round on a real, tiny model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch

from dance_ondevice.benchmarks.stream import verdicts
from dance_ondevice.benchmarks.stream.life import Life
from dance_ondevice.benchmarks.stream.rounds import Recipe, RoundLog, Rounds, Trained
from dance_ondevice.benchmarks.stream.scoring import Scorer
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.benchmarks.stream.streams import Segment, Stream
from dance_ondevice.benchmarks.stream.tools import Tools, between
from dance_ondevice.benchmarks.stream.variants import Variant
from dance_ondevice.benchmarks.stream.weights import Weights, weights_of
from dance_ondevice.complexity import make_indicator
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models.card import Normalisation
from dance_ondevice.policies.promotion import nearer
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.pretraining import render_street

SIZE = (48, 64)


class OneRound:
    """Trains nothing: each round comes to the same weights."""

    def __init__(self, end: Weights) -> None:
        self._end = end

    def run(self, *_: object, **__: object) -> Trained:
        return Trained(self._end, RoundLog(steps=1, cpu_seconds=0.0, macs=0))


@pytest.mark.parametrize(("too_much", "share", "scored"), [(False, 0.5, 2), (True, 0.25, 3)])
def test_a_nearer_candidate_is_judged_where_one_costs_too_much_and_both_count(
    too_much: bool, share: float, scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Conv2d(3, len(STREET_CLASSES), 1)
    frames = tuple(render_street(tmp_path / "frames", range(6), ("day",), seed=1, size=SIZE))
    start = weights_of(model)
    end = Weights({name: tensor + 1 for name, tensor in start.tensors.items()})
    seconds = itertools.count()
    tools = Tools(
        stream=Stream(
            name="street",
            about="",
            classes=STREET_CLASSES,
            size=SIZE,
            segments=(Segment(name="day", task="day", frames=frames),),
            tests={"day": frames[:1]},
            base=frames,
        ),
        base=start,
        scorer=Scorer(
            model,
            Normalisation(),
            len(STREET_CLASSES),
            tmp_path / "scores",
            cpu_clock=lambda: float(next(seconds)),
        ),
        rounds=cast("Rounds", OneRound(end)),
        indicator=make_indicator("detail_loss", (0.5,)),
        folder=tmp_path,
        settings=Settings(few=4, held_out=2),
        cpu_clock=lambda: 0.0,
        inference_macs=1,
    )
    judged: list[Weights] = []
    really = verdicts.of_held_out

    def of_held_out(
        tools: Tools, live: Weights, new: Weights, held_out: Sequence[TrainingSample]
    ) -> tuple[verdicts.Said, float]:
        judged.append(new)
        return really(tools, live, new, held_out)

    monkeypatch.setattr(verdicts, "of_held_out", of_held_out)
    monkeypatch.setattr(nearer, "costs_too_much", lambda *_: too_much)
    variant = Variant(name="v", words="", labels="all", recipe=Recipe(steps=1), gate=True, interpolation=0.5)
    found = Life(tools, variant, 0).run()
    assert [weights.key for weights in judged] == [between(start, end, share).key]
    # Each score takes a second: two held-out frames by what serves now, and by each candidate.
    assert sum(one.cpu_seconds for one in found.spent if one.workload == "gate") == 2 * scored
