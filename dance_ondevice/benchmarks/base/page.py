"""How a result of ``bench base`` is shown on the page of results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from dance_ondevice.benchmarks.base.report import BaseReport, Score, Site, Trained
from dance_ondevice.benchmarks.markdown import number, table


def lines(report: BaseReport) -> list[str]:
    """The lines of the result's section, as Markdown."""
    made = report.made
    return [
        f"{report.architecture} {report.version}, {report.parameters / 1e3:.0f} k parameters, "
        f"{report.file_bytes / 1e6:.1f} MB, trained on {made.get('samples')} synthetic frames for "
        f"{made.get('steps')} steps ({made.get('cpu_seconds', 0.0) / 60:.0f} CPU minutes); no real image was "
        f"used. A round takes {report.steps} steps of at most {report.batch_size} images from every start, "
        "so rounds of a site take the same joules; 0 labels: batch normalisation's statistics estimated "
        "again from 64 unlabelled images. Means of the seeds, the sample standard deviation behind ±.",
        *(line for site in report.sites for line in _site(site)),
    ]


def _site(site: Site) -> list[str]:
    labels = sorted({t.labels for t in site.trained})
    splits = [score.split for score in site.as_it_is]
    starts = list(dict.fromkeys((t.start, t.learning_rate) for t in site.trained if t.labels))
    rows = [
        (f"{start}, learning rate {rate:g}", split, *(_cell(site, start, rate, n, split) for n in labels))
        for start, rate in starts
        for split in splits
    ]
    as_is = [
        ("base as it is", score.split, number(score.miou, ".3f"), *("" for _ in labels[1:]))
        for score in site.as_it_is
    ]
    return [
        "",
        f"**{site.name}**, {site.size[1]}x{site.size[0]}: {site.data}.",
        "",
        *table(("start", "measured on", *(f"{n} labels" for n in labels)), [*as_is, *rows]),
        "",
        *_by_class(site, labels),
    ]


def _by_class(site: Site, labels: Sequence[int]) -> list[str]:
    """IoU by class on the first split: the base as it is, and both starts with most labels."""
    split = site.as_it_is[0].split
    best = {start: _rates(site, start, labels[-1], split)[0] for start in ("base", "noise")}
    columns = {"base as it is": [_of(site.as_it_is, split)]} | {
        f"{start}, {n} labels": _of_round(site, start, rate, n, split)
        for n in labels[1:]
        for start, rate in best.items()
    }
    return table(
        (f"IoU of class, {split}", *columns),
        [(name, *(_mean_iou(scores, name) for scores in columns.values())) for name in site.classes],
    )


def _cell(site: Site, start: str, rate: float, labels: int, split: str) -> str:
    if not labels:
        rate = min(t.learning_rate for t in site.trained if t.start == start and t.labels == 0)
    values = [score.miou for score in _of_round(site, start, rate, labels, split)]
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _rates(site: Site, start: str, labels: int, split: str) -> list[float]:
    """Learning rates that a start was tried with, the best first."""
    rates = {t.learning_rate for t in site.trained if t.start == start and t.labels == labels}
    return sorted(rates, key=lambda r: -mean(s.miou for s in _of_round(site, start, r, labels, split)))


def _of_round(site: Site, start: str, rate: float, labels: int, split: str) -> list[Score]:
    def wanted(t: Trained) -> bool:
        return (t.start, t.learning_rate, t.labels) == (start, rate, labels)

    return [_of(t.scores, split) for t in site.trained if wanted(t)]


def _of(scores: Sequence[Score], split: str) -> Score:
    return next(score for score in scores if score.split == split)


def _mean_iou(scores: Sequence[Score], name: str) -> str:
    values = [v for v in (score.iou_per_class[name] for score in scores) if v is not None]
    return number(mean(values) if values else None, ".2f")
