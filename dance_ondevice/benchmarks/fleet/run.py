"""Boards that learn in turn, alone or together; files stand for the network, rounds for time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from dance_ondevice.benchmarks.fleet.board import BATCH, LearningBoard, counts, recalibrated
from dance_ondevice.benchmarks.fleet.exchange import Exchange
from dance_ondevice.benchmarks.fleet.report import Board, FleetReport, Run, variant
from dance_ondevice.benchmarks.fleet.scenes import Fleet, mislabelled
from dance_ondevice.benchmarks.fleet.ways import ARMS, USUAL, Way
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.files import write_whole
from dance_ondevice.fleet.describe import describe
from dance_ondevice.fleet.root import Root
from dance_ondevice.images.confusion import miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.cost import count_macs
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.precision import Precision
from dance_ondevice.training.trainer import Trainer, TrainingOptions

__all__ = ["LATE", "Plan", "run"]

#: Modules behind the shared encoder, by architecture.
LATE: Mapping[str, tuple[str, ...]] = {"fastscnn": ("fusion", "classifier")}
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

    arms: tuple[str, ...] = USUAL
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 5
    steps: int = 40
    root_steps: int = 200
    learning_rate: float = 1e-3
    max_own_drop: float = 0.01
    precision: Precision = "fp32"


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
    modelled = Settings()
    return FleetReport(
        fleet=fleet.name,
        boards=len(fleet.scenes),
        seed=plan.seeds[0],
        architecture=architecture,
        size=fleet.seen,
        rounds=plan.rounds,
        steps=plan.steps,
        batch_size=BATCH,
        root_steps=plan.root_steps,
        late_layers=list(LATE.get(architecture, ())),
        macs_per_second=modelled.macs_per_second,
        watts=modelled.watts,
        variants={
            name: variant(ARMS[name].about, runs, joules_a_mac=modelled.watts / modelled.macs_per_second)
            for name, runs in found.items()
        },
        max_own_drop=plan.max_own_drop,
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
        batch_size=BATCH,
        num_classes=len(fleet.classes),
        size=fleet.size,
        learning_rate=rate,
        seed=seed,
        precision=plan.precision,
    )


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
        began, way = time.process_time(), ARMS[name]
        shutil.rmtree(self.work, ignore_errors=True)
        boards = [LearningBoard(scene, self.work / f"{i}") for i, scene in enumerate(self.fleet.scenes)]
        for board in boards:
            self._slimmed(board)
        if way.last != "as others":
            boards[-1].apart = True
        if way.last == "mislabelled":
            folder = self.work / "labels"
            boards[-1].scene = mislabelled(boards[-1].scene, len(self.fleet.classes), folder)
        everything = tuple(sample for scene in self.fleet.scenes for sample in scene.teach)
        members = [board for board in boards if not (board.apart and way.last == "absent")]
        exchange = self._exchange(members, way) if way.together else None
        for number in range(self.plan.rounds):
            for index, board in enumerate(members):
                teach = everything if way.pooled else board.scene.teach
                self._round(board, teach, 1000 * self.seed + 10 * number + index)
            if exchange is not None:
                exchange.turn()
        return Run(seed=self.seed, boards=self._measured(boards), cpu_seconds=time.process_time() - began)

    def _exchange(self, members: list[LearningBoard], way: Way) -> Exchange:
        return Exchange(
            self.fleet,
            self.root,
            self.root_folder,
            members,
            whole=way.whole,
            local=LATE.get(self.root.architecture, ()) if way.late else (),
            shares=way.shares,
            max_own_drop=self.plan.max_own_drop,
            seed=self.seed,
        )

    def _slimmed(self, board: LearningBoard) -> None:
        model, card = checkpoint.load(self.root_folder)
        whole = count_macs(model, *self.fleet.seen)
        for cut in range(1, _CUTS + 1):
            share = 1 - (1 - board.scene.macs_fraction) * cut / _CUTS
            slim(model, target_macs=round(share * whole), size=self.fleet.seen)
        checkpoint.save(board.folder, model, replace(card, version="v0001", parent="root"))
        recalibrated(self.fleet, model, board, board.folder, self.seed)

    def _round(self, board: LearningBoard, teach: tuple[TrainingSample, ...], seed: int) -> None:
        model, card = checkpoint.load(board.folder)
        options = _options(self.plan, self.fleet, self.plan.steps, self.plan.learning_rate, seed)
        macs = 0
        for report in Trainer(model, teach, options, card.normalisation):
            macs = report.macs
        board.macs += macs
        checkpoint.save(board.folder, model, card)

    def _measured(self, boards: list[LearningBoard]) -> list[Board]:
        found = []
        for board, scene in zip(boards, self.fleet.scenes, strict=True):
            by_scene = [counts(self.fleet, board.folder, each.measure) for each in self.fleet.scenes]
            own = next(c for c, s in zip(by_scene, self.fleet.scenes, strict=True) if s is scene)
            union = np.sum(by_scene, axis=0)
            found.append(
                Board(
                    name=scene.name,
                    macs_fraction=scene.macs_fraction,
                    own=miou(own),
                    union=miou(union),
                    unseen=miou(union - own),
                    taken=sum(each.taken for each in board.judgements),
                    refused=len({j.version for j in board.judgements if j.share == 1})
                    - sum(each.taken for each in board.judgements),
                    sent=float(np.mean(board.sent)) if board.sent else 0.0,
                    received=float(np.mean(board.received)) if board.received else 0.0,
                    macs=board.macs,
                    fleet_macs=board.fleet_macs,
                    apart=board.apart,
                    judgements=board.judgements,
                )
            )
        return found
