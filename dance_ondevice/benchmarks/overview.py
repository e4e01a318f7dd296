"""The table at the top of the page of results: what was measured, beside what, and whether that is good."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from dance_ondevice.benchmarks.labelling.page import SHARES
from dance_ondevice.benchmarks.markdown import table
from dance_ondevice.benchmarks.result import Result, ResultError
from dance_ondevice.benchmarks.slimming.page import TARGET_GAIN, TARGET_INFERENCE, TARGET_TRAINING

Body = Mapping[str, Any]
_GOOD, _BAD, _EVEN, _MIXED = "good", "falls short", "no difference", "mixed"
#: Points of mIoU by which runs of one recipe differ from seed to seed.
_NOISE = 0.01
#: Aimed for, points of mIoU over learning alone: on all scenes, on those of other boards, and on the own one.
_TARGET_UNION, _TARGET_UNSEEN, _TARGET_OWN = 3.0, 5.0, -0.5
#: Aimed for: the CPU time of a stored frame, by that of the earlier build.
_TARGET_INGEST = 0.65


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        found: The figures.
        beside: What they are set against.
        verdict: In a word, whether that is good.
    """

    found: str
    beside: str
    verdict: str


def lines(results: Mapping[str, Result]) -> list[str]:
    """The table for results by file name; a question whose files are not there has no line.

    Raises:
        ResultError: A result lacks what the table shows of it; names the file.
    """
    rows = []
    for question, pattern, answer in _QUESTIONS:
        names = fnmatch.filter(results, pattern)
        bodies = [results[name].body for name in names]
        if not bodies:
            continue
        try:
            finding = answer(bodies)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ResultError(
                f"{', '.join(names)}: not what the table at the top shows: {error!r}"
            ) from error
        links = ", ".join(f"[{name.removesuffix('.json')}]({name})" for name in names)
        rows.append((question, finding.found, finding.beside, finding.verdict, links))
    if not rows:
        return []
    head, rule, *body = table(("what", "measured", "beside", "verdict", "files"), rows)
    return [
        "## What is good and what is not",
        "",
        "The command of each figure, with data, seed, machine and date, stands in its section below.",
        "",
        head,
        rule.replace("---:", "---"),  # words, not figures
        *body,
        "",
    ]


def _by(good: bool) -> str:
    return _GOOD if good else _BAD


def _dusk(bodies: Sequence[Body], variant: str) -> Finding:
    variants = bodies[0]["variants"]
    ours, frozen, naive = (variants[name] for name in (variant, "frozen", "naive"))
    day = ours["final_miou"]["day"] >= frozen["final_miou"]["day"] - _NOISE / 2
    gained = ours["final_miou"]["dusk"] - frozen["final_miou"]["dusk"]
    behind = naive["final_miou"]["dusk"] - ours["final_miou"]["dusk"]
    verdict = _by(day and gained > _NOISE)
    if verdict == _GOOD and variant == "dance" and behind > _NOISE:  # from the same labels
        verdict = _MIXED
    return Finding(
        f"dusk {frozen['final_miou']['dusk']:.3f} -> {_at_dusk(ours)}",
        f"dense fine-tuning on every label: dusk {_at_dusk(naive)}",
        verdict,
    )


def _at_dusk(variant: Body) -> str:
    scores = variant["final_miou"]
    return f"{scores['dusk']:.3f} for {variant['joules']:.0f} J, day {scores['day']:.3f}"


def _base(bodies: Sequence[Body]) -> Finding:
    site = bodies[0]["sites"][0]
    split = site["as_it_is"][0]["split"]

    def reached(start: str) -> float:
        rates: dict[float, list[float]] = {}
        for run in site["trained"]:
            if (run["start"], run["labels"]) == (start, 20):
                score = next(score["miou"] for score in run["scores"] if score["split"] == split)
                rates.setdefault(run["learning_rate"], []).append(score)
        return max(mean(scores) for scores in rates.values())

    ours, noise = reached("base"), reached("noise")
    found = f"{split} {site['as_it_is'][0]['miou']:.3f} without a label, {ours:.3f} after a round on 20"
    return Finding(found, f"a network that starts from noise: {noise:.3f}", _by(ours > noise + _NOISE))


