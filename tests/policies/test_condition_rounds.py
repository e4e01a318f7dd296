from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.condition_rounds import Choice, ConditionRoundRules, choose, serving

RULES = ConditionRoundRules()
names = st.sampled_from(["", "base", "c1", "c2", "c3"])
some = st.frozensets(names)


@given(st.lists(names, max_size=40), st.dictionaries(names, st.integers(0, 10)), some)
def test_a_round_is_for_one_condition_only_where_all_of_it_holds(
    new: list[str], held_out: dict[str, int], live: frozenset[str]
) -> None:
    choice = choose(RULES, new, held_out, live)
    if choice.condition is None:
        mostly = [n for n in ("c1", "c2", "c3") if new and new.count(n) >= 0.8 * len(new)]
        assert all(n not in live or held_out.get(n, 0) < 4 for n in mostly)
        assert bool(choice.reason) == bool(mostly)
        return
    assert choice.condition not in ("", "base")
    assert choice.condition in live
    assert new.count(choice.condition) >= 0.8 * len(new)
    assert held_out[choice.condition] >= 4
    assert choice.condition in choice.reason


def test_the_reason_says_what_was_missing() -> None:
    new = ["c1"] * 8 + ["base", ""]
    assert choose(RULES, new, {"c1": 4}, {"c1"}) == Choice(
        "c1", "for condition c1 alone: 8 of 10 new samples are of condition c1"
    )
    assert "only 3 held-out ones, 4 are needed" in choose(RULES, new, {"c1": 3}, {"c1"}).reason
    assert "no statistics of its own" in choose(RULES, new, {"c1": 4}, set()).reason
    assert choose(RULES, [*new, "base"], {"c1": 4}, {"c1"}) == Choice()
    assert choose(RULES, [], {}, {"c1"}) == Choice()


@given(names, some, st.dictionaries(names, names))
def test_only_what_is_live_or_the_model_itself_serves(
    condition: str, live: frozenset[str], parents: dict[str, str]
) -> None:
    found = serving(condition, live, parents)
    assert found == "base" or found in live
    if condition in live:
        assert found == condition


@pytest.mark.parametrize(
    ("condition", "found"), [("c1", "c1"), ("c2", "c1"), ("c3", "base"), ("", "base"), ("c9", "base")]
)
def test_a_parent_stands_in_for_one_generation(condition: str, found: str) -> None:
    parents = {"base": "base", "c1": "base", "c2": "c1", "c3": "c2"}
    assert serving(condition, {"c1"}, parents) == found
