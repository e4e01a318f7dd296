"""The kinds of round as the trainer runs them: a round of the whole model, or of one condition alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.agreement import estimate_agreeing
from dance_ondevice.conditions.learning import (
    INTERPOLATION,
    Additions,
    interpolated,
    learning,
    own_parameters,
    part_way,
)
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.estimates import estimate
from dance_ondevice.daemon.trainer.holding import interpolations
from dance_ondevice.daemon.trainer.serving import Kept, Serving
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE, Known, about_of
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.lineage import after_release
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.training.batches import TrainingSample, read_image

__all__ = ["KINDS", "RoundKind", "WholeRound"]

#: The most and the fewest images that a condition's statistics are estimated from.
_MOST_IMAGES, _LEAST_IMAGES = 16, 4


class RoundKind(Protocol):
    """The differences between kinds of round while the trainer runs one.

    Attributes:
        starts_as_live: Whether the candidate, before its first step, segments every frame as the live model
            does.
        companions: Models that must lose the same channels as the candidate.
        shares: How far candidates go from what training began with (0) to what it came to (1), in the order
            in which they are judged, until one costs no more than is allowed.
    """

    @property
    def starts_as_live(self) -> bool: ...  # noqa: D102

    @property
    def companions(self) -> Sequence[nn.Module]: ...  # noqa: D102

    @property
    def shares(self) -> tuple[float, ...]: ...  # noqa: D102

    def as_served(self, live: nn.Module) -> None:
        """Bring the live model, just loaded, into the state that segments the frames of the round."""

    def learning(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """The context in which the model is trained."""

    def candidate(self, model: nn.Module, share: float) -> nn.Module:
        """The candidate that the model in training makes as it is now, if it goes so far."""

    def serving(
        self, model: nn.Module, share: float, conditions_of: Collection[str] | None = None
    ) -> Serving:
        """The statistics for the candidate that goes so far, for the named conditions or, with None, all."""

    def settle(self, model: nn.Module) -> None:
        """Bring the model into the state that is saved."""

    def write(self, serving: Serving, out: Path) -> None:
        """Write the conditions that were judged into the candidate's folder."""

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """The fields of the candidate's card about the round."""


class WholeRound:
    """A round that trains the shared weights, and then estimates the statistics of all conditions again.

    The weights that conditions had learnt for themselves are added to the new shared weights.
    """

    def __init__(self, job: jobs.Job, live: Kept, model: nn.Module, card: ModelCard) -> None:
        """``live`` are the conditions of the live model, and ``model`` is that model, to be trained."""
        self.shares = interpolations(job, card)
        self._start: Mapping[str, Tensor] | None = None
        self._live = live
        self._normalisation = card.normalisation
        self._images = {name: _images(job, name) for name in live.sets}
        # A condition without images gets no statistics, so its learnt weights would not be used.
        learnt = {
            name: each.learnt
            for name, each in live.sets.items()
            if each.learnt and len(self._images[name]) >= _LEAST_IMAGES
        }
        self._additions = Additions(model, learnt)
        self._blends: dict[str, float] = {}

    @property
    def starts_as_live(self) -> bool:
        """Whether the candidate segments every frame as the live model does before its first step."""
        return not self._live.sets

    @property
    def companions(self) -> Sequence[nn.Module]:
        """Models that must lose the same channels as the candidate."""
        return self._additions.companions

    def as_served(self, live: nn.Module) -> None:
        """Do nothing: the round is for the frames of all conditions."""

    @contextlib.contextmanager
    def learning(self, model: nn.Module) -> Iterator[None]:
        """The context in which the model is trained; what it enters with is kept where that is needed."""
        if min(self.shares) < 1:
            self._start = copy.deepcopy(model.state_dict())
        yield

    def candidate(self, model: nn.Module, share: float) -> nn.Module:
        """The candidate that the model in training makes as it is: the model, or part of the way to it."""
        return model if self._start is None or share == 1 else part_way(model, self._start, share)

    def serving(
        self, model: nn.Module, share: float, conditions_of: Collection[str] | None = None
    ) -> Serving:
        """The statistics for the model as it is now.

        Args:
            model: The candidate.
            share: How far it goes; it has gone there.
            conditions_of: Conditions of the frames that it is evaluated on; None for all conditions.
        """
        known, wanted = self._live.known, set(self._images)
        if conditions_of is not None:
            wanted &= {*conditions_of, *(known.parents.get(name, BASE) for name in conditions_of)}
        learnt = self._additions.on(model)
        sets = {
            name: self._estimated(name, model, samples, learnt.get(name, {}))
            for name, samples in self._images.items()
            if name in wanted and len(samples) >= _LEAST_IMAGES
        }
        return Serving(sets, Known(frozenset(sets), known.parents))

    def _estimated(
        self,
        name: str,
        model: nn.Module,
        samples: Sequence[TrainingSample],
        learnt: Mapping[str, Tensor],
    ) -> NormStatistics:
        """Estimate the statistics of a condition, with its own learnt weights applied.

        How far they are believed is tried once a round, since a trial costs more than an estimation.
        """
        own = conditions.capture(model, learnt=learnt)
        conditions.apply(model, NormStatistics({}, learnt))
        try:
            found = estimate_agreeing(
                model, samples, read_image, self._normalisation, blend=self._blends.get(name)
            )
        finally:
            conditions.apply(model, own)
        self._blends[name] = found.blend
        return NormStatistics(found.statistics.layers, learnt)

    def settle(self, model: nn.Module) -> None:
        """Do nothing: the model is saved in the state that it is in."""

    def write(self, serving: Serving, out: Path) -> None:
        """Write the judged conditions beside the candidate; earlier refusals concerned other weights."""
        if serving.sets:
            about = msgspec.structs.replace(about_of(self._live.about), refused=())
            _write(out, serving.sets, msgspec.json.encode(about).decode())

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """The fields of the candidate's card about the round."""
        return {"conditions": sorted(serving.sets)} if self._live.sets else {}


