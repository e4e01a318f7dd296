"""The learning curve of a round, and when it says that the round is not worth going on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from test_condition_round import work_order
from torch import nn

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import Counts
from dance_ondevice.daemon.trainer.curve import Curve, Gate
from dance_ondevice.training.batches import TrainingSample

SAMPLE = TrainingSample(image=Path("a.jpg"), label=Path("a.png"))
GATE = [(f"s{number}", SAMPLE) for number in range(6)]


def counted(gate: Gate, hits: int) -> tuple[Counts, ...]:
    return tuple(Counts(id=name, truth=(100,), predicted=(100,), hits=(hits,)) for name, _ in gate)


@pytest.mark.parametrize(
    ("hits", "given_up"),
    [
        ({1.0: 30}, True),
        ({1.0: 30, 0.5: 79}, False),
        ({1.0: 30, 0.5: 40}, True),
        ({1.0: 80, 0.5: 0}, False),
    ],
)
def test_a_round_is_given_up_only_where_no_candidate_of_it_has_a_chance(
    tmp_path: Path, hits: Mapping[float, int], *, given_up: bool
) -> None:
    told: list[jobs.Event] = []
    curve = Curve(
        work_order(tmp_path, condition=None, looks=(2, 4)),
        GATE,
        counted(GATE, 80),
        lambda _, some, share: counted(some, hits[share]),
        told.append,
        shares=tuple(hits),
    )
    model = nn.Identity()
    curve.begin(model, changed=False)
    reason = curve.hopeless(model, 2)
    assert (reason is not None) == given_up
    assert reason is None or "mIoU is 0.176" in reason, "what training came to, not a part of it"
    assert curve.hopeless(model, 4) is None, "later it is not asked any more"
    points = [(each.step, round(each.miou, 3)) for each in told if isinstance(each, jobs.CurvePoint)]
    assert points == [(0, 0.667), (2, points[1][1]), (4, points[1][1])]
    assert points[1][1] == (0.176 if hits[1.0] == 30 else 0.667)
