"""The stream benchmark on a tiny street: what variants may see, keep and change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from dance_ondevice.benchmarks import tables
from dance_ondevice.benchmarks.result import About, write_result
from dance_ondevice.benchmarks.stream.choice import most_worth_labelling
from dance_ondevice.benchmarks.stream.life import part
from dance_ondevice.benchmarks.stream.record import Promotion, RunRecord, Spending
from dance_ondevice.benchmarks.stream.results.page import svg
from dance_ondevice.benchmarks.stream.results.summary import make_report
from dance_ondevice.benchmarks.stream.results.targets import targets
from dance_ondevice.benchmarks.stream.rounds import Recipe, Rounds
from dance_ondevice.benchmarks.stream.run import Bench, StreamBenchError, base_of_street, only
from dance_ondevice.benchmarks.stream.scoring import Scorer
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.benchmarks.stream.streams import Segment, Stream, street_stream
from dance_ondevice.benchmarks.stream.teacher import Teacher
from dance_ondevice.benchmarks.stream.tools import between
from dance_ondevice.benchmarks.stream.variants import VARIANTS, Variant
from dance_ondevice.benchmarks.stream.weights import Live, Weights, weights_of
from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.labels import IGNORE, STREET_CLASSES
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.registry import build
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.pretraining import render_street

SIZE = (64, 96)
CLASSES = len(STREET_CLASSES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    arguments = {"downsample": (8, 8, 8), "bottlenecks": (8, 8, 8), "repeats": (1, 1, 1), "fusion": 8}
    return build("fastscnn", CLASSES, {**arguments, "expansion": 2}).eval()


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    return render_street(tmp_path / "frames", range(0, 80, 10), ("day",), seed=1, size=SIZE)


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(small_model(), Normalisation(), CLASSES, tmp_path / "scores")


def test_scores_are_kept_by_weights_and_frame(
    scorer: Scorer, samples: list[TrainingSample], tmp_path: Path
) -> None:
    weights = weights_of(scorer.model)
    first = scorer.scores(weights, samples[:2])
    assert first[0].matrix.sum() == SIZE[0] * SIZE[1]
    assert 0 < first[0].confidence <= 1
    again = Scorer(small_model(), Normalisation(), CLASSES, tmp_path / "scores")
    samples[0].image.unlink()  # a kept score needs no frame
    kept = again.scores(weights, samples[:2])
    assert [score.confidence for score in kept] == [score.confidence for score in first]
    assert (kept[1].matrix == first[1].matrix).all()
    other = Weights({name: tensor * 1.5 for name, tensor in weights.tensors.items()})
    assert other.key != weights.key
    with pytest.raises(ValueError, match=r"000000\.jpg"):
        again.score(other, samples[0])


def rounds(scorer: Scorer, folder: Path) -> Rounds:
    return Rounds(scorer, SIZE, "fp32", folder / "rounds")


@pytest.mark.slow
def test_a_round_trains_only_its_part(scorer: Scorer, samples: list[TrainingSample], tmp_path: Path) -> None:
    start = weights_of(scorer.model)
    recipe = Recipe(part="own", steps=2, batch_size=2, scale=0.5, own_statistics=True)
    found = rounds(scorer, tmp_path).run(recipe, start, samples[:3])
    changed = {n for n, t in found.weights.tensors.items() if not torch.equal(t, start.tensors[n])}
    assert changed
    assert changed <= set(own_parameters(scorer.model))
    assert not any("running" in name for name in changed)
    assert found.log.steps == 2
    assert found.weights.bytes_beside(start) < sum(t.nbytes for t in start.tensors.values())
    batch = rounds(scorer, tmp_path).run(
        replace(recipe, part="all", own_statistics=False), start, samples[:3]
    )
    assert not torch.equal(
        batch.weights.tensors["downsample.0.norm.running_mean"],
        start.tensors["downsample.0.norm.running_mean"],
    )
    assert not any(
        isinstance(vars(m).get("train"), object) and "train" in vars(m) for m in scorer.model.modules()
    )
    assert all(parameter.requires_grad for parameter in scorer.model.parameters())


@pytest.mark.slow
def test_a_round_that_was_run_is_not_run_again(
    scorer: Scorer, samples: list[TrainingSample], tmp_path: Path
) -> None:
    start, recipe = weights_of(scorer.model), Recipe(steps=2, batch_size=2, scale=0.5)
    first = rounds(scorer, tmp_path).run(recipe, start, samples[:3], seed=1)
    for sample in samples:
        sample.image.unlink()
    again = rounds(scorer, tmp_path).run(recipe, start, samples[:3], seed=1)
    assert again.weights.key == first.weights.key
    assert again.log == first.log
    with pytest.raises(ValueError):  # another seed is another round, and the frames are gone
        rounds(scorer, tmp_path).run(recipe, start, samples[:3], seed=2)


@pytest.mark.slow
def test_the_best_step_on_held_out_frames_is_kept(
    scorer: Scorer, samples: list[TrainingSample], tmp_path: Path
) -> None:
    start = weights_of(scorer.model)
    recipe = Recipe(steps=6, batch_size=2, scale=0.5, look_every=2, charge_looks=False)
    found = rounds(scorer, tmp_path).run(recipe, start, samples[:3], held_out=samples[6:])
    assert [step for step, _ in found.log.curve] == [2, 4, 6]
    best = max(score for _, score in found.log.curve)
    if found.log.steps:
        assert dict(found.log.curve)[found.log.steps] == best
    else:
        assert found.weights.key == start.key


def test_between_two_sets_of_weights() -> None:
    one, two = (
        Weights({"a": torch.zeros(2), "n": torch.tensor(3)}),
        Weights({"a": torch.ones(2), "n": torch.tensor(5)}),
    )
    assert between(one, two, 0.25).tensors["a"].tolist() == [0.25, 0.25]
    assert between(one, two, 0.25).tensors["n"] == 3
    assert between(one, two, 1.0) is two


def test_unknown_conditions_fall_back_to_the_first() -> None:
    one, two = Weights({"a": torch.zeros(1)}), Weights({"a": torch.ones(1)})
    live = Live({"base": one}).with_weights("c1", two)
    assert live.weights("c1") is two
    assert live.weights("c2") is one
    assert live.weights("base") is one


def test_frames_that_are_worth_a_label_are_chosen(tmp_path: Path) -> None:
    day = render_street(tmp_path / "frames", range(2), ("day",), seed=1, size=SIZE)
    night = render_street(tmp_path / "frames", range(1), ("night",), seed=1, size=SIZE)
    frames = [*day, *night]

    def choose(count: int, confidence: list[float]) -> list[TrainingSample]:
        return most_worth_labelling(frames, count, complexity=[0.3] * 3, confidence=confidence)

    (first,) = choose(1, [0.9, 0.2, 0.5])
    assert first in (day[1], night[0])  # the better half
    assert choose(0, [0.5, 0.5, 0.5]) == []


def test_a_teacher_labels_where_it_is_sure(samples: list[TrainingSample], tmp_path: Path) -> None:
    model = small_model()
    sure = Teacher(model=model, normalisation=Normalisation(), folder=tmp_path / "a", least_confidence=0.0)
    unsure = replace(sure, folder=tmp_path / "b", least_confidence=1.1)
    (labelled,), cost = sure.label(samples[:1])
    assert labelled.label != samples[0].label
    assert cost > 0
    assert not (decode_label(labelled.label.read_bytes()) == IGNORE).any()
    (ignored,), _ = unsure.label(samples[:1])
    assert (decode_label(ignored.label.read_bytes()) == IGNORE).all()
    assert sure.label(samples[:1])[1] == cost  # made once, charged every time


def record(variant: str, seed: int, rows: tuple, curve: tuple = (), **more: object) -> RunRecord:
    return RunRecord(
        variant=variant, seed=seed, tasks=("day", "dusk"), learnt=(0, 1)[: len(rows)], rows=rows, curve=curve,
        **more,
    )  # fmt: skip


def judged(outcome: str, before: float | None = None, after: float | None = None) -> Promotion:
    return Promotion(
        frame=1, segment="dusk", condition="base", outcome=outcome, before=before, after=after
    )  # fmt: skip


def toy_stream() -> Stream:
    frames = tuple(TrainingSample(Path(f"{n}.jpg"), Path(f"{n}.png")) for n in range(4))
    return Stream(
        name="toy",
        about="",
        classes=("a", "b"),
        size=SIZE,
        segments=(Segment(name="dusk", task="dusk", frames=frames),),
        tests={"day": frames[:1], "dusk": frames[1:2]},
        base=frames[:1],
    )


def variant(name: str) -> Variant:
    return only(VARIANTS, [name])[0]


def toy_report():
    runs = {
        "frozen": [record("frozen", 0, ((0.6, 0.3), (0.6, 0.3)), (0.3, 0.3, 0.3, 0.3))],
        "naive": [
            record(
                "naive", seed, ((0.6, 0.3), (0.5 - seed / 10, 0.4)), (0.3, 0.3, 0.4, 0.5),
                spent=(Spending(1, "training", 10.0), Spending(3, "training", 30.0)),
                promotions=(judged("promoted", 0.3, 0.29), judged("promoted", 0.29, 0.4), judged("rejected")),
            )
            for seed in (0, 1)
        ],
        "joint": [record("joint", 0, ((0.7, 0.5),), spent=(Spending(0, "training", 100.0),))],
    }  # fmt: skip
    return make_report(
        toy_stream(),
        [variant(name) for name in ("frozen", "naive", "joint")],
        runs,
        seeds=(0, 1),
        base="tiny",
        settings=Settings(watts=3.0),
    )


def test_a_report_is_means_and_spread_over_seeds() -> None:
    naive = toy_report().variants["naive"]
    assert naive.final_miou == {"day": pytest.approx(0.45), "dusk": pytest.approx(0.4)}
    assert naive.forgetting == pytest.approx(0.15)
    assert naive.backward_transfer == pytest.approx(-0.15)
    assert naive.prequential_miou == pytest.approx(0.375)
    assert naive.spread["final_miou day"] == pytest.approx(0.0707, abs=1e-4)
    assert naive.joules == pytest.approx(120.0)
    assert naive.gain_per_kilojoule == pytest.approx(100 * (0.425 - 0.45) / 0.12)
    assert (naive.promotions, naive.rejections, naive.rollbacks, naive.bad_promotions) == (4, 2, 0, 2)
    # Half of the best gain, 0.1, is reached at frame 2, when 10 CPU seconds had been spent.
    assert (naive.recovery["dusk"].frames, naive.recovery["dusk"].joules) == (2, 30.0)


def test_targets_are_checked_against_what_was_found() -> None:
    found = {target.asked: target for target in targets(toy_report())}
    assert not any("no labels" in asked or "forgetting" in asked for asked in found)  # nothing of ours there
    report = toy_report()
    naive = report.variants["naive"]
    ours = replace(
        naive, final_miou={"day": 0.598, "dusk": 0.49}, forgetting=0.006, joules=11.0, peak_bytes=1 << 29
    )
    found = {
        target.asked: (target.found, target.met)
        for target in targets(
            replace(
                report,
                variants={
                    **report.variants,
                    "dance_none": replace(ours, final_miou={"day": 0.598, "dusk": 0.51}, cpu_seconds=12.0),
                    "dance_three": ours,
                    "dance_tenth": ours,
                },
            )
        )
    }
    assert found == {
        "no labels: no test below frozen": ("-0.0020 (day)", False),
        "no labels: dusk +0.20 over frozen": ("+0.2100", True),
        "no labels: day within 0.005 of frozen": ("-0.0020", True),
        "no labels: at most 10 CPU seconds": ("12.0", False),
        "3 labelled frames: dusk at least 97% of joint": ("98.0%", True),
        "10 % of the labels: dusk at least 100% of joint": ("98.0%", False),
        "forgetting at most 0.005 in every DANCE variant": ("+0.0060 (dance_none)", False),
        "joules at most 10% of naive": ("dance_three 9.2%, dance_tenth 9.2%", True),
        "joules at most 5% of joint": ("dance_three 3.7%, dance_tenth 3.7%", True),
        "bad promotions of the DANCE variants, all seeds: 0": ("6", False),
        "peak memory of the DANCE variants at most 1024 MiB": ("512 MiB", True),
    }


def test_joint_training_has_an_end_but_no_stream() -> None:
    joint = toy_report().variants["joint"]
    assert joint.final_miou == {"day": 0.7, "dusk": 0.5}
    assert joint.prequential_miou is joint.forgetting is joint.backward_transfer is None
    assert joint.joules == 300.0


def test_the_result_is_a_section_and_a_picture(tmp_path: Path) -> None:
    report = replace(toy_report(), plot="toy.svg")
    about = About(
        benchmark="stream", command="c", data="d", machine="m", date="2026-01-02", seed=0, version="0"
    )
    write_result(tmp_path / "toy.json", about, report)
    page = tables.render(tmp_path)
    assert "Learning on a stream, toy" in page
    assert "| naive | 0.4500 ± 0.0707 |" in page
    assert "4/2/0/2" in page
    assert "| naive | 2 (30 J) |" in page
    assert "](toy.svg)" in page
    raw = json.loads((tmp_path / "toy.json").read_bytes())
    assert raw["stream"] == "toy"
    assert raw["seed"] == 0
    wanted = {"final_miou", "prequential_miou", "average", "backward_transfer", "forgetting", "joules",
              "bad_promotions", "rollbacks"}  # fmt: skip
    assert all(wanted <= found.keys() for found in raw["variants"].values())
    assert svg(report).count("<polyline") == 2


def test_unknown_variants_are_told() -> None:
    assert only(VARIANTS, []) == list(VARIANTS)
    with pytest.raises(ValueError, match="no variant nobody"):
        only(VARIANTS, ["nobody"])


def test_what_is_dear_may_have_fewer_seeds(tmp_path: Path) -> None:
    nothing = Stream(name="nothing", about="", size=SIZE, classes=(), segments=(), tests={}, base=())
    bench = Bench(stream=nothing, base=tmp_path, work=tmp_path, dense_seeds=(0, 1), joint_seeds=(0,))
    found = {variant.name: bench.seeds_of(variant, (0, 1, 2)) for variant in VARIANTS}
    assert (found["dance"], found["naive"], found["joint"]) == ((0, 1, 2), (0, 1), (0,))
    plain = replace(bench, dense_seeds=(), joint_seeds=())
    assert {plain.seeds_of(variant, (3,)) for variant in VARIANTS} == {(3,)}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--stream", "camvid-day-dusk"), "--root"),
        (("--stream", "camvid-day-dusk", "--root", "."), "--base"),
        (("--seeds", "a"), "--seeds"),
        (("--joint-seeds", "-1"), "--joint-seeds"),
        (("--variants", "nobody"), "no variant nobody"),
        (("--variants", "pretrained_frozen"), "--pretrained"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], word: str) -> None:
    ran = CliRunner().invoke(main, ["bench", "stream", *arguments])
    assert ran.exit_code == 2
    assert word in ran.output


@pytest.mark.slow
def test_a_street_is_lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Day, dusk and day again with a tiny model: the promises that a variant's name makes."""
    monkeypatch.setattr("dance_ondevice.conditions.agreement.MARGIN", 1.0)  # its masks mean nothing yet
    whole = street_stream(tmp_path / "street", size=SIZE, frames=36, tests=4, base=40)
    day, dusk, *_, again = whole.segments
    lived = replace(
        whole, segments=(dusk, again), tests={task: whole.tests[task] for task in ("day", "dusk")}
    )
    del day
    base = base_of_street(lived, tmp_path / "base", epochs=1)
    short = [
        replace(v, recipe=replace(v.recipe, steps=3, look_every=3 if v.recipe.look_every else 0))
        if v.recipe
        else v
        for v in VARIANTS
        if v.name
        in (
            "frozen",
            "pretrained_frozen",
            "naive",
            "bn",
            "dance_none",
            "dance_teacher_judges",
            "dance_three",
            "joint",
        )
    ]
    bench = Bench(stream=lived, base=base, work=tmp_path / "work")
    runs = bench.run(short, (0,))
    assert "pretrained_frozen" not in runs
    frozen, none, three = (runs[name][0] for name in ("frozen", "dance_none", "dance_three"))
    assert len(frozen.curve) == 72
    assert frozen.rows[0] == frozen.rows[1] == frozen.rows[2]
    assert frozen.spent == ()
    # Our variants never touch the weights of the light that the base knows.
    assert none.opened
    assert none.condition_bytes["c1"] > 0
    for run in (none, three):
        assert [row[0] for row in run.rows] == [frozen.rows[0][0]] * 3
    assert {one.workload for one in none.spent} == {"conditions", "gate"}
    assert "training" in {one.workload for one in three.spent}
    assert runs["naive"][0].promotions
    judged = runs["dance_teacher_judges"][0].promotions
    assert judged
    assert not any("cannot judge" in one.why for one in judged)
    assert len(runs["bn"][0].promotions) == 72 // 16
    assert runs["joint"][0].curve == ()
    assert runs["joint"][0].cpu_seconds > 0
    # A second call reads everything back.
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "kept.safetensors")
    (tmp_path / "kept.safetensors").rename(tmp_path / "base" / "model.safetensors")
    told: list[str] = []
    assert replace(bench, say=told.append).run(short, (0,)) == runs
    other = base_of_street(lived, tmp_path / "other", epochs=2, seed=1)
    beside = replace(bench, pretrained=other).run(short[:2], (0,))
    assert beside["frozen"] == runs["frozen"]
    assert beside["pretrained_frozen"][0].rows[0] != frozen.rows[0]
    assert beside["pretrained_frozen"][0].spent == ()
    with pytest.raises(StreamBenchError, match="the stream has"):
        replace(bench, stream=replace(lived, classes=("a", "b"))).run(short[:1], (0,))


def test_nothing_is_both_trained_on_and_held_out() -> None:
    samples: Any = list(range(9))
    assert part(samples, 0) == (samples, ())
    assert part(samples, 3) == ([0, 1, 2, 3, 4], [6, 7, 8])