class FleetRound(WholeRound):
    """A round without training, whose candidate has the values of a release of the fleet.

    The statistics of all layers are estimated again on the board's own images, those of conditions too; what
    conditions had learnt for themselves is added to the new values.
    """

    def __init__(self, job: jobs.Job, live: Kept, model: nn.Module, card: ModelCard) -> None:
        """``model`` is the live model, and gets the release's values."""
        super().__init__(job, live, model, card)
        self._release = job.release
        gathered, own = checkpoint.load(Path(job.gathered))
        self._training = own.training
        model.load_state_dict(gathered.state_dict())
        estimate(model, job.rehearsal, card.normalisation, job.seed)

    @property
    def starts_as_live(self) -> bool:
        """It does not: its values are others."""
        return False

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """The fields of the candidate's card about the round."""
        return {**super().card_fields(serving), **after_release(self._training, self._release)}


class ConditionRound:
    """A round that trains what one condition may have for itself, with its statistics, and no shared weights.

    A condition that has no statistics, or whose own were worse than others, begins with the model's own.
    """

    #: Models that must lose the same channels as the candidate; such a round removes none.
    companions: Sequence[nn.Module] = ()

    def __init__(self, job: jobs.Job, live: Kept, model: nn.Module, card: ModelCard) -> None:
        """``live`` are the conditions of the live model, and ``model`` is that model, to be trained.

        Raises:
            ValueError: The condition is not known, or the model has no layers that it could learn.
        """
        name = job.condition or ""
        if name not in live.known.parents:
            raise ValueError(f"the round is for condition {name}, which {job.conditions or 'the job'} lacks")
        # What it learns goes part of the way in what serves it, not in the model.
        nearer = () if job.max_condition_drop is None else (INTERPOLATION / 2,)
        self.shares = (INTERPOLATION, *nearer)
        self._name = name
        self._live = live
        self._parameters = own_parameters(model)
        if not self._parameters:
            raise ValueError("the model has neither late layers nor batch norms that a condition could learn")
        learnt = (n for statistics in live.sets.values() for n in statistics.learnt)
        self._base = conditions.capture(model, learnt=dict.fromkeys((*self._parameters, *learnt)))
        self._before = live.sets.get(name, NormStatistics(self._base.layers, {}))
        self._start = self._before.over(self._base)
        self._served = live.known.serving(name)
        #: Whether the candidate, before its first step, segments every frame as the live model does.
        self.starts_as_live = self._served in (name, BASE)

    def as_served(self, live: nn.Module) -> None:
        """Apply the statistics that serve the condition now, its own or another's."""
        served = self._live.sets.get(self._served)
        conditions.apply(live, self._base if served is None else served.over(self._base))

    @contextlib.contextmanager
    def learning(self, model: nn.Module) -> Iterator[None]:
        """The context in which the model is trained: it begins with the condition's current statistics."""
        conditions.apply(model, self._start)
        with learning(model, self._parameters, own_statistics=True):
            yield

    def candidate(self, model: nn.Module, share: float) -> nn.Module:
        """The model itself: what the condition has learnt lies in what serves it."""
        return model

    def serving(
        self, model: nn.Module, share: float, conditions_of: Collection[str] | None = None
    ) -> Serving:
        """The candidate's statistics: the condition so far to the learnt values, the others unchanged."""
        now = conditions.capture(model, learnt=self._parameters).learnt
        start = {name: self._start.learnt[name] for name in self._parameters}
        learnt = {**self._before.learnt, **interpolated(start, now, share)}
        new = NormStatistics(self._before.layers, learnt)
        sets = {BASE: self._base, **self._live.sets, self._name: new}
        known = Known(self._live.known.live | {self._name}, self._live.known.parents)
        return Serving({name: each.over(self._base) for name, each in sets.items()}, known)

    def settle(self, model: nn.Module) -> None:
        """Bring the model into the state that is saved: the live model's, bit for bit."""
        conditions.apply(model, self._base)

    def write(self, serving: Serving, out: Path) -> None:
        """Write the conditions beside the candidate; only this round's condition changes."""
        about = about_of(self._live.about)
        about = msgspec.structs.replace(about, refused=tuple(n for n in about.refused if n != self._name))
        sets = {**self._live.sets, self._name: serving.sets[self._name]}
        _write(out, sets, msgspec.json.encode(about).decode())

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """The fields of the candidate's card about the round."""
        return {"condition": self._name}


#: The kinds of round by name; each is called with the job, the live model's conditions, the model and its
#: card.
KINDS: Mapping[jobs.RoundKindName, Callable[[jobs.Job, Kept, nn.Module, ModelCard], RoundKind]] = {
    "whole": WholeRound,
    "condition": ConditionRound,
    "fleet": FleetRound,
}


def _images(job: jobs.Job, condition: str) -> list[TrainingSample]:
    """Stored images of a condition, evenly spread over the training samples of the round."""
    found = [
        TrainingSample(image=Path(sample.image), label=Path(sample.label))
        for sample in (*job.train, *job.rehearsal)
        if sample.condition == condition
    ]
    count = min(len(found), _MOST_IMAGES)
    return [found[index * len(found) // count] for index in range(count)]


def _write(out: Path, sets: Mapping[str, NormStatistics], about: str) -> None:
    write_durably(out / CONDITIONS_FILE, condition_store.encode(sets, about))
