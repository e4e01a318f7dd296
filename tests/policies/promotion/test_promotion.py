from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison
from dance_ondevice.policies.promotion.promotion import judge, units_to_decide
from dance_ondevice.policies.promotion.rules import GateRules, Group, Scores, Speed

CLASSES = ("sky", "road", "pole")
LIVE = Scores(miou=0.4, iou_per_class=(0.8, 0.3, 0.1), pixels_per_class=(9000, 9000, 200), samples=30)

fractions = st.floats(min_value=0.0, max_value=1.0)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Scores, Scores]:
    """Live and candidate on the same samples, over 1 to 5 classes."""
    pixels = tuple(draw(st.lists(st.sampled_from([0, 5, 999, 1000, 50_000]), min_size=1, max_size=5)))
    samples = draw(st.integers(1, 50))

    def scores() -> Scores:
        ious = tuple(draw(fractions) if count else None for count in pixels)
        return Scores(miou=draw(fractions), iou_per_class=ious, pixels_per_class=pixels, samples=samples)

    return scores(), scores()


rules_strategy = st.builds(
    GateRules,
    min_gain=st.floats(min_value=-0.1, max_value=0.1),
    max_class_drop=st.floats(min_value=0.0, max_value=0.3),
)


@given(pairs(), rules_strategy, st.booleans())
def test_promoted_means_that_nothing_fell_by_more_than_allowed(
    pair: tuple[Scores, Scores], rules: GateRules, slimmed: bool
) -> None:
    live, candidate = pair
    verdict = judge(live, candidate, rules, slimmed)
    falls = [
        (before or 0.0) - (after or 0.0)
        for before, after, pixels in zip(
            live.iou_per_class, candidate.iou_per_class, live.pixels_per_class, strict=True
        )
        if pixels >= rules.min_class_pixels
    ]
    fit = (
        any(live.pixels_per_class)
        and candidate.miou - live.miou >= rules.min_gain - 1e-9
        and max(falls, default=0.0) <= rules.max_class_drop + 1e-9
    )
    assert (verdict.outcome == "promoted") == fit
    assert verdict.reasons
    assert all(verdict.reasons)


@given(pairs(), rules_strategy, st.booleans(), st.data())
def test_better_figures_never_turn_a_promotion_into_a_rejection(
    pair: tuple[Scores, Scores], rules: GateRules, slimmed: bool, data: st.DataObject
) -> None:
    live, candidate = pair
    if judge(live, candidate, rules, slimmed).outcome == "rejected":
        return
    better = replace(
        candidate,
        miou=data.draw(st.floats(candidate.miou, 1.0)),
        iou_per_class=tuple(
            None if iou is None else data.draw(st.floats(iou, 1.0)) for iou in candidate.iou_per_class
        ),
    )
    assert judge(live, better, rules, slimmed).outcome == "promoted"


def test_defaults() -> None:
    assert GateRules() == GateRules(
        min_gain=0.0,
        max_class_drop=0.05,
        min_class_pixels=1000,
        slim_tolerance=0.02,
        max_condition_drop=0.02,
        min_group_units=4,
        max_latency_ratio=1.25,
    )


@pytest.mark.parametrize("slimmed", [False, True])
def test_equal_scores_are_promoted(slimmed: bool) -> None:
    verdict = judge(LIVE, LIVE, GateRules(), slimmed, CLASSES)
    assert verdict.outcome == "promoted"
    assert (
        verdict.reasons[0]
        == "mIoU 0.400 -> 0.400 (+0.000) on 30 held-out samples: at least +0.000 was required"
    )
    assert verdict.reasons[1].startswith("no class fell by more than 0.050: the worst, sky, went from")
    assert ("it needs fewer MACs than the live model" in verdict.reasons) == slimmed


