"""Segments each frame with the live model's statistics for its camera's condition.

Runs on the inference thread. The state that a restart needs is written beside its version by a separate
thread, since a flash card may take a second for a few kilobytes and no frame should wait for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dance_ondevice.conditions import arrays as condition_arrays
from dance_ondevice.conditions.arrays import CONDITIONS_FILE, ConditionArrays, StatisticsMismatch
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.cameras import Conditions, ConditionsSnapshot
from dance_ondevice.daemon.inference.condition_sets import ConditionSets, Estimate
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.versions.condition_file import About, about_of
from dance_ondevice.documents import DocumentError
from dance_ondevice.files import write_durably
from dance_ondevice.images.confusion import confusion_matrix
from dance_ondevice.images.masks import Prediction
from dance_ondevice.models.card import CheckpointError, ModelCard
from dance_ondevice.runtime.serving import Server

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]


class VersionConditions:
    """The conditions of one loaded version: its sets of statistics, and the file that they are kept in."""

    def __init__(
        self,
        directory: Path,
        card: ModelCard,
        server: Server,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        probation_every: int,
        estimate: Estimate | None = None,
    ) -> None:
        """Read the file of conditions beside the version; one that does not fit is logged and ignored."""
        self.file = directory / CONDITIONS_FILE
        #: Hash of the model's tensors: versions that differ only in their conditions have the same.
        self.sha256 = card.sha256
        #: Statistics make nothing of a network that has not learnt: no condition is opened for it.
        self.untrained = bool(card.training.get("untrained"))
        self.sets = ConditionSets(
            server,
            shapes,
            len(card.classes),
            estimate=estimate,
            own=lambda: condition_arrays.own_statistics(directory),
            probation_every=probation_every,
        )
        self.state: bytes | None = None
        try:
            live, about = condition_arrays.load_arrays(directory)
            if about:
                found = about_of(about)
                self.sets.restore(live, found.refused)
                self.state = bytes(found.state)
        except (CheckpointError, StatisticsMismatch, DocumentError) as error:
            log.warning("conditions not taken over file=%s error=%s", self.file, error)

    def encode(self, state: bytes) -> bytes:
        """Encode the file of conditions, with the state of ``Conditions``."""
        live, refused = self.sets.judged()
        about = msgspec.json.encode(About(state=msgspec.Raw(state), refused=refused))
        return condition_arrays.encode(live, about.decode())

    def take_over(self, before: VersionConditions) -> None:
        """Take over the sets of the version before that this one lacks, if both have the same tensors.

        While a condition was trained, other conditions may have been opened, whose statistics fit both
        versions. Weights learnt from labels are left out, so that a rollback does not bring them back.
        """
        if not self.sha256 or self.sha256 != before.sha256:
            return
        known = self.sets.statuses()
        live, refused = before.sets.judged()
        self.sets.restore(
            {name: ConditionArrays(each.layers) for name, each in live.items() if name not in known},
            [name for name in refused if name not in known],
        )


class ConditionServing:
    """Chooses the condition of each frame and segments it, for the inference thread."""

    def __init__(
        self,
        settings: sections.Conditions,
        *,
        instruments: Instruments,
        now: Callable[[], float],
        max_cameras: int = 64,
        opened: int = 0,
    ) -> None:
        self._settings = settings
        self._conditions = Conditions(
            settings,
            now=now,
            on_alarm=instruments.drift_alarm,
            on_switch=instruments.condition_switch,
            max_cameras=max_cameras,
            opened=opened,
        )
        self._version: VersionConditions | None = None
        self._max_cameras = max_cameras
        #: Statistics that segmented each camera's last frame.
        self._used: dict[str, str] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="conditions")

    def snapshot(self) -> ConditionsSnapshot:
        """The latest published state; callable from any thread."""
        return self._conditions.snapshot()

    def condition_of(self, camera: str) -> str:
        """The condition that a camera is in; callable from any thread."""
        return self._conditions.condition_of(camera)

    def named_condition_of(self, camera: str) -> str:
        """The same, but "" where conditions are not distinguished; callable from any thread."""
        return self._conditions.named_condition_of(camera)

    def report(self) -> dict[str, Any]:
        """The section of ``status`` about conditions; callable from any thread."""
        known, version = self.snapshot(), self._version
        statuses = version.sets.statuses() if version else {}
        return {
            "enabled": self._settings.enabled,
            "cameras": dict(known.cameras),
            "known": {
                name: statuses.get(name, "own" if name == "base" else "waiting") for name in known.known
            },
            "bytes": version.sets.nbytes if version else 0,
            "switches": known.switches,
            "drift_alarms": known.alarm_count,
            "note": self._note(version),
        }

    def enter(self, version: VersionConditions) -> None:
        """Serve with another version from the next frame on; each camera stays in its condition.

        The sets beside the version serve at once, since the promotion gate has judged them. Those of other
        conditions are estimated again from the frames that are available, or once a condition comes back;
        until then the version's own statistics serve.
        """
        if self._version is not None:
            version.take_over(self._version)
        self._version = version
        self._used.clear()
        self._conditions.other_statistics()
        if version.state is not None:
            try:
                self._conditions.restore(version.state)
            except ValueError as error:
                log.warning("conditions not taken over file=%s error=%s", version.file, error)
        version.sets.forget(set(version.sets.statuses()) - set(self._conditions.known()))
        if len(self._conditions.known()) > 1:
            self._write()

    def predict(
        self,
        camera: str,
        image: Image,
        complexity: float,
        *,
        out_size: Sequence[int],
        label: Image | None,
        n_classes: int,
    ) -> Prediction:
        """Choose the camera's condition and segment the frame in it.

        Args:
            camera: The camera's name.
            image: (h, w, 3) uint8 BGR, at the scale of inference.
            complexity: The frame's spatial complexity, 0 to 1.
            out_size: (H, W) of the mask.
            label: (H, W) class ids that came with the frame, or None.
            n_classes: Number of the model's classes.
        """
        assert self._version is not None, "enter() comes first"
        sets = self._version.sets
        choice = self._conditions.observe(camera, image, complexity, untrained=self._version.untrained)
        sets.forget(choice.gone)
        served = sets.predict(image, choice.condition, choice.parent, out_size=out_size, label=label)
        self._learn(camera, served.used, served.prediction, label, n_classes, trial=served.trial)
        if choice.changed or served.decided:
            self._write()
        return served.prediction

    def work(self) -> bool:
        """Ask for an estimation or take over its result; returns whether one was taken over."""
        if self._version is None or self._version.untrained or not self._settings.enabled:
            return False
        known = self._conditions.snapshot()
        # Conditions that a camera is in now come first.
        wanted = dict.fromkeys([*known.cameras.values(), *known.known])
        return self._version.sets.work(wanted, self._conditions.frames)

    def close(self) -> None:
        """Write the conditions and wait for the write."""
        if self._version is not None and len(self._conditions.known()) > 1:
            self._write()
        self._writer.shutdown()

    def _learn(
        self,
        camera: str,
        used: str,
        prediction: Prediction,
        label: Image | None,
        n_classes: int,
        *,
        trial: bool,
    ) -> None:
        """Feed confidence and accuracy to the drift detectors, except of frames on probation."""
        if trial:
            return
        before = self._used.pop(camera, used)
        if before != used:
            self._conditions.other_statistics(camera)
        if len(self._used) >= self._max_cameras:  # names are up to the senders, who may change them
            del self._used[next(iter(self._used))]
        self._used[camera] = used
        accuracy = None
        if label is not None:
            matrix = confusion_matrix(label, prediction.mask, n_classes)
            accuracy = float(np.trace(matrix) / matrix.sum()) if matrix.any() else None
        self._conditions.result(camera, confidence=prediction.mean_confidence, accuracy=accuracy)

    def _note(self, version: VersionConditions | None) -> str:
        if not self._settings.enabled:
            return "conditions.enabled is false: one set of statistics for everything"
        if version is not None and version.untrained:
            return "the model is untrained: conditions are distinguished once it has learnt"
        if version is not None and not version.sets.usable:
            return "the model has no batch norm: conditions are distinguished, but it runs the same in all"
        return ""

    def _write(self) -> None:
        assert self._version is not None
        if self._settings.enabled:
            data = self._version.encode(self._conditions.encode())
            self._writer.submit(_write_file, self._version.file, data)


def _write_file(file: Path, data: bytes) -> None:
    try:
        write_durably(file, data)
    except OSError as error:
        # The conditions still serve from memory, and the next change writes them again.
        log.warning("conditions not written file=%s error=%s", file, error)
