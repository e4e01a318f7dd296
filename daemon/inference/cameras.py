"""The conditions of the cameras as the daemon sees them: detectors, choices, and frames to estimate from.

Runs on the predictor's thread and knows nothing of models; what others read is one immutable snapshot,
replaced as a whole.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.frame_signals import frame_signals
from dance_ondevice.documents import decode
from dance_ondevice.images import codec as images
from dance_ondevice.policies.stream import conditions, drift
from dance_ondevice.policies.stream.conditions import BASE, ConditionRules, State, Step

log = logging.getLogger(__name__)

#: Alarms that a snapshot lists; counters have all of them.
_LISTED_ALARMS = 256
#: A condition's frames for estimation are renewed one in so many, so that they are not all of one minute.
_RENEW_EVERY = 32
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class DriftAlarm:
    """One signal of one camera has changed.

    Attributes:
        number: counts all alarms since the daemon started, from 1: who remembers it finds what is new.
        signal: a name of ``drift.SIGNALS``.
        at: wall-clock seconds.
    """

    number: int
    camera: str
    signal: str
    at: float


@dataclass(frozen=True, kw_only=True)
class ConditionsSnapshot:
    """What is known now.

    Attributes:
        cameras: camera -> name of the condition that it is in.
        known: names of all conditions, ``base`` first.
        switches: times that a camera went from one condition to another, since the start.
        alarms: the latest, oldest first.
        alarm_count: all, since the start.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = (BASE,)
    switches: int = 0
    alarms: tuple[DriftAlarm, ...] = ()
    alarm_count: int = 0

    def alarms_since(self, number: int) -> tuple[DriftAlarm, ...]:
        """The alarms after the one of that number; the latest 256 of them at most."""
        return tuple(alarm for alarm in self.alarms if alarm.number > number)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one frame led to; see ``policies.conditions.Step``.

    Attributes:
        condition: that the camera is in.
        parent: the condition whose statistics serve while this one has none.
        changed: whether what a file should hold has changed.
        gone: names of conditions that are no more.
    """

    condition: str = BASE
    parent: str = BASE
    changed: bool = False
    gone: tuple[str, ...] = ()


class Conditions:
    """Everything about conditions that does not need the model."""

    def __init__(
        self,
        settings: sections.Conditions,
        *,
        now: Callable[[], float],
        on_alarm: Callable[[str, str], None],
        on_switch: Callable[[], None],
        max_cameras: int = 64,
    ) -> None:
        """Begin with no condition known.

        Args:
            settings: ``[conditions]`` of the configuration.
            now: wall clock, seconds.
            on_alarm: called with camera and signal for every alarm.
            on_switch: called for every switch.
            max_cameras: of how many something is remembered; the one that was silent longest is forgotten.
        """
        self._rules = ConditionRules(most=settings.max, min_frames=settings.min_frames)
        self._enabled = settings.enabled
        self._now = now
        self._on_alarm = on_alarm
        self._on_switch = on_switch
        self._drift_rules = drift.DriftRules()
        self._max_cameras = max_cameras
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._state = State()
        self._drift: dict[str, drift.DriftState] = {}
        self._strange: dict[str, deque[bytes]] = {}
        self._frames: dict[str, deque[bytes]] = {}
        self._seen = 0
        self._alarms: deque[DriftAlarm] = deque(maxlen=_LISTED_ALARMS)
        self._alarm_count = 0
        self._switches = 0
        self._snapshot = ConditionsSnapshot()

    def snapshot(self) -> ConditionsSnapshot:
        """What is known now; callable from any thread."""
        return self._snapshot

    def condition_of(self, camera: str) -> str:
        """The condition that a camera is in, ``base`` while nothing is known; callable from any thread."""
        return self._snapshot.cameras.get(camera, BASE)

    def told_of(self, camera: str) -> str:
        """The same, but "" where conditions are not told apart; callable from any thread."""
        return self.condition_of(camera) if self._enabled else ""

    def observe(
        self, camera: str, image: npt.NDArray[np.uint8], complexity: float, *, untrained: bool = False
    ) -> Choice:
        """Take in a frame before it is segmented, and choose the condition to segment it in.

        Args:
            camera: its name.
            image: (h, w, 3) uint8 BGR, at the scale of inference.
            complexity: its score, 0 to 1.
            untrained: whether the model has not learnt anything yet: no condition is told apart for it.
        """
        self._remember(camera)
        signals = frame_signals(image, complexity)
        alarms = self._watch(camera, signals)
        if untrained or not self._enabled:
            return Choice()
        self._state, step = conditions.observe(self._rules, self._state, camera, signals, drift=bool(alarms))
        self._keep(camera, image, step)
        gone = tuple(name for name in (step.dropped, step.merged[0] if step.merged else "") if name)
        self._note(camera, step, gone)
        return Choice(
            condition=step.condition,
            parent=self._parents().get(step.condition, BASE),
            changed=bool(gone or step.opened or step.settled),
            gone=gone,
        )

    def result(self, camera: str, *, confidence: float, accuracy: float | None) -> None:
        """Take in how a frame was segmented.

        Args:
            camera: its name.
            confidence: mean over its pixels, 0 to 1.
            accuracy: share of its labelled pixels that were right; None without labels.
        """
        self._watch(camera, {"confidence": confidence} | ({} if accuracy is None else {"accuracy": accuracy}))

    def other_statistics(self, camera: str | None = None) -> None:
        """Forget how sure the model used to be: another model, or other statistics, serve from now on.

        Args:
            camera: the one camera that this is true of; None for all.
        """
        for name in [camera] if camera is not None else list(self._drift):
            if name in self._drift:
                self._drift[name] = drift.forget(self._drift[name], ("confidence", "accuracy"))

    def frames(self, condition: str) -> list[npt.NDArray[np.uint8]] | None:
        """Decode the frames to estimate a condition's statistics from; None while there are too few."""
        kept = self._frames.get(condition, ())
        if len(kept) < self._rules.min_frames:
            return None
        return [images.decode_colour(data) for data in kept]

    def known(self) -> tuple[str, ...]:
        """Names of all conditions, ``base`` first."""
        return tuple(condition.name for condition in self._state.conditions) or (BASE,)

    def encode(self) -> bytes:
        """Everything to go on with after a restart, as JSON; frames are not kept on disk."""
        return msgspec.json.encode(self._state)

    def restore(self, data: bytes) -> None:
        """Go on from what ``encode`` gave, unless this daemon has already seen frames of its own.

        Raises:
            ValueError: the data are not what ``encode`` gives.
        """
        if self._state.conditions:
            return
        state = decode(data, State)
        names = {condition.name for condition in state.conditions}
        usable = all(_is_usable(condition) for condition in state.conditions)
        if not usable or not all(camera.current in names for camera in state.cameras.values()):
            raise ValueError("the conditions do not fit each other")
        self._state = state
        for camera in state.cameras:
            self._remember(camera)
        self._publish()

    def _remember(self, camera: str) -> None:
        self._recent[camera] = None
        self._recent.move_to_end(camera)
        while len(self._recent) > self._max_cameras:
            silent, _ = self._recent.popitem(last=False)
            self._drift.pop(silent, None)
            self._strange.pop(silent, None)
            self._state = conditions.without(self._state, silent)

    def _watch(self, camera: str, values: Mapping[str, float]) -> tuple[str, ...]:
        state = self._drift.get(camera, drift.DriftState())
        self._drift[camera], alarms = drift.observe(self._drift_rules, state, values)
        for signal in alarms:
            self._alarm_count += 1
            self._alarms.append(
                DriftAlarm(number=self._alarm_count, camera=camera, signal=signal, at=self._now())
            )
            self._on_alarm(camera, signal)
            log.info("drift camera=%s signal=%s", camera, signal)
        if alarms:
            self._publish()
        return alarms

    def _keep(self, camera: str, image: npt.NDArray[np.uint8], step: Step) -> None:
        """Put frames by, encoded: 16 of them take less than a megabyte, whatever the sender's encoding."""
        most = self._rules.min_frames
        strange = self._strange.setdefault(camera, deque(maxlen=most))
        if step.strange:
            strange.append(images.encode_jpeg(image, _JPEG_QUALITY))
        if step.opened:
            self._frames[step.opened] = strange
            self._strange[camera] = deque(maxlen=most)
            return
        if step.strange or step.condition == BASE:
            return
        kept = self._frames.setdefault(step.condition, deque(maxlen=most))
        self._seen += 1
        if len(kept) < most or self._seen % _RENEW_EVERY == 0:
            kept.append(images.encode_jpeg(image, _JPEG_QUALITY))

    def _note(self, camera: str, step: Step, gone: tuple[str, ...]) -> None:
        for name in gone:
            self._frames.pop(name, None)
        if step.opened:
            log.info("condition opened name=%s camera=%s", step.opened, camera)
        if step.merged:
            log.info("conditions merged gone=%s into=%s", *step.merged)
        if step.dropped:
            log.info("condition dropped name=%s because=least used of %d", step.dropped, self._rules.most)
        if step.switched:
            self._switches += 1
            self._on_switch()
            log.info("condition switched camera=%s to=%s", camera, step.condition)
        if step.switched or gone or camera not in self._snapshot.cameras:
            self._publish()

    def _parents(self) -> dict[str, str]:
        return {condition.name: condition.parent for condition in self._state.conditions}

    def _publish(self) -> None:
        self._snapshot = ConditionsSnapshot(
            cameras={name: camera.current for name, camera in self._state.cameras.items()},
            known=self.known(),
            switches=self._switches,
            alarms=tuple(self._alarms),
            alarm_count=self._alarm_count,
        )


def _is_usable(condition: conditions.Condition) -> bool:
    """Whether the policy can measure a distance to a condition that was read from a file."""
    figures = len(conditions.FIGURES)
    return (
        len(condition.mean) == figures
        and len(condition.squares) == figures
        and min(condition.squares) >= 0
        and condition.frames >= 0
    )
