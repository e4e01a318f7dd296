from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.samples.wanted import Unlabelled, after_drift

COUNTS = st.integers(0, 50)
STORED = st.lists(
    st.builds(
        Unlabelled, condition=st.sampled_from(["", "base", "c1", "c2"]), unlabelled=COUNTS, labelled=COUNTS
    ),
    unique_by=lambda each: each.condition,
)


@given(stored=STORED, needed=st.integers(1, 64))
def test_asks_for_what_a_round_still_needs_and_for_no_frame_that_is_not_there(
    stored: list[Unlabelled], needed: int
) -> None:
    found = after_drift("front", ("luma",), stored, needed)
    missing = max(0, needed - sum(each.labelled for each in stored))
    there = {each.condition: each.unlabelled for each in stored}
    assert sum(each.frames for each in found) == min(missing, sum(there.values()))
    assert all(0 < each.frames <= there[each.condition] for each in found)


def test_the_sentence_says_who_where_and_why() -> None:
    stored = [
        Unlabelled(condition="c1", unlabelled=40, labelled=3),
        Unlabelled(condition="", unlabelled=9, labelled=0),
    ]
    (asked,) = after_drift("front", ("luma", "confidence"), stored, 16)
    assert asked.words.startswith("13 frames of front at c1 want labels: its luma, confidence changed")
    (one,) = after_drift("front", ("luma",), stored, 4)
    assert one.words.startswith("1 frame of front at c1 wants labels")
