"""The statistics of one loaded version for each condition: estimated, tested on probation, live or refused.

All of it runs on the inference thread, apart from the estimation itself: that is asked for, and its result is
taken over between two frames.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dance_ondevice.conditions.arrays import ConditionArrays, check_fit
from dance_ondevice.images.confusion import confusion_matrix, miou
from dance_ondevice.images.masks import Prediction
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.policies.stream import condition_gate
from dance_ondevice.policies.stream.condition_gate import Evidence
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.serving import Server

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
_NOTHING = ConditionArrays()
#: Asks for the statistics of a condition, estimated from encoded images of it.
Estimate: TypeAlias = Callable[[Sequence[bytes]], "Future[ConditionArrays]"]
#: ``probation``: serves some frames; ``refused``: was worse, so its parent's statistics serve.
Status = Literal["probation", "live", "refused"]


class EstimationFailed(Exception):  # noqa: N818 - read as a state
    """The model cannot be estimated: its code fails on the images, and would again."""


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
    """A condition's own statistics, and how far their trial is."""

    arrays: ConditionArrays
    status: Status
    turn: int = 0
    new: _Trial | None = None
    old: _Trial | None = None
    base: _Trial | None = None


@dataclass(frozen=True)
class _Estimation:
    name: str
    frames: int
    found: Future[ConditionArrays]


