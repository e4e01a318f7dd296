"""Rounds and their gate where conditions keep something of their own: the real trainer on tiny data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from condition_models import SIZE, about, write_version

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import Counts, counts_file, read_counts
from dance_ondevice.daemon.children.process import Exit, TrainerProcess, write_job
from dance_ondevice.daemon.trainer import main as trainer_main
from dance_ondevice.daemon.trainer.kinds import KINDS, WholeRound
from dance_ondevice.daemon.trainer.serving import Kept, Serving, judged, kept
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE, Known, about_of
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.images.labels import STREET_CLASSES as CLASSES
from dance_ondevice.images.masks import Prediction
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import read_card
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import predict

pytestmark = pytest.mark.slow

N = len(CLASSES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stored(
    folder: Path, count: int, light: str, condition: str, start: int = 0
) -> tuple[jobs.JobSample, ...]:
    """Labelled frames of the street on disk."""
    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    found = []
    for index in range(start, start + count):
        image, label = camera.render(index, light)
        name = f"{light}-{index}"
        (folder / f"{name}.png").write_bytes(images.encode_png(image))
        (folder / f"{name}.label.png").write_bytes(images.encode_png(label))
        found.append(
            jobs.JobSample(
                id=name,
                image=str(folder / f"{name}.png"),
                label=str(folder / f"{name}.label.png"),
                condition=condition,
            )
        )
    return tuple(found)


def work_order(folder: Path, **changes: Any) -> jobs.Job:
    """A round for c1 on dusk frames; the live version and its conditions stand in ``v1``."""
    live = folder / "v1"
    if not live.exists():
        write_version(live, learnt=changes.pop("learnt", False), classes=CLASSES)
    round_folder = folder / "r1"
    round_folder.mkdir(exist_ok=True)
    copied = shutil.copyfile(live / CONDITIONS_FILE, round_folder / CONDITIONS_FILE)
    settings: dict[str, Any] = {
        "round": "r1",
        "live": str(live),
        "frozen": str(live),
        "out": str(round_folder / "candidate"),
        "checkpoint": str(round_folder / "checkpoint"),
        "n_classes": N,
        "train": stored(folder, 8, "dusk", "c1"),
        "rehearsal": (),
        "gate": stored(folder, 3, "dusk", "c1", start=40),
        "target_macs": None,
        "size": SIZE,
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 0.01,
        "precision": "fp32",
        "precision_cache": str(folder / "precision.json"),
        "threads": 1,
        "seed": 0,
        "condition": "c1",
        "conditions": str(copied),
        **changes,
    }
    return jobs.Job(**settings)


def train(
    job: jobs.Job, *, stop_after: int | None = None, kill_at_look: int | None = None
) -> list[jobs.Event]:
    """Run the trainer process; it is asked to leave after a step, or killed at a look at the gate."""
    job_file = write_job(Path(job.out).parent, job)
    # With the usual priority it would wait for the tests of other processes.
    process = TrainerProcess(job_file, job_file.parent / "trainer.log", priority="normal")
    process.start()
    found: list[jobs.Event] = []
    try:
        for event in process.events():
            if isinstance(event, Exit):
                assert kill_at_look or event.status == 0, (job_file.parent / "trainer.log").read_text()
                break
            if isinstance(event, msgspec.Struct):  # all others are the process's own, not the trainer's
                found.append(event)
            if isinstance(event, jobs.Stepped) and event.step == stop_after:
                process.ask_to_leave()
            if isinstance(event, jobs.CurvePoint) and event.step == kill_at_look:
                process.kill()
    finally:
        process.kill()
    return found


def as_served(version: Path, condition: str, image: np.ndarray) -> Prediction:
    model, card = checkpoint.load(version)
    found = kept(version / CONDITIONS_FILE, model)
    with Serving(found.sets, found.known).on(model) as wear:
        wear(condition)
        return predict(model, image, card.normalisation)


def same(a: NormStatistics, b: NormStatistics) -> bool:
    return (
        a.layers.keys() == b.layers.keys()
        and a.learnt.keys() == b.learnt.keys()
        and all(
            torch.equal(x, y)
            for name in a.layers
            for x, y in zip(a.layers[name], b.layers[name], strict=True)
        )
        and all(torch.equal(a.learnt[name], b.learnt[name]) for name in a.learnt)
    )


@pytest.mark.slow
def test_a_condition_learns_and_the_day_stays_bit_for_bit_also_when_it_was_interrupted(
    tmp_path: Path,
) -> None:
    job = work_order(tmp_path)
    events = train(job)
    candidate, live = Path(job.out), Path(job.live)
    assert isinstance(events[-1], jobs.Done)
    before, after = read_card(live), read_card(candidate)
    assert after.sha256 == before.sha256
    assert (after.training["condition"], after.training["interpolation"]) == ("c1", 0.5)

    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    for index, (light, condition) in enumerate(
        [("day", "base"), ("day", ""), ("dusk", "c1"), ("dusk", "c2")]
    ):
        image = camera.render(60 + index, light)[0]
        one, other = (as_served(version, condition, image) for version in (live, candidate))
        unchanged = np.array_equal(one.mask, other.mask) and one.mean_confidence == other.mean_confidence
        # c2 opened from c1 and has nothing of its own: c1's set serves it, so it learns along.
        assert unchanged == (condition in ("base", "")), condition

    old, about_old = condition_store.load_conditions(live)
    new, about_new = condition_store.load_conditions(candidate)
    assert about_new == about_old
    assert new.keys() == old.keys()
    model, card = checkpoint.load(live)
    assert set(new["c1"].learnt) == set(own_parameters(model))
    assert same(NormStatistics(new["c1"].layers), old["c1"])

    # Judged is what is written: each gate frame with the statistics of its condition.
    for name, version in (("live", live), ("candidate", candidate)):
        counts = read_counts(counts_file(candidate.parent, name))
        sets = condition_store.load_conditions(version)[0]
        conditions.apply(model, sets["c1"].over(conditions.capture(model, learnt=sets["c1"].learnt)))
        gate = [(s.id, trainer_main.sample_of(s)) for s in job.gate]
        expected = judged(model, gate, card.normalisation, N, serving=Serving(), condition_of={})[1]
        assert counts == expected, name
        model, card = checkpoint.load(live)
    bare = judged(model, gate, card.normalisation, N, serving=Serving(), condition_of={})[1]
    assert bare != read_counts(counts_file(candidate.parent, "live"))
    assert bare == read_counts(counts_file(candidate.parent, "frozen"))

    # The same again, interrupted and gone on with: the same tensors.
    shutil.rmtree(candidate)
    shutil.rmtree(job.checkpoint)
    stopped = train(job, stop_after=3)
    assert isinstance(stopped[-1], jobs.Stopped)
    assert not candidate.exists()
    resumed = [event.step for event in train(job) if isinstance(event, jobs.Stepped)]
    assert resumed == list(range(stopped[-1].step + 1, job.steps + 1))
    assert same(condition_store.load_conditions(candidate)[0]["c1"], new["c1"])
    assert read_card(candidate).sha256 == before.sha256

    # Interrupted after the last step, while it was judged: it is judged again, and nothing is learnt twice.
    shutil.rmtree(candidate)
    judged_again = train(job)
    assert not [event for event in judged_again if isinstance(event, jobs.Stepped)]
    assert isinstance(judged_again[-1], jobs.Done)
    assert judged_again[-1].steps == job.steps
    assert same(condition_store.load_conditions(candidate)[0]["c1"], new["c1"])


def test_a_condition_whose_own_statistics_were_worse_learns_from_the_models_own(tmp_path: Path) -> None:
    job = work_order(tmp_path, condition="c2", learnt=True, max_condition_drop=0.02)
    live = Path(job.live)
    sets = condition_store.load_conditions(live)[0]
    text = about({"c1": "base", "c2": "c1"}, refused=("c2",))
    Path(job.conditions).write_bytes(condition_store.encode(sets, text))
    model, card = checkpoint.load(live)
    base = conditions.capture(model)
    kind = KINDS["condition"](job, kept(Path(job.conditions), model), model, card)
    assert not kind.starts_as_live, "c1 serves it"
    kind.as_served(model)
    assert torch.equal(
        dict(model.named_parameters())[own_parameters(model)[0]], sets["c1"].learnt[own_parameters(model)[0]]
    )
    with kind.learning(model), torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in own_parameters(model):
                parameter.mul_(3.0)
    assert kind.shares == (0.5, 0.25)
    assert len(kind.shares) <= job.most_candidates, "joules are set aside for so many"
    nearer = kind.serving(model, 0.25).sets["c2"].learnt
    serving = kind.serving(model, 0.5)
    assert serving.known.serving("c2") == "c2"
    kind.settle(model)
    out = tmp_path / "candidate"
    out.mkdir()
    kind.write(serving, out)
    new, text = condition_store.load_conditions(out)
    assert about_of(text).refused == ()
    assert same(new["c1"], sets["c1"])
    own = dict(model.named_parameters())
    for name in own_parameters(model):
        assert torch.allclose(new["c2"].learnt[name], 2.0 * own[name]), "half of the way from the model's own"
        assert torch.allclose(nearer[name], 1.5 * own[name])
    assert all(torch.equal(new["c2"].layers[n][0], base.layers[n][0]) for n in base.layers)
    with pytest.raises(ValueError, match="lacks"):
        KINDS["condition"](
            msgspec.structs.replace(job, condition="c9"), kept(Path(job.conditions), model), model, card
        )


@pytest.mark.slow
def test_a_killed_trainer_goes_on_from_what_it_saved_by_itself(tmp_path: Path) -> None:
    job = work_order(tmp_path, looks=(2,), min_gain=-1.0)
    killed = train(job, kill_at_look=2)
    assert not isinstance(killed[-1], jobs.Done)
    saved = int((Path(job.checkpoint) / "complete").read_bytes())
    assert saved >= 2
    resumed = [event.step for event in train(job) if isinstance(event, jobs.Stepped)]
    assert resumed == list(range(saved + 1, job.steps + 1))


@pytest.mark.slow
@pytest.mark.parametrize("slims", [False, True])
def test_a_whole_round_estimates_conditions_again_and_keeps_what_they_had_learnt(
    tmp_path: Path, slims: bool
) -> None:
    job = work_order(
        tmp_path,
        learnt=True,
        condition=None,
        train=stored(tmp_path, 6, "day", "base") + stored(tmp_path, 5, "dusk", "c1"),
        gate=stored(tmp_path, 2, "day", "", start=40) + stored(tmp_path, 2, "dusk", "c1", start=40),
        looks=(2, 4, 6),
        min_gain=-1.0,
    )
    live, card = checkpoint.load(Path(job.live))
    if slims:
        job = msgspec.structs.replace(job, target_macs=int(0.8 * count_macs(live, *SIZE)))
    train(job)
    candidate = Path(job.out)
    new, text = condition_store.load_conditions(candidate)
    old, _ = condition_store.load_conditions(Path(job.live))
    assert new.keys() == {"c1"}
    assert new["c1"].learnt.keys() == old["c1"].learnt.keys() == set(own_parameters(live))
    assert text == about({"c1": "base", "c2": "c1"})
    assert read_card(candidate).training["conditions"] == ["c1"]
    model, _ = checkpoint.load(candidate)
    now, before = dict(model.named_parameters()), dict(live.named_parameters())
    # What c1 had added, it adds to what the shared weights have become; slimming leaves no more than that.
    assert (count_macs(model, *SIZE) < count_macs(live, *SIZE)) is slims
    for name, tensor in new["c1"].learnt.items():
        if not slims:
            added = old["c1"].learnt[name] - before[name]
            torch.testing.assert_close(tensor - now[name], added, rtol=1e-4, atol=1e-5)
    assert any(now[n].shape != before[n].shape or not now[n].equal(before[n]) for n in new["c1"].learnt)
    found = kept(candidate / CONDITIONS_FILE, model)
    gate = [(s.id, trainer_main.sample_of(s)) for s in job.gate]
    of = {s.id: s.condition for s in job.gate}
    serving = Serving(found.sets, found.known)
    counts = read_counts(counts_file(candidate.parent, "candidate"))
    assert counts == judged(model, gate, card.normalisation, N, serving=serving, condition_of=of)[1]
    bare = judged(model, gate, card.normalisation, N, serving=Serving(), condition_of=of)[1]
    assert [a == b for a, b in zip(counts, bare, strict=True)] == [True, True, False, False]


def test_the_statistics_of_a_frame_that_would_serve_it_judge_it(tmp_path: Path) -> None:
    job = work_order(tmp_path, learnt=True)
    model, card = checkpoint.load(Path(job.live))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = kept(Path(job.conditions), model)
    gate = [(s.id, trainer_main.sample_of(s)) for s in job.gate]

    def counts(serving: Serving, condition: str) -> tuple[Counts, ...]:
        of = {s.id: condition for s in job.gate}
        return judged(model, gate, card.normalisation, N, serving=serving, condition_of=of)[1]

    serving = Serving(found.sets, found.known)
    bare = counts(Serving(), "c1")
    dusk = counts(serving, "c1")
    assert dusk != bare
    assert counts(serving, "c2") == dusk  # its parent's stand in
    assert counts(serving, "base") == counts(serving, "") == counts(serving, "c9") == bare
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_too_few_images_leave_a_condition_without_statistics(tmp_path: Path) -> None:
    job = work_order(tmp_path, condition=None, train=stored(tmp_path, 3, "dusk", "c1"))
    model, card = checkpoint.load(Path(job.live))
    found = kept(Path(job.conditions), model)
    assert WholeRound(job, found, model, card).serving(model, 1.0).sets == {}
    enough = msgspec.structs.replace(job, rehearsal=stored(tmp_path, 1, "dusk", "c1", start=20))
    serving = WholeRound(enough, found, model, card).serving(model, 1.0)
    assert serving.sets.keys() == {"c1"}
    assert serving.known == Known(frozenset({"c1"}), found.known.parents)
    # Of conditions that nobody asks for nothing is estimated.
    assert WholeRound(enough, found, model, card).serving(model, 1.0, {"base"}).sets == {}
    assert WholeRound(enough, found, model, card).serving(model, 1.0, {"c2"}).sets.keys() == {"c1"}


@pytest.mark.parametrize("damage", ["junk", "nothing beside", "other widths", "missing"])
def test_a_file_that_does_not_fit_counts_for_nothing(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = work_order(tmp_path)
    model, _ = checkpoint.load(Path(job.live))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = Path(job.conditions)
    sets, text = condition_store.decode(file.read_bytes(), "file")
    layers = dict(sets["c1"].layers)
    layers[next(reversed(layers))] = (torch.ones(99), torch.ones(99))
    match damage:
        case "junk":
            file.write_bytes(b"junk")
        case "nothing beside":
            file.write_bytes(condition_store.encode(sets))
        case "other widths":
            file.write_bytes(condition_store.encode({"c1": NormStatistics(layers)}, text))
        case _:
            file.unlink()
    assert kept(file, model) == Kept() or not kept(file, model).sets
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert ("are not used" in capsys.readouterr().err) == (damage in ("junk", "other widths"))


def test_every_kind_of_round_that_a_work_order_may_name_has_its_code(tmp_path: Path) -> None:
    assert set(KINDS) == set(get_args(jobs.RoundKindName))
    named = work_order(tmp_path, condition=None)
    assert [msgspec.structs.replace(named, condition=c).kind_of for c in (None, "c1")] == [
        "whole",
        "condition",
    ]