def _slimming(bodies: Sequence[Body]) -> Finding:
    pairs = [(body["variants"]["dense"], body["variants"]["dance+"]) for body in bodies]
    training = mean(1 - ours["train_seconds"] / dense["train_seconds"] for dense, ours in pairs)
    inference = mean(1 - ours["infer_ms"] / dense["infer_ms"] for dense, ours in pairs)
    gains = {
        split: mean(ours["miou"][split] - dense["miou"][split] for dense, ours in pairs)
        for split in pairs[0][0]["miou"]
    }
    return Finding(
        f"{training:.0%} of training and {inference:.0%} of inference saved, "
        + ", ".join(f"mIoU {split} {100 * gain:+.1f} points" for split, gain in gains.items()),
        f"dense training; aimed for {TARGET_TRAINING:.0%}, {TARGET_INFERENCE:.0%}, "
        f"{100 * TARGET_GAIN:+.1f} points",
        _by(
            training >= TARGET_TRAINING
            and inference >= TARGET_INFERENCE
            and min(gains.values()) >= TARGET_GAIN
        ),
    )


def _shorter(bodies: Sequence[Body], variant: str = "dance+") -> Finding:
    """What DANCE+ gains on the simplest way to save energy, and what either takes."""
    pairs = [(body["variants"]["dense-quarter"], body["variants"][variant]) for body in bodies]
    ratio = mean(ours["train_seconds"] / dense["train_seconds"] for dense, ours in pairs)
    gains = {
        split: [100 * (ours["miou"][split] - dense["miou"][split]) for dense, ours in pairs]
        for split in pairs[0][0]["miou"]
    }
    told = "; ".join(f"mIoU {split} {_signed(points)} points" for split, points in gains.items())
    good = ratio <= 1 and min(map(min, gains.values())) > 0
    return Finding(
        f"{told}, for {ratio:.2f} of its CPU seconds", "dense for a quarter of the epochs", _by(good)
    )


def _choice(bodies: Sequence[Body]) -> Finding:
    both = [body for body in bodies if {"complexity", "random-condition"} <= body["variants"].keys()]
    gains = [
        body["variants"]["complexity"]["miou"][split] - body["variants"]["random-condition"]["miou"][split]
        for body in both
        for split in body["variants"]["complexity"]["miou"]
    ]
    verdict = _EVEN if min(gains) < 0 < max(gains) or max(map(abs, gains)) < _NOISE else _by(min(gains) > 0)
    return Finding(
        "mIoU " + ", ".join(f"{100 * gain:+.1f}" for gain in gains) + " points",
        "chance within each light",
        verdict,
    )


def _indicator(bodies: Sequence[Body]) -> Finding:
    found = bodies[0]["indicators"]
    plain, learnt = (found[name]["rho"]["0.5"] for name in ("detail_loss", "learnt_loss"))
    same = found["loss of the mirrored frame"]["rho"]["0.5"]
    return Finding(
        f"rank correlation {plain:+.2f} at half size by formula, {learnt:+.2f} learnt",
        f"the same measurement of the mirrored frame: {same:+.2f}; aimed for +0.55 on new drives",
        _by(learnt >= 0.55),
    )


def _engines(bodies: Sequence[Body]) -> Finding:
    ratios = {
        engine["name"]: engine["cpu_ratio"]
        for engine in bodies[0]["engines"]
        if engine["model"] == "dense" and engine["scale"] == 1.0 and not engine["name"].startswith("torch")
    }
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return Finding(f"CPU time {told}", "torch, as trained: 1", _by(max(ratios.values()) < 1))


def _service(bodies: Sequence[Body]) -> Finding:
    scene = bodies[0]["scenarios"]["camera"]
    here, there = (scene[side]["resident_mb"] for side in ("here", "there"))
    return Finding(
        f"{scene['cpu_ratio']:.2f} of the CPU time, {here:.0f} MB resident",
        f"an earlier build: 1, {there:.0f} MB",
        _by(scene["cpu_ratio"] < 1 and here < there),
    )


def _stored(bodies: Sequence[Body]) -> Finding:
    ratios = {row["name"]: row["cpu_ratio"] for row in bodies[0]["ingest"]["races"]}
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return Finding(
        f"CPU time {told}",
        f"an earlier build: 1; aimed for {_TARGET_INGEST} of frames stored smaller",
        _by(all(ratio <= _TARGET_INGEST for name, ratio in ratios.items() if name.startswith("at "))),
    )


def _step(bodies: Sequence[Body]) -> Finding:
    ratios = bodies[0]["ratios"]
    found = f"DANCE+ {ratios['dance+']:.2f}, dense {ratios['dense']:.2f} of the CPU time"
    return Finding(found, "an earlier build: 1", _by(ratios["dance+"] < 1))