class ConditionSets:
    """The sets of statistics of one version; ``base`` is the version's own, unchanged."""

    def __init__(
        self,
        server: Server,
        shapes: Mapping[str, tuple[int, ...]],
        n_classes: int,
        *,
        estimate: Estimate | None = None,
        own: Callable[[], ConditionArrays] | None = None,
        probation_every: int = 4,
    ) -> None:
        """Start with the version's own statistics.

        Args:
            server: Runs the version.
            shapes: Shape of each of its tensors, by name.
            n_classes: Number of its classes.
            estimate: Estimates the statistics of a condition; None estimates none.
            own: Reads the version's own statistics, for a condition that they suit best; None never does.
            probation_every: New statistics serve one in so many frames.
        """
        self._server = server
        self._shapes = shapes
        self._n_classes = n_classes
        self._estimate = estimate
        self._own = own
        self._every = max(1, probation_every)
        self._rules = condition_gate.GateRules()
        self._sets: dict[str, _Set] = {}
        self._estimation: _Estimation | None = None
        #: Conditions whose estimation was hindered, for example by lack of memory; not tried again.
        self._hindered: set[str] = set()

    @property
    def usable(self) -> bool:
        """Whether the model has batch norm, without which conditions make no difference."""
        return any(name.endswith(".running_mean") for name in self._shapes)

    def statuses(self) -> dict[str, str]:
        """Status of each condition: probation, live, refused or estimating; callable from any thread."""
        found: dict[str, str] = {name: one.status for name, one in self._sets.copy().items()}
        estimation = self._estimation
        return found | ({estimation.name: "estimating"} if estimation else {})

    @property
    def nbytes(self) -> int:
        """Bytes that the sets take; callable from any thread."""
        return sum(one.arrays.nbytes for one in self._sets.copy().values())

    def judged(self) -> tuple[dict[str, ConditionArrays], tuple[str, ...]]:
        """The sets that a restart needs: the live statistics, and the names of refused conditions."""
        live = {name: one.arrays for name, one in self._sets.items() if one.status == "live"}
        return live, tuple(name for name, one in self._sets.items() if one.status == "refused")

    def restore(self, live: Mapping[str, ConditionArrays], refused: Iterable[str]) -> None:
        """Take over the result of ``judged``.

        Raises:
            StatisticsMismatch: The statistics belong to another model; nothing is taken over.
        """
        for arrays in live.values():
            check_fit(arrays, self._shapes)
        for name, arrays in live.items():
            self._put(name, arrays, "live")
            if arrays.learnt:
                self._server.prepare(name, arrays)
        for name in refused:
            self._put(name, _NOTHING, "refused")

    def forget(self, names: Iterable[str]) -> None:
        """Drop conditions that no longer exist."""
        for name in names:
            self._sets.pop(name, None)
            self._server.forget(name)
            self._hindered.discard(name)
            if self._estimation is not None and self._estimation.name == name:
                self._estimation.found.cancel()
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
        serves = own.turn % self._every == 0
        before = self._run(image, fallback, out_size)
        # A frame with a label is compared in any case: if each second one has it, all turns or none would.
        if not serves and label is None:
            return Served(before, fallback)
        try:
            after = self._run(image, condition, out_size)
        except NotFinite as error:
            log.warning("condition refused name=%s reason=%s", condition, error)
            self._put(condition, _NOTHING, "refused")
            return Served(before, fallback, decided=True)
        # What the parent has learnt may suit this light worse than the base does: rain is no dusk.
        base = None if fallback == BASE or label is None else self._run(image, BASE, out_size)
        decided = self._judge(condition, own, (before, after, base), label)
        if not serves:
            return Served(before, fallback, decided=decided)
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

    def work(self, wanted: Iterable[str], frames: Callable[[str], Sequence[bytes] | None]) -> bool:
        """Ask for an estimation, if one is due, or take over the result of the one that runs.

        Args:
            wanted: Conditions that should have statistics, the most urgent first.
            frames: Returns encoded images of a condition, None while there are too few.

        Returns:
            Whether a result was taken over.
        """
        if not self.usable or self._estimate is None:
            return False
        if self._estimation is None:
            self._estimation = self._begin(self._estimate, wanted, frames)
        estimation = self._estimation
        if estimation is None or not estimation.found.done():
            return False
        self._estimation = None
        try:
            arrays = estimation.found.result()
            check_fit(arrays, self._shapes)
        except EstimationFailed as error:
            log.warning("condition refused name=%s reason=its estimation failed: %s", estimation.name, error)
            self._put(estimation.name, _NOTHING, "refused")
        except Exception as error:  # the child may fail in any way; inference must go on
            log.warning("condition not estimated name=%s reason=%s", estimation.name, error)
            self._hindered.add(estimation.name)
        else:
            self._put(estimation.name, arrays, "probation")
            # Prepared now, between two frames, so that the first frame does not wait for it.
            self._server.prepare(estimation.name, arrays)
            log.info(
                "condition estimated name=%s frames=%d bytes=%d",
                estimation.name,
                estimation.frames,
                arrays.nbytes,
            )
        return True

    def _begin(
        self,
        estimate: Estimate,
        wanted: Iterable[str],
        frames: Callable[[str], Sequence[bytes] | None],
    ) -> _Estimation | None:
        for name in wanted:
            if name == BASE or name in self._sets or name in self._hindered:
                continue
            if images := frames(name):
                return _Estimation(name, len(images), estimate(images))
        return None

    def _fallback(self, parent: str) -> str:
        found = self._sets.get(parent)
        return parent if found is not None and found.status == "live" else BASE

    def _run(self, image: Image, name: str, out_size: Sequence[int]) -> Prediction:
        own = self._sets.get(name)
        prediction = self._server.predict(image, name, own.arrays if own else None, out_size)
        if not math.isfinite(prediction.mean_confidence):
            raise NotFinite("the model's answer holds numbers that are not finite")
        return prediction

    def _put(self, name: str, arrays: ConditionArrays, status: Status) -> None:
        self._sets[name] = _Set(arrays, status)

    def _judge(
        self,
        name: str,
        own: _Set,
        predictions: tuple[Prediction, Prediction, Prediction | None],
        label: Image | None,
    ) -> bool:
        """Count a frame as its fallback, its own statistics and the base segment it; True at the verdict."""
        before, after, base = predictions
        n_classes = self._n_classes
        own.old = own.old or _Trial(n_classes)
        own.new = own.new or _Trial(n_classes)
        own.old.add(before, label)
        own.new.add(after, label)
        if base is not None:
            own.base = own.base or _Trial(n_classes)
            own.base.add(base, label)
        verdict = condition_gate.judge(self._rules, own.new.evidence(), own.old.evidence())
        if verdict is None:
            return False
        better = own.new if verdict.keep else own.old
        if self._own is not None and own.base is not None and self._best(own.base, better):
            self._take_base(name, self._own)
            return True
        own.status = "live" if verdict.keep else "refused"
        own.new = own.old = own.base = None
        log.info("condition %s name=%s reason=%r", own.status, name, verdict.reason)
        return True

    def _best(self, base: _Trial, better: _Trial) -> bool:
        """Whether labels say that the version's own statistics are better than the better of the others."""
        own, other = base.evidence(), better.evidence()
        if own.miou is None or other.miou is None or own.labelled < self._rules.labelled_frames:
            return False
        return own.miou > other.miou

    def _take_base(self, name: str, own: Callable[[], ConditionArrays]) -> None:
        """Give a condition the version's own statistics, from which it may learn on."""
        try:
            arrays = own()
        except CheckpointError as error:
            log.warning("condition refused name=%s reason=%s", name, error)
            self._put(name, _NOTHING, "refused")
            return
        self._put(name, arrays, "live")
        self._server.prepare(name, arrays)
        log.info("condition live name=%s reason='the base suits it best'", name)
