"""The decision on each frame: it is checked, scored, and kept or dropped by the data-slimming policy."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.last_seen import Judged
from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.daemon.ingest.pixels import CheckedFrame, CheckedLabel, check_frame, encode_for_store
from dance_ondevice.daemon.store.samples import NewSample, OtherPicture, digest, image_digest
from dance_ondevice.daemon.system.clock import EARLIEST
from dance_ondevice.daemon.system.state import sample_id
from dance_ondevice.daemon.wire.messages import Frame, FrameMessage, WireError
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.images.decoder_damage import looks_damaged
from dance_ondevice.images.headers import ImageInfo
from dance_ondevice.images.signature import signature
from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.stream.data_slimming import Decision, SlimmingRules, decide
from dance_ondevice.policies.stream.decoding import Decoding, first_decoding
from dance_ondevice.policies.stream.stream_state import FrameFigures

log = logging.getLogger(__name__)

#: Seconds, ten years, by which a frame may be dated ahead of this board's clock.
_MOST_AHEAD = 10 * 365.25 * 86_400
#: A frame with a shorter side is too small to segment; senders use such frames as signs of life.
SMALLEST_SIDE = 16
#: Number of remembered decisions: a frame that is sent again gets the same one and counts once in its stream.
_REMEMBERED = 1024


@dataclass(frozen=True)
class Measured:
    """A valid frame and the measurements of its grey image.

    Attributes:
        score: Spatial complexity, 0 to 1.
        scored_by: What makes scores comparable, see ``complexity.Complexity``.
        luma: Mean luma, a fraction of full scale.
        contrast: Standard deviation of the luma, a fraction of full scale.
        signature: Signature by which near-duplicates are found.
        code: The signature in the form in which it is compared.
        damaged: Whether its lower part is flat, as a decoder leaves it after lost data.
    """

    frame: CheckedFrame
    score: float
    scored_by: str
    luma: float
    contrast: float
    signature: str
    code: int | None
    damaged: bool


@dataclass(frozen=True, kw_only=True)
class DecidedFrame:
    """A valid frame and the decision on it.

    Attributes:
        id: The sample's id, whether or not it is kept.
        arrived_at: Wall-clock seconds.
        score: Spatial complexity, 0 to 1.
        signature: Signature by which near-duplicates are found.
        standing: Number of frames in a row, this one included, that repeated a kept one.
        resent: Whether the same frame was decided before; the decision is the earlier one.
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
    resent: bool

    @property
    def label(self) -> CheckedLabel | None:
        """The label that came with the frame; None if all its pixels are 255 (ignore)."""
        label = self.frame.label
        return label if label is not None and label.classes else None

    @property
    def reason(self) -> str:
        """Why the frame is kept or dropped, in words for the sender."""
        if self.frame.label is None or self.label is not None:
            return self.decision.reason
        return f"{self.decision.reason}; its label is 255 (ignore) throughout and was ignored"

    def without_pixels(self) -> DecidedFrame:
        """The same without its decoded colours, which take much memory while the store works."""
        return self if self.frame.colour is None else replace(self, frame=replace(self.frame, colour=None))

    @property
    def sign_of_life(self) -> bool:
        """Whether the frame is too small to be stored or segmented."""
        return _is_too_small(self.frame)