def test_a_promotion_names_the_class_that_fared_worst() -> None:
    candidate = replace(LIVE, miou=0.45, iou_per_class=(0.9, 0.28, 0.1))
    assert judge(LIVE, candidate, GateRules(), False, CLASSES).reasons == (
        "mIoU 0.400 -> 0.450 (+0.050) on 30 held-out samples: at least +0.000 was required",
        "no class fell by more than 0.050: the worst, road, went from 0.300 to 0.280 (-0.020)",
    )


def test_a_class_without_any_truth_is_never_judged() -> None:
    live = replace(LIVE, pixels_per_class=(9000, 9000, 0))
    candidate = replace(live, iou_per_class=(0.8, 0.3, 0.0))
    assert judge(live, candidate, GateRules(min_class_pixels=0), False).outcome == "promoted"


def test_every_reason_to_reject_is_told_with_its_figures() -> None:
    candidate = replace(LIVE, miou=0.38, iou_per_class=(0.7, 0.2, 0.0))
    verdict = judge(LIVE, candidate, GateRules(min_gain=0.01), True, CLASSES)
    assert verdict.outcome == "rejected"
    assert verdict.reasons == (
        "mIoU 0.400 -> 0.380 (-0.020) on 30 held-out samples: at least +0.010 is required",
        "class sky fell from 0.800 to 0.700 (-0.100), at most -0.050 is allowed",
        "class road fell from 0.300 to 0.200 (-0.100), at most -0.050 is allowed",
    )


def test_without_names_classes_are_told_by_id() -> None:
    candidate = replace(LIVE, miou=0.5, iou_per_class=(0.8, 0.1, 0.1))
    assert (
        judge(LIVE, candidate, GateRules(), False).reasons[0].startswith("class 1 fell from 0.300 to 0.100")
    )


def test_a_class_with_few_pixels_rejects_nothing_until_it_has_enough() -> None:
    candidate = replace(LIVE, miou=0.5, iou_per_class=(0.8, 0.3, 0.0))
    assert judge(LIVE, candidate, GateRules(), False).outcome == "promoted"
    assert judge(LIVE, candidate, GateRules(min_class_pixels=200), False).outcome == "rejected"


def test_with_too_few_pixels_for_any_class_that_is_said() -> None:
    verdict = judge(LIVE, LIVE, GateRules(min_class_pixels=10_000), False)
    assert verdict.outcome == "promoted"
    assert "no class has the 10000 held-out pixels to be judged on its own" in verdict.reasons


def test_exactly_the_gain_asked_for_and_the_drop_allowed_pass_in_binary_fractions_too() -> None:
    live = replace(LIVE, iou_per_class=(0.45, 0.3, 0.1))
    candidate = replace(live, miou=0.45, iou_per_class=(0.40, 0.3, 0.1))
    assert judge(live, candidate, GateRules(min_gain=0.05, max_class_drop=0.05), False).outcome == "promoted"


def test_a_class_the_candidate_has_no_figure_for_counts_as_lost() -> None:
    candidate = replace(LIVE, miou=0.5, iou_per_class=(0.8, None, 0.1))
    assert judge(LIVE, candidate, GateRules(), False).outcome == "rejected"


@pytest.mark.parametrize("who", ["live", "candidate"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"miou": math.nan}, "not between 0 and 1: nan"),
        ({"miou": math.inf}, "not between 0 and 1: inf"),
        ({"miou": 1.2}, "not between 0 and 1: 1.2"),
        ({"iou_per_class": (0.8, math.nan, 0.1)}, "not between 0 and 1: nan"),
        ({"iou_per_class": ()}, "has scores for 0 classes, the labels have 3"),
        ({"samples": 0}, "no held-out samples to judge on"),
        ({"samples": 29}, "scored on different samples"),
        ({"pixels_per_class": (9000, 9000, 201)}, "scored on different samples"),
        ({"pixels_per_class": (), "iou_per_class": ()}, "scored on different samples"),
    ],
)
def test_scores_that_cannot_be_compared_are_rejected(who: str, change: dict[str, Any], reason: str) -> None:
    live = replace(LIVE, **change) if who == "live" else LIVE
    candidate = replace(LIVE, miou=0.9) if who == "live" else replace(LIVE, **change)
    verdict = judge(live, candidate, GateRules(min_gain=-1.0, max_class_drop=1.0), False, CLASSES)
    assert verdict.outcome == "rejected"
    assert any(reason in each for each in verdict.reasons)


