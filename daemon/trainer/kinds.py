"""The kinds of round as the trainer runs them: of the whole model, or of one condition alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.learning import (
    INTERPOLATION,
    Additions,
    interpolated,
    learning,
    own_parameters,
)
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.serving import Kept, Serving
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE, Known, about_of
from dance_ondevice.files import write_durably
from dance_ondevice.models.card import Normalisation
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.training.batches import TrainingSample, read_image

__all__ = ["KINDS", "RoundKind", "WholeRound"]

#: Images that a condition's statistics are estimated from at most, and at least.
_MOST_IMAGES, _LEAST_IMAGES = 16, 4


class RoundKind(Protocol):
    """What tells one kind of round from another while the trainer runs it.

    Attributes:
        starts_as_live: whether the candidate, before its first step, segments every frame as the live model
            does.
        companions: models that must lose the channels that the candidate loses.
    """

    @property
    def starts_as_live(self) -> bool: ...  # noqa: D102

    @property
    def companions(self) -> Sequence[nn.Module]: ...  # noqa: D102

    def learning(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Wrap the training of the model."""

    def serving(self, model: nn.Module, conditions_of: Collection[str] | None = None) -> Serving:
        """How the candidate as it is now would serve, for the named conditions or, with None, for all."""

    def settle(self, model: nn.Module) -> None:
        """Bring the model into the state that is saved."""

    def write(self, serving: Serving, out: Path) -> None:
        """Write the conditions that were judged into the candidate's folder."""

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """What the candidate's card says of the round."""


class WholeRound:
    """A round that teaches the shared weights: the statistics of conditions are estimated for them again.

    What conditions had learnt for themselves is added to what the shared weights become.
    """

    def __init__(self, job: jobs.Job, live: Kept, model: nn.Module, normalisation: Normalisation) -> None:
        """``live`` are the conditions of the live model, and ``model`` is that model, to be trained."""
        self._live = live
        self._normalisation = normalisation
        self._images = {name: _images(job, name) for name in live.sets}
        # Without images there will be no statistics, and so nothing that the condition could serve with.
        learnt = {
            name: each.learnt
            for name, each in live.sets.items()
            if each.learnt and len(self._images[name]) >= _LEAST_IMAGES
        }
        self._additions = Additions(model, learnt)

    @property
    def starts_as_live(self) -> bool:
        """Whether the candidate segments every frame as the live model does before its first step."""
        return not self._live.sets

    @property
    def companions(self) -> Sequence[nn.Module]:
        """What must lose the channels that the candidate loses."""
        return self._additions.companions

    @contextlib.contextmanager
    def learning(self, model: nn.Module) -> Iterator[None]:
        """Wraps the training of the model."""
        yield

    def serving(self, model: nn.Module, conditions_of: Collection[str] | None = None) -> Serving:
        """How the model as it is now would serve.

        Args:
            model: the candidate.
            conditions_of: conditions of the frames that it is asked for; None for all.
        """
        known, wanted = self._live.known, set(self._images)
        if conditions_of is not None:
            wanted &= {*conditions_of, *(known.parents.get(name, BASE) for name in conditions_of)}
        learnt = self._additions.on(model)
        sets = {
            name: self._estimated(model, samples, learnt.get(name, {}))
            for name, samples in self._images.items()
            if name in wanted and len(samples) >= _LEAST_IMAGES
        }
        return Serving(sets, Known(frozenset(sets), known.parents))

    def _estimated(
        self, model: nn.Module, samples: Sequence[TrainingSample], learnt: Mapping[str, Tensor]
    ) -> NormStatistics:
        """The statistics of a condition, under what it has learnt for itself."""
        own = conditions.capture(model, learnt=learnt)
        conditions.apply(model, NormStatistics({}, learnt))
        try:
            found = conditions.estimate(
                model,
                map(read_image, samples),
                self._normalisation,
                blend=conditions.trust(len(samples)),
            )
        finally:
            conditions.apply(model, own)
        return NormStatistics(found.layers, learnt)

    def settle(self, model: nn.Module) -> None:
        """Bring the model into the state that is saved, which is the one that it is in."""

    def write(self, serving: Serving, out: Path) -> None:
        """Write the conditions that were judged beside the candidate; refusals were of other weights."""
        if serving.sets:
            about = msgspec.structs.replace(about_of(self._live.about), refused=())
            _write(out, serving.sets, msgspec.json.encode(about).decode())

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """What the candidate's card says of the round."""
        return {"conditions": sorted(serving.sets)} if self._live.sets else {}


