"""Pretraining, as a function and as a command: what is written, what is said, what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from small_models import SMALL

from dance_ondevice.daemon.commands.models.pretrain import pretrain as command
from dance_ondevice.datasets.camvid import VOID_ID
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import decode_label, encode_jpeg, encode_png
from dance_ondevice.images.confusion import miou
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import CheckpointError, ModelCard, read_card
from dance_ondevice.models.registry import build, build_from_factory
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.pretraining import (
    EpochReport,
    PretrainError,
    PretrainOptions,
    Watcher,
    pretrain,
    render_street,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]

SIZE = (48, 64)
SEQUENCES = {"0006R0": 3, "0016E5": 2}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as CamVid, with void pixels as there; only to be read."""
    folder = tmp_path_factory.mktemp("camvid")
    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    for split, sequences in {"train": SEQUENCES, "test": {"0001TP": 2}}.items():
        images, labels = folder / split, folder / f"{split}annot"
        images.mkdir()
        labels.mkdir()
        for sequence, count in sequences.items():
            for frame in range(count):
                image, label = camera.render(frame * 10)
                label = label.copy()
                label[:4, :4] = VOID_ID
                (images / f"{sequence}_{frame:05d}.jpg").write_bytes(encode_jpeg(image))
                (labels / f"{sequence}_{frame:05d}.png").write_bytes(encode_png(label))
    return folder


@pytest.fixture
def root(rendered: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    return shutil.copytree(rendered, tmp_path / "camvid")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingSample]:
    return render_street(tmp_path_factory.mktemp("street"), range(0, 20, 5), ["day"], seed=3, size=SIZE)