def test_empty_scores_of_both_are_rejected() -> None:
    empty = Scores(miou=0.0, iou_per_class=(), pixels_per_class=(), samples=0)
    assert judge(empty, empty, GateRules(), True).reasons == ("no held-out samples to judge on",)


def compared(
    gain: Bounded, classes: tuple[Bounded | None, ...] = (None, None, None), samples: int = 30
) -> Comparison:
    return Comparison(
        live=0.4,
        candidate=0.4 + gain.point,
        gain=gain,
        classes=classes,
        pixels=LIVE.pixels_per_class,
        samples=samples,
        units=samples,
        unit="block",
    )


BETTER = replace(LIVE, miou=0.41)


@pytest.mark.parametrize(
    ("lower", "slimmed", "promoted"),
    [
        (0.001, False, True),
        (-0.001, False, False),  # it may be chance
        (-0.019, True, True),  # fewer MACs: merely as good is good enough
        (-0.021, True, False),
        (None, False, True),  # nothing to draw from: the figures decide
    ],
)
def test_the_gain_must_not_be_luck(lower: float | None, slimmed: bool, promoted: bool) -> None:
    verdict = judge(LIVE, BETTER, GateRules(), slimmed, comparison=compared(Bounded(0.01, lower, 0.05)))
    assert (verdict.outcome == "promoted") == promoted
    if not promoted:
        assert "it may be chance" in verdict.reasons[0]
        assert f"{lower:+.3f}" in verdict.reasons[0]
    else:
        assert ("lower bound of the gain is" in verdict.reasons[0]) == (lower is not None)


def test_fewer_macs_do_not_excuse_a_loss() -> None:
    worse = replace(LIVE, miou=0.395)
    verdict = judge(LIVE, worse, GateRules(), True, comparison=compared(Bounded(-0.005, -0.01, 0.0)))
    assert verdict.outcome == "rejected"
    assert "at least +0.000 is required" in verdict.reasons[0]


@pytest.mark.parametrize(("upper", "rejected"), [(-0.02, True), (0.01, False), (None, True)])
def test_a_class_that_fell_rejects_unless_it_may_be_noise(upper: float | None, rejected: bool) -> None:
    candidate = replace(LIVE, miou=0.45, iou_per_class=(0.9, 0.2, 0.1))
    comparison = compared(Bounded(0.05, 0.03, 0.07), (None, Bounded(-0.1, -0.2, upper), None))
    verdict = judge(LIVE, candidate, GateRules(), False, CLASSES, comparison=comparison)
    assert (verdict.outcome == "rejected") == rejected
    if rejected:
        assert verdict.reasons[0].startswith("class road fell")
    else:
        assert "beyond noise" in verdict.reasons[1]


@pytest.mark.parametrize(
    ("fall", "samples", "rejected"),
    [
        (Bounded(-0.05, -0.08, -0.02), 10, True),
        (Bounded(-0.05, -0.12, 0.01), 10, False),  # may be noise
        (Bounded(-0.015, -0.02, -0.01), 10, False),  # little
        (Bounded(-0.05, -0.12, 0.01), 3, True),  # too few to bound it with: the figure decides
        (Bounded(-0.05), 1, True),
        (Bounded(-0.035), 1, False),  # the figure of one sample varies twice as much as that of four
        (Bounded(-0.015, -0.08, 0.01), 3, False),
    ],
)
def test_an_old_condition_that_falls_rejects(fall: Bounded, samples: int, rejected: bool) -> None:
    groups = (
        Group("condition day", compared(fall, samples=samples)),
        Group("condition dusk", compared(Bounded(0.2, 0.15, 0.25))),
    )
    verdict = judge(
        LIVE,
        BETTER,
        GateRules(),
        False,
        comparison=compared(Bounded(0.01, 0.005, 0.02)),
        groups=groups,
    )
    assert (verdict.outcome == "rejected") == rejected
    if rejected:
        assert verdict.reasons[0].startswith("condition day fell from mIoU 0.400 to 0.350")
    # A condition on its own is the whole, which is judged already.
    alone = judge(LIVE, BETTER, GateRules(), False, comparison=None, groups=groups[:1])
    assert alone.outcome == "promoted"


