"""The conditions of the cameras: drift detectors, the choice of a condition, and frames to estimate it from.

Runs on the inference thread and knows nothing of models. Other threads read one immutable snapshot, which is
replaced as a whole.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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

#: The latest alarms that a snapshot lists; counters include all of them.
_LISTED_ALARMS = 256
#: One in so many frames replaces a stored one, so that a condition's frames are not all of one minute.
_RENEW_EVERY = 32
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class DriftAlarm:
    """A change in one signal of one camera.

    Attributes:
        number: Number of the alarm since the daemon started, from 1; readers use it to find new alarms.
        signal: A name of ``drift.SIGNALS``.
        at: Wall-clock second of the alarm.
    """

    number: int
    camera: str
    signal: str
    at: float


@dataclass(frozen=True, kw_only=True)
class ConditionsSnapshot:
    """The published state of all cameras.

    Attributes:
        cameras: Name of the condition that each camera is in, by camera.
        known: Names of all conditions, ``base`` first.
        switches: Number of times that a camera changed its condition since the start.
        alarms: The latest alarms, oldest first.
        alarm_count: Number of all alarms since the start.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = (BASE,)
    switches: int = 0
    alarms: tuple[DriftAlarm, ...] = ()
    alarm_count: int = 0

    def alarms_since(self, number: int) -> tuple[DriftAlarm, ...]:
        """The listed alarms whose number is greater than ``number``."""
        return tuple(alarm for alarm in self.alarms if alarm.number > number)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The condition chosen for one frame; see ``policies.stream.conditions.Step``.

    Attributes:
        condition: The condition that the camera is in.
        parent: The condition whose statistics serve while this one has none.
        changed: Whether the state has changed that the file of conditions holds.
        gone: Names of conditions that were dropped or merged.
    """

    condition: str = BASE
    parent: str = BASE
    changed: bool = False
    gone: tuple[str, ...] = ()


class Conditions:
    """The state of conditions and drift that does not need the model."""

    def __init__(
        self,
        settings: sections.Conditions,
        *,
        now: Callable[[], float],
        on_alarm: Callable[[str, str], None],
        on_switch: Callable[[], None],
        max_cameras: int = 64,
        opened: int = 0,
    ) -> None:
        """Start with no condition known.

        Args:
            settings: The section ``[conditions]`` of the configuration.
            now: Wall clock, in seconds.
            on_alarm: Called with camera and signal for every alarm.
            on_switch: Called for every switch of a camera.
            max_cameras: Number of cameras that are remembered; the one silent for longest is forgotten first.
            opened: Number of conditions that there were, whose names are not given again.
        """
        self._rules = ConditionRules(most=settings.max, min_frames=settings.min_frames)
        self._enabled = settings.enabled
        self._now = now
        self._on_alarm = on_alarm
        self._on_switch = on_switch
        self._drift_rules = drift.DriftRules()
        self._max_cameras = max_cameras
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._opened = opened
        self._state = State(opened=opened)
        self._drift: dict[str, drift.DriftState] = {}
        self._strange: dict[str, deque[bytes]] = {}
        self._frames: dict[str, deque[bytes]] = {}
        self._seen = 0
        self._alarms: deque[DriftAlarm] = deque(maxlen=_LISTED_ALARMS)
        self._alarm_count = 0
        self._switches = 0
        self._snapshot = ConditionsSnapshot()

    def snapshot(self) -> ConditionsSnapshot:
        """The latest published state; callable from any thread."""
        return self._snapshot

    def condition_of(self, camera: str) -> str:
        """The condition that a camera is in, ``base`` if unknown; callable from any thread."""
        return self._snapshot.cameras.get(camera, BASE)

    def named_condition_of(self, camera: str) -> str:
        """The same, but "" where conditions are not distinguished; callable from any thread."""
        return self.condition_of(camera) if self._enabled else ""

    def observe(
        self, camera: str, image: npt.NDArray[np.uint8], complexity: float, *, untrained: bool = False
    ) -> Choice:
        """Process a frame before it is segmented, and choose its condition.

        Args:
            camera: The camera's name.
            image: (h, w, 3) uint8 BGR, at the scale of inference.
            complexity: The frame's spatial complexity, 0 to 1.
            untrained: Whether the model has not learnt anything yet; then no condition is opened.
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
        """Process the confidence and accuracy of a segmented frame.

        Args:
            camera: The camera's name.
            confidence: Mean confidence over its pixels, 0 to 1.
            accuracy: Share of its labelled pixels that are correct; None without labels.
        """
        self._watch(camera, {"confidence": confidence} | ({} if accuracy is None else {"accuracy": accuracy}))

    def other_statistics(self, camera: str | None = None) -> None:
        """Reset the detectors of confidence and accuracy, since another model or other statistics serve.

        Args:
            camera: The camera that this concerns; None for all.
        """
        for name in [camera] if camera is not None else list(self._drift):
            if name in self._drift:
                self._drift[name] = drift.forget(self._drift[name], ("confidence", "accuracy"))

    def frames(self, condition: str) -> list[bytes] | None:
        """The encoded frames to estimate a condition's statistics from; None while there are too few."""
        kept = self._frames.get(condition, ())
        if len(kept) < self._rules.min_frames:
            return None
        return list(kept)

    def known(self) -> tuple[str, ...]:
        """Names of all conditions, ``base`` first."""
        return tuple(condition.name for condition in self._state.conditions) or (BASE,)

    def encode(self) -> bytes:
        """Encode the state that a restart needs, as JSON; frames are not kept on disk."""
        return msgspec.json.encode(self._state)

    def restore(self, data: bytes) -> None:
        """Restore the state that ``encode`` wrote, unless this daemon has already seen frames.

        Raises:
            ValueError: The data are not such a state.
        """
        if self._state.conditions:
            return
        state = decode(data, State)
        names = {condition.name for condition in state.conditions}
        usable = all(_is_usable(condition) for condition in state.conditions)
        if not usable or not all(camera.current in names for camera in state.cameras.values()):
            raise ValueError("the conditions do not fit each other")
        self._state = replace(state, opened=max(state.opened, self._opened))
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
        """Keep frames, encoded: 16 of them take less than a megabyte, whatever the sender's encoding."""
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
            log.info("condition dropped name=%s reason=least used of %d", step.dropped, self._rules.most)
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
