"""The result of ``bench ingest``."""

from __future__ import annotations

from dataclasses import dataclass

#: Lowest rate of the daemon, as a share of that of a loop that only receives and decodes grey.
TARGET_RATIO = 0.7
#: Longest time from sending a frame to its answer: 99th percentile in ms, four cameras at 30 frames a second.
TARGET_ACK_MS = 50.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits of the board, measured in the same run.

    Attributes:
        decode_grey_us: Median time of a frame's grey decode, reduced as the daemon reduces it, microseconds.
        decode_colour_us: Median time of the same frame's colour decode at full size, microseconds.
        zmq_messages_per_second: Frames received over loopback TCP when nothing is done with them.
        fsync_ms: Median time to write and flush one file of a frame's size in the state folder, milliseconds.
        conv_gflops: Speed of a 3x3 convolution of 64 channels on one thread, 10^9 operations a second with 2
            operations a multiply-accumulate; None without torch.
    """

    decode_grey_us: float
    decode_colour_us: float
    zmq_messages_per_second: float
    fsync_ms: float
    conv_gflops: float | None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One measured stream of frames, and how the daemon answered them.

    Attributes:
        cameras: Number of senders, each on a socket of its own.
        offered_per_second: Frames a second of all cameras together; None where only the window limits them.
        seconds: Time from the first frame to the last answer.
        rate: Frames answered a second.
        ack_ms: Milliseconds from handing a frame to ZMQ to its answer, by percentile ("50", "99", "100").
        daemon_cpu_us: CPU microseconds of the daemon's threads for each frame.
        round_share: Share of the time in which a training round ran; None where no round was started.
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
        frame_bytes: Mean size of a frame as JPEG.
        window: Frames of one sender that may wait for an answer at a time.
        baseline_rate: Frames a second of the loop that only receives and decodes grey.
        ratio: Rate of the stretch "full speed" divided by ``baseline_rate``.
        stretches: Full speed first; then nearly all dropped, the loads, and the four cameras.
        limits: Upper limits of the board.
        disk: Type of the file system of the state folder, such as "ext4".
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
