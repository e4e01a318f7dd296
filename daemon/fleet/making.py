"""Makes a version of the offers that wait: the one long work of a fleet's server, on a thread of its own.

It is told what to average by a plain value and reads files that do not change meanwhile, one offer at a time.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from dance_ondevice.daemon.fleet.facts import ChangeFacts, UsedOffer
from dance_ondevice.daemon.fleet.shelf import CHANGE, MASTER, RELEASE, Shelf
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.averaging import Contribution, average, with_offer
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import Offer, OfferError, decode_offer
from dance_ondevice.fleet.releases import (
    ReleaseError,
    apply_change,
    decode_release,
    encode_change,
    release_name,
)
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import FleetRules

__all__ = [
    "Base",
    "DamagedOfferError",
    "Made",
    "Releases",
    "Source",
    "Work",
    "load_master",
    "make",
    "master_bytes",
]

log = logging.getLogger(__name__)


class DamagedOfferError(ValueError):
    """Error: the file of an offer is gone, not any more what the board handed in, or nothing to average."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged, gone, or not to be averaged")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Base:
    """A published release: its name and its file."""

    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Source:
    """One board's offer.

    Attributes:
        used: Whose it is, its name, and the version that it began with.
        path: Its file.
        counted_from: The board's last offer in a published version, if it goes on from the same version.
        behind: How many versions ago that version was published.
    """

    used: UsedOffer
    path: Path
    counted_from: Path | None
    behind: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a version is made of.

    Attributes:
        number: Of the new version.
        now: File of the published version's values.
        published: Its release, as boards have it.
        bases: Release of each version that an offer began with, by number.
        sources: The offers, at most one of each board.
        out: Folder for the new version's files.
    """

    number: int
    now: Path
    published: Base
    bases: Mapping[int, Base]
    sources: tuple[Source, ...]
    out: Path


@dataclass(frozen=True, kw_only=True)
class Made:
    """A version whose files lie in the work's folder."""

    work: Work
    sha256: str
    size: int
    change: ChangeFacts
    shortened: dict[str, float]


def make(root: Root, work: Work, rules: FleetRules) -> Made:
    """Average the offers and write the version's files.

    Raises:
        DamagedOfferError: The file of an offer is.
        OSError: A file cannot be read or written.
        ValueError: Another file is damaged.
    """
    now = load_master(work.now)
    averaged = average(root, now, _Contributions(root, work), rules)
    before = work.published.path.read_bytes()
    change = encode_change(root, averaged.tensors, before)
    release = apply_change(root, change, before)
    work.out.mkdir(mode=0o700, exist_ok=True)
    write_durably(work.out / MASTER, master_bytes(averaged.tensors))
    write_durably(work.out / RELEASE, release)
    write_durably(work.out / CHANGE, change)
    return Made(
        work=work,
        sha256=release_name(release),
        size=len(release),
        change=ChangeFacts(base=work.published.name, sha256=release_name(change), size=len(change)),
        shortened={board: factor for board, factor in averaged.shortened.items() if factor < 1.0},
    )


def load_master(path: Path) -> dict[str, Array]:
    """Read a version's values in 32 bits."""
    return safetensors.numpy.load(path.read_bytes())


def master_bytes(tensors: Mapping[str, Array]) -> bytes:
    """A version's values in 32 bits as one file."""
    return safetensors.numpy.save({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()})


class Releases:
    """The values of published releases; those decoded last are kept, as most offers go back to the newest."""

    def __init__(self, shelf: Shelf, root: Root) -> None:
        self._shelf = shelf
        self._root = root
        self._decoded: tuple[str, Mapping[str, Array]] = ("", {})

    def values(self, release: str) -> Mapping[str, Array] | None:
        """The values of a published release; None where it is not known."""
        number = self._shelf.number_of(release)
        if number is None:
            return None
        if self._decoded[0] != release:
            try:
                values = decode_release(self._shelf.release(number).read_bytes(), self._root, release)
            except ReleaseError as error:  # of the disk: boards then hand in whole ones
                log.warning("a release cannot be read number=%d error=%s", number, error)
                return None
            self._decoded = (release, values)
        return self._decoded[1]


class _Contributions:
    """The offers of a work, read from their files each time they are gone through."""

    def __init__(self, root: Root, work: Work) -> None:
        self._root = root
        self._work = work
        # Few: no offer is older than FleetRules.oldest_base.
        self._bases = {
            number: decode_release(base.path.read_bytes(), root, base.name)
            for number, base in work.bases.items()
        }
        self._named = {base.name: self._bases[number] for number, base in work.bases.items()}
        self._shapes = {name: tensor.shape for name, tensor in load_master(work.now).items()}

    def __iter__(self) -> Iterator[Contribution]:
        for source in self._work.sources:
            base: Mapping[str, Array] = self._bases[source.used.base]
            if source.counted_from is not None:
                base = with_offer(self._root, base, self._read(source.counted_from))
            offer = self._read(source.path)
            yield Contribution(board=source.used.board, offer=offer, base=base, behind=source.behind)

    def _read(self, path: Path) -> Offer:
        try:
            data = path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EIO):
                raise
            raise DamagedOfferError(path) from error
        if hashlib.sha256(data).hexdigest() != path.stem:
            raise DamagedOfferError(path)
        try:
            return decode_offer(data, self._root, self._shapes, self._named.get)
        except OfferError as error:  # an earlier release of this program took what this one does not
            raise DamagedOfferError(path) from error
