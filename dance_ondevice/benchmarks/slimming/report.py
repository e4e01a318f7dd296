"""The report from the variants' results: ratios to dense, and when dense's final mIoU was first reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dance_ondevice.benchmarks.slimming.plan import Plan, Point, Trained
from dance_ondevice.benchmarks.slimming.recipes import Setting

DENSE = "dense"
#: Data on which DANCE+ was chosen, by setting.
CHOSEN_ON: Mapping[Setting, str] = {"scratch": "camvid, val and test", "finetune": "camvid, parts of train"}


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The first point of a variant's curve whose mIoU is at least dense's final one.

    Attributes:
        seconds: Seconds of training up to this point.
        of_dense: Those seconds as a share of dense's whole training.
        epoch: Epochs up to this point.
    """

    seconds: float
    of_dense: float
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Time of inference for an image: see the attributes of the same names in ``VariantReport``."""

    infer_ms: float
    infer_cpu_ms_served: float
    engine: str


@dataclass(frozen=True, kw_only=True)
class VariantReport(Trained):
    """One variant: its training, and figures derived from it.

    Attributes:
        infer_ms: CPU (GPU: wall) milliseconds of inference for an image in torch, without decoding.
        infer_cpu_ms_served: The same with the engine that the service would choose; None in older results.
        engine: Name of that engine; "" in older results.
        ratios: Figure -> this variant's value divided by dense's; empty without dense.
        miou_gain: mIoU minus dense's by split; empty without dense.
        reaches_dense: First point at which dense's final mIoU is reached, by split; None where it never is.
            Scores are measured at a few points of the training, so this is an upper bound.
    """

    infer_ms: float
    infer_cpu_ms_served: float | None = None
    engine: str = ""
    ratios: dict[str, float]
    miou_gain: dict[str, float]
    reaches_dense: dict[str, Reached | None]


@dataclass(frozen=True, kw_only=True)
class SlimmingReport:
    """Everything that one call measured.

    Attributes:
        epochs: Epochs of dense where it was trained, else the most of any variant.
        size: (height, width) that images were fitted to.
        init: "BASE" if the training started from a model, else "".
        chosen_on: Data on which DANCE+ was chosen; scores on these are not of unseen images.
        variants: Reports by variant.
        left_out: Variants that cannot be trained with this model -> the reason.
    """

    dataset: str
    architecture: str
    setting: str
    protocol: str
    seed: int
    device: str
    epochs: int
    precision: str
    size: tuple[int, int]
    init: str
    variants: dict[str, VariantReport]
    chosen_on: str = ""
    left_out: dict[str, str] = field(default_factory=dict)


def make_report(
    plan: Plan,
    trained: Mapping[str, Trained],
    timed: Mapping[str, Timed],
    left_out: Mapping[str, str] | None = None,
) -> SlimmingReport:
    """Put the variants side by side.

    Args:
        plan: Plan of the call.
        trained: Results by variant, at least one.
        timed: Times of inference by variant.
        left_out: Reason why a variant was not trained, by variant.
    """
    dense = trained.get(DENSE)
    variants = {}
    for name, found in trained.items():
        figures = _figures(found, timed[name])
        ratios, gain, reached = {}, {}, {}
        if dense is not None:
            ratios = {
                key: figures[key] / value
                for key, value in _figures(dense, timed[DENSE]).items()
                if value and key in figures
            }
            gain = {split: score - dense.miou[split] for split, score in found.miou.items()}
            reached = {split: _reached(found.curve, dense, split) for split in found.miou}
        variants[name] = VariantReport(
            **vars(found),
            **vars(timed[name]),
            ratios=ratios,
            miou_gain=gain,
            reaches_dense=reached,
        )
    return SlimmingReport(
        dataset=plan.dataset,
        architecture=plan.architecture,
        setting=plan.setting,
        protocol=plan.protocol,
        seed=plan.seed,
        device=plan.device,
        epochs=dense.epochs if dense is not None else max(found.epochs for found in trained.values()),
        precision=plan.precision,
        size=plan.size,
        init="BASE" if plan.init else "",
        chosen_on=CHOSEN_ON[plan.setting],
        variants=variants,
        left_out=dict(left_out or {}),
    )


def _figures(trained: Trained, timed: Timed) -> dict[str, float]:
    figures = {
        "train_seconds": trained.train_seconds,
        "train_macs": float(trained.train_macs),
        "infer_ms": timed.infer_ms,
        "infer_cpu_ms_served": timed.infer_cpu_ms_served,
        "infer_macs": float(trained.infer_macs),
        "parameters": float(trained.parameters),
        "peak_bytes": float(trained.peak_bytes),
    }
    if trained.train_joules is not None:
        figures["train_joules"] = trained.train_joules
    return figures


def _reached(curve: Sequence[Point], dense: Trained, split: str) -> Reached | None:
    for point in curve:
        if point.miou[split] >= dense.miou[split]:
            share = point.seconds / dense.train_seconds if dense.train_seconds else 0.0
            return Reached(seconds=point.seconds, of_dense=share, epoch=point.epoch)
    return None
