"""Senders at work: frames to send, and what of them a daemon has stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import zmq
from ingest_harness import jpeg, label

from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire.sender import FrameSender
from dance_ondevice.daemon.wire.sources import SourceFrame


def frames(count: int, labelled: bool = False) -> Iterator[SourceFrame]:
    for number in range(count):
        yield SourceFrame(
            name=str(number), encoding="jpeg", image=jpeg(number), label=label() if labelled else None
        )


def stored_seqs(paths: StatePaths) -> list[int]:
    database = open_reader(paths)
    try:
        return [row["seq"] for row in database.query("select seq from samples order by seq")]
    finally:
        database.close()


@contextlib.contextmanager
def sending(endpoint: str, **options: Any) -> Iterator[FrameSender]:
    with zmq.Context() as context:
        sender = FrameSender(endpoint, **{"camera": "front", "context": context, **options})
        try:
            yield sender
        except BaseException:
            sender.close(at_once=True)
            raise
        sender.close()


def send_all(sender: FrameSender, count: int) -> None:
    for number, frame in enumerate(frames(count)):
        sender.send(frame, seq=number, captured_at=1_700_000_000.0 + number)
    sender.finish()
