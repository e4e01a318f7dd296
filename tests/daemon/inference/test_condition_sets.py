"""The trial of a condition's own statistics, frame by frame: what decides, and what serves meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from estimating import estimating, shapes_of
from test_condition_serving import CARD, DUSK, SIZE, small

from dance_ondevice.conditions import statistics
from dance_ondevice.conditions.arrays import ConditionArrays, decode, encode, own_statistics
from dance_ondevice.conditions.store import as_arrays
from dance_ondevice.daemon.inference.condition_sets import ConditionSets
from dance_ondevice.images import codec as images
from dance_ondevice.images.masks import Prediction
from dance_ondevice.runtime.torch_server import TorchServer

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


@pytest.mark.parametrize("every", [1, 4])
def test_labels_decide_a_probation_where_there_are_some(every: int) -> None:
    model = small()
    sets = ConditionSets(
        TorchServer(model, CARD.normalisation, size=SIZE),
        shapes_of(model),
        len(CARD.classes),
        estimate=estimating(model),
        probation_every=every,
    )
    assert sets.work(["c1"], lambda _: [images.encode_png(image) for image in DUSK[:8]])
    assert sets.statuses() == {"c1": "probation"}
    wrong = np.zeros(SIZE, np.uint8)
    trials = 0
    for image in DUSK[:8]:
        # What the old statistics say is right, so the new ones can only be worse.
        label = predict_with_own(sets, image)
        served = sets.predict(image, "c1", "base", out_size=SIZE, label=label)
        wrong += served.prediction.mask != label
        trials += served.trial
    assert wrong.any()
    assert sets.statuses()["c1"] == "refused"
    assert trials == 8 // every, "what is on probation serves no more frames than it may"


@pytest.mark.parametrize("readable", [True, False])
def test_a_light_that_the_base_suits_best_takes_the_base_and_not_what_another_light_learnt(
    tmp_path: Path, *, readable: bool
) -> None:
    model = small()
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    sets = ConditionSets(
        TorchServer(model, CARD.normalisation, size=SIZE),
        shapes_of(model),
        len(CARD.classes),
        estimate=estimating(model),
        own=lambda: own_statistics(tmp_path),
        probation_every=1,
    )
    taught = ConditionArrays(learnt={"last.weight": -model.last.weight.detach().numpy()})
    sets.restore({"c1": taught}, ())
    assert sets.work(["c2"], lambda _: [images.encode_png(image) for image in DUSK[:8]])
    if not readable:
        (tmp_path / "model.safetensors").write_bytes(b"damaged")
    for image in DUSK[:8]:
        label = predict_with_own(sets, image)
        sets.predict(image, "c2", "c1", out_size=SIZE, label=label)
    assert sets.statuses()["c2"] == ("live" if readable else "refused")
    if readable:
        served = sets.predict(DUSK[9], "c2", "c1", out_size=SIZE, label=None)
        assert served.used == "c2"
        assert np.array_equal(served.prediction.mask, predict_with_own(sets, DUSK[9]))
        # It is on disk like any other, so that it holds after a restart and a round may teach it.
        kept, _ = decode(encode(sets.judged()[0]), "conditions")
        assert set(kept["c2"].layers) == {"norm"}


@pytest.mark.parametrize("finite", [True, False])
def test_a_base_that_is_no_better_takes_nothing_from_a_light(*, finite: bool) -> None:
    """Neither where the parent got its own statistics during the trial, nor where the base fails."""
    model = small()
    server = TorchServer(model, CARD.normalisation, size=SIZE)
    usual, estimated = server.predict, own_of(model)

    def predict(
        image: np.ndarray, name: str, condition: ConditionArrays | None, out_size: Sequence[int]
    ) -> Prediction:
        found = usual(image, name, condition, out_size)
        return found if finite or name != "base" else replace(found, mean_confidence=np.nan)

    server.predict = predict  # type: ignore[method-assign]  # the server as it is, but for one answer
    found: Future[ConditionArrays] = Future()
    found.set_result(estimated)
    sets = ConditionSets(
        server,
        shapes_of(model),
        len(CARD.classes),
        estimate=lambda _: found,
        own=lambda: pytest.fail("the base is no better than what was estimated, which is the same"),
    )
    taught = {"c1": ConditionArrays(learnt={"last.weight": -model.last.weight.detach().numpy()})}
    assert sets.work(["c2"], lambda _: [b""])
    if not finite:
        sets.restore(taught, ())
    for number, image in enumerate(DUSK[:8]):
        if number == 4:
            sets.restore(taught, ())
        label = usual(image, "base", None, SIZE).mask
        if number < 4:  # all are equally wrong
            label = (label + 1) % len(CARD.classes)
        sets.predict(image, "c2", "c1", out_size=SIZE, label=label.astype(np.uint8))
    assert sets.statuses()["c2"] == "live"


def own_of(model: torch.nn.Module) -> ConditionArrays:
    return as_arrays(statistics.capture(model))


def predict_with_own(sets: ConditionSets, image: np.ndarray) -> np.ndarray:
    return sets.predict(image, "base", "base", out_size=SIZE, label=None).prediction.mask