@given(
    point=st.floats(-0.3, 0.3),
    above=st.floats(0.0, 0.3),
    units=st.integers(1, 20),
    allowed=st.floats(0.0, 0.1),
)
def test_a_condition_falls_by_its_figure_and_by_what_its_bound_is_worth(
    point: float, above: float, units: int, allowed: float
) -> None:
    change = Bounded(point, None, None) if units < 2 else Bounded(point, point - 0.1, point + above)
    day = Group("condition day", compared(change, samples=units))
    dusk = Group("condition dusk", compared(Bounded(0.2, 0.15, 0.25)))
    rules = GateRules(max_condition_drop=allowed)

    def rejected(*groups: Group) -> bool:
        return judge(LIVE, BETTER, rules, False, groups=groups).outcome == "rejected"

    may_fall = allowed * max(1.0, 4 / units) ** 0.5
    if point >= -may_fall:
        assert not rejected(day, dusk)
    elif units < 4 or point + above < 0.0:
        assert rejected(day, dusk) or point > -may_fall - 1e-6
    else:
        assert not rejected(day, dusk)
    # More of the same samples can only make a fall less sure where the bound reaches zero, never hide it.
    if rejected(day, dusk) and point + above < 0.0:
        assert rejected(Group("condition day", compared(change, samples=units + 20)), dusk)


@pytest.mark.parametrize(
    ("speed", "reason"),
    [
        (Speed(live_ms=20.0, candidate_ms=24.0), None),
        (Speed(live_ms=20.0, candidate_ms=26.0), "26.0 ms"),
        (Speed(live_ms=0.0, candidate_ms=26.0), None),  # not measured
        (Speed(live_macs=100, candidate_macs=100), None),
        (Speed(live_macs=100, candidate_macs=101), "101 MACs"),
    ],
)
def test_what_masks_take_must_fit(speed: Speed, reason: str | None) -> None:
    verdict = judge(LIVE, BETTER, GateRules(), False, speed=speed)
    assert (verdict.outcome == "promoted") == (reason is None)
    assert reason is None or reason in verdict.reasons[0]


ONE_FRAME = Scores(miou=0.02684, iou_per_class=(0.295, 0.0), pixels_per_class=(9000, 9000), samples=1)
LEARNT = Scores(miou=0.1939, iou_per_class=(0.182, 0.2), pixels_per_class=(9000, 9000), samples=1)


def test_an_untrained_live_model_is_replaced_by_whatever_gains_miou() -> None:
    """It painted everything in one class, which looks like a good IoU of that class on one frame."""
    slow = Speed(live_ms=1.0, candidate_ms=9.0, live_macs=1, candidate_macs=2)
    verdict = judge(ONE_FRAME, LEARNT, GateRules(), False, speed=slow, untrained_live=True)
    assert verdict.outcome == "promoted"
    assert "untrained" in verdict.reasons[-1]
    worse = judge(LEARNT, ONE_FRAME, GateRules(), False, untrained_live=True)
    assert worse.outcome == "rejected"
    assert "+0.000 is required" in worse.reasons[0]


