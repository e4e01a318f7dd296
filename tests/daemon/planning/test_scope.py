"""What a round is for: chosen from the samples and the live version's conditions, judged and recorded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from condition_models import SIZE, about, dusk_statistics, write_version
from round_rig import CONFIG, Rig

from dance_ondevice.conditions import store as condition_store
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.commands.models.certificate import print_certificate
from dance_ondevice.daemon.config.sections import Conditions
from dance_ondevice.daemon.planning import scope as round_condition
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.trainer import probation_main
from dance_ondevice.daemon.trainer.interrupts import ParentRequests
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import read_card
from dance_ondevice.policies.samples.splits import SampleInfo, Split

pytestmark = pytest.mark.usefixtures("first_models_at_hand")


def samples(*counts: tuple[str, Split, int]) -> list[SampleInfo]:
    """(condition, split, how many)."""
    found: list[SampleInfo] = []
    for condition, split, count in counts:
        for _ in range(count):
            index = len(found)
            found.append(
                SampleInfo(
                    id=f"s{index}",
                    camera="front",
                    captured_at=float(index),
                    labelled=True,
                    split=split,
                    condition=condition,
                )
            )
    return found


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("live") / "v1"
    write_version(folder, classes=("road", "sky"))
    return folder


def plan(live: Path, found: list[SampleInfo], **changes: Any) -> round_condition.Planned:
    config = msgspec.structs.replace(CONFIG, **changes)
    planned = round_condition.plan(config, found, lambda: live, rehearsal_share=0.5, seed=0)
    assert isinstance(planned, round_condition.Planned), planned
    return planned


def test_a_conditions_own_round_takes_its_samples_and_is_judged_by_all_that_it_serves(live: Path) -> None:
    found = samples(
        ("base", "train", 2), ("c1", "train", 8), ("c1", "gate", 4), ("c2", "gate", 1), ("", "gate", 3)
    )
    planned = plan(live, found)
    assert planned.scope.condition == "c1"
    assert planned.samples.train == tuple(f"s{i}" for i in range(2, 10))
    # c2 opened from c1, whose set serves it.
    assert planned.samples.gate == tuple(f"s{i}" for i in range(10, 15))
    assert planned.reason == "for condition c1 alone: 8 of 10 new samples are of condition c1"
    assert plan(live, found, conditions=Conditions(enabled=False)).scope.condition is None
    # c2 itself has no statistics, and learns nevertheless by itself.
    planned = plan(live, samples(("c2", "train", 8), ("c2", "gate", 4), ("c1", "gate", 4)))
    assert planned.scope.condition == "c2"
    assert planned.samples.gate == tuple(f"s{i}" for i in range(8, 12))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (samples(("base", "train", 9), ("c1", "train", 8), ("c1", "gate", 5)), ""),
        (samples(("c1", "train", 8), ("c1", "gate", 3), ("base", "gate", 5)), "only 3 held-out ones"),
        (samples(("c9", "train", 8), ("c9", "gate", 8)), "does not know"),
    ],
)
def test_else_it_is_a_whole_round_that_says_why(live: Path, found: list[SampleInfo], said: str) -> None:
    planned = plan(live, found)
    assert planned.scope.condition is None
    assert said in planned.reason
    assert bool(said) == bool(planned.reason)
    assert len(planned.samples.gate) == sum(sample.split == "gate" for sample in found)


def test_rounds_are_compared_with_their_like_where_there_are_some() -> None:
    own, whole = {"id": "a", "condition": "c1"}, {"id": "b", "condition": None}
    assert round_condition.comparable([own, whole], round_condition.of_condition("c2")) == [own]
    assert round_condition.comparable([own, whole], round_condition.WHOLE) == [whole]
    assert round_condition.comparable([whole], round_condition.of_condition("c1")) == [whole]


def test_probation_looks_at_frames_as_each_version_would_serve_them(live: Path, tmp_path: Path) -> None:
    after = tmp_path / "v2"
    write_version(after, learnt=True, classes=("road", "sky"))
    image = tmp_path / "dusk.png"
    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    image.write_bytes(images.encode_png(camera.render(3, "dusk")[0]))
    job = jobs.ProbationJob(
        before=str(live),
        live=str(after),
        n_classes=2,
        threads=1,
        conditions=True,
        samples=tuple(
            jobs.JobSample(id=name, image=str(image), label="", condition=name)
            for name in ("c1", "base", "c2")
        ),
    )

    def observed(job: jobs.ProbationJob) -> dict[str, jobs.Observed]:
        events = io.StringIO()
        probation_main._run(job, events, ParentRequests())
        told = [jobs.decode_event(line.encode()) for line in events.getvalue().splitlines()]
        return {event.id: event for event in told if isinstance(event, jobs.Observed)}

    found = observed(job)
    assert found["c1"].confidence_before != found["c1"].confidence_live
    assert found["c1"].confidence_live == found["c2"].confidence_live
    assert found["base"].confidence_before == found["base"].confidence_live
    assert found["base"].confidence_before != found["c1"].confidence_before
    bare = observed(msgspec.structs.replace(job, conditions=False))
    assert {each.confidence_live for each in bare.values()} == {found["base"].confidence_live}


@pytest.mark.slow
def test_a_round_of_dusk_promotes_a_version_that_keeps_the_day(
    paths: StatePaths, store: Store, add_street: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    add_street(store, 30, condition="dusk")
    store.submit(lambda db: db.execute("update samples set condition = 'c1'")).result()
    rig = Rig(paths, store, CONFIG)
    pointer = first_model.ensure(CONFIG, "test.toml", paths, rig.versions)
    live = rig.versions.directory(pointer.version)
    model, before = checkpoint.load(live)
    data = condition_store.encode({"c1": dusk_statistics(model)}, about({"c1": "base"}))
    (live / CONDITIONS_FILE).write_bytes(data)

    outcome = rig.round()
    assert outcome.outcome == "promoted", outcome.reasons
    assert any("bit for bit as before" in reason for reason in outcome.reasons)
    assert outcome.version is not None
    promoted = rig.versions.directory(outcome.version)
    assert read_card(promoted).sha256 == before.sha256
    assert condition_store.load_conditions(promoted)[0]["c1"].learnt
    (row,) = rig.rows("select condition, reason, macs_before, macs_after from rounds")
    assert row["condition"] == "c1"
    assert "for condition c1 alone" in row["reason"]
    assert row["macs_after"] == row["macs_before"]
    # The copy that the round worked with is not needed any more.
    assert not (paths.rounds / outcome.round / CONDITIONS_FILE).exists()
    card = rig.versions.card(outcome.version)
    assert card["gate"]["condition"] == card["training"]["condition"] == "c1"
    assert card["training"]["distillation"] == 0.0
    print_certificate(card)
    assert "condition c1 alone" in capsys.readouterr().out
