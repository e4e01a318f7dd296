"""Inference: runs the latest frame of each camera through the live model and publishes its mask.

The live model is one immutable slot, read once per frame. A new version is loaded, verified and warmed up on
the caller's thread and then assigned to the slot, so no frame waits for it or is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.asked import AskedImages
from dance_ondevice.daemon.inference.condition_serving import ConditionServing
from dance_ondevice.daemon.inference.estimation import Estimation
from dance_ondevice.daemon.inference.mask_output import MaskOutput
from dance_ondevice.daemon.inference.prequential import PrequentialScore
from dance_ondevice.daemon.inference.reuse import Mask, MaskMemory
from dance_ondevice.daemon.inference.slots import DeviceChoice, ModelSlot, load_slot
from dance_ondevice.daemon.ingest.last_seen import LastSeen, Segmented
from dance_ondevice.daemon.ingest.mailbox import LatestFrames, PendingFrame
from dance_ondevice.daemon.ingest.pixels import decode_again
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.store.notes import SampleNotes
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.images import codec as images
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.engine_table import EngineChoice
from dance_ondevice.runtime.heap import trim

log = logging.getLogger(__name__)

#: Number of frames in a row that the live model must fail on before an earlier version is asked for.
FAILURES_IN_A_ROW = 10


class _Failures:
    """Counts the frames in a row that a version has failed on; other threads may read ``frame``."""

    def __init__(self) -> None:
        self.in_a_row = 0
        #: One of these frames, once there are too many.
        self.frame: PendingFrame | None = None
        self._ask_at = FAILURES_IN_A_ROW

    def another(self, frame: PendingFrame) -> bool:
        """Count one more; returns whether it is time to ask for an earlier version."""
        self.in_a_row += 1
        if self.in_a_row < self._ask_at:
            return False
        # If that changes nothing, it is asked for again after ten times as many: perhaps no version works.
        self._ask_at *= 10
        self.frame = frame
        return True

    def reset(self) -> None:
        """Start counting again: a frame was answered, or another version serves."""
        self.in_a_row, self.frame, self._ask_at = 0, None, FAILURES_IN_A_ROW


class Predictor(Service):
    """The inference thread; owns the PUB socket of masks and the slot of the live model."""

    def __init__(
        self,
        *,
        mailbox: LatestFrames,
        masks: Callable[[], MaskPublisher] | None,
        instruments: Instruments,
        threads: int,
        engine: EngineChoice = "torch",
        device: DeviceChoice = "cpu",
        estimation: Estimation | None = None,
        max_cameras: int = 64,
        reuse: bool = False,
        conditions: sections.Conditions = sections.Conditions(),  # noqa: B008 - frozen
        conditions_opened: int = 0,
        notes: SampleNotes | None = None,
        seen: LastSeen | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``masks`` binds the publisher, on the thread; None publishes nothing."""
        super().__init__("inference")
        self._mailbox = mailbox
        self._open_masks = masks
        self._instruments = instruments
        #: CPU threads of a forward pass.
        self.threads = threads
        self._engine = engine
        self._device = device
        self._estimation = estimation
        self._notes = notes
        self._seen = seen
        #: Stored images that people ask to have segmented.
        self.asked = AskedImages(mailbox.call)
        self._monotonic = monotonic
        self._slot: ModelSlot | None = None
        self._served: ModelSlot | None = None
        #: A version whose conditions failed to be estimated.
        self._without_conditions: ModelSlot | None = None
        self._probation_every = conditions.probation_every
        #: The conditions of the cameras and their statistics; its public methods may be called from any
        #: thread.
        self.conditions = ConditionServing(
            conditions,
            instruments=instruments,
            now=now,
            max_cameras=max_cameras,
            opened=conditions_opened,
        )
        self._memory = MaskMemory(max_cameras, monotonic=monotonic) if reuse else None
        self._prequential = PrequentialScore()
        self._output: MaskOutput | None = None
        self._max_cameras = max_cameras
        self._fall_back: Callable[[], object] = lambda: None
        self._failures = _Failures()
        self.endpoint = ""
        self.masks = 0
        #: Number of frames that could not be answered.
        self.failed = 0

    @property
    def version(self) -> str | None:
        """The version that serves now."""
        slot = self._slot
        return slot.version if slot else None

    @property
    def engine(self) -> str | None:
        """The engine that runs that version, such as ``onnxruntime``."""
        slot = self._slot
        return slot.engine if slot else None

    @property
    def device(self) -> str | None:
        """Where that engine runs: ``cpu`` or ``cuda``."""
        slot = self._slot
        return slot.device if slot else None

    @property
    def prequential_miou(self) -> float | None:
        """See ``PrequentialScore``; None without a labelled frame."""
        return self._prequential.miou

    def fall_back_by(self, ask: Callable[[], object]) -> None:
        """Set the function that asks for an earlier version when the live one fails on frame after frame."""
        self._fall_back = ask

    def estimate_at(self, priority: Literal["background", "normal"]) -> None:
        """Set the processor time of the next estimations of conditions; callable from any thread."""
        if self._estimation is not None:
            self._estimation.priority = priority

    def prepare(self, directory: Path) -> Callable[[], None]:
        """Load, verify and warm up a version on the caller's thread; the returned call makes it live.

        While the present version fails on every frame, a new one is accepted only if it answers such a frame.

        Raises:
            CheckpointError: The version does not load or run; the old one stays live.
        """
        failing = self._failures.frame
        slot = load_slot(
            directory,
            probation_every=self._probation_every,
            engine=self._engine,
            threads=self.threads,
            device=self._device,
            estimate=self._estimation.ask if self._estimation else None,
        )
        if failing is not None:
            _check_answers(slot, failing)

        def install() -> None:
            self._slot = slot

        return install

    def setup(self) -> None:
        """Bind the mask publisher."""
        if self._open_masks is not None:
            self._output = MaskOutput(self._open_masks(), max_cameras=self._max_cameras)
            self.endpoint = self._output.endpoint

    def run(self) -> None:
        """Serve the latest frame of each camera in turn."""
        untidy = False
        while not self.stopping.is_set():
            self.beat()
            if self._output is not None:
                self._output.tend(self._slot)
            frame = self._mailbox.take(0.5)
            slot = self._slot
            if slot is None:
                continue
            if slot is not self._served:
                self.conditions.enter(slot.conditions)
                self._served, untidy = slot, True
                self._failures.reset()
            if frame is not None:
                self._answer(frame, slot)
            if self._answer_asked(slot):
                untidy = True
            if self._work():
                untidy = True
            elif untidy:
                trim()
                untidy = False

    def teardown(self) -> None:
        """Write the conditions and close the publisher."""
        self.conditions.close()
        if self._estimation is not None:
            self._estimation.close()
        if self._notes is not None:
            self._notes.flush()
        if self._output is not None:
            self._output.close()

    def _answer(self, frame: PendingFrame, slot: ModelSlot) -> None:
        started, used = self._monotonic(), time.thread_time()
        try:
            self._serve(frame, slot)
        except Exception as error:  # the model may be the user's own: only this frame is lost
            self.failed += 1
            self._instruments.inference_failed()
            self._failed(frame, slot, error)
        else:
            self._failures.reset()
        self._instruments.frame_cpu("inference", time.thread_time() - used)
        self._instruments.inference_seconds(self._monotonic() - started)

    def _answer_asked(self, slot: ModelSlot) -> bool:
        """Segment one image that a person asked for; returns whether there was one."""
        asked = self.asked.take()
        if asked is None:
            return False
        try:
            found = slot.conditions.sets.look(asked.image, asked.condition, out_size=asked.out_size)
        except Exception as error:  # the model may be the user's own: who asked gets its error
            asked.future.set_exception(error)
        else:
            asked.future.set_result((found, slot.version))
        return True

    def _failed(self, frame: PendingFrame, slot: ModelSlot, error: Exception) -> None:
        log.warning("frame not answered id=%s version=%s error=%r", frame.id, slot.version, error)
        # An image that cannot be decoded is not the model's fault: only its header was checked before.
        if not isinstance(error, ImageError) and self._failures.another(frame):
            log.error(
                "falling back reason=version %s failed on %d frames in a row last_error=%r",
                slot.version,
                self._failures.in_a_row,
                error,
            )
            self._fall_back()

    def _work(self) -> bool:
        """Ask for an estimation or take over its result; returns whether one was taken over."""
        if self._served is None or self._served is self._without_conditions:
            return False
        try:
            return self.conditions.work()
        except Exception:  # as above; the version still serves, and its conditions are not estimated any more
            log.exception("conditions not estimated any more version=%s", self._served.version)
            self._without_conditions = self._served
            return False

    def _serve(self, frame: PendingFrame, slot: ModelSlot) -> None:
        condition = self.conditions.condition_of(frame.camera)
        if self._memory is not None and self._output is not None:
            again = self._memory.look(frame, frame_size(frame), slot.card, condition)
            if again is not None:
                if self._notes is not None:
                    self._notes.note(frame.id, again.mean_confidence, condition, slot.version)
                self._publish(self._output, frame, slot, again, repeated=True)
                self._mailbox.not_segmented()
                self._instruments.mask_repeated()
                return
        image, size = decode_for_inference(frame)
        n_classes = len(slot.card.classes)
        label = None if frame.label is None else images.decode_label(frame.label)
        prediction = self.conditions.predict(
            frame.camera, image, frame.score, out_size=size, label=label, n_classes=n_classes
        )
        if label is not None:
            self._prequential.add(label, prediction.mask, n_classes)
        condition = self.conditions.condition_of(frame.camera)
        if self._notes is not None:
            self._notes.note(frame.id, prediction.mean_confidence, condition, slot.version)
        if self._seen is not None:
            self._seen.segmented(
                frame,
                Segmented(
                    mask=prediction.mask,
                    confidence=prediction.mean_confidence,
                    condition=condition,
                    version=slot.version,
                ),
            )
        if self._output is None:
            return
        mask = Mask(
            png=images.encode_label(prediction.mask),
            scale=frame.scale,
            mean_confidence=prediction.mean_confidence,
            size=size,
            made_by=slot.card,
            condition=condition,
        )
        self._publish(self._output, frame, slot, mask)
        if self._memory is not None:
            self._memory.keep(frame.camera, mask)

    def _publish(
        self, output: MaskOutput, frame: PendingFrame, slot: ModelSlot, mask: Mask, *, repeated: bool = False
    ) -> None:
        output.publish(frame, slot, mask, latency_s=self._monotonic() - frame.received, repeated=repeated)
        self.masks += 1


def _check_answers(slot: ModelSlot, frame: PendingFrame) -> None:
    """Check that a version answers a frame that the one before it fails on.

    Raises:
        CheckpointError: It fails on the frame as well.
    """
    try:
        image, size = decode_for_inference(frame)
        slot.conditions.sets.predict(image, BASE, BASE, out_size=size, label=None)
    except Exception as error:  # the model may be the user's own, and its code may raise anything
        raise CheckpointError(
            f"version {slot.version} fails on frame {frame.id} as well: {error!r}"
        ) from error


def frame_size(frame: PendingFrame) -> tuple[int, int]:
    """(height, width) of a frame as it came."""
    if frame.info is None:
        assert frame.raw_shape is not None
        return frame.raw_shape[:2]
    return frame.info.height, frame.info.width


def decode_for_inference(frame: PendingFrame) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decode a frame at its scale; returns the image and the native (height, width) of its mask."""
    size = frame_size(frame)
    if frame.info is None:
        assert frame.raw_shape is not None
        image: npt.NDArray[np.uint8] = np.frombuffer(frame.data, np.uint8).reshape(frame.raw_shape)
    else:
        image = frame.pixels if frame.pixels is not None else decode_again(frame)
    return resize_for_inference(image, frame.scale, of=size), size
