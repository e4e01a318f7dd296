from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.samples.teacher_trust import ENOUGH_FRAMES, trust

SHARES = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 100)).map(lambda p: (min(p), max(p))), max_size=60
)


@given(frames=SHARES, target=st.floats(0.5, 1.0))
def test_nothing_makes_a_teacher_judge_that_nobody_allowed(
    frames: list[tuple[int, int]], target: float
) -> None:
    assert not trust(False, frames, target=target).may_judge


@given(frames=SHARES, target=st.floats(0.5, 1.0))
def test_it_may_while_few_frames_could_deny_it_and_only_by_a_high_agreement_afterwards(
    frames: list[tuple[int, int]], target: float
) -> None:
    found = trust(True, frames, target=target)
    shares = [agreed / believed for agreed, believed in frames if believed]
    if len(shares) < ENOUGH_FRAMES:
        assert found.may_judge
    elif found.may_judge:
        assert sum(shares) / len(shares) >= target
    assert found.why


@given(frames=SHARES, target=st.floats(0.5, 0.9), index=st.integers(0, 59))
def test_a_higher_target_never_helps(frames: list[tuple[int, int]], target: float, index: int) -> None:
    assert trust(True, frames, target=target).may_judge >= trust(True, frames, target=target + 0.1).may_judge


def test_thirty_frames_decide() -> None:
    good, bad = [(95, 100), (97, 100)] * 15, [(95, 100), (60, 100)] * 15
    assert trust(True, good, target=0.9).may_judge
    denied = trust(True, bad, target=0.9)
    assert not denied.may_judge
    assert "30 frames" in denied.why
    assert trust(True, bad[:29], target=0.9).may_judge
