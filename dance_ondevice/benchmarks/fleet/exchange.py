"""What boards of a fleet exchange after a round: offers, an average, votes and each board's judgement."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dance_ondevice.benchmarks.fleet.board import LearningBoard, Matrix, counts, recalibrated
from dance_ondevice.benchmarks.fleet.report import Judgement
from dance_ondevice.benchmarks.fleet.scenes import Fleet
from dance_ondevice.fleet.averaging import Contribution, average, with_offer
from dance_ondevice.fleet.candidates import candidate, fleet_numbers
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import About, Offer, decode_offer, encode_offer
from dance_ondevice.fleet.releases import (
    apply_change,
    decode_release,
    encode_change,
    encode_release,
    release_name,
)
from dance_ondevice.fleet.root import Root
from dance_ondevice.fleet.versions import read_arrays, with_values
from dance_ondevice.images.confusion import miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.cost import count_macs
from dance_ondevice.policies.fleet.rules import FleetRules, is_better, next_share

__all__ = ["Exchange"]


@dataclass(frozen=True)
class _Version:
    """A fleet version: the server's values, what boards get, and their counts of it on their own gates."""

    tensors: dict[str, Array]
    release: bytes
    values: Mapping[str, Array]
    counts: list[Matrix]


class Exchange:
    """The server's part, and how each board takes what comes."""

    def __init__(
        self,
        fleet: Fleet,
        root: Root,
        root_folder: Path,
        boards: Sequence[LearningBoard],
        *,
        whole: bool,
        local: tuple[str, ...],
        shares: tuple[float, ...],
        max_own_drop: float,
        seed: int,
    ) -> None:
        """Publish the root.

        Args:
            fleet: The scenes.
            root: Description of the root.
            root_folder: Its model.
            boards: The boards that take part.
            whole: Offers and versions travel whole in 16 bits, and not as changes.
            local: Modules that stay a board's own.
            shares: How far boards go to a version, in the order in which they try; the first is 1.
            max_own_drop: mIoU that a version may cost a board on its own gate.
            seed: Of the order of images that statistics are estimated from.
        """
        self._fleet, self._root, self._boards = fleet, root, boards
        self._whole, self._local, self._drop, self._seed = whole, local, max_own_drop, seed
        self._shares = shares
        tensors = read_arrays(root_folder)[1]
        own = [counts(fleet, board.folder, board.scene.gate) for board in boards]
        self._versions = [self._version(tensors, encode_release(root, tensors), own)]

    def turn(self) -> None:
        """Average what the boards offer, publish what gains, and let each board judge it."""
        rules, now = FleetRules(), len(self._versions) - 1
        offers = [self._offered(board) for board in self._boards]
        contributions = [
            Contribution(
                board=board.scene.name,
                offer=offer,
                base=board.offered or self._versions[board.base].values,
                behind=now - board.base,
            )
            for board, offer in zip(self._boards, offers, strict=True)
            if now - board.base <= rules.oldest_base
        ]
        last = self._versions[-1]
        averaged = average(self._root, last.tensors, contributions, rules).tensors
        for board, offer in zip(self._boards, offers, strict=True):
            board.offered = with_offer(self._root, self._versions[board.base].values, offer)
        release, size = self._released(averaged, last.release)
        version = self._version(averaged, release, [])
        tried = [self._candidate(board, version) for board in self._boards]
        own = [counts(self._fleet, board.folder, board.scene.gate) for board in self._boards]
        for board, folder in zip(self._boards, tried, strict=True):
            board.received.append(size)
            version.counts.append(counts(self._fleet, folder, board.scene.gate))
            self._charge(board)
        published = np.sum(last.counts, axis=0).tolist()
        if not is_better(rules, np.sum(version.counts, axis=0).tolist(), published):
            return  # Nobody takes it; the next average goes on from the version before.
        self._versions.append(version)
        for board, folder, before, after in zip(self._boards, tried, own, version.counts, strict=True):
            self._settle(board, folder, miou(before), miou(after))

    def _version(self, tensors: dict[str, Array], release: bytes, own: list[Matrix]) -> _Version:
        return _Version(tensors, release, decode_release(release, self._root, release_name(release)), own)

    def _offered(self, board: LearningBoard) -> Offer:
        card, tensors, numbers = read_arrays(board.folder)
        base = self._versions[board.base]
        about = About(
            root=card.root,
            base=board.base,
            classes=card.classes,
            samples=len(board.scene.teach),
            against="" if self._whole else release_name(base.release),
        )
        data = encode_offer(self._root, about, tensors, numbers, base=None if self._whole else base.values)
        board.sent.append(len(data))
        shapes = {name: tensor.shape for name, tensor in base.tensors.items()}
        return decode_offer(data, self._root, shapes, lambda _: base.values)

    def _released(self, tensors: dict[str, Array], before: bytes) -> tuple[bytes, int]:
        """The release of a new version, and the bytes that a board fetches for it."""
        if self._whole:
            release = encode_release(self._root, tensors)
            return release, len(release)
        change = encode_change(self._root, tensors, before)
        return apply_change(self._root, change, before), len(change)

    def _candidate(self, board: LearningBoard, version: _Version, share: float = 1.0) -> Path:
        card, own, numbers = read_arrays(board.folder)
        placed = fleet_numbers(self._root, card.classes, numbers)
        theirs = {**version.tensors, **version.values}
        values = candidate(self._root, theirs, own, placed, local=self._local, share=share)
        folder = board.folder.with_name(f"{board.folder.name}-candidate")
        with_values(board.folder, folder, values, card)
        spent = recalibrated(self._fleet, checkpoint.load(folder)[0], board, folder, self._seed)
        board.macs += spent
        board.fleet_macs += spent
        return folder

    def _charge(self, board: LearningBoard) -> None:
        model, _ = checkpoint.load(board.folder)
        spent = len(board.scene.gate) * count_macs(model, *self._fleet.seen)
        board.macs += spent
        board.fleet_macs += spent

    def _settle(self, board: LearningBoard, folder: Path, before: float, after: float) -> None:
        """Let a board take a version, a part of the way to it, or nothing; ``folder`` has all of it."""
        verdicts = ["promoted" if self._judge(board, folder, before, after, 1.0) else "rejected"]
        while (share := next_share(verdicts, self._shares)) is not None:
            folder = self._candidate(board, self._versions[-1], share)
            after = miou(counts(self._fleet, folder, board.scene.gate))
            self._charge(board)
            verdicts.append("promoted" if self._judge(board, folder, before, after, share) else "rejected")

    def _judge(self, board: LearningBoard, folder: Path, before: float, after: float, share: float) -> bool:
        """Take a version or refuse it, and note what it does on frames that nothing is decided by."""
        taken = after >= before - self._drop
        measured = [miou(counts(self._fleet, each, board.scene.measure)) for each in (board.folder, folder)]
        board.judgements.append(
            Judgement(
                version=len(self._versions) - 1,
                taken=taken,
                gate_before=before,
                gate_after=after,
                own_before=measured[0],
                own_after=measured[1],
                share=share,
            )
        )
        if taken:
            board.base, board.offered = len(self._versions) - 1, None
            shutil.rmtree(board.folder)
            folder.rename(board.folder)
        return taken