OPTIONS = PretrainOptions(
    architecture="fastscnn", classes=STREET_CLASSES, size=SIZE, epochs=2, batch_size=2, precision="fp32"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def quick(root: Path, out: Path, *more: object) -> Result:
    """The command on the CamVid-like folder, as short as it gets."""
    return run(
        *("--dataset", "camvid", "--root", root, "--out", out, "--size", "64x48", "--epochs", 1),
        *("--batch-size", 4, "--precision", "fp32", *more),
    )


# The function.


def test_model_and_card(tmp_path: Path, street: list[TrainingSample]) -> None:
    epochs: list[EpochReport] = []
    evaluated: list[tuple[str, int, int]] = []
    steps: list[int] = []
    seconds, cpu = itertools.count(100.0, 10.0), itertools.count(0.0, 3.0)
    card = pretrain(
        street,
        {"seen": street[:2]},
        replace(OPTIONS, dataset={"name": "street"}),
        tmp_path / "base",
        watcher=Watcher(
            on_step=lambda report: steps.append(report.step),
            on_epoch=epochs.append,
            on_evaluated=lambda *told: evaluated.append(told),
        ),
        created_at=1_760_000_000.0,
        clock=lambda: next(seconds),
        cpu_clock=lambda: next(cpu),
    )
    model, loaded = checkpoint.load(tmp_path / "base")
    assert loaded == card
    assert (card.architecture, card.classes, card.macs_at) == ("fastscnn", STREET_CLASSES, SIZE)
    assert (card.parent, card.created_at) == (None, 1_760_000_000.0)
    assert steps == [1, 2, 3, 4]
    assert [(e.epoch, e.epochs) for e in epochs] == [(1, 2), (2, 2)]
    assert evaluated == [("seen", 1, 2), ("seen", 2, 2)]

    made = card.training
    assert made["dataset"] == {"name": "street"}
    assert (made["samples"], made["epochs"], made["steps"], made["batch_size"]) == (4, 2, 4, 2)
    assert (made["seed"], made["precision"], made["init"], made["size"]) == (0, "fp32", None, [48, 64])
    assert (made["seconds"], made["cpu_seconds"]) == (10.0, 3.0)
    assert made["macs"] == 3 * 8 * card.macs
    assert made["loss_per_epoch"] == [epoch.loss for epoch in epochs]
    assert made["loss"] == epochs[-1].loss
    scores = made["validation"]["seen"]
    assert scores["samples"] == 2
    assert list(scores["iou_per_class"]) == list(STREET_CLASSES)
    matrix = evaluate(model, street[:2], card.normalisation, len(STREET_CLASSES))
    assert scores["miou"] == pytest.approx(miou(matrix))


def test_training_that_is_cut_short_is_saved_as_far_as_it_came(
    tmp_path: Path, street: list[TrainingSample]
) -> None:
    done: list[int] = []
    watcher = Watcher(on_step=lambda report: done.append(report.step), is_over=lambda: len(done) == 3)
    card = pretrain(street, {}, OPTIONS, tmp_path / "base", watcher=watcher)
    assert checkpoint.load(tmp_path / "base")[1] == card
    assert (done, card.training["steps"]) == ([1, 2, 3], 3)
    assert len(card.training["loss_per_epoch"]) == 2
    assert card.training["loss"] is not None


def test_the_seed_decides_everything(tmp_path: Path, street: list[TrainingSample]) -> None:
    def weights(seed: int, name: str) -> tuple[str, str]:
        torch.manual_seed(len(name))  # the global state must not matter
        card = pretrain(street, {}, replace(OPTIONS, seed=seed, epochs=1), tmp_path / name)
        return card.sha256, card.version

    first, again, other = weights(0, "first"), weights(0, "again"), weights(1, "other")
    assert first[0] == again[0]
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_init_goes_on_from_a_checkpoint(tmp_path: Path, street: list[TrainingSample]) -> None:
    base = pretrain(street, {}, replace(OPTIONS, epochs=1), tmp_path / "base")
    card = pretrain(
        street,
        {},
        replace(OPTIONS, epochs=1, init=tmp_path / "base", learning_rate=1e-9),
        tmp_path / "next",
    )
    assert (card.parent, card.training["init"]) == (base.version, base.version)
    assert card.version != base.version
    assert card.training["learning_rate"] == 1e-9
    parameters = [dict(checkpoint.load(tmp_path / name)[0].named_parameters()) for name in ("base", "next")]
    for name, value in parameters[0].items():
        assert torch.allclose(value, parameters[1][name], atol=1e-6)


def test_under_a_class_map_statistics_stay_and_weights_learn(
    tmp_path: Path, street: list[TrainingSample]
) -> None:
    base = ModelCard(architecture="fastscnn", arguments=SMALL["fastscnn"], classes=("a", "b"), macs_at=SIZE)
    checkpoint.save(tmp_path / "base", build("fastscnn", 2, SMALL["fastscnn"]), base)
    (tmp_path / "map.toml").write_text(
        "[classes]\n" + "".join(f'{name} = ["{"ab"[i % 2]}"]\n' for i, name in enumerate(STREET_CLASSES[:2]))
    )
    options = replace(
        OPTIONS, epochs=1, classes=STREET_CLASSES[:2], init=tmp_path / "base", class_map=tmp_path / "map.toml"
    )
    with_two = [replace(each, void=tuple(range(2, len(STREET_CLASSES)))) for each in street]
    card = pretrain(with_two, {}, options, tmp_path / "site")
    assert card.training["learning_rate"] == 1e-3
    before, after = (checkpoint.load(tmp_path / name)[0].state_dict() for name in ("base", "site"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[f"network.{name}"])}
    assert changed
    assert not any("running" in name for name in changed)


def test_init_of_another_kind_is_refused(tmp_path: Path, street: list[TrainingSample]) -> None:
    pretrain(street, {}, replace(OPTIONS, epochs=1), tmp_path / "base")
    with pytest.raises(PretrainError, match="holds a fastscnn"):
        pretrain(
            street, {}, replace(OPTIONS, init=tmp_path / "base", architecture="other"), tmp_path / "next"
        )
    with pytest.raises(PretrainError, match="holds a fastscnn, not a torch"):
        pretrain(
            street, {}, replace(OPTIONS, init=tmp_path / "base", factory="torch.nn:Conv2d"), tmp_path / "next"
        )
    with pytest.raises(CheckpointError):
        pretrain(street, {}, replace(OPTIONS, init=tmp_path), tmp_path / "next")
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("kind", ["weights", "model"])
def test_a_network_of_ones_own_keeps_its_weights_under_a_class_map(
    tmp_path: Path, street: list[TrainingSample], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "models"))
    factory = "unet_of_a_user:make_unet"
    network = build_from_factory(factory, 2)
    file = tmp_path / "weights.pt"
    torch.save(network.state_dict(), file)
    (tmp_path / "map.toml").write_text('base = ["a", "b"]\n[classes]\nroad = ["a"]\nsky = ["b"]\n')
    options = replace(
        OPTIONS,
        epochs=0,
        classes=("road", "sky"),
        factory=factory,
        init=file,
        class_map=tmp_path / "map.toml",
    )
    card = pretrain(street, {}, options, tmp_path / "site")
    assert (card.architecture, card.factory) == ("", factory)
    assert card.version.startswith("unet_of_a_user-")
    if kind == "model":
        pretrain(street, {}, replace(options, init=tmp_path / "site"), tmp_path / "next")
    found = checkpoint.load(tmp_path / ("site" if kind == "weights" else "next"))[0].state_dict()
    assert all(torch.equal(found[f"network.{name}"], value) for name, value in network.state_dict().items())


