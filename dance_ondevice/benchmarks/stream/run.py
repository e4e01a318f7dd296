"""All variants and seeds on one stream, each result kept in a file as soon as it is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.benchmarks.device import forget_peak, peak_bytes
from dance_ondevice.benchmarks.stream.life import Life
from dance_ondevice.benchmarks.stream.record import RunRecord, Spending
from dance_ondevice.benchmarks.stream.rounds import Rounds
from dance_ondevice.benchmarks.stream.scoring import Scorer
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.benchmarks.stream.streams import Stream
from dance_ondevice.benchmarks.stream.teacher import Teacher
from dance_ondevice.benchmarks.stream.tools import Tools
from dance_ondevice.benchmarks.stream.variants import Variant
from dance_ondevice.benchmarks.stream.weights import weights_of
from dance_ondevice.complexity import make_indicator
from dance_ondevice.files import write_whole
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import CARD_FILE, ModelCard, read_card
from dance_ondevice.models.cost import count_macs
from dance_ondevice.training.precision import Precision
from dance_ondevice.training.pretraining import PretrainOptions, pretrain

__all__ = ["Bench", "StreamBenchError", "base_of_street", "only"]

_SCALES = (1.0, 0.75, 0.5)
#: Joint training of a base that was trained elsewhere: passes, and the highest learning rate.
_EPOCHS_FROM_A_BASE, _RATE_FROM_A_BASE = 12, 1e-3


class StreamBenchError(RuntimeError):
    """Error: the measurement cannot be made; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One stream, one base model, one folder of work.

    Attributes:
        stream: Stream to run over.
        base: Folder of the base model.
        work: Folder for intermediate results, from which a killed run resumes.
        pretrained: Folder of a model from elsewhere, for the variant that lives with it untouched; None
            leaves that variant out.
        teacher: Folder of a teacher model; None takes the joint model of the first seed.
        settings: Settings of all variants.
        dense_seeds: Seeds of the variants that train densely; empty takes those of the others.
        joint_seeds: Seeds of joint training, which takes longest; empty takes those of the dense ones.
        say: Function that gets a line for each step.
    """

    stream: Stream
    base: Path
    work: Path
    pretrained: Path | None = None
    teacher: Path | None = None
    settings: Settings = field(default_factory=Settings)
    dense_seeds: Sequence[int] = ()
    joint_seeds: Sequence[int] = ()
    say: Callable[[str], None] = lambda line: None
    cpu_clock: Callable[[], float] = time.process_time

    def run(self, variants: Sequence[Variant], seeds: Sequence[int]) -> dict[str, list[RunRecord]]:
        """Run every variant over the stream, once for each seed if it depends on one.

        Returns:
            The runs by the variant's name, in the order of the seeds.

        Raises:
            StreamBenchError: the base model does not fit, or a joint model is needed and cannot be trained.
            CheckpointError: a model does not load.
            SampleError: a frame cannot be read.
        """
        teacher = self._teacher(seeds[0]) if any(v.labels == "teacher" for v in variants) else None
        tools = self._tools(self.base, teacher)
        found: dict[str, list[RunRecord]] = {}
        for variant in variants:
            if variant.pretrained:
                if self.pretrained is not None:
                    found[variant.name] = [self._one(self._tools(self.pretrained, None), variant, seeds[0])]
                    self.say(_line(found[variant.name][0]))
                continue
            wanted = self.seeds_of(variant, seeds)
            for seed in wanted if variant.random else wanted[:1]:
                record = self._one(tools, variant, seed)
                found.setdefault(variant.name, []).append(record)
                self.say(_line(record))
        return found

    def seeds_of(self, variant: Variant, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that a variant lives the stream with, where it depends on one."""
        if variant.joint and self.joint_seeds:
            return self.joint_seeds
        return self.dense_seeds if variant.dense and self.dense_seeds else seeds

    def _one(self, tools: Tools, variant: Variant, seed: int) -> RunRecord:
        kept = self.work / "runs" / self.stream.name / f"{variant.name}-{seed}.json"
        told = repr((variant, self.settings, tools.base.key, self.stream.about))
        if kept.exists():
            earlier = msgspec.json.decode(kept.read_bytes(), type=_Kept)
            if earlier.told == told:
                return earlier.record
        forget_peak()  # the peak memory of an earlier variant must not count here
        record = self._joint(tools, seed) if variant.joint else Life(tools, variant, seed).run()
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, msgspec.json.format(msgspec.json.encode(_Kept(told, record)), indent=1))
        return record

    def _tools(self, base: Path, teacher: Teacher | None) -> Tools:
        model, card = checkpoint.load(base)
        if card.classes != self.stream.classes:
            raise StreamBenchError(
                f"{base} knows {', '.join(card.classes)}; the stream has {', '.join(self.stream.classes)}"
            )
        scorer = Scorer(
            model, card.normalisation, len(card.classes), self.work / "scores", cpu_clock=self.cpu_clock
        )
        precision: Precision = "bf16" if card.training.get("precision") == "bf16" else "fp32"
        return Tools(
            stream=self.stream,
            base=weights_of(model),
            scorer=scorer,
            rounds=Rounds(
                scorer, self.stream.size, precision, self.work / "rounds", cpu_clock=self.cpu_clock
            ),
            indicator=make_indicator("detail_loss", _SCALES),
            folder=self.work / "statistics",
            settings=self.settings,
            cpu_clock=self.cpu_clock,
            inference_macs=count_macs(model, *self.stream.size),
            teacher=teacher,
        )

    def _teacher(self, seed: int) -> Teacher:
        folder = self.teacher or self._joint_model(seed)
        model, card = checkpoint.load(folder)
        if card.classes != self.stream.classes:
            raise StreamBenchError(f"the teacher {folder} knows other classes than the stream has")
        return Teacher(
            model=model.eval(),
            normalisation=card.normalisation,
            folder=self.work / "teacher" / self.stream.name / (card.version or card.sha256[:12]),
            cpu_clock=self.cpu_clock,
        )

    def _joint(self, tools: Tools, seed: int) -> RunRecord:
        """Score the joint model: there is no stream for it, only an end."""
        folder = self._joint_model(seed)
        model, card = checkpoint.load(folder)
        weights = weights_of(model)
        tests = self.stream.tests
        row = tuple(tools.miou(weights, samples) for samples in tests.values())
        return RunRecord(
            variant="joint",
            seed=seed,
            tasks=tuple(tests),
            learnt=(len(tests) - 1,),
            rows=(row,),
            spent=(Spending(0, "training", float(card.training["cpu_seconds"])),),
            training_macs=int(card.training["macs"]),
            peak_bytes=peak_bytes(),
        )

    def _joint_model(self, seed: int) -> Path:
        """Folder of the joint model: trained as the base model was, on its frames and the stream's."""
        frames = self.stream.joint
        options = self._as_the_base(read_card(self.base), seed)
        names = repr([sample.image.name for sample in frames])
        folder = self.work / "joint" / f"{hashlib.sha256(names.encode()).hexdigest()[:10]}-seed-{seed}"
        if (folder / CARD_FILE).exists():
            made = read_card(folder).training
            init = read_card(self.base).version if options.init else None
            wanted = {"samples": len(frames), "epochs": options.epochs, "seed": seed, "init": init}
            if all(made.get(key) == value for key, value in wanted.items()):
                return folder
            raise StreamBenchError(f"{folder} holds a model that was trained otherwise; remove it")
        self.say(f"joint training, seed {seed}: {options.epochs} epochs of {len(frames)} images")
        pretrain(frames, {}, options, folder, cpu_clock=self.cpu_clock)
        return folder

    def _as_the_base(self, card: ModelCard, seed: int) -> PretrainOptions:
        made: dict[str, Any] = card.training
        if card.class_map is not None:  # weights from elsewhere: joint training goes on from them
            return PretrainOptions(
                architecture=card.architecture,
                classes=card.classes,
                size=self.stream.size,
                epochs=_EPOCHS_FROM_A_BASE,
                learning_rate=_RATE_FROM_A_BASE,
                seed=seed,
                precision="fp32",
                init=self.base,
                dataset={"name": f"joint, {self.stream.name}"},
            )
        try:
            return PretrainOptions(
                architecture=card.architecture,
                classes=card.classes,
                size=(made["size"][0], made["size"][1]),
                epochs=made["epochs"],
                batch_size=made["batch_size"],
                learning_rate=made["learning_rate"],
                seed=seed,
                precision=made["precision"],
                dataset={"name": f"joint, {self.stream.name}"},
            )
        except KeyError as error:
            raise StreamBenchError(
                f"{self.base} does not say how it was trained ({error}); a model made by dance-ondevice "
                "pretrain does"
            ) from error


