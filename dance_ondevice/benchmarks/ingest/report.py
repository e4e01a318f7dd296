"""The result of ``bench ingest``."""

from __future__ import annotations

from dataclasses import dataclass

#: Of the rate of a loop that only receives and decodes grey.
TARGET_RATIO = 0.7
#: Milliseconds, 99th percentile from sending a frame to its ack, four cameras at 30 frames a second.
TARGET_ACK_MS = 50.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the board can do at best, measured in the same run.

    Attributes:
        decode_grey_us: of one of the frames, reduced as the daemon reduces it.
        decode_colour_us: of the same frame, whole.
        zmq_messages_per_second: frames received over loopback TCP with nothing done to them.
        fsync_ms: to write and flush one file of a frame's size where the state folder lies.
        conv_gflops: 3x3 convolution of 64 channels, one thread, 2 operations a multiply-accumulate; None
            without torch.
    """

    decode_grey_us: float
    decode_colour_us: float
    zmq_messages_per_second: float
    fsync_ms: float
    conv_gflops: float | None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stream of frames and what became of it.

    Attributes:
        cameras: senders, each on a socket of its own.
        offered_per_second: frames a second and all cameras; None where the window alone held them back.
        seconds: from the first frame to the last answer.
        rate: frames answered a second.
        ack_ms: by percentile ("50", "99", "100"), from handing a frame to ZMQ to its answer.
        daemon_cpu_us: CPU time of the daemon for a frame, all of its threads.
        round_share: share of the time in which a round ran; None where none was asked for.
    """

    name: str
    cameras: int
    offered_per_second: float | None
    sent: int
    kept: int
    dropped: int
    refused: int
    overflow: int
    seconds: float
    rate: float
    ack_ms: dict[str, float]
    daemon_cpu_us: float
    round_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """Everything that was measured.

    Attributes:
        frame: (height, width) of the frames.
        frame_bytes: mean size of a frame as JPEG.
        window: answers that a sender lets be outstanding.
        baseline_rate: frames a second of the loop that only receives and decodes grey.
        ratio: of the rate of the stretch "full speed" to that.
        stretches: full speed first; then nearly all dropped, the loads, and the four cameras.
        limits: of the board.
        disk: kind of the file system that the state folder lies on.
    """

    frame: tuple[int, int]
    frame_bytes: int
    window: int
    scales: tuple[float, ...]
    baseline_rate: float
    ratio: float
    on_target: bool
    stretches: list[Stretch]
    limits: Limits
    disk: str

    @property
    def with_round(self) -> bool:
        """Whether a round ran beside the four cameras."""
        return any(stretch.round_share is not None for stretch in self.stretches)
