from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.rehearsal import is_anchor, mix_anchors, rehearsal_share
from dance_ondevice.policies.rounds.start import RoundPlan

changes = st.lists(st.lists(st.floats(-0.5, 0.5), max_size=4), max_size=6)


@given(st.floats(0, 0.95), changes)
def test_the_share_stays_within_its_bounds(base: float, past: list[list[float]]) -> None:
    share = rehearsal_share(base, past)
    assert base / 2 - 1e-9 <= share <= max(base, 0.8) + 1e-9
    if base == 0.0 or not any(past):
        assert share == base


@given(st.floats(0.05, 0.9), changes, st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_larger_drop_never_means_less_rehearsal(
    base: float, past: list[list[float]], drop: float, more: float
) -> None:
    assert rehearsal_share(base, [*past, [-drop]]) <= rehearsal_share(base, [*past, [-drop - more]]) + 1e-9


def test_forgetting_raises_the_share_and_calm_lowers_it() -> None:
    assert rehearsal_share(0.5, [[0.02, -0.04]]) == pytest.approx(0.8)
    assert rehearsal_share(0.5, [[-0.004]]) == 0.5  # one calm round is no reason to rehearse less
    assert rehearsal_share(0.5, [[0.01]] * 3) == pytest.approx(0.25)
    # A drop long ago counts less than one just now.
    early, late = [[-0.02], [0.0], [0.0]], [[0.0], [0.0], [-0.02]]
    assert rehearsal_share(0.5, early) < rehearsal_share(0.5, late)


def plan(new: int, old: int) -> RoundPlan:
    return RoundPlan(
        train=tuple(f"n{i}" for i in range(new)),
        rehearsal=tuple(f"o{i}" for i in range(old)),
        gate=("g",),
        reason="why",
    )


@given(
    new=st.integers(0, 30),
    old=st.integers(0, 30),
    there=st.integers(0, 20),
    anchor_share=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    seed=st.integers(0, 5),
)
def test_anchors_fill_the_share_and_the_round_stays_in_its_limit(
    *, new: int, old: int, there: int, anchor_share: float, share: float, seed: int
) -> None:
    before = plan(new, old)
    limit = max(new + old, 40)
    mixed = mix_anchors(
        before,
        [f"a{i}" for i in range(there)],
        anchor_share=anchor_share,
        rehearsal_share=share,
        max_samples=limit,
        seed=seed,
    )
    drawn = [name for each in mixed.rehearsal if (name := is_anchor(each)) is not None]
    assert len(set(drawn)) == len(drawn)
    assert set(mixed.rehearsal) <= {*before.rehearsal, *(f"anchor:a{i}" for i in range(there))}
    assert len(mixed.train) + len(mixed.rehearsal) <= limit
    assert (mixed.train, mixed.gate) == (before.train, before.gate)
    # No round gets fewer rehearsed samples because there are anchors.
    assert len(mixed.rehearsal) >= len(before.rehearsal)


def test_a_first_round_rehearses_anchors_alone() -> None:
    mixed = mix_anchors(
        plan(8, 0), list("abcdefghij"), anchor_share=0.25, rehearsal_share=0.5, max_samples=99, seed=1
    )
    assert len(mixed.rehearsal) == 8
    assert all(is_anchor(each) for each in mixed.rehearsal)
    assert "8 anchors" in mixed.reason


def test_later_they_take_their_part() -> None:
    mixed = mix_anchors(
        plan(8, 8), list("abcdefghij"), anchor_share=0.25, rehearsal_share=0.5, max_samples=99, seed=1
    )
    assert [is_anchor(each) is None for each in mixed.rehearsal] == [True] * 6 + [False] * 2
