"""Which name is forgotten for a new one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.camera_names import SILENT_SECONDS, KnownName, gives_way


def known(name: str, sender: str, frames: int = 1, *, stored: bool = True, heard: float = 100.0) -> KnownName:
    return KnownName(name, sender, frames, stored, heard)


FRONT = known("front", "A", 50, heard=99.0)


def test_a_sender_of_many_names_makes_way_for_others_and_not_for_itself() -> None:
    run = [known(f"run-{number}", "B", frames=3, heard=100.0 + number / 10) for number in range(63)]
    assert gives_way([FRONT, *run], "C", 107.0) == "run-0"
    assert gives_way([FRONT, *run], "A", 107.0) == "run-0"
    assert gives_way([FRONT, *run], "B", 107.0) is None


def test_of_as_many_names_each_only_those_of_a_single_frame_make_way() -> None:
    assert gives_way([FRONT, known("x", "B"), known("y", "C", heard=90.0)], "D", 107.0) == "y"
    assert gives_way([FRONT, known("x", "B", frames=2)], "D", 107.0) is None


def test_the_longest_silent_goes_first_and_stored_samples_count() -> None:
    names = [known(name, name, 9, heard=heard) for name, heard in (("a", 2.0), ("b", 1.0), ("c", 3.0))]
    assert gives_way(names, "new", SILENT_SECONDS) is None
    assert gives_way(names, "new", SILENT_SECONDS + 5.0) == "b"
    empty = known("empty", "e", 9, stored=False, heard=4.0)
    assert gives_way([*names, empty], "new", SILENT_SECONDS + 5.0) == "empty"


names = st.builds(
    KnownName,
    st.uuids().map(str),
    st.sampled_from("ABC"),
    st.integers(1, 3),
    st.booleans(),
    st.floats(0.0, 100.0),
)


@given(st.lists(names, max_size=12), st.sampled_from("ABCD"))
def test_no_sender_takes_a_name_in_use_from_one_who_has_fewer(found: list[KnownName], sender: str) -> None:
    going = gives_way(found, sender, 100.0)
    if going is None:
        return
    victim = next(each for each in found if each.name == going)
    share = sum(each.sender == sender for each in found)
    theirs = sum(each.sender == victim.sender for each in found)
    assert 100.0 - victim.heard >= SILENT_SECONDS or theirs > share
