"""Every value that is allowed works: what uses it is run at both ends of its range."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.config.load import ConfigError, load, toml_value
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.config.warnings import warnings
from dance_ondevice.daemon.energy.meters import choose_meter
from dance_ondevice.daemon.ingest import ingest_config
from dance_ondevice.daemon.ingest.backlog import Backlog
from dance_ondevice.daemon.planning import job
from dance_ondevice.daemon.rounds.teaching import LEAST_SAMPLES
from dance_ondevice.daemon.system import cores, descriptors
from dance_ondevice.daemon.system import schedule as scheduler
from dance_ondevice.policies.budget.energy_budget import BudgetRules
from dance_ondevice.policies.promotion.probation import Evidence, ProbationRules, due
from dance_ondevice.policies.promotion.probation import decide as probation_verdict
from dance_ondevice.policies.rounds.start import in_window, needed_after_drift, plan_round
from dance_ondevice.policies.samples.labelling import choose_for_labelling, shortlist
from dance_ondevice.policies.samples.splits import SampleInfo, assign_splits
from dance_ondevice.policies.stream.conditions import ConditionRules
from dance_ondevice.policies.stream.data_slimming import decide
from dance_ondevice.policies.stream.sender_limits import full, take
from dance_ondevice.policies.stream.stream_state import FrameFigures, initial_state

#: Ends that the words for allowed values do not give as two figures.
OTHER_ENDS: dict[str, tuple[Any, Any]] = {
    "data_slimming.scales": ([0.1], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1]),
    "model.size": ([16, 16], [2048, 1024]),
    "model.classes": (["a", "b"], [f"class {number}" for number in range(255)]),
    "training.window": ("00:00-00:01", "23:59-23:58"),
}
BEYOND: list[tuple[str, Any]] = [
    ("training.gate_share", 0.9),
    ("labels.teacher_samples", 6),
    ("model.size", [8192, 8192]),
    ("model.size", [2048, 1025]),
    ("training.window", "10:00-10:00"),
    ("data_slimming.window_frames", 1_000_000),
    ("data_slimming.drop_fraction", 1.0),
    ("training.rehearsal_share", 1.0),
]


def ends(allowed: str) -> tuple[Any, Any] | None:
    """The lowest and highest value that the words for a range name."""
    if found := re.match(r'a duration from "(\S+)" to "(\S+)"', allowed):
        return found[1], found[2]
    if found := re.match(r"an integer from (\d+) to (\d+)$", allowed):
        return int(found[1]), int(found[2])
    if found := re.match(r"a number from (\S+) to below (\S+)$", allowed):
        return float(found[1]), float(found[2]) - 1e-9
    if found := re.match(r"a number from (\S+) to (\S+)$", allowed):
        return float(found[1]), float(found[2])
    return None


def every_end() -> Iterator[tuple[str, Any]]:
    for key, rule in RULES.items():
        both = OTHER_ENDS.get(key) or ends(rule.allowed)
        for value in both or ():
            yield key, value


def configured(folder: Path, key: str, value: Any) -> Config:
    section, name = key.split(".")
    file = folder / "site.toml"
    file.write_text(f"[{section}]\n{name} = {toml_value(value)}\n")
    return load(file).config


def samples(count: int) -> list[SampleInfo]:
    return [
        SampleInfo(id=f"s{number:03}", camera="front", captured_at=2.0 * number, score=number / count,
                   labelled=True, classes=frozenset({number % 3}))
        for number in range(count)
    ]  # fmt: skip


def test_every_range_has_two_ends() -> None:
    keys = {key for key, _ in every_end()}
    assert {key for key, rule in RULES.items() if " from " in rule.allowed} <= keys | {"daemon.state_dir"}
    assert len(keys) > 50


@pytest.mark.parametrize(("key", "value"), list(every_end()))
def test_what_uses_a_value_works_at_both_ends_of_its_range(tmp_path: Path, key: str, value: Any) -> None:
    config = configured(tmp_path, key, value)
    training, ingest = config.training, config.ingest

    # Frames: what is kept of them, and how many may wait.
    rules = ingest_config.rules(config.data_slimming)
    state = initial_state("front")
    for number in range(40):
        state, decision = decide(rules, state, FrameFigures(score=number / 40))
        assert decision.scale in config.data_slimming.scales
    limits = ingest_config.limits(ingest)
    assert take(limits, full(limits, 0.0), 100, 1.0)[1] is None
    assert len(Backlog(ingest.queue_frames, 2 * ingest.max_message_bytes)) == 0
    given = descriptors.shares(65536, ingest.max_cameras)
    assert given.senders >= ingest.max_cameras

    # Rounds: something is held out and something taught, whatever the figures.
    block = parse_duration(training.gate_block)
    splits = assign_splits(samples(200), training.gate_share, block)
    assert {"train", "gate"} <= set(splits.values())
    divided = [
        SampleInfo(id=each.id, camera=each.camera, captured_at=each.captured_at, score=each.score,
                   labelled=True, classes=each.classes, split=splits[each.id])
        for each in samples(200)
    ]  # fmt: skip
    plan = plan_round(
        divided,
        max_samples=training.max_samples,
        seed=training.seed,
        rehearsal_share=training.rehearsal_share,
        max_gate=training.gate_max_samples,
    )
    assert plan.ready, plan.reason
    assert needed_after_drift(training.min_new_samples, training.min_new_samples_after_drift) >= 1
    assert in_window(training.window, 0) or training.window
    clock = scheduler.build(parse_duration(training.interval), training.window, lambda _: None)
    assert clock.get_job("interval") is not None
    card, wanted_macs = {"macs": 10_000_000}, config.network_slimming.target_macs_fraction * 10_000_000
    target = job.slim_target(config, card, [])
    assert (target is None) == (wanted_macs == 10_000_000), "a round slims while there is something to slim"
    assert target is None or wanted_macs - 1 <= target < 10_000_000

    # Labelling takes no fewer samples than a teacher is started for.
    count = config.labels.teacher_samples
    unlabelled = [
        SampleInfo(id=each.id, camera="front", captured_at=each.captured_at, labelled=False)
        for each in samples(40)
    ]
    chosen = choose_for_labelling(shortlist(unlabelled, count), count)
    assert len(chosen.ids) + len(chosen.duplicates) >= LEAST_SAMPLES

    # Promotion: a probation of any length comes to an end.
    wanted = config.promotion.probation_samples
    probation = ProbationRules(samples=wanted, max_drop=config.promotion.probation_drop)
    assert due(probation, wanted, round_ahead=False) == (wanted > 0)
    evidence = Evidence(comparison=None, confidence=None, agreement=None, samples=wanted)
    assert probation_verdict(probation, evidence).state == "waiting"
    ConditionRules(most=config.conditions.max, min_frames=config.conditions.min_frames)

    # Energy.
    BudgetRules(joules_per_day=config.energy.budget_joules_per_day)
    meter, _ = choose_meter(config.energy, lambda: 0.0)
    assert meter.source

    # Threads: never more than there are cores, which is said.
    for threads in (config.inference.threads, training.threads):
        assert 1 <= cores.usable(threads) <= cores.cores()
    said = [each for each in warnings(config) if "executorch" not in each]
    assert bool(said) == (max(config.inference.threads, training.threads) > cores.cores())


def test_an_engine_that_serves_no_masks_is_taken_as_auto(tmp_path: Path) -> None:
    config = configured(tmp_path, "inference.engine", "executorch")
    assert config.inference.serves_by == "auto"
    assert any("executorch serves no masks" in each for each in warnings(config))


@pytest.mark.parametrize(("key", "value"), BEYOND)
def test_what_cannot_work_is_refused_with_what_is_allowed(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=re.escape(RULES[key].allowed)):
        configured(tmp_path, key, value)
