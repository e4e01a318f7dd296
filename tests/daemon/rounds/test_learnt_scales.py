"""A round learns what its candidate loses on smaller images, and ingest scores frames by that."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.complexity import LEARNT, make_indicator
from dance_ondevice.daemon.config.sections import Complexity
from dance_ondevice.daemon.ingest.cameras import Cameras
from dance_ondevice.daemon.ingest.decision import FrameDecider
from dance_ondevice.daemon.ingest.learnt_indicator import served_by
from dance_ondevice.daemon.planning.scale_samples import scale_fit
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire.messages import FrameMessage
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg
from dance_ondevice.learnt_loss import LossWeights
from dance_ondevice.policies.stream.data_slimming import SlimmingRules

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_models_at_hand", "many_steps")]
LEARNING = msgspec.structs.replace(CONFIG, complexity=Complexity(indicator=LEARNT))


def test_a_round_fits_the_scales_and_ingest_uses_the_fit(
    paths: StatePaths, store: Store, add_street: Callable[..., list[str]]
) -> None:
    for start in (0, 20_000, 40_000, 60_000):
        add_street(store, 12, start=start)
    small = add_street(store, 1, start=80_000)[0]
    store.submit(lambda db: db.execute("update samples set scale = 0.5 where id = ?", [small])).result()
    rig = Rig(paths, store, LEARNING)

    asked = store.submit(lambda db: scale_fit(db, LEARNING, paths.root)).result()
    assert asked is not None
    assert small not in {sample.id for sample in asked.samples}
    assert (len(asked.samples), asked.scales) == (48, (0.5, 0.75))
    assert len(set(asked.groups)) >= 4
    assert store.submit(lambda db: scale_fit(db, CONFIG, paths.root)).result() is None

    outcome = rig.round()
    assert outcome.outcome == "promoted", outcome.reasons
    live = rig.versions.live()
    assert live is not None
    fit = msgspec.convert(live.card["scale_loss"], LossWeights)
    assert (fit.frames, fit.origin, fit.scales) == (48, outcome.round, (0.5, 0.75))
    assert fit.agreement is not None

    indicator = served_by(LEARNT, make_indicator(LEARNT, (0.5,)), rig.versions.live)
    decider = FrameDecider(
        indicator=indicator, rules=SlimmingRules(), n_classes=11, max_pixels=10**6, cameras=Cameras(1)
    )
    for agreement, scored_by in ((0.9, outcome.round), (0.0, "")):
        told = {**live.card["scale_loss"], "agreement": agreement}
        rig.versions.annotate(live.pointer.version, {"scale_loss": told})
        assert decider.measure(frame()).scored_by == scored_by


def frame() -> FrameMessage:
    image, _ = StreetCamera(seed=2, height=48, width=64).render(7, "day")
    return FrameMessage(
        camera="front",
        seq=1,
        captured_at=1.0,
        encoding="jpeg",
        shape=None,
        image=memoryview(encode_jpeg(image)),
        label=None,
    )