class _Kept(msgspec.Struct, frozen=True):
    """A run and all that it depends on, in words: another recipe makes it stale."""

    told: str
    record: RunRecord


def base_of_street(stream: Stream, folder: Path, *, epochs: int = 30, seed: int = 0) -> Path:
    """Train the base model of the synthetic street, unless it is there already; returns its folder."""
    if not (folder / CARD_FILE).exists():
        options = PretrainOptions(
            architecture="fastscnn",
            classes=stream.classes,
            size=stream.size,
            epochs=epochs,
            seed=seed,
            precision="fp32",
            dataset={"name": "street"},
        )
        pretrain(stream.base, {}, options, folder)
    return folder


def only(variants: Sequence[Variant], names: Sequence[str]) -> list[Variant]:
    """The named variants, in their own order; all where none is named.

    Raises:
        ValueError: there is no variant of a name.
    """
    known = [variant.name for variant in variants]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no variant {name}; choose of {', '.join(known)}")
    return [variant for variant in variants if not names or variant.name in names]


def _line(record: RunRecord) -> str:
    last = ", ".join(f"{t} {x:.4f}" for t, x in zip(record.tasks, record.rows[-1], strict=True))
    return (
        f"{record.variant} seed {record.seed}: {last}; {record.cpu_seconds:.1f} CPU s; peak memory "
        f"{record.peak_bytes / 2**20:.0f} MiB"
    )
