from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.start import Drifted
from dance_ondevice.policies.rounds.stock import count, may_teach, might_teach
from dance_ondevice.policies.samples.splits import SampleInfo


def sample(number: int, **facts: Any) -> SampleInfo:
    return SampleInfo(**{"id": str(number), "camera": "front", "captured_at": 0.0, "labelled": True, **facts})


samples = st.lists(
    st.builds(
        sample,
        st.integers(),
        labelled=st.booleans(),
        split=st.sampled_from([None, "train", "gate", "guard", "duplicate"]),
        rounds_used=st.integers(0, 2),
        label_source=st.sampled_from(["wire", "teacher"]),
    ),
    max_size=30,
)


@given(samples, st.integers(0, 10))
def test_no_more_is_counted_than_there_is(found: list[SampleInfo], needed: int) -> None:
    stock = count(found, min_new_samples=needed)
    labelled = sum(each.labelled for each in found)
    assert 0 <= stock.new_labelled <= labelled
    assert 0 <= stock.judging <= labelled
    assert stock.enough == (stock.new_labelled >= max(1, needed))
    assert all(might_teach(each) for each in found if may_teach(each))


@pytest.mark.parametrize(
    ("facts", "judging"),
    [
        ([{"split": "gate"}], 1),
        ([{"split": "gate", "label_source": "teacher"}], 0),
        ([{}], 0),
        ([{}, {}], 2),
        ([{"label_source": "teacher"}] * 5, 0),
        ([{"split": "train"}, {"split": "guard"}], 0),
    ],
)
def test_a_candidate_is_judged_by_what_people_labelled_and_is_held_out(
    facts: list[dict[str, Any]], judging: int
) -> None:
    assert count([sample(i, **f) for i, f in enumerate(facts)], min_new_samples=1).judging == judging


def test_fewer_are_enough_after_a_drift() -> None:
    drifted = [Drifted(camera="front", signals=("luma",), new_labelled=4)]
    found = [sample(i) for i in range(4)]
    assert not count(found, min_new_samples=64, drifted=drifted, needed_after_drift=5).enough
    assert count(found, min_new_samples=64, drifted=drifted, needed_after_drift=4).enough
