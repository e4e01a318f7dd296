"""The statistics of one loaded model for each condition: estimated, tested on probation, live or refused.

All of it runs on the inference thread, between frames, so the model needs no lock and no copy. A slice of
estimation is one forward pass, and at most one follows each frame, so a frame waits for at most one other
pass.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from dance_ondevice.conditions import statistics as norms
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import Prediction, predict
from dance_ondevice.policies.stream import condition_gate
from dance_ondevice.policies.stream.condition_gate import Evidence
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.runners import Runners
from dance_ondevice.training.evaluation import confusion_matrix, miou

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
_NOTHING = NormStatistics({})
#: ``probation``: serves some frames; ``refused``: was worse, so its parent's statistics serve.
Status = Literal["probation", "live", "refused"]


class NotFinite(ArithmeticError):  # noqa: N818 - read as a state
    """The model returned infinite or undefined numbers for a frame."""


@dataclass(frozen=True)
class Served:
    """A segmented frame.

    Attributes:
        prediction: The prediction that is published.
        used: The condition whose statistics made it.
        trial: Whether those statistics are on probation.
        decided: Whether the probation ended with this frame.
    """

    prediction: Prediction
    used: str
    trial: bool = False
    decided: bool = False


@dataclass
class _Trial:
    """The results so far of one of the two sets that the probation compares."""

    n_classes: int
    frames: int = 0
    confidence: float = 0.0
    labelled: int = 0
    labelled_confidence: float = 0.0
    pixels: npt.NDArray[np.int64] = field(init=False)
    matrix: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.n_classes, np.int64)
        self.matrix = np.zeros((self.n_classes, self.n_classes), np.int64)

    def add(self, prediction: Prediction, label: Image | None) -> None:
        self.frames += 1
        self.confidence += prediction.mean_confidence
        self.pixels += np.bincount(prediction.mask.ravel(), minlength=self.n_classes)[: self.n_classes]
        if label is None:
            return
        found = confusion_matrix(label, prediction.mask, self.n_classes)
        if found.any():
            self.labelled += 1
            self.labelled_confidence += prediction.mean_confidence
            self.matrix += found

    def evidence(self) -> Evidence:
        labels = self.labelled > 0
        return Evidence(
            frames=self.frames,
            confidence=self.confidence / max(1, self.frames),
            pixels=tuple(int(n) for n in self.pixels),
            labelled=self.labelled,
            miou=miou(self.matrix) if labels else None,
            accuracy=float(np.trace(self.matrix) / self.matrix.sum()) if labels else None,
            labelled_confidence=self.labelled_confidence / self.labelled if labels else None,
        )


@dataclass
class _Set:
    """A condition's own statistics, and ``applied``: the same completed with the base model's."""

    statistics: NormStatistics
    applied: NormStatistics
    status: Status
    turn: int = 0
    new: _Trial | None = None
    old: _Trial | None = None


@dataclass
class _Estimation:
    name: str
    images: list[Image]
    estimator: norms.Estimator


class ConditionSets:
    """The sets of statistics of one model; ``base`` is the model's own, unchanged.

    ``base`` includes every parameter that any condition has learnt for itself, so that each set, completed
    with it, replaces all of the set before.
    """

    def __init__(
        self, model: nn.Module, card: ModelCard, *, probation_every: int = 4, runners: Runners | None = None
    ) -> None:
        """Start with the model's own statistics.

        Args:
            model: The model in eval mode; from now on only this object changes its statistics.
            card: The model's card.
            probation_every: New statistics serve one in so many frames.
            runners: Runs the model with an engine; None runs it directly.
        """
        self._model = model
        self._runners = runners
        self._card = card
        self._every = max(1, probation_every)
        self._rules = condition_gate.GateRules()
        self._base = norms.capture(model)
        self._sets: dict[str, _Set] = {}
        self._applied = BASE
        self._estimation: _Estimation | None = None

    @property
    def usable(self) -> bool:
        """Whether the model has batch norm, without which conditions make no difference."""
        return bool(self._base.layers)

    def statuses(self) -> dict[str, str]:
        """Status of each condition: probation, live, refused or estimating; callable from any thread."""
        found: dict[str, str] = {name: one.status for name, one in self._sets.copy().items()}
        estimation = self._estimation
        return found | ({estimation.name: "estimating"} if estimation else {})

    @property
    def nbytes(self) -> int:
        """Bytes that the sets take; callable from any thread."""
        return sum(one.statistics.nbytes for one in self._sets.copy().values())

    def judged(self) -> tuple[dict[str, NormStatistics], tuple[str, ...]]:
        """The sets that a restart needs: the live statistics, and the names of refused conditions."""
        live = {name: one.statistics for name, one in self._sets.items() if one.status == "live"}
        return live, tuple(name for name, one in self._sets.items() if one.status == "refused")

    def restore(self, live: dict[str, NormStatistics], refused: Iterable[str]) -> None:
        """Take over the result of ``judged``.

        Raises:
            StatisticsMismatch: The statistics belong to another model; nothing is taken over.
        """
        self._apply_for(BASE)
        learnt = dict.fromkeys((*self._base.learnt, *(n for s in live.values() for n in s.learnt)))
        base = self._base
        if len(learnt) > len(base.learnt):
            base = norms.capture(self._model, learnt=learnt)
        try:
            for statistics in live.values():
                norms.apply(self._model, statistics)
        finally:
            norms.apply(self._model, base)
        self._base = base
        for one in self._sets.values():
            one.applied = one.statistics.over(base)
        for name, statistics in live.items():
            self._put(name, statistics, "live")
            if statistics.learnt and self._runners is not None:
                # Prepared now, so that the first frame does not wait for it.
                self._apply_for(name)
        for name in refused:
            self._put(name, _NOTHING, "refused")

    def forget(self, names: Iterable[str]) -> None:
        """Drop conditions that no longer exist."""
        for name in names:
            self._sets.pop(name, None)
            if self._runners is not None:
                self._runners.forget(name)
            if self._estimation is not None and self._estimation.name == name:
                self._estimation = None

    def predict(
        self, image: Image, condition: str, parent: str, *, out_size: Sequence[int], label: Image | None
    ) -> Served:
        """Segment a frame with the statistics of its condition.

        Args:
            image: (h, w, 3) uint8 BGR.
            condition: The condition that its camera is in.
            parent: The condition whose statistics serve while the condition's own do not.
            out_size: (H, W) of the mask.
            label: (H, W) class ids that came with the frame, or None.

        Raises:
            NotFinite: The model's answer cannot be used.
        """
        own, fallback = self._sets.get(condition), self._fallback(parent)
        if own is None or own.status == "refused":
            return Served(self._run(image, fallback, out_size), fallback)
        if own.status == "live":
            return Served(self._run(image, condition, out_size), condition)
        own.turn += 1
        if own.turn % self._every:
            return Served(self._run(image, fallback, out_size), fallback)
        before = self._run(image, fallback, out_size)
        try:
            after = self._run(image, condition, out_size)
        except NotFinite as error:
            log.warning("condition refused name=%s reason=%s", condition, error)
            self._put(condition, _NOTHING, "refused")
            return Served(before, fallback, decided=True)
        decided = self._judge(condition, own, before, after, label)
        return Served(after, condition, trial=True, decided=decided)

    def look(self, image: Image, condition: str, *, out_size: Sequence[int]) -> Prediction:
        """Segment a stored image with a condition's live statistics, for people; it counts for nothing else.

        Args:
            image: (h, w, 3) uint8 BGR.
            condition: Its condition; where that has no live statistics, the model's own serve.
            out_size: (H, W) of the mask.

        Raises:
            NotFinite: The model's answer cannot be used.
        """
        return self._run(image, self._fallback(condition), out_size)

    def work(self, wanted: Iterable[str], frames: Callable[[str], list[Image] | None]) -> bool:
        """Do one slice of estimation, if there is anything to estimate.

        Args:
            wanted: Conditions that should have statistics, the most urgent first.
            frames: Returns images of a condition, None while there are too few.

        Returns:
            Whether a slice was done.
        """
        if not self.usable:
            return False
        if self._estimation is None:
            self._begin(wanted, frames)
            if self._estimation is None:
                return False
        estimation = self._estimation
        if self._base.learnt:
            # A condition must not be estimated with the weights that another one has learnt.
            self._apply_for(BASE)
        try:
            estimation.estimator.add(estimation.images.pop())
        except Exception as error:  # the model may be the user's own; inference must go on
            log.warning("condition refused name=%s reason=its estimation failed: %r", estimation.name, error)
            self._estimation = None
            self._put(estimation.name, _NOTHING, "refused")
            return True
        if not estimation.images:
            self._estimation = None
            statistics = estimation.estimator.result(
                self._base, blend=norms.trust(estimation.estimator.images)
            )
            self._put(estimation.name, statistics, "probation")
            if self._runners is not None:
                # Prepared now, between two frames, so that the first frame does not wait for it.
                self._apply_for(estimation.name)
            log.info(
                "condition estimated name=%s frames=%d bytes=%d",
                estimation.name,
                estimation.estimator.images,
                statistics.nbytes,
            )
        return True

    def _begin(self, wanted: Iterable[str], frames: Callable[[str], list[Image] | None]) -> None:
        for name in wanted:
            if name == BASE or name in self._sets:
                continue
            images = frames(name)
            if images:
                estimator = norms.Estimator(self._model, self._card.normalisation)
                self._estimation = _Estimation(name, images, estimator)
                return

    def _fallback(self, parent: str) -> str:
        found = self._sets.get(parent)
        return parent if found is not None and found.status == "live" else BASE

    def _run(self, image: Image, name: str, out_size: Sequence[int]) -> Prediction:
        prediction = predict(self._apply_for(name), image, self._card.normalisation, out_size=out_size)
        if not math.isfinite(prediction.mean_confidence):
            raise NotFinite("the model's answer holds numbers that are not finite")
        return prediction

    def _apply_for(self, name: str) -> nn.Module:
        """The module to run for a condition; valid until the next call."""
        statistics = self._base if name == BASE else self._sets[name].applied
        if self._runners is not None:
            return self._runners.module(name, statistics)
        if name != self._applied:
            norms.apply(self._model, statistics)
            self._applied = name
        return self._model

    def _put(self, name: str, statistics: NormStatistics, status: Status) -> None:
        self._sets[name] = _Set(statistics, statistics.over(self._base), status)

    def _judge(
        self, name: str, own: _Set, before: Prediction, after: Prediction, label: Image | None
    ) -> bool:
        n_classes = len(self._card.classes)
        own.old = own.old or _Trial(n_classes)
        own.new = own.new or _Trial(n_classes)
        own.old.add(before, label)
        own.new.add(after, label)
        verdict = condition_gate.judge(self._rules, own.new.evidence(), own.old.evidence())
        if verdict is None:
            return False
        own.status = "live" if verdict.keep else "refused"
        own.new = own.old = None
        log.info("condition %s name=%s reason=%r", own.status, name, verdict.reason)
        return True
