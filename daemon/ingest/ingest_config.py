"""Limits, rules and admission from the ``[ingest]``, ``[data_slimming]`` and ``[security]`` sections."""

from __future__ import annotations

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.security.curve import ServerCurve
from dance_ondevice.policies.stream.data_slimming import SlimmingRules
from dance_ondevice.policies.stream.sender_limits import SenderLimits


def limits(ingest: sections.Ingest) -> SenderLimits:
    """The limits of one sender."""
    return SenderLimits(
        frames_per_second=ingest.max_frames_per_second,
        bytes_per_second=float(ingest.max_bytes_per_second),
    )


def rules(slimming: sections.DataSlimming) -> SlimmingRules:
    """The rules of the data-slimming policy; with slimming off, every frame is kept as it is."""
    if not slimming.enabled:
        return SlimmingRules(
            scales=(1.0,), drop_fraction=0.0, loss_weighting=False, warmup_frames=0, screen=False
        )
    return SlimmingRules(
        scales=slimming.scales,
        drop_fraction=slimming.drop_fraction,
        choice=slimming.choice,
        loss_weighting=slimming.loss_weighting,
        warmup_frames=slimming.warmup_frames,
        window_frames=slimming.window_frames,
        screen=slimming.screen,
    )


def admission(config: Config, keys: ServerCurve | None) -> Admission:
    """The admission of messages: the known senders and their limits."""
    return Admission(
        clients=keys.clients if keys else None,
        bind_cameras=config.security.bind_camera_names,
        limits=limits(config.ingest),
    )


def takes(config: Config) -> str:
    """Say which senders the listening sockets take: libzmq drops others without a word to either side."""
    keys = (
        "has a key that is admitted here and knows this service's (security.curve is on)"
        if config.security.curve
        else "uses no CURVE (security.curve is off)"
    )
    return (
        "nothing that it sends arrives: a sender is a REQ or DEALER socket at ingest.bind or a PUB socket "
        f"that connects at ingest.subscribe_bind, neither PUSH nor another program, and {keys}"
    )
