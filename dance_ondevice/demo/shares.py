"""How the demonstration shares out its time, so that a busy machine shows less instead of nothing."""

from __future__ import annotations

#: Passes over the frames that the first model is pretrained with, and the fewest on a busy machine.
EPOCHS, _FEWEST_EPOCHS = 12, 3
#: Share of the time that may have gone when pretraining ends, and when it is cut short because the machine
#: became busier than it was.
_BEFORE, _CUT = 0.4, 0.5
#: Seconds set aside for evaluation and report: at least so many, and on a busy machine a share of what all
#: before the stream took, which is work of the same kind.
_RESERVE, _RESERVE_SHARE = 30.0, 0.5
#: The share that the stream gets in any case, also where more than all of it is used then.
_STREAM = 0.3


def epochs(*, epoch_seconds: float, elapsed: float, max_seconds: float) -> int:
    """Epochs of pretraining that there is time for.

    Args:
        epoch_seconds: that one takes here and now.
        elapsed: seconds since the beginning.
        max_seconds: of the whole demonstration.
    """
    left = _BEFORE * max_seconds - elapsed
    return max(_FEWEST_EPOCHS, min(EPOCHS, int(left / max(epoch_seconds, 1e-3))))


def pretraining_is_over(elapsed: float, max_seconds: float) -> bool:
    """Whether pretraining has to end where it is."""
    return elapsed >= _CUT * max_seconds


def stream_seconds(*, elapsed: float, max_seconds: float) -> float:
    """Seconds to stream for, at most."""
    reserve = max(_RESERVE, _RESERVE_SHARE * elapsed)
    return max(_STREAM * max_seconds, max_seconds - elapsed - reserve)
