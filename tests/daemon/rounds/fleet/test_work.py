"""What a board offers to its fleet, and how it judges what comes back: real rounds of tiny models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.daemon.config.sections import Config, Fleet, Promotion
from dance_ondevice.daemon.rounds.fleet.box import Box, FleetPart, Judged
from dance_ondevice.daemon.rounds.fleet.joining import own_release
from dance_ondevice.daemon.rounds.fleet.work import FleetWork
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.wire.fleet_messages import OfferState, Release, Synced
from dance_ondevice.fleet.describe import describe
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.lineage import lineage
from dance_ondevice.fleet.offers import decode_offer
from dance_ondevice.fleet.releases import decode_release, encode_release, release_name
from dance_ondevice.fleet.versions import read_arrays

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("first_models_at_hand")]

TOLERANT = msgspec.structs.replace(
    CONFIG,
    fleet=Fleet(max_own_drop=1.0),
    promotion=msgspec.structs.replace(CONFIG.promotion, probation_samples=0),
)


class Board:
    """A rig whose rounds work for a fleet; the server is what a test puts into its box."""

    def __init__(self, paths: StatePaths, store: Store, config: Config) -> None:
        self.rig = Rig(paths, store, config)
        first = first_model.ensure(config, "test.toml", paths, self.rig.versions)
        folder = self.rig.versions.directory(first.version)
        self.root = describe(folder)
        self.tensors: dict[str, Array] = read_arrays(folder)[1]
        self.box = Box(
            paths.root / "fleet",
            self.root,
            now=lambda: 1e9,
            own_release=lambda: own_release(paths, self.root),
        )
        rig = self.rig
        self.work = FleetWork(
            context=rig.context,
            part=FleetPart(box=self.box, root=self.root),
            samples=rig.procedure.assign_splits,
            watcher=lambda: rig.context.watcher(rig.stopping, lambda: None),
            run=rig.procedure.run_part,
            on_probation=lambda: rig.procedure.probation.pending,
        )

    def tell(self, number: int, tensors: dict[str, Array], *, candidate: bool = False) -> str:
        """The server publishes a version, or asks to score it; the files are there."""
        data = encode_release(self.root, tensors)
        root = encode_release(self.root, self.tensors)
        found = Release(number=number, sha256=release_name(data), size=len(data))
        first = Release(number=0, sha256=release_name(root), size=len(root))
        news = Synced(id=1, published=first if candidate else found, candidate=found if candidate else None)
        for want in self.box.news(news):
            content = data if want.release == found else root
            assert self.box.piece_of_release(want.release, 0, content) == len(content)
        return found.sha256


def test_offers_scores_takes_and_refuses(
    paths: StatePaths, store: Store, add_street: Callable[..., list[str]]
) -> None:
    add_street(store, 40)
    board = Board(paths, store, TOLERANT)
    assert board.work.step(None) is None
    assert board.box.snapshot().facts.offer is None, "nothing was learnt here yet"
    # A server that reads changes has the root, as this board has: nothing of it travels.
    first = encode_release(board.root, board.tensors)
    root = Release(number=0, sha256=release_name(first), size=len(first))
    news = Synced(id=1, published=root, speaks=2)
    assert board.box.news(news) == ()
    assert board.rig.round().outcome == "promoted"
    board.work.step("paused")  # an offer is no round
    facts = board.box.snapshot().facts
    assert facts.offer is not None
    assert facts.offer.against == root.sha256
    data = board.box.piece_of_offer(facts.offer.id, 0, facts.offer.size)
    shapes = {n: t.shape for n, t in board.tensors.items()}
    values = decode_release(first, board.root, root.sha256)
    small = decode_offer(data, board.root, shapes, lambda _: values)
    # A server that lacks what it is counted from gets it whole.
    state = OfferState(id=facts.offer.id, state="unknown", whole=True)
    board.box.news(msgspec.structs.replace(news, offer=state))
    board.work.step("paused")
    whole = board.box.snapshot().facts.offer
    assert whole is not None
    assert (whole.against, whole.size > 1.5 * facts.offer.size) == ("", True)
    found = decode_offer(board.box.piece_of_offer(whole.id, 0, whole.size), board.root, shapes)
    for name, tensor in found.tensors.items():
        before = values[name] if values[name].shape == tensor.shape else None
        step = 0.0 if before is None else np.abs(tensor - before).max()
        assert np.abs(small.tensors[name] - tensor).max() <= 0.2 * step + 2e-3, name
    assert (found.about.version, found.about.lineage) == ("v0002", ())
    assert found.about.samples > 0

    # A candidate is scored against the published version, and nothing changes on the board.
    live = read_arrays(board.rig.versions.directory("v0002"))[1]
    dense = {name: live[name] if live[name].shape == t.shape else t for name, t in board.tensors.items()}
    candidate = board.tell(1, dense, candidate=True)
    assert board.work.step("outside the window") is None
    assert board.box.snapshot().facts.ballot is None
    assert board.work.step(None) is None
    ballot = board.box.snapshot().facts.ballot
    assert ballot is not None
    assert ballot.sha256 == candidate
    assert ballot.candidate.truth == ballot.published.truth
    assert ballot.candidate.fault(len(board.root.classes)) == ""
    board.box.scored(None)

    # Published, it is a round without training, whose joules are charged.
    first = board.tell(1, dense)
    outcome = board.work.step(None)
    assert outcome is not None
    assert (outcome.outcome, outcome.steps, outcome.version) == ("promoted", 0, "v0003")
    assert outcome.gross_joules > 0
    assert any("values of version 1 of the fleet" in reason for reason in outcome.reasons)
    card = board.rig.versions.card("v0003")
    assert lineage(card["training"]) == (first,)
    own = read_arrays(board.rig.versions.directory("v0003"))[1]
    for name, tensor in own.items():
        if "running_" not in name and tensor.shape == dense[name].shape and "tracked" not in name:
            assert np.allclose(tensor, dense[name], atol=2e-3), name
    assert board.work.step(None) is None, "it is not judged twice"
    assert board.box.snapshot().judged["taken"] == 1
    # The rows of rounds that trained are not mixed with it.
    assert [row["id"] for row in board.rig.procedure.past_rounds(9)] != [outcome.round]
    assert board.box.snapshot().facts.offered == "v0002", "what came from the fleet is not offered back"

    # What ruins the board's own masks is refused, in whole and in part, and stays refused after a restart.
    board.rig.context.config = msgspec.structs.replace(
        TOLERANT, fleet=Fleet(max_own_drop=0.0), promotion=Promotion()
    )
    mine = read_arrays(board.rig.versions.directory("v0003"))[1]
    ruined = {n: -mine[n] if mine[n].shape == t.shape else np.zeros_like(t) for n, t in dense.items()}
    second = board.tell(2, ruined)
    for share in ("values of version 2", "50 % of the way"):
        outcome = board.work.step(None)
        assert outcome is not None
        assert outcome.outcome == "rejected", outcome.reasons
        assert any(reason.startswith(share) for reason in outcome.reasons), outcome.reasons
        assert board.box.snapshot().judged.get("refused", 0) == (share == "50 % of the way")
    assert board.work.step(None) is None
    shutil.rmtree(paths.root / "fleet")
    board.box = Box(paths.root / "fleet", board.root, now=lambda: 1e9)
    again = replace(board.work, part=FleetPart(box=board.box, root=board.root))
    assert board.tell(2, ruined) == second
    assert again.step(None) is None
    noted = board.box.snapshot().facts.judged
    assert [(each.number, each.outcome) for each in noted] == [(2, "refused")]
    assert "50 % of the way" in noted[0].reason
    live = board.rig.versions.pointer()
    assert live is not None
    assert live.version == "v0003"

    # Where all of a version was refused, half of the way is taken where that may be.
    board.rig.context.config = TOLERANT
    third = board.tell(3, {name: 3 * tensor for name, tensor in dense.items()})
    row = {"id": "whole", "started_at": 0.0, "fleet_release": third, "outcome": "rejected"}
    store.submit(lambda db: db.table("rounds").insert(row)).result()
    outcome = again.step(None)
    assert outcome is not None
    assert (outcome.outcome, outcome.version) == ("promoted", "v0006"), outcome.reasons
    half = read_arrays(board.rig.versions.directory("v0006"))[1]
    for name, tensor in half.items():
        if "running_" not in name and tensor.shape == dense[name].shape and "tracked" not in name:
            assert np.allclose(tensor, (mine[name] + 3 * dense[name]) / 2, atol=1e-2), name
    assert board.box.snapshot().judged["taken"] == 1


def test_says_what_keeps_it_from_judging(paths: StatePaths, store: Store) -> None:
    board = Board(paths, store, TOLERANT)
    first = board.tell(1, board.tensors)
    # A child that failed while it was scored, as for want of memory, says nothing of what the gate will.
    board.box.judged(Judged(sha256=first, number=1, outcome="failed", reason="killed", scoring=True))
    assert board.work.step(None) is None
    assert "label frames" in board.box.snapshot().trouble
    # Nor is one that is damaged here marked as unfit: it goes, and the link fetches it again.
    whole = board.box.release(first).read_bytes()
    board.box.release(first).write_bytes(whole[:-1])
    assert board.work.step(None) is None
    assert (board.box.snapshot().trouble, board.box.release(first).exists()) == ("", False)
    assert board.tell(1, board.tensors) == first
    assert board.work.step(None) is None
    assert "label frames" in board.box.snapshot().trouble
    # A version that is not there any more waits for nothing.
    news = board.box.snapshot().facts.news
    assert news is not None
    board.box.news(msgspec.structs.replace(news, published=Release(number=0, sha256="0" * 64, size=9)))
    board.work.step(None)
    assert board.box.snapshot().trouble == ""
    other = replace(board.work, part=FleetPart(box=board.box, root=replace(board.root, sha256="b" * 64)))
    # A model of another root, as after `models import`, takes no value of the fleet, trained here or not.
    other.step(None)
    assert "models rollback" in board.box.snapshot().trouble
    assert [each.scoring for each in board.box.snapshot().facts.judged] == [True]
    # What is mended is not told any longer, though there is nothing new to offer.
    board.box.trouble("disk", "the disk: No space left on device")
    board.work.step("paused")
    assert "No space left" in board.box.snapshot().trouble
    board.work.step(None)
    assert "models rollback" not in board.box.snapshot().trouble
    assert "No space left" not in board.box.snapshot().trouble
    board.rig.versions.annotate("v0001", {"training": {"steps": 3, "round": "r1"}})
    live = board.rig.versions._read_live()
    board.rig.versions._live = live
    other.step("paused")
    assert "fleet init --model" in board.box.snapshot().trouble
    assert not list(Path(paths.root / "fleet").glob("offer*"))
