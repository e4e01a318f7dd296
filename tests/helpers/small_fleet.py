"""A fleet so small that its models need no torch: a root of three layers, and offers of boards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from dance_ondevice.daemon.fleet.desk import Desk, open_desk
from dance_ondevice.daemon.fleet.making import make
from dance_ondevice.daemon.fleet.shelf import Shelf
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.fleet.layers import Array, Layer
from dance_ondevice.fleet.offers import About, encode_offer
from dance_ondevice.fleet.releases import decode_release, encode_release
from dance_ondevice.fleet.root import Root
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE, ModelCard, encode_card
from dance_ondevice.policies.fleet.rules import FleetRules, Tally

CLASSES = ("road", "sky", "tree")
ROOT = Root(
    sha256="a" * 64,
    classes=CLASSES,
    layers={
        "stem": Layer(kind="mixing", channels=(3, 6, 1)),
        "norm": Layer(kind="channelwise", channels=(6, 6, 1)),
        "head": Layer(kind="mixing", channels=(6, 3, 1)),
    },
    heads=("head",),
)
TENSORS: Mapping[str, Array] = {
    "stem.weight": np.linspace(-1, 1, 6 * 3 * 9, dtype=np.float32).reshape(6, 3, 3, 3),
    "norm.weight": np.ones(6, np.float32),
    "norm.bias": np.zeros(6, np.float32),
    "norm.running_mean": np.zeros(6, np.float32),
    "norm.running_var": np.ones(6, np.float32),
    "head.weight": np.linspace(1, -1, 3 * 6, dtype=np.float32).reshape(3, 6, 1, 1),
    "head.bias": np.zeros(3, np.float32),
}
#: The root's release, which boards make of their first model.
FIRST = encode_release(ROOT, TENSORS)
RULES = FleetRules(least_votes=2)
DAY = 86400.0


def write_root(folder: Path) -> Path:
    """Write the root's model into a folder, which is created."""
    folder.mkdir()
    data = safetensors.numpy.save({f"model/{name}": tensor for name, tensor in TENSORS.items()})
    (folder / TENSORS_FILE).write_bytes(data)
    card = ModelCard(classes=CLASSES, macs_at=(8, 8), sha256=name_of(data), root=ROOT.sha256)
    (folder / CARD_FILE).write_bytes(encode_card(card))
    return folder


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0
        #: What of it was no time that passed, but the calendar being set.
        self.stepped = 0.0

    def __call__(self) -> float:
        return self.at


def tally(hits: int, pixels: int = 100) -> Tally:
    """Counts of a model that gets so many pixels of each class right, and takes the others for the next."""
    size = len(CLASSES)
    return Tally(truth=(pixels,) * size, predicted=(pixels,) * size, hits=(hits,) * size)


def offer(
    shift: float,
    lineage: Sequence[str] = (),
    *,
    samples: int = 10,
    tensors: Mapping[str, Array] = TENSORS,
    base: bytes | None = None,
) -> bytes:
    """An offer whose every weight was moved by ``shift`` from ``tensors``, counted from ``base``."""
    about = About(
        root=ROOT.sha256,
        base=0,
        classes=CLASSES,
        samples=samples,
        lineage=tuple(lineage),
        against=name_of(base) if base else "",
    )
    return encode_offer(
        ROOT,
        about,
        {n: t + np.float32(shift) for n, t in tensors.items()},
        ROOT.numbers(),
        base=decode_release(base, ROOT, name_of(base)) if base else None,
    )


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """A desk with its shelf; ``restart`` opens it anew from its files, as after a kill."""

    def __init__(self, folder: Path, clock: Clock, rules: FleetRules = RULES) -> None:
        self.folder, self.clock, self.rules = folder, clock, rules
        #: The boards whose keys are known; None for all.
        self.admitted: frozenset[str] | None = None
        #: Boards that got another key than their first.
        self.other_keys: dict[str, str] = {}
        self.shelf: Shelf
        self.desk: Desk
        self.restart()

    def restart(self) -> None:
        self.shelf, self.desk = open_desk(
            self.folder,
            ROOT,
            dict(TENSORS),
            self.rules,
            sync_seconds=60.0,
            now=self.clock,
            monotonic=lambda: self.clock.at - self.clock.stepped,
            admitted=self._keys,
        )

    def _keys(self) -> dict[str, str] | None:
        if self.admitted is None:
            return None
        return {board: self.other_keys.get(board, "first") for board in self.admitted}

    def sync(
        self,
        board: str,
        *,
        lineage: Sequence[str] = (),
        data: bytes | None = None,
        against: str = "",
    ) -> messages.Synced:
        ref = messages.OfferRef(id=name_of(data), size=len(data), against=against) if data else None
        ask = messages.Sync(id=1, root=ROOT.sha256, lineage=tuple(lineage), offer=ref)
        answer, _ = self.desk.answer(board, ask, b"")
        assert isinstance(answer, messages.Synced), answer
        return answer

    def put(
        self, board: str, data: bytes, piece: int = messages.PIECE, *, against: str = ""
    ) -> messages.OfferState:
        """Hand in an offer as a board does: from where the server says on."""
        ref = messages.OfferRef(id=name_of(data), size=len(data), against=against)
        found = self.sync(board, data=data, against=against).offer
        assert found is not None
        while found.state == "unknown" and not found.whole:
            ask = messages.Put(id=2, offer=ref, offset=found.have)
            answer, _ = self.desk.answer(board, ask, data[found.have : found.have + piece])
            assert isinstance(answer, messages.Stored), answer
            found = answer.offer
        return found

    def make(self) -> bool:
        """Make a version if one is due."""
        work = self.desk.work()
        if work is not None:
            self.desk.made(make(ROOT, work, self.rules))
        return work is not None

    def vote(self, board: str, candidate: int = 90, published: int = 50) -> messages.Answer:
        open_version = self.shelf.candidate
        assert open_version is not None
        ask = messages.Score(
            id=3,
            sha256=open_version.sha256,
            candidate=tally(candidate),
            against=self.shelf.published.sha256,
            published=tally(published),
        )
        return self.desk.answer(board, ask, b"")[0]

    def publish(self, *boards: str) -> str:
        """Make a version of what waits and have boards vote for it; returns its release."""
        assert self.make()
        for board in boards:
            self.vote(board)
        decision = self.desk.decide()
        assert decision is not None
        assert decision.outcome == "published", decision
        return self.shelf.published.sha256

    def fetch(self, sha256: str) -> bytes:
        data = b""
        while True:
            answer, piece = self.desk.answer("any", messages.Get(id=4, sha256=sha256, offset=len(data)), b"")
            assert isinstance(answer, messages.Piece), answer
            data += piece
            if len(data) >= answer.size:
                return data
