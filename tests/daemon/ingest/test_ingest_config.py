from __future__ import annotations

import dataclasses

import msgspec

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest import ingest_config


def test_every_setting_of_the_section_reaches_ingest() -> None:
    section = sections.Ingest(
        bind=("tcp://127.0.0.1:1",),
        subscribe=("tcp://127.0.0.1:2",),
        max_message_bytes=1025,
        max_pixels=3,
        queue_frames=4,
        max_cameras=5,
        max_header_bytes=257,
    )
    settings = dataclasses.asdict(ingest_config.settings(section))
    shared = settings.keys() & msgspec.structs.asdict(section).keys()
    assert len(shared) >= 7
    assert {name: settings[name] for name in shared} == {name: getattr(section, name) for name in shared}


def test_every_rule_of_the_section_holds_unless_slimming_is_off() -> None:
    section = sections.DataSlimming(
        scales=(1.0, 0.4), drop_fraction=0.1, loss_weighting=False, warmup_frames=3, window_frames=9
    )
    rules = ingest_config.rules(section)
    assert (rules.scales, rules.drop_fraction, rules.loss_weighting) == ((1.0, 0.4), 0.1, False)
    assert (rules.warmup_frames, rules.window_frames) == (3, 9)
    off = ingest_config.rules(msgspec.structs.replace(section, enabled=False))
    assert (off.scales, off.drop_fraction, off.loss_weighting) == ((1.0,), 0.0, False)