class FrameDecider:
    """Decides on frames; remembers each camera's stream, which their scores are ranked in.

    Attributes:
        rules: The rules of the decisions; others may be set at any time and apply from the next frame on.
    """

    def __init__(
        self,
        *,
        indicator: Indicator,
        rules: SlimmingRules,
        n_classes: int,
        max_pixels: int,
        cameras: Cameras,
        condition_of: Callable[[str], str] = lambda _camera: "",
        served_share: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Start with the cameras given.

        Args:
            indicator: Scores frames.
            rules: Rules of the decisions.
            n_classes: Number of classes that labels may use.
            max_pixels: The most pixels that are decoded.
            cameras: The known cameras.
            condition_of: Returns a camera's condition, "" if unknown.
            served_share: Returns the share of the frames that inference takes; callable from any thread.
        """
        self._indicator = indicator
        self.rules = rules
        self._n_classes = n_classes
        self._max_pixels = max_pixels
        self._cameras = cameras
        self._condition_of = condition_of
        self._served_share = served_share
        #: What was decided by id, the score, and the fingerprint of the image that it was decided for.
        self._decisions: OrderedDict[str, tuple[Decision, float, int]] = OrderedDict()

    def knows(self, camera: str) -> bool:
        """Whether the camera has sent a good frame."""
        return camera in self._cameras

    def measure(self, message: Frame, info: ImageInfo | None = None) -> Measured:
        """Check and measure a frame; callable from any thread.

        Args:
            message: The frame.
            info: The header of its image, if it was read before.

        Raises:
            WireError: The image or label cannot be used.
        """
        named = message if isinstance(message, FrameMessage) else None
        frame = check_frame(
            message.image,
            encoding=named.encoding if named and named.encoding != "raw" else None,
            shape=message.shape,
            label=named.label if named else None,
            max_pixels=self._max_pixels,
            n_classes=self._n_classes,
            info=info,
            decoding=self._decoding,
        )
        luma, contrast = luma_and_contrast(frame.grey)
        text = signature(frame.grey)
        found = self._indicator.measure(frame.grey, _bits_per_pixel(frame), 255 * contrast)
        return Measured(
            frame=frame,
            score=found.score,
            scored_by=found.scored_by,
            luma=luma,
            contrast=contrast,
            signature=text,
            code=similarity.code(text),
            damaged=looks_damaged(frame.grey),
        )

    def _decoding(self, measured_at: int) -> Decoding:
        rules = self.rules
        return first_decoding(
            rules.scales,
            drop_fraction=rules.drop_fraction,
            served_share=round(self._served_share(), 1),
            measured_at=measured_at,
        )

    def decide(self, message: Frame, measured: Measured, arrived_at: float, sender: str = "") -> DecidedFrame:
        """Decide on a frame; called by one thread, in the order in which frames came.

        Args:
            message: The frame.
            measured: The result of ``measure`` for it.
            arrived_at: Wall-clock seconds; the time of capture where the message has none.
            sender: The sender of the frame: a client, or without keys a connection.

        Raises:
            WireError: There are too many cameras, or the date of the frame is impossible.
            OtherPicture: Another picture came under its number and time.
        """
        if isinstance(message, FrameMessage):
            _check_date(message.captured_at, arrived_at)
        # Only a valid frame makes a camera known, so that junk cannot use up the names.
        if not self.knows(message.camera):
            _warn_of_depth(message.camera, measured.frame)
        camera = self._cameras.admit(message.camera, sender)
        if isinstance(message, FrameMessage):
            seq, captured_at = message.seq, message.captured_at
        else:
            # Numbers begin at the clock, so that a restarted daemon does not repeat earlier ones.
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
            self._decisions[identifier] = (decision, score, _fingerprint(measured.frame))
            if len(self._decisions) > _REMEMBERED:
                self._decisions.popitem(last=False)
        else:
            decision, score, fingerprint = remembered
            if fingerprint != _fingerprint(measured.frame):
                raise OtherPicture(seq, captured_at)
        camera.stored |= decision.keep
        return DecidedFrame(
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
            resent=remembered is not None,
        )


def _fingerprint(frame: CheckedFrame) -> int:
    """A number that almost always differs between two pictures, of their lengths and of 3 KB of each."""
    data, size = frame.image, len(frame.image)
    middle = size // 2
    return hash((size, data[:1024], data[middle : middle + 1024], data[-1024:]))


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
    """Warn at a camera's first frame if only the upper 8 bits of its pixels are used."""
    if frame.info is not None and frame.info.bit_depth > 8:
        log.warning(
            "camera sends more than 8 bits, of which the upper 8 are used: have the sender stretch the range "
            "that matters to 8 bits camera=%s bits=%d channels=%d",
            camera,
            frame.info.bit_depth,
            frame.info.channels,
        )


#: The decision on a frame that is too small, which does not count in its camera's stream.
_SIGN_OF_LIFE = Decision(
    outcome="dropped",
    scale=1.0,
    weight=1.0,
    quantile=0.0,
    condition="",
    reason=f"dropped: a side has less than {SMALLEST_SIDE} pixels, so it is neither stored nor segmented",
)


@dataclass(frozen=True)
class Encoded:
    """The sample that the store gets for a frame that is kept, and its pixels if it was made smaller."""

    sample: NewSample
    pixels: NDArray[np.uint8] | None = None


def new_sample(decided: DecidedFrame) -> Encoded:
    """Encode a frame that is kept.

    Raises:
        WireError: The image cannot be decoded or encoded.
    """
    frame, decision, label = decided.frame, decided.decision, decided.label
    image = encode_for_store(frame, decision.scale)
    sample = NewSample(
        id=decided.id,
        camera=decided.camera,
        seq=decided.seq,
        captured_at=decided.captured_at,
        received_at=decided.arrived_at,
        data=image.data,
        format=image.format,
        width=image.width,
        height=image.height,
        native_width=frame.width,
        native_height=frame.height,
        score=decided.score,
        quantile=decision.quantile,
        scale=decision.scale,
        weight=decision.weight,
        reason=decided.reason,
        label=label.png if label else None,
        label_source="frame" if label else None,
        classes=label.classes if label else None,
        received_digest=None if image.data is frame.image else image_digest(frame.image),
        signature=decided.signature,
    )
    return Encoded(sample, image.pixels)


def _figures(measured: Measured, condition: str) -> FrameFigures:
    label = measured.frame.label
    return FrameFigures(
        score=measured.score,
        scored_by=measured.scored_by,
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


def pending_frame(
    decided: DecidedFrame, received: float, pixels: NDArray[np.uint8] | None = None
) -> PendingFrame:
    """The frame as inference gets it.

    Args:
        decided: The frame and the decision on it.
        received: Monotonic seconds.
        pixels: BGR at the decision's scale, if they are at hand.
    """
    frame, scale = decided.frame, decided.decision.scale
    if pixels is None and frame.colour is not None and frame.reduce * scale <= 1:
        pixels = frame.colour
    return PendingFrame(
        id=decided.id,
        camera=decided.camera,
        seq=decided.seq,
        captured_at=decided.captured_at,
        received=received,
        data=frame.image,
        info=frame.info,
        raw_shape=(frame.height, frame.width, 3) if frame.info is None else None,
        scale=scale,
        pixels=pixels,
        grey=frame.grey,
        label=decided.label.png if decided.label else None,
        score=decided.score,
    )


def judged(decided: DecidedFrame) -> Judged:
    """The decision on a frame, for people who watch."""
    return Judged(
        id=decided.id,
        kept=decided.decision.keep,
        score=decided.score,
        scale=decided.decision.scale,
        reason=decided.reason,
    )


def _is_too_small(frame: CheckedFrame) -> bool:
    return min(frame.height, frame.width) < SMALLEST_SIDE
