"""The verdict on one frame: whether it is good, what it scores, and what the policy makes of that."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.daemon.ingest.pixels import CheckedFrame, CheckedLabel, check_frame, encode_for_store
from dance_ondevice.daemon.store.samples import NewSample, digest
from dance_ondevice.daemon.system.clock import EARLIEST
from dance_ondevice.daemon.system.state import sample_id
from dance_ondevice.daemon.wire.messages import Frame, FrameMessage, WireError
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.images.decoder_damage import looks_damaged
from dance_ondevice.images.signature import signature
from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.stream.data_slimming import Decision, SlimmingRules, decide
from dance_ondevice.policies.stream.stream_state import FrameFigures

log = logging.getLogger(__name__)

#: Seconds that a frame may be dated ahead of this board's clock, ten years.
_MOST_AHEAD = 10 * 365.25 * 86_400
#: A frame with a shorter side shows nothing to segment: senders use such as signs of life.
SMALLEST_SIDE = 16
#: Decisions remembered, so that a frame that is sent again gets the same one and counts once in its stream.
_REMEMBERED = 1024


@dataclass(frozen=True)
class Measured:
    """A good frame and what its grey picture says.

    Attributes:
        score: spatial complexity, 0 to 1.
        luma: mean luma, a fraction of full scale.
        contrast: its deviation, a fraction of full scale.
        signature: by which near-duplicates are known.
        code: the signature in the form in which it is compared.
        damaged: whether its lower part is flat, as a decoder leaves it that lost data.
    """

    frame: CheckedFrame
    score: float
    luma: float
    contrast: float
    signature: str
    code: int | None
    damaged: bool


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A good frame and what was decided on it.

    Attributes:
        id: of its sample, whether or not it is kept.
        arrived_at: wall-clock seconds.
        score: spatial complexity, 0 to 1.
        signature: by which near-duplicates are known.
        standing: frames in a row, this one included, that repeated what was kept.
        again: whether the same frame was judged before; the decision is the earlier one.
    """

    id: str
    camera: str
    seq: int
    captured_at: float
    arrived_at: float
    frame: CheckedFrame
    score: float
    decision: Decision
    signature: str
    standing: int
    again: bool

    @property
    def label(self) -> CheckedLabel | None:
        """The label that came along, unless it is 255 (ignore) throughout: that would only hide the frame."""
        label = self.frame.label
        return label if label is not None and label.classes else None

    @property
    def reason(self) -> str:
        """Why it is kept or dropped, in words for the sender."""
        if self.frame.label is None or self.label is not None:
            return self.decision.reason
        return f"{self.decision.reason}; its label is 255 (ignore) throughout and was passed over"

    @property
    def sign_of_life(self) -> bool:
        """Whether the frame is too small to be stored or segmented."""
        return _is_too_small(self.frame)


class Judge:
    """Remembers each camera's stream, and with it what is much and what is little detail there.

    Attributes:
        rules: what is decided by; others may be set at any time and hold from the next frame on.
    """

    def __init__(
        self,
        *,
        indicator: Indicator,
        rules: SlimmingRules,
        n_classes: int,
        max_pixels: int,
        max_cameras: int = 64,
        cameras: Cameras | None = None,
        condition_of: Callable[[str], str] = lambda _camera: "",
    ) -> None:
        """Begin with the cameras given, else with none.

        ``condition_of`` tells a camera's condition, "" where nobody knows.
        """
        self._indicator = indicator
        self.rules = rules
        self._n_classes = n_classes
        self._max_pixels = max_pixels
        self._cameras = cameras if cameras is not None else Cameras(max_cameras)
        self._condition_of = condition_of
        self._decisions: OrderedDict[str, tuple[Decision, float]] = OrderedDict()

    def knows(self, camera: str) -> bool:
        """Whether the camera has sent a good frame."""
        return camera in self._cameras

    def measure(self, message: Frame) -> Measured:
        """Check and measure a frame; callable from any thread.

        Raises:
            WireError: the image or label is bad.
        """
        named = message if isinstance(message, FrameMessage) else None
        frame = check_frame(
            message.image,
            encoding=named.encoding if named and named.encoding != "raw" else None,
            shape=message.shape,
            label=named.label if named else None,
            max_pixels=self._max_pixels,
            n_classes=self._n_classes,
        )
        luma, contrast = luma_and_contrast(frame.grey)
        text = signature(frame.grey)
        return Measured(
            frame=frame,
            score=self._indicator.measure(frame.grey, _bits_per_pixel(frame)).score,
            luma=luma,
            contrast=contrast,
            signature=text,
            code=similarity.code(text),
            damaged=looks_damaged(frame.grey),
        )

    def decide(self, message: Frame, measured: Measured, arrived_at: float, sender: str = "") -> Judged:
        """Decide on a frame; for one thread, in the order in which frames came.

        Args:
            message: the frame.
            measured: what ``measure`` made of it.
            arrived_at: wall-clock seconds; the time of capture where the message has none.
            sender: whose it is: a client, or without keys a connection.

        Raises:
            WireError: there are too many cameras, or no frame can be of that date.
        """
        if isinstance(message, FrameMessage):
            _check_date(message.captured_at, arrived_at)
        # Only a good frame makes a camera known, so that junk cannot use up the names.
        if not self.knows(message.camera):
            _warn_of_depth(message.camera, measured.frame)
        camera = self._cameras.admit(message.camera, sender)
        if isinstance(message, FrameMessage):
            seq, captured_at = message.seq, message.captured_at
        else:
            # Numbers begin at the clock, so that those of a daemon that restarts do not come again.
            seq = int(arrived_at * 1e6) if camera.next_seq is None else camera.next_seq
            camera.next_seq = seq + 1
            captured_at = arrived_at
        identifier = sample_id(message.camera, captured_at, seq)
        remembered = self._decisions.get(identifier)
        if _is_too_small(measured.frame):
            score, decision = measured.score, _SIGN_OF_LIFE
        elif remembered is None:
            score = measured.score
            figures = _figures(measured, self._condition_of(message.camera))
            camera.state, decision = decide(self.rules, camera.state, figures)
            self._decisions[identifier] = (decision, score)
            if len(self._decisions) > _REMEMBERED:
                self._decisions.popitem(last=False)
        else:
            decision, score = remembered
        camera.stored |= decision.keep
        return Judged(
            id=identifier,
            camera=message.camera,
            seq=seq,
            captured_at=captured_at,
            arrived_at=arrived_at,
            frame=measured.frame,
            score=score,
            decision=decision,
            signature=measured.signature,
            standing=camera.state.standing,
            again=remembered is not None,
        )


