"""Boards that learn in turn, alone or together; files stand for the network, rounds for time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from dance_ondevice.benchmarks.fleet.report import Arm, Board, FleetReport, Run
from dance_ondevice.benchmarks.fleet.scenes import Fleet, Scene
from dance_ondevice.files import write_whole
from dance_ondevice.fleet.averaging import Contribution, average, with_offer
from dance_ondevice.fleet.candidates import candidate, fleet_numbers
from dance_ondevice.fleet.describe import describe
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import About, decode_offer, encode_offer
from dance_ondevice.fleet.root import Root
from dance_ondevice.fleet.versions import read_arrays, with_values
from dance_ondevice.images.confusion import miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.cost import count_macs
from dance_ondevice.policies.fleet.rules import FleetRules, is_better
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.precision import Precision
from dance_ondevice.training.recalibration import clean_batches, recalibrate
from dance_ondevice.training.trainer import Trainer, TrainingOptions

__all__ = ["ARMS", "Plan", "run"]

Matrix = NDArray[np.int64]

#: Way to learn -> what it is.
ARMS: Mapping[str, str] = {
    "alone": "each board learns from its own scene",
    "fleet": "after each round an average is offered to all; each board's gate decides",
    "fleet, own late layers": "the same, but the last layers stay each board's own",
    "all data": "each board's model learns from all boards' images in one place, for as many steps",
}
#: Modules behind the shared encoder, by architecture.
LATE: Mapping[str, tuple[str, ...]] = {"fastscnn": ("fusion", "classifier")}
_BATCHES, _BATCH = 8, 8
#: Slimmed in as many cuts.
_CUTS = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        arms: Names of :data:`ARMS`.
        seeds: Of each arm.
        rounds: That each board trains.
        steps: Optimiser steps of each round.
        root_steps: Optimiser steps of the root.
        learning_rate: Of a round.
        max_own_drop: mIoU that a fleet version may cost a board on its own gate.
        precision: Of training.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 5
    steps: int = 40
    root_steps: int = 200
    learning_rate: float = 1e-3
    max_own_drop: float = 0.01
    precision: Precision = "fp32"


@dataclass
class _Board:
    """One board while it learns: its folder holds its live model.

    Attributes:
        base: Number of the fleet version that its model descends from.
        offered: That version with the values of its last offer, if it has offered since.
        macs: Of training, estimation and judging so far; ``fleet_macs`` is the fleet's part.
    """

    scene: Scene
    folder: Path
    base: int = 0
    offered: Mapping[str, Array] | None = None
    taken: int = 0
    refused: int = 0
    macs: int = 0
    fleet_macs: int = 0
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)


def run(plan: Plan, start: Path, fleet: Fleet, work: Path, *, say: Callable[[str], None]) -> FleetReport:
    """Measure all arms; finished ones in ``work`` are not measured again.

    Args:
        plan: What to measure.
        start: Model that the root is trained from.
        fleet: The scenes.
        work: Folder for models and finished runs.
        say: Told what begins.

    Raises:
        CheckpointError: The start does not load.
        SampleError: An image or label cannot be used.
    """
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Run]] = {name: [] for name in plan.arms}
    architecture = ""
    for seed in plan.seeds:
        root_folder = work / f"root-{seed}"
        if not root_folder.is_dir():
            say(f"seed {seed}: the root")
            _make_root(plan, start, fleet, root_folder, seed)
        root = describe(root_folder)
        architecture = root.architecture
        for name in plan.arms:
            done = work / f"{seed}-{name.replace(', ', '-').replace(' ', '-')}.json"
            if not done.is_file():
                say(f"seed {seed}: {name}")
                result = _Seed(plan, fleet, root, root_folder, work / "boards", seed).learn(name)
                write_whole(done, msgspec.json.encode(result))
            found[name].append(msgspec.json.decode(done.read_bytes(), type=Run))
    return FleetReport(
        fleet=fleet.name,
        architecture=architecture,
        size=fleet.seen,
        rounds=plan.rounds,
        steps=plan.steps,
        batch_size=_BATCH,
        root_steps=plan.root_steps,
        late_layers=list(LATE.get(architecture, ())),
        arms=[Arm(name=name, about=ARMS[name], runs=runs) for name, runs in found.items()],
    )


def _make_root(plan: Plan, start: Path, fleet: Fleet, out: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, card = checkpoint.load_for(start, fleet.classes)
    options = _options(plan, fleet, plan.root_steps, 5 * plan.learning_rate, seed)
    for _ in Trainer(model, fleet.root, options, card.normalisation):
        pass
    # A model that its boards begin with has no parent: it is their root.
    whole = replace(card, parent=None, root="", macs_at=fleet.seen, unslimmed_macs=0, training={}, gate={})
    checkpoint.save(out, model, whole)


def _options(plan: Plan, fleet: Fleet, steps: int, rate: float, seed: int) -> TrainingOptions:
    return TrainingOptions(
        steps=steps,
        batch_size=_BATCH,
        num_classes=len(fleet.classes),
        size=fleet.size,
        learning_rate=rate,
        seed=seed,
        precision=plan.precision,
    )


@dataclass(frozen=True)
class _Version:
    """A fleet version in the root's shapes, and each board's counts of it on that board's gate."""

    tensors: dict[str, Array]
    counts: list[Matrix]


