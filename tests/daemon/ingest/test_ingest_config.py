from __future__ import annotations

import msgspec

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest import ingest_config


def test_every_rule_of_the_section_holds_unless_slimming_is_off() -> None:
    section = sections.DataSlimming(
        scales=(1.0, 0.4), drop_fraction=0.1, loss_weighting=False, warmup_frames=3, window_frames=9
    )
    rules = ingest_config.rules(section)
    assert (rules.scales, rules.drop_fraction, rules.loss_weighting) == ((1.0, 0.4), 0.1, False)
    assert (rules.warmup_frames, rules.window_frames) == (3, 9)
    off = ingest_config.rules(msgspec.structs.replace(section, enabled=False))
    assert (off.scales, off.drop_fraction, off.loss_weighting) == ((1.0,), 0.0, False)