@pytest.mark.parametrize(
    ("samples", "words"), [(1, "1 held-out sample judged this"), (3, "3 held-out samples judged this")]
)
def test_a_rejection_by_few_samples_says_what_makes_it_steadier(samples: int, words: str) -> None:
    live, candidate = replace(ONE_FRAME, samples=samples), replace(LEARNT, samples=samples)
    verdict = judge(live, candidate, GateRules(), False, ("building", "road"))
    assert verdict.outcome == "rejected"
    assert "class building fell from 0.295 to 0.182" in verdict.reasons[0]
    assert verdict.reasons[-1].startswith(f"{words}; 20 make it steadier")
    many = judge(replace(live, samples=20), replace(candidate, samples=20), GateRules(), False)
    assert "steadier" not in many.reasons[-1]


@given(
    units=st.integers(2, 40),
    point=st.floats(0.001, 0.2),
    spread=st.floats(0.001, 0.3),
    least=st.floats(0.0, 0.05),
)
def test_as_many_more_units_as_are_asked_for_would_decide(
    units: int, point: float, spread: float, least: float
) -> None:
    now = compared(Bounded(point, point - spread, point + spread), samples=units)
    more = units_to_decide(now, least)
    if more is None:
        # Decided already, never to be decided, or by more labels than anybody draws.
        in_reach = point > least and units * ((spread / (point - least)) ** 2 - 1) <= 200
        assert point - spread >= least or not in_reach
        return
    assert more > 0
    assert point - spread * (units / (units + more)) ** 0.5 >= least - 1e-9
    assert point - spread * (units / (units + more - 1)) ** 0.5 <= least + 1e-9


def test_reasons_say_what_stands_behind_them_and_what_would_decide() -> None:
    close = judge(LIVE, BETTER, GateRules(), False, comparison=compared(Bounded(0.01, -0.001, 0.02)))
    assert "about 7 more held-out blocks like these would decide" in close.reasons[0]
    sparse = replace(
        compared(Bounded(0.01, 0.005, 0.02), (Bounded(-0.3, -0.4, -0.2), None, None)), class_units=(2, 0, 0)
    )
    fallen = replace(BETTER, iou_per_class=(LIVE.iou_per_class[0] - 0.3, *LIVE.iou_per_class[1:]))
    verdict = judge(LIVE, fallen, GateRules(), False, comparison=sparse)
    assert "labelled pixels in 2 blocks say so" in verdict.reasons[0]
    few = replace(compared(Bounded(-0.2, None, None)), units=1)
    groups = (Group("condition dusk", few), Group("condition day", compared(Bounded(0.01, 0.0, 0.02))))
    dusk = judge(LIVE, BETTER, GateRules(), False, groups=groups)
    assert "3 more held-out blocks of it would decide" in dusk.reasons[0]


@pytest.mark.parametrize(
    ("gain", "dusk", "speed", "decidable"),
    [
        (Bounded(0.02, -0.01, 0.05), Bounded(0.1, 0.0, 0.2), None, True),  # perhaps chance
        (Bounded(0.02, -0.01, 0.05), Bounded(-0.1, -0.2, -0.05), None, False),  # and dusk fell for sure
        (Bounded(0.02, -0.01, 0.05), Bounded(0.1, 0.0, 0.2), Speed(live_macs=1, candidate_macs=2), False),
        (Bounded(0.02, 0.01, 0.03), Bounded(0.1, 0.0, 0.2), None, False),  # promoted
    ],
)
def test_labels_are_said_to_lack_only_where_they_could_turn_the_verdict(
    gain: Bounded, dusk: Bounded, speed: Speed | None, decidable: bool
) -> None:
    groups = (Group("condition day", compared(gain)), Group("condition dusk", compared(dusk)))
    better = replace(LIVE, miou=0.42)
    verdict = judge(LIVE, better, GateRules(), False, comparison=compared(gain), groups=groups, speed=speed)
    assert verdict.decidable == decidable
    # Where dusk has too few blocks, more of them might show that it did not fall.
    few = (groups[0], Group("condition dusk", compared(Bounded(-0.1), samples=1)))
    assert judge(LIVE, better, GateRules(), False, comparison=compared(gain), groups=few).decidable