@dataclass(frozen=True)
class _Seed:
    """One seed of one fleet."""

    plan: Plan
    fleet: Fleet
    root: Root
    root_folder: Path
    work: Path
    seed: int

    def learn(self, name: str) -> Run:
        """Run one arm from the root to the end."""
        began = time.process_time()
        shutil.rmtree(self.work, ignore_errors=True)
        boards = [_Board(scene, self.work / f"{i}") for i, scene in enumerate(self.fleet.scenes)]
        for board in boards:
            self._slimmed(board)
        everything = tuple(sample for scene in self.fleet.scenes for sample in scene.teach)
        together = name.startswith("fleet")
        versions = [_Version(read_arrays(self.root_folder)[1], self._gate_counts(boards) if together else [])]
        local = LATE.get(self.root.architecture, ()) if "late" in name else ()
        for number in range(self.plan.rounds):
            for index, board in enumerate(boards):
                teach = everything if name == "all data" else board.scene.teach
                self._round(board, teach, 1000 * self.seed + 10 * number + index)
            if together:
                self._exchange(boards, versions, local)
        return Run(seed=self.seed, boards=self._measured(boards), cpu_seconds=time.process_time() - began)

    def _slimmed(self, board: _Board) -> None:
        model, card = checkpoint.load(self.root_folder)
        whole = count_macs(model, *self.fleet.seen)
        for cut in range(1, _CUTS + 1):
            share = 1 - (1 - board.scene.macs_fraction) * cut / _CUTS
            slim(model, target_macs=round(share * whole), size=self.fleet.seen)
        self._recalibrated(model, board)
        checkpoint.save(board.folder, model, replace(card, version="v0001", parent="root"))

    def _recalibrated(self, model: torch.nn.Module, board: _Board) -> int:
        """Estimate the statistics on the board's own images; returns the multiply-accumulates."""
        normalisation = self.root.normalisation
        batches = list(
            clean_batches(board.scene.teach, normalisation, batch_size=_BATCH, most=_BATCHES, seed=self.seed)
        )
        recalibrate(model, batches)
        return sum(len(batch) for batch in batches) * count_macs(model, *self.fleet.seen)

    def _round(self, board: _Board, teach: tuple[TrainingSample, ...], seed: int) -> None:
        model, card = checkpoint.load(board.folder)
        options = _options(self.plan, self.fleet, self.plan.steps, self.plan.learning_rate, seed)
        macs = 0
        for report in Trainer(model, teach, options, card.normalisation):
            macs = report.macs
        board.macs += macs
        checkpoint.save(board.folder, model, card)

    def _exchange(self, boards: list[_Board], versions: list[_Version], local: tuple[str, ...]) -> None:
        """Average what the boards offer, publish what gains, and let each board judge it."""
        rules = FleetRules()
        shapes = {name: tensor.shape for name, tensor in versions[0].tensors.items()}
        offers = []
        for board in boards:
            card, tensors, numbers = read_arrays(board.folder)
            about = About(
                root=card.root, base=board.base, classes=card.classes, samples=len(board.scene.teach)
            )
            data = encode_offer(self.root, about, tensors, numbers)
            board.sent.append(len(data))
            offers.append(decode_offer(data, self.root, shapes))
        now = len(versions) - 1
        contributions = [
            Contribution(
                board=board.scene.name,
                offer=offer,
                base=board.offered or versions[board.base].tensors,
                behind=now - board.base,
            )
            for board, offer in zip(boards, offers, strict=True)
            if now - board.base <= rules.oldest_base
        ]
        averaged = average(self.root, versions[-1].tensors, contributions, rules).tensors
        for board, each in zip(boards, offers, strict=True):
            board.offered = with_offer(self.root, versions[board.base].tensors, each)
        tried = [self._candidate(board, averaged, local) for board in boards]
        own = self._gate_counts(boards)
        theirs = [self._counts(folder, board.scene.gate) for folder, board in zip(tried, boards, strict=True)]
        self._charge(boards)
        published = np.sum(versions[-1].counts, axis=0).tolist()
        if not is_better(rules, np.sum(theirs, axis=0).tolist(), published):
            return  # Nobody takes it; the next average goes on from the version before.
        versions.append(_Version(averaged, theirs))
        for board, folder, before, after in zip(boards, tried, own, theirs, strict=True):
            if miou(after) < miou(before) - self.plan.max_own_drop:
                board.refused += 1
                continue
            board.taken += 1
            board.base, board.offered = len(versions) - 1, None
            shutil.rmtree(board.folder)
            folder.rename(board.folder)

    def _candidate(self, board: _Board, version: Mapping[str, Array], local: tuple[str, ...]) -> Path:
        card, own, numbers = read_arrays(board.folder)
        placed = fleet_numbers(self.root, card.classes, numbers)
        values = candidate(self.root, version, own, placed, local=local)
        board.received.append(
            len(
                encode_offer(
                    self.root, About(root=card.root, base=0, classes=card.classes, samples=0), values, {}
                )
            )
        )
        folder = board.folder.with_name(f"{board.folder.name}-candidate")
        with_values(board.folder, folder, values, card)
        model, _ = checkpoint.load(folder)
        spent = self._recalibrated(model, board)
        board.macs += spent
        board.fleet_macs += spent
        checkpoint.save(folder, model, card)
        return folder

    def _charge(self, boards: list[_Board]) -> None:
        for board in boards:
            model, _ = checkpoint.load(board.folder)
            spent = len(board.scene.gate) * count_macs(model, *self.fleet.seen)
            board.macs += spent
            board.fleet_macs += spent

    def _gate_counts(self, boards: list[_Board]) -> list[Matrix]:
        return [self._counts(board.folder, board.scene.gate) for board in boards]

    def _counts(self, folder: Path, samples: tuple[TrainingSample, ...]) -> Matrix:
        model, card = checkpoint.load(folder)
        found: Matrix = evaluate(model, samples, card.normalisation, len(self.fleet.classes))
        return found

    def _measured(self, boards: list[_Board]) -> list[Board]:
        found = []
        for board in boards:
            counts = [self._counts(board.folder, scene.measure) for scene in self.fleet.scenes]
            own = next(c for c, s in zip(counts, self.fleet.scenes, strict=True) if s is board.scene)
            union = np.sum(counts, axis=0)
            found.append(
                Board(
                    name=board.scene.name,
                    macs_fraction=board.scene.macs_fraction,
                    own=miou(own),
                    union=miou(union),
                    unseen=miou(union - own),
                    taken=board.taken,
                    refused=board.refused,
                    sent=float(np.mean(board.sent)) if board.sent else 0.0,
                    received=float(np.mean(board.received)) if board.received else 0.0,
                    macs=board.macs,
                    fleet_macs=board.fleet_macs,
                )
            )
        return found