def test_rendered_street(tmp_path: Path) -> None:
    ticks: list[None] = []
    samples = render_street(
        tmp_path / "s",
        range(4, 8, 2),
        ["day", "night"],
        seed=5,
        size=SIZE,
        on_frame=lambda: ticks.append(None),
    )
    assert len(samples) == len(ticks) == 4
    assert [sample.image.stem for sample in samples] == [
        "day_000004",
        "day_000006",
        "night_000004",
        "night_000006",
    ]
    _, label = StreetCamera(seed=5, height=SIZE[0], width=SIZE[1]).render(6, "night")
    assert np.array_equal(decode_label(samples[3].label.read_bytes()), label)


# The command.


def test_command_trains_on_the_sequences_named(tmp_path: Path, root: Path) -> None:
    result = quick(root, tmp_path / "base", "--sequences", "0006R0", "--validate", "test", "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    _, card = checkpoint.load(tmp_path / "base")
    assert told["version"] == card.version
    assert told["training"] == json.loads(json.dumps(card.training))
    assert card.training["dataset"] == {"name": "camvid", "splits": ["train"], "sequences": ["0006R0"]}
    assert card.training["samples"] == 3
    assert card.training["validation"]["test"]["samples"] == 2
    assert card.created_at is not None
    assert "epoch 1/1" in result.stderr


def test_command_for_people(tmp_path: Path, root: Path) -> None:
    result = quick(root, tmp_path / "base", "--validate", "test")
    assert result.exit_code == 0, result.output
    for word in ("fastscnn", "loss", "training macs", "IoU on test, 2 images", "bicyclist", "mean"):
        assert word in result.stdout


def test_command_on_the_street(tmp_path: Path) -> None:
    result = run(
        *("--dataset", "street", "--frames", 4, "--conditions", "day,rain", "--validate", "night"),
        *("--size", "64x48", "--epochs", 1, "--batch-size", 8, "--precision", "fp32"),
        *("--out", tmp_path / "base", "--json"),
    )
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)["training"]
    assert (made["samples"], made["steps"]) == (8, 1)
    assert made["dataset"]["conditions"] == ["day", "rain"]
    assert made["validation"]["night"]["samples"] == 1


