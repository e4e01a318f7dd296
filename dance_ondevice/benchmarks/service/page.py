"""How a result of ``bench service`` is shown on the page of results."""

from __future__ import annotations

from collections.abc import Sequence

from dance_ondevice.benchmarks.markdown import number, table
from dance_ondevice.benchmarks.service.report import Pace, Race, Ready, Scene, ServiceReport, Used


def lines(report: ServiceReport) -> list[str]:
    """Markdown."""
    against = f"against {report.against}" if report.against else "alone"
    found = [
        f"{report.here} {against}, each a daemon of its own by its own counters, fed the same "
        f"{report.frame[1]}x{report.frame[0]} JPEGs in turn. Model: {report.model}, inference at scale "
        f"{report.scale:g}, one thread, no round. Joules are those above idle by the daemon's own account "
        f"({report.meter or 'none was started with inference'}).",
        "",
    ]
    if report.scenarios:
        columns = (
            "camera", "build", "frames", "kept", "masks", "repeated", "CPU s", "of the other",
            "CPU ms a mask", "joules",
            "resident MB", "highest MB", "p50 ms", "p99 ms", "mIoU",
        )  # fmt: skip
        rows = [row for scene in report.scenarios.values() for row in _scene(report, scene)]
        found += [
            "CPU seconds are those of the daemon and of its children that have ended. A build that does not",
            "keep up skips frames: then CPU time a mask tells more than the sum.",
            "",
            *table(columns, rows),
            "",
        ]
    if report.ingest.races:
        names = (
            "ingest, stored", "build", "frames/s", "of the loop", "CPU ms a frame", "of the other", "kept",
            "at scales", "a kept frame, of the other",
        )  # fmt: skip
        races = [row for race in report.ingest.races for row in _ingest(report, race)]
        found += [
            "The loop only receives and decodes grey; a kept frame is answered when it is durable. Ratios of",
            "CPU time are medians over the turns, in which both builds had the same machine; that of a kept",
            "frame counts what the dropped ones cost as well.",
            "",
            *table(names, races),
            "",
        ]
    starts = [
        (name, f"{ready.seconds:.2f}", f"{ready.cpu_seconds:.2f}")
        for name, ready in _starts(report)
        if ready is not None
    ]
    if starts:
        found += [*table(("start with inference", "seconds to READY", "CPU seconds"), starts), ""]
    if report.predict:
        scales = sorted({scale for ratios in report.predict.values() for scale in ratios}, reverse=True)
        engines = [
            (name, *(number(ratios.get(scale), ".2f") for scale in scales))
            for name, ratios in report.predict.items()
        ]
        found += [
            "CPU time of a mask by the slimmed model on one thread, by that of the dense one in torch as it",
            "was trained:",
            "",
            *table(("engine", *(f"at scale {scale}" for scale in scales)), engines),
            "",
        ]
    if report.p99_beside_round is not None:
        found.append(
            f"The 99th percentile of a mask's latency beside a round is {report.p99_beside_round:.2f} times "
            "that of the idle board."
        )
    return found


def _starts(report: ServiceReport) -> Sequence[tuple[str, Ready | None]]:
    return ((report.here, report.ready_here), (report.against, report.ready_there))


def _scene(report: ServiceReport, scene: Scene) -> list[tuple[str, ...]]:
    rows = [(scene.name, report.here, *_used(scene.here, scene.cpu_ratio))]
    if scene.there is not None:
        rows.append(("", report.against, *_used(scene.there, None)))
    return rows


def _used(used: Used, ratio: float | None) -> tuple[str, ...]:
    cpu = used.cpu_seconds + used.children_cpu_seconds
    return (
        *(str(each) for each in (used.sent, used.kept, used.masks, used.repeated)),
        f"{cpu:.2f}",
        number(ratio, ".2f"),
        number(1e3 * cpu / used.masks if used.masks else None, ".1f"),
        number(used.joules, ".1f"),
        f"{used.resident_mb:.0f}",
        f"{used.peak_mb:.0f}",
        number(used.latency_ms.get("50"), ".1f"),
        number(used.latency_ms.get("99"), ".1f"),
        number(used.miou, ".4f"),
    )


def _ingest(report: ServiceReport, race: Race) -> list[tuple[str, ...]]:
    loop = race.loop
    rows: list[tuple[str, ...]] = [
        (
            race.name,
            "the loop",
            f"{loop.frames_per_second:.0f}",
            "1",
            f"{loop.cpu_ms:.2f}",
            "-",
            "-",
            "-",
            "-",
        ),
        (
            "",
            report.here,
            f"{race.here.frames_per_second:.0f}",
            f"{race.of_loop:.0%}",
            f"{race.here.cpu_ms:.2f}",
            number(race.cpu_ratio, ".2f"),
            f"{race.here.kept_share:.0%}",
            _scales(race.here),
            number(race.kept_cpu_ratio, ".2f"),
        ),
    ]
    if race.there is not None:
        rows.append(
            (
                "",
                report.against,
                f"{race.there.frames_per_second:.0f}",
                number(race.of_loop_there, ".0%"),
                f"{race.there.cpu_ms:.2f}",
                "-",
                f"{race.there.kept_share:.0%}",
                _scales(race.there),
                "-",
            )
        )
    return rows


def _scales(pace: Pace) -> str:
    """How much of what was kept was stored at which scale; nothing where all of it was at one."""
    shares = pace.scale_shares
    return ", ".join(f"{scale}: {share:.0%}" for scale, share in shares.items()) if len(shares) > 1 else "-"
