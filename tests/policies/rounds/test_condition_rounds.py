from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.condition_rounds import Choice, ConditionRoundRules, choose, serving

RULES = ConditionRoundRules()
names = st.sampled_from(["", "base", "c1", "c2", "c3"])
some = st.frozensets(names)


@given(st.lists(names, max_size=40), st.dictionaries(names, st.integers(0, 10)), some)
def test_a_round_is_for_one_condition_only_where_all_of_it_holds(
    new: list[str], held_out: dict[str, int], known: frozenset[str]
) -> None:
    choice = choose(RULES, new, held_out, known)
    shared = new.count("") + new.count("base")
    counts = {name: new.count(name) for name in ("c1", "c2", "c3")}
    if max(counts.values()) < max(4, shared):
        assert choice == Choice()
        return
    largest = [name for name, count in counts.items() if count == max(counts.values())]
    if choice.condition is None:
        assert any(name not in known or held_out.get(name, 0) < 4 for name in largest)
        assert "a round for all" in choice.reason
        return
    assert choice.condition in largest
    assert choice.condition in known
    assert held_out[choice.condition] >= 4
    assert choice.condition in choice.reason


def test_the_reason_says_what_was_missing() -> None:
    new = ["c1"] * 5 + ["c2"] * 4 + ["base"] * 4 + [""]
    assert choose(RULES, new, {"c1": 4}, {"c1", "c2"}) == Choice(
        "c1", "for condition c1 alone: 5 of 14 new samples are of condition c1"
    )
    assert "only 3 held-out ones, 4 are needed" in choose(RULES, new, {"c1": 3}, {"c1"}).reason
    assert "does not know" in choose(RULES, new, {"c1": 4}, set()).reason
    assert choose(RULES, [*new, "base"], {"c1": 4}, {"c1"}) == Choice()
    assert choose(RULES, ["c1"] * 3, {"c1": 4}, {"c1"}) == Choice()
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
