"""A fleet's server alone, fed with offers: what ten thousand boards would cost it.

Requests are answered as the server's thread answers them, without sockets; files are real, and each offer is
taken in and averaged.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from dance_ondevice.benchmarks.fleet.idle import Idle
from dance_ondevice.daemon.fleet.desk import Desk, open_desk
from dance_ondevice.daemon.fleet.making import make
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import About, encode_offer
from dance_ondevice.fleet.releases import decode_release, encode_release, release_name
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import FleetRules

__all__ = ["ServerReport", "lines", "run"]


#: Offers that are made; boards hand in the same ones in turn.
_DIFFERENT = 8
#: Boards that the costs are derived for.
MANY = 10_000


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of a fleet's server.

    Attributes:
        boards: Boards that asked for news.
        offers: Of them, those that handed in an offer of their own.
        root_values: Values of the root.
        offer_bytes, release_bytes: Bytes of one of each, as they travel.
        sync_cpu_ms: CPU time of the answer to a request for news.
        offer_cpu_ms: Of taking in an offer: its pieces, checks, and files.
        average_cpu_ms: Of one offer in an average.
        release_cpu_ms: Of handing out a version.
        making_seconds: Wall time of the version that was made of all offers.
        peak_mib: Resident memory at most, of the whole process.
        state_mib: Bytes on the disk after all.
        idle: What the server's process and a board's link take while nothing is exchanged.
    """

    boards: int
    offers: int
    root_values: int
    offer_bytes: int
    release_bytes: int
    sync_cpu_ms: float
    offer_cpu_ms: float
    average_cpu_ms: float
    release_cpu_ms: float
    making_seconds: float
    peak_mib: float
    state_mib: float
    idle: Idle | None = None


def run(
    root: Root,
    tensors: dict[str, Array],
    folder: Path,
    *,
    boards: int,
    offers: int,
    say: Callable[[str], None],
) -> ServerReport:
    """Feed a server with the requests of many boards.

    Args:
        root: Description of the root.
        tensors: Its values.
        folder: Empty folder for the server's files.
        boards: Boards that ask for news.
        offers: Of them, those that hand in an offer.
        say: Told what begins.
    """
    rules = FleetRules(least_offers=offers, least_share=0.0)
    shelf, desk = open_desk(folder, root, dict(tensors), rules, sync_seconds=300.0, now=time.time)
    say(f"{boards} boards ask for news")
    ask = messages.Sync(id=1, root=root.sha256)
    began = time.process_time()
    for number in range(boards):
        desk.answer(f"board{number}", ask, b"")
    sync = (time.process_time() - began) / boards
    say(f"{offers} of them hand in an offer")
    recorded = [_offer(root, tensors, number) for number in range(min(offers, _DIFFERENT))]
    began = time.process_time()
    for number in range(offers):
        _put(desk, f"board{number}", recorded[number % len(recorded)])
    size, spent = max(map(len, recorded)), time.process_time() - began
    say("a version is made of them")
    work = desk.work()
    assert work is not None
    began, wall = time.process_time(), time.monotonic()
    made = make(root, work, rules)
    average, wall = (time.process_time() - began) / offers, time.monotonic() - wall
    desk.made(made)
    state = shelf.bytes_used()
    began, read = time.process_time(), 0
    while read < made.change.size:
        _, piece = desk.answer("board0", messages.Get(id=1, sha256=made.change.sha256, offset=read), b"")
        read += len(piece)
    release = time.process_time() - began
    shutil.rmtree(folder, ignore_errors=True)
    return ServerReport(
        boards=boards,
        offers=offers,
        root_values=sum(tensor.size for tensor in tensors.values()),
        offer_bytes=size,
        release_bytes=made.change.size,
        sync_cpu_ms=1000 * sync,
        offer_cpu_ms=1000 * spent / offers,
        average_cpu_ms=1000 * average,
        release_cpu_ms=1000 * release,
        making_seconds=wall,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        state_mib=state / 2**20,
    )


def _offer(root: Root, tensors: dict[str, Array], number: int) -> bytes:
    """An offer of a board that has all channels, the dearest there is."""
    dice = np.random.default_rng(number)
    first = encode_release(root, tensors)
    name = release_name(first)
    moved = {n: t + np.float32(0.01) * dice.standard_normal(t.shape, np.float32) for n, t in tensors.items()}
    about = About(root=root.sha256, base=0, classes=root.classes, samples=20 + 10 * number, against=name)
    return encode_offer(root, about, moved, root.numbers(), base=decode_release(first, root, name))


def _put(desk: Desk, board: str, data: bytes) -> None:
    ref = messages.OfferRef(id=release_name(data), size=len(data))
    for offset in range(0, len(data), messages.PIECE):
        put = messages.Put(id=1, offer=ref, offset=offset)
        desk.answer(board, put, data[offset : offset + messages.PIECE])


def lines(report: ServerReport) -> list[str]:
    """Return the Markdown lines of a result."""
    boards = MANY
    average = report.average_cpu_ms * boards / 60_000
    a_day = (report.offer_cpu_ms + report.average_cpu_ms + report.release_cpu_ms) * boards / 60_000
    news = report.sync_cpu_ms * boards * 86_400 / max(300.0, boards / 10) / 60_000
    return [
        f"The server alone, without sockets: {report.boards} boards ask for news, {report.offers} of them "
        f"hand in an offer that has all channels of the root ({report.root_values:,} values), and one "
        "version is made.",
        "",
        "| what | measured |",
        "| --- | ---: |",
        f"| CPU of a request for news | {report.sync_cpu_ms:.2f} ms |",
        f"| CPU of taking in an offer | {report.offer_cpu_ms:.1f} ms |",
        f"| CPU of an offer in an average | {report.average_cpu_ms:.1f} ms |",
        f"| CPU of handing out a version | {report.release_cpu_ms:.1f} ms |",
        f"| an offer, a version | {report.offer_bytes / 1e6:.2f} MB, {report.release_bytes / 1e6:.2f} MB |",
        f"| the version, CPU and wall time | {report.average_cpu_ms * report.offers / 1000:.0f} s, "
        f"{report.making_seconds:.0f} s |",
        f"| resident memory at most, with the torch of the measuring process | {report.peak_mib:.0f} MiB |",
        f"| files | {report.state_mib:.0f} MiB |",
        *_idle(report.idle),
        "",
        f"{'Derived: ' if report.offers < boards else ''}{boards:,} boards with one offer and one version a "
        f"day take {a_day:.0f} CPU minutes a day and {news:.0f} for news; of these {average:.0f} are the "
        "average, which is the time to a version on one core. "
        f"{boards * report.offer_bytes / 1e9:.1f} GB a day come in and "
        f"{boards * report.release_bytes / 1e9:.1f} GB go out. Memory does not grow with the offers.",
    ]


def _idle(found: Idle | None) -> list[str]:
    if found is None:
        return []
    about = f"idle for {found.seconds:.0f} s, a request every {found.sync_seconds:.0f} s"
    return [
        f"| a board's link, {about} | {found.link_mib:.0f} MiB, {found.link_cpu_seconds / found.seconds:.3%} "
        "of a core |",
        f"| the server's process with one board, {about} | {found.server_mib:.0f} MiB, "
        f"{found.server_cpu_seconds / found.seconds:.3%} of a core |",
    ]
