"""How a result of ``bench fleet`` is shown on the page of results."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from dance_ondevice.benchmarks.fleet.report import Board, FleetReport, Judgement, Run, Variant
from dance_ondevice.benchmarks.markdown import number, table

__all__ = ["lines"]


def lines(report: FleetReport) -> list[str]:
    """Return the Markdown lines of a result."""
    first, alone = next(iter(report.variants.items()))
    seeds = [run.seed for run in alone.runs]
    return [
        f"{report.architecture} at {report.size[1]}x{report.size[0]}, slimmed differently on each board; "
        f"{report.rounds} rounds of {report.steps} steps of {report.batch_size} images. mIoU on held-out "
        f"frames, means over boards and {len(seeds)} seeds; the least and the most of the seeds in brackets. "
        f"The layers that stay a board's own are {', '.join(report.late_layers) or 'none'}.",
        "",
        *table(
            ("learning", *_SCENES, "taken / refused", "of them in part", "sent", "received",
             "joules on top"),
            [_row(name, each) for name, each in report.variants.items()],
        ),
        "",
        *table(
            (f"against {first}", *(f"{name}, points" for name in _SCENES)),
            [_against(name, each, alone) for name, each in report.variants.items() if each is not alone],
        ),
        "",
        *_allowances(report),
        *table(
            ("board", "MACs left", *report.variants),
            [_board(report, index) for index in range(report.boards)],
        ),
        "",
        "By board: mIoU on its own scene / on all scenes. Joules on top are multiply-accumulates of "
        "estimating statistics and judging fleet versions, as a share of those of learning alone.",
    ]  # fmt: skip


def _allowances(report: FleetReport) -> list[str]:
    """What other allowances would have made of the judgements of each variant."""
    rows = []
    for name, each in report.variants.items():
        found = [j for j in _judgements(each) if j.share == 1]
        for allowed in _ALLOWED if found else ():
            taken = [j for j in found if j.gate_after >= j.gate_before - allowed]
            own = [100 * (j.own_after - j.own_before) for j in taken]
            rows.append(
                (
                    name,
                    f"{allowed:.3f}",
                    f"{len(taken)} of {len(found)}",
                    f"{min(100 * (j.gate_after - j.gate_before) for j in taken):+.1f}" if taken else "-",
                    f"{mean(own):+.1f} ({min(own):+.1f} to {max(own):+.1f})" if own else "-",
                    f"{sum(100 * allowed + change < 0 for change in own)}",
                )
            )
    if not rows:
        return []
    return [
        f"Each board's gate allowed a drop of {report.max_own_drop:.3f}. The judgements of whole "
        "versions under other allowances, each by itself: a board that had taken a version would have gone "
        "on from it. The last two columns are on frames of the board that nothing is decided by.",
        "",
        *table(
            ("learning", "allowance", "taken", "worst on the gate, points", "on other frames, points",
             "of them beyond the allowance"),
            rows,
        ),
        "",
    ]  # fmt: skip


def _judgements(variant: Variant) -> list[Judgement]:
    return [j for run in variant.runs for board in run.boards if not board.apart for j in board.judgements]


def _row(name: str, variant: Variant) -> tuple[str, ...]:
    every = [board for run in variant.runs for board in run.boards if not board.apart]
    learnt = sum(board.macs - board.fleet_macs for board in every)
    return (
        name,
        *(_spread(variant, figure) for figure in _FIGURES),
        f"{sum(b.taken for b in every)} / {sum(b.refused for b in every)}",
        f"{sum(j.taken and j.share < 1 for j in _judgements(variant))}",
        *(f"{mean(figure(b) for b in every) / 1e6:.2f} MB" for figure in (_sent, _received)),
        f"{sum(board.fleet_macs for board in every) / learnt:.1%}" if learnt else "-",
    )


def _against(name: str, variant: Variant, alone: Variant) -> tuple[str, ...]:
    by_seed = {run.seed: run for run in alone.runs}
    found = [name]
    for figure in _FIGURES:
        gains = [
            100 * (_mean(run, figure) - _mean(by_seed[run.seed], figure, like=run)) for run in variant.runs
        ]
        found.append(f"{mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})")
    return tuple(found)


def _board(report: FleetReport, index: int) -> tuple[str, ...]:
    first = next(iter(report.variants.values())).runs[0].boards[index]
    cells = []
    for variant in report.variants.values():
        boards = [run.boards[index] for run in variant.runs]
        cells.append(f"{mean(b.own for b in boards):.3f} / {mean(b.union for b in boards):.3f}")
    return (first.name, number(first.macs_fraction, ".0%"), *cells)


def _spread(variant: Variant, figure: Callable[[Board], float]) -> str:
    values = [_mean(run, figure) for run in variant.runs]
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _mean(run: Run, figure: Callable[[Board], float], *, like: Run | None = None) -> float:
    """The mean over boards, of those that count in another run where one is given."""
    counted = (like or run).boards
    return mean(figure(board) for board, each in zip(run.boards, counted, strict=True) if not each.apart)


def _own(board: Board) -> float:
    return board.own


def _union(board: Board) -> float:
    return board.union


def _unseen(board: Board) -> float:
    return board.unseen


def _sent(board: Board) -> float:
    return board.sent


def _received(board: Board) -> float:
    return board.received


#: Allowances that are shown, mIoU.
_ALLOWED = (0.0, 0.01, 0.02, 0.05, 1.0)
_SCENES = ("own scene", "all scenes", "unseen scenes")
_FIGURES = (_own, _union, _unseen)