def test_command_keeps_a_model_that_is_there_unless_forced(tmp_path: Path, root: Path) -> None:
    assert quick(root, tmp_path / "base").exit_code == 0
    before = read_card(tmp_path / "base")
    refused = quick(root, tmp_path / "base", "--seed", 1)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert read_card(tmp_path / "base") == before
    assert quick(root, tmp_path / "base", "--seed", 1, "--force").exit_code == 0
    assert read_card(tmp_path / "base") != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sequences", "0001TP,0016E5"), ("0001TP", "0006R0, 0016E5")),
        (("--split", "other"), ("other",)),
        (("--split", ","), ("--split",)),
        (("--validate", "nope"), ("nope",)),
        (("--size", "480"), ("WIDTHxHEIGHT",)),
        (("--size", "16x480"), ("32 pixels",)),
        (("--architecture", "none"), ("fastscnn",)),
        (("--epochs", 0), ("--epochs",)),
        (("--learning-rate", 0), ("--learning-rate",)),
        (("--precision", "fp16"), ("bf16",)),
        (("--init", "/nowhere"), ("/nowhere",)),
        (("--frames", 5), ("--frames", "street")),
        (("--conditions", "day"), ("--conditions", "street")),
    ],
)
def test_wrong_usage_on_camvid(
    tmp_path: Path, root: Path, arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    result = quick(root, tmp_path / "base", *arguments)
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.output
    assert not (tmp_path / "base").exists()


def test_wrong_root(tmp_path: Path) -> None:
    assert quick(tmp_path / "nowhere", tmp_path / "base").exit_code == 2
    (tmp_path / "empty").mkdir()
    result = quick(tmp_path / "empty", tmp_path / "base")
    assert result.exit_code == 2
    assert "train" in result.output
    missing = run("--dataset", "camvid", "--out", tmp_path / "base")
    assert missing.exit_code == 2
    assert "--root" in missing.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--conditions", "fog"), "day, dusk, rain, night"),
        (("--conditions", ","), "--conditions"),
        (("--validate", "fog"), "--validate"),
        (("--sequences", "0006R0"), "--sequences"),
    ],
)
def test_wrong_usage_on_the_street(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    result = run("--dataset", "street", "--out", tmp_path / "base", *arguments)
    assert result.exit_code == 2, result.output
    assert word in result.output


def test_out_that_cannot_be_made_is_refused_before_the_training(tmp_path: Path, root: Path) -> None:
    (tmp_path / "file").write_text("")
    result = quick(root, tmp_path / "file" / "base")
    assert result.exit_code == 2
    assert "--out" in result.output
    assert "epoch" not in result.output


def test_work_that_fails(tmp_path: Path, root: Path) -> None:
    broken = next((root / "train").glob("0006R0*"))
    broken.write_bytes(b"no image")
    result = quick(root, tmp_path / "base")
    assert result.exit_code == 1
    assert broken.name in result.output
    assert not (tmp_path / "base" / "card.json").exists()


def test_init_of_other_classes_gives_a_fresh_head_alone(
    tmp_path: Path, root: Path, street: list[TrainingSample]
) -> None:
    classes = (*STREET_CLASSES[:-1], "bicyclist", "horse")
    pretrain(street, {}, replace(OPTIONS, epochs=1, classes=classes), tmp_path / "horse")
    result = quick(root, tmp_path / "base", "--init", tmp_path / "horse", "--learning-rate", "1e-9")
    assert result.exit_code == 0, result.output
    (before, _), (after, card) = (checkpoint.load(tmp_path / name) for name in ("horse", "base"))
    assert card.classes == STREET_CLASSES
    kept = dict(before.named_parameters())
    fresh = [name for name, value in after.named_parameters() if value.shape != kept[name].shape]
    assert fresh == ["classifier.3.weight", "classifier.3.bias"]
    for name, value in after.named_parameters():
        assert name in fresh or torch.allclose(value, kept[name], atol=1e-6)


@pytest.mark.slow
def test_command_on_camvid_itself(tmp_path: Path, camvid_dir: Path) -> None:
    result = run(
        *("--dataset", "camvid", "--root", camvid_dir, "--sequences", "0006R0", "--size", "64x48"),
        *("--epochs", 1, "--batch-size", 16, "--precision", "fp32", "--out", tmp_path / "base", "--json"),
    )
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)["training"]
    assert made["samples"] == 101
    assert made["loss"] < 2.5