class ConditionRound:
    """A round that teaches one condition's own layers over its own statistics, nothing that others use."""

    starts_as_live = True
    #: What must lose the channels that the candidate loses; such a round takes none away.
    companions: Sequence[nn.Module] = ()

    def __init__(self, job: jobs.Job, live: Kept, model: nn.Module, normalisation: Normalisation) -> None:
        """``live`` are the conditions of the live model, and ``model`` is that model, to be trained.

        Raises:
            ValueError: the condition has no statistics, or the model nothing that it could learn.
        """
        name = job.condition or ""
        if name not in live.sets:
            raise ValueError(
                f"the round is for condition {name}, of which {job.conditions or 'the job'} has no statistics"
            )
        self._name = name
        self._live = live
        self._parameters = own_parameters(model)
        if not self._parameters:
            raise ValueError("the model has neither late layers nor batch norms that a condition could learn")
        learnt = (n for statistics in live.sets.values() for n in statistics.learnt)
        self._base = conditions.capture(model, learnt=dict.fromkeys((*self._parameters, *learnt)))
        self._start = live.sets[name].over(self._base)

    @contextlib.contextmanager
    def learning(self, model: nn.Module) -> Iterator[None]:
        """Wraps the training of the model: it begins as the condition is served now."""
        conditions.apply(model, self._start)
        with learning(model, self._parameters, own_statistics=True):
            yield

    def serving(self, model: nn.Module, conditions_of: Collection[str] | None = None) -> Serving:
        """How the candidate would serve: the condition half-way to what was learnt, all else as before."""
        now = conditions.capture(model, learnt=self._parameters).learnt
        start = {name: self._start.learnt[name] for name in self._parameters}
        before = self._live.sets[self._name]
        new = NormStatistics(before.layers, {**before.learnt, **interpolated(start, now, INTERPOLATION)})
        sets = {BASE: self._base, **self._live.sets, self._name: new}
        return Serving({name: each.over(self._base) for name, each in sets.items()}, self._live.known)

    def settle(self, model: nn.Module) -> None:
        """Bring the model into the state that is saved: the live model's, bit for bit."""
        conditions.apply(model, self._base)

    def write(self, serving: Serving, out: Path) -> None:
        """Write the conditions beside the candidate: all as they were, but for this one."""
        _write(out, {**self._live.sets, self._name: serving.sets[self._name]}, self._live.about)

    def card_fields(self, serving: Serving) -> dict[str, object]:
        """What the candidate's card says of the round."""
        return {"condition": self._name, "interpolation": INTERPOLATION}


#: Each kind of round by its name: called with the job, the live model's conditions, the model and its card's
#: normalisation.
KINDS: Mapping[jobs.RoundKindName, Callable[[jobs.Job, Kept, nn.Module, Normalisation], RoundKind]] = {
    "whole": WholeRound,
    "condition": ConditionRound,
}


def _images(job: jobs.Job, condition: str) -> list[TrainingSample]:
    """Stored images of a condition, evenly spread over those that the round learns from."""
    found = [
        TrainingSample(image=Path(sample.image), label=Path(sample.label))
        for sample in (*job.train, *job.rehearsal)
        if sample.condition == condition
    ]
    count = min(len(found), _MOST_IMAGES)
    return [found[index * len(found) // count] for index in range(count)]


def _write(out: Path, sets: Mapping[str, NormStatistics], about: str) -> None:
    write_durably(out / CONDITIONS_FILE, condition_store.encode(sets, about))