def _check_date(captured_at: float, arrived_at: float) -> None:
    """Refuse what neither a wrong clock here nor one there explains.

    A board without a battery may be decades behind for a while, so the bound is one for any board.
    """
    if captured_at > max(arrived_at, EARLIEST) + _MOST_AHEAD:
        raise WireError(
            "captured_at",
            f"captured_at {captured_at:.0f} is more than ten years ahead of this board's clock; "
            "set the clock of the camera",
        )


def _warn_of_depth(camera: str, frame: CheckedFrame) -> None:
    """Say of a camera's first frame that only the upper half of its bits is seen."""
    if frame.info is not None and frame.info.bit_depth > 8:
        log.warning(
            "camera sends more than 8 bits, of which the upper 8 are seen: have the sender stretch the range "
            "that matters to 8 bits camera=%s bits=%d channels=%d",
            camera,
            frame.info.bit_depth,
            frame.info.channels,
        )


#: What is decided on a frame that is too small, which counts nowhere in its camera's stream.
_SIGN_OF_LIFE = Decision(
    outcome="dropped",
    scale=1.0,
    weight=1.0,
    quantile=0.0,
    condition="",
    reason=f"dropped: a side has less than {SMALLEST_SIDE} pixels, so it is neither stored nor segmented",
)


def new_sample(judged: Judged) -> NewSample:
    """What the store gets of a frame that is kept.

    Raises:
        WireError: the image cannot be decoded or encoded after all.
    """
    frame, decision, label = judged.frame, judged.decision, judged.label
    image = encode_for_store(frame, decision.scale)
    return NewSample(
        id=judged.id,
        camera=judged.camera,
        seq=judged.seq,
        captured_at=judged.captured_at,
        received_at=judged.arrived_at,
        data=image.data,
        format=image.format,
        width=image.width,
        height=image.height,
        native_width=frame.width,
        native_height=frame.height,
        score=judged.score,
        quantile=decision.quantile,
        scale=decision.scale,
        weight=decision.weight,
        reason=judged.reason,
        label=label.png if label else None,
        label_source="frame" if label else None,
        classes=label.classes if label else None,
        received_digest=None if image.data is frame.image else digest(frame.image),
        signature=judged.signature,
    )


def _figures(measured: Measured, condition: str) -> FrameFigures:
    label = measured.frame.label
    return FrameFigures(
        score=measured.score,
        luma=measured.luma,
        contrast=measured.contrast,
        condition=condition,
        code=measured.code,
        label=digest(label.png) if label and label.classes else "",
        flat_below=measured.damaged,
    )


def _bits_per_pixel(frame: CheckedFrame) -> float | None:
    if frame.info is None or frame.info.format != "jpeg":
        return None
    return 8 * len(frame.image) / (frame.width * frame.height)


def pending_frame(judged: Judged, received: float) -> PendingFrame:
    """What inference gets of a frame; ``received`` in monotonic seconds."""
    frame = judged.frame
    return PendingFrame(
        id=judged.id,
        camera=judged.camera,
        seq=judged.seq,
        captured_at=judged.captured_at,
        received=received,
        data=frame.image,
        info=frame.info,
        raw_shape=(frame.height, frame.width, 3) if frame.info is None else None,
        scale=judged.decision.scale,
        label=judged.label.png if judged.label else None,
        score=judged.score,
    )


def _is_too_small(frame: CheckedFrame) -> bool:
    return min(frame.height, frame.width) < SMALLEST_SIDE