def _taps(bodies: Sequence[Body]) -> Finding:
    """What 30 taps bring of what whole labels of a tenth bring, on each stream and base."""
    gains = [
        (100 * body["gain"]["taps"]["30"], 100 * body["gain"]["labelled_frames"]["10%"]) for body in bodies
    ]
    aimed = SHARES["30"]
    reached = [taps >= aimed * whole for taps, whole in gains]
    return Finding(
        f"{_signed(taps for taps, _ in gains)} points of mIoU",
        f"a tenth of the frames labelled: {_signed(whole for _, whole in gains)}; aimed for {aimed:.0%}",
        _GOOD if all(reached) else _MIXED if min(taps for taps, _ in gains) > 0 else _BAD,
    )


def _signed(points: Iterable[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in points)


def _fleet(bodies: Sequence[Body]) -> Finding:
    """What boards gain together over learning alone: on all scenes, those of others, and their own."""
    variants = bodies[0]["variants"]

    def gains(figure: str) -> list[float]:
        return [
            100 * (mean(b[figure] for b in ours["boards"]) - mean(b[figure] for b in alone["boards"]))
            for ours, alone in zip(variants["fleet"]["runs"], variants["alone"]["runs"], strict=True)
        ]

    union, unseen, own = (gains(figure) for figure in ("union", "unseen", "own"))
    good = min(union) >= _TARGET_UNION and mean(unseen) >= _TARGET_UNSEEN and mean(own) >= _TARGET_OWN
    return Finding(
        f"points of mIoU by seed: all scenes {_signed(union)}, others' {_signed(unseen)}, own {_signed(own)}",
        f"each board alone; aimed for {_signed((_TARGET_UNION, _TARGET_UNSEEN, _TARGET_OWN))} or more",
        _GOOD if good else _MIXED if min(union) > 0 else _BAD,
    )


def _faults(bodies: Sequence[Body]) -> Finding:
    body = bodies[0]
    kills = sum(row["kills"] for row in body["kills"])
    lost = sum(row["lost"] for row in (*body["kills"], *body["disks"], body["day"]))
    return Finding(f"{kills} kills, {lost} acknowledged samples lost", "promised: 0", _by(lost == 0))


def _soak(bodies: Sequence[Body]) -> Finding:
    body = bodies[0]
    more = body["descriptors_more"], body["threads_more"]
    return Finding(
        f"memory {body['growth']:+.2%}, descriptors {more[0]:+d}, threads {more[1]:+d} "
        f"in {body['seconds'] / 60:.0f} minutes",
        "allowed: 2 %, 0, 0",
        _by(body["growth"] <= 0.02 and max(more) <= 0 and not body["failures"]),
    )


#: Question, pattern of file names, and what answers it from those that are there.
_QUESTIONS: Sequence[tuple[str, str, Callable[[Sequence[Body]], Finding]]] = (
    (
        "a dusk comes to a day model, no label",
        "camvid-stream-day-dusk.json",
        lambda b: _dusk(b, "dance_none"),
    ),
    ("the same, every label", "camvid-stream-day-dusk.json", lambda b: _dusk(b, "dance")),
    ("the base model that comes along, CamVid", "base.json", _base),
    (
        "DANCE+ from scratch, Fast-SCNN on CamVid",
        "slimming-fastscnn-scratch-anew-[0-9].json",
        _slimming,
    ),
    (
        "the same against dense training that ends early",
        "slimming-fastscnn-scratch-control-[0-9].json",
        _shorter,
    ),
    (
        "fine-tuning for three epochs on windows, ESPNetv2, against the same",
        "slimming-espnetv2-finetune-control-[0-9].json",
        lambda b: _shorter(b, "dance+three-quarters"),
    ),
    (
        "dropping by complexity",
        "slimming-choice-*.json",
        _choice,
    ),
    ("does the score foretell what downsampling costs", "camvid-indicators.json", _indicator),
    ("a mask, one thread", "predict.json", _engines),
    ("the daemon with masks of a driving camera", "service.json", _service),
    ("a frame that is stored", "service-ingest.json", _stored),
    ("a training step", "step-fastscnn.json", _step),
    ("30 taps on a telephone, and a round", "labelling-*.json", _taps),
    ("three boards of a fleet, CamVid", "fleet-camvid-full.json", _fleet),
    ("nothing acknowledged is lost", "faults.json", _faults),
    ("a daemon does not grow", "soak.json", _soak),
)
