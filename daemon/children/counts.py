"""A model's scores on the held-out samples of a round: pixel counts by class, kept as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably
from dance_ondevice.policies.promotion import bootstrap
from dance_ondevice.policies.promotion.rules import Scores


class Counts(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Pixel counts of one sample by class: of the label, of the mask (where labelled), and of both."""

    id: str
    truth: tuple[int, ...]
    predicted: tuple[int, ...]
    hits: tuple[int, ...]


class ScoreCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model's scores on the gate samples, one confusion matrix over all of them."""

    miou: float
    iou_per_class: tuple[float | None, ...]
    pixels_per_class: tuple[int, ...]
    samples: int

    def scores(self) -> Scores:
        """The same values as the promotion policy takes them."""
        return Scores(
            miou=self.miou,
            iou_per_class=self.iou_per_class,
            pixels_per_class=self.pixels_per_class,
            samples=self.samples,
        )


def score_card(counts: Sequence[Counts]) -> ScoreCard:
    """The scores over all samples together, of which there must be at least one; see ``evaluation``."""
    truth, predicted, hits = (
        np.array([getattr(each, name) for each in counts], np.int64).sum(axis=0)
        for name in ("truth", "predicted", "hits")
    )
    union = truth + predicted - hits
    iou = tuple(float(h / u) if u else None for h, u in zip(hits, union, strict=True))
    present = [value for value, pixels in zip(iou, truth, strict=True) if pixels and value is not None]
    return ScoreCard(
        miou=float(np.mean(present)) if present else 0.0,
        iou_per_class=iou,
        pixels_per_class=tuple(map(int, truth)),
        samples=len(counts),
    )


_counts: msgspec.json.Decoder[tuple[Counts, ...]] = msgspec.json.Decoder(tuple[Counts, ...])


def counts_file(folder: Path, model: str) -> Path:
    """The file in a round's folder for the counts of a model ("live", "frozen" or "candidate")."""
    return folder / f"gate-{model}.json"


def write_counts(path: Path, counts: Sequence[Counts]) -> None:
    """Write the counts of all gate samples to a file, since they are too many for one event."""
    write_durably(path, msgspec.json.encode(counts))


def read_counts(path: Path) -> tuple[Counts, ...]:
    """Read the file of ``write_counts``; empty when it is missing or damaged."""
    try:
        return decode(path.read_bytes(), _counts)
    except (OSError, DocumentError):
        return ()


@dataclass(frozen=True, kw_only=True)
class SampleCapture:
    """Where and when a held-out sample was captured; ``condition`` is empty where it is not known."""

    camera: str
    captured_at: float
    condition: str = ""


def paired_counts(live: Sequence[Counts], candidate: Sequence[Counts]) -> dict[str, bootstrap.Pair]:
    """Both models' counts of the samples that both were scored on, by sample id."""
    others = {counts.id: counts for counts in candidate}
    found = {}
    for one in live:
        other = others.get(one.id)
        if other is not None and other.truth == one.truth:
            found[one.id] = bootstrap.Pair(
                labelled=one.truth,
                live_hits=one.hits,
                live_predicted=one.predicted,
                candidate_hits=other.hits,
                candidate_predicted=other.predicted,
            )
    return found


def block_numbers(
    ids: Sequence[str], captures: Mapping[str, SampleCapture], block_seconds: float
) -> tuple[int, ...]:
    """The number of the time block of each sample; a sample that is gone gets a block of its own."""
    known = [i for i in ids if i in captures]
    numbers = bootstrap.time_blocks(
        [(captures[i].camera, captures[i].captured_at) for i in known], block_seconds
    )
    numbered = dict(zip(known, numbers, strict=True))
    return tuple(numbered.get(i, -1 - position) for position, i in enumerate(ids))
