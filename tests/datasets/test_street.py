from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.complexity import make_indicator
from dance_ondevice.datasets.street import CONDITIONS, StreetCamera, day_frames
from dance_ondevice.images.labels import STREET_CLASSES, check_label

SIZE = (96, 128)


@pytest.fixture(scope="module")
def camera() -> StreetCamera:
    return StreetCamera(0, *SIZE)


def luma(bgr: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_frame_depends_on_nothing_but_its_number(camera: StreetCamera, condition: str) -> None:
    camera.render(500, "rain")
    bgr, label = camera.render(40, condition)
    again_bgr, again_label = StreetCamera(0, *SIZE).render(40, condition)
    assert np.array_equal(bgr, again_bgr)
    assert np.array_equal(label, again_label)


def test_frames_are_their_callers_own(camera: StreetCamera) -> None:
    bgr, label = camera.render(7)
    kept = bgr.copy(), label.copy()
    bgr[:], label[:] = 0, 0
    again = camera.render(7)
    assert np.array_equal(again[0], kept[0])
    assert np.array_equal(again[1], kept[1])


def test_numpys_global_generator_is_left_alone(camera: StreetCamera) -> None:
    before = np.random.get_state()[1].tolist()
    camera.render(3)
    StreetCamera(1, *SIZE).render(3)
    assert np.random.get_state()[1].tolist() == before


def test_seeds_make_other_streets() -> None:
    labels = [StreetCamera(seed, *SIZE).render(10)[1] for seed in (0, 1, -1)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(labels[a] != labels[b]) > 0.05


@settings(max_examples=5)
@given(st.integers(48, 150), st.integers(64, 170), st.integers(-2000, 2000), st.sampled_from(CONDITIONS))
def test_any_size_from_64x48(height: int, width: int, index: int, condition: str) -> None:
    bgr, label = StreetCamera(2, height, width).render(index, condition)
    assert bgr.shape == (height, width, 3)
    assert label.shape == (height, width)
    assert bgr.dtype == label.dtype == np.uint8
    check_label(label, len(STREET_CLASSES))
    assert label.max() < len(STREET_CLASSES)
    # Of the street only a crowd close by could hide these.
    assert {"sky", "road"} <= {STREET_CLASSES[i] for i in np.unique(label)}


@pytest.mark.parametrize("size", [(47, 64), (48, 63)])
def test_smaller_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="too small, at least 64x48"):
        StreetCamera(0, *size)


def test_unknown_conditions_are_refused(camera: StreetCamera) -> None:
    with pytest.raises(ValueError, match=r"'snow'; choose one of day, dusk, rain, night"):
        camera.render(0, "snow")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_every_class_is_seen_within_any_60_frames(seed: int) -> None:
    camera, step = StreetCamera(seed, 144, 192), 4
    counts = [np.bincount(camera.render(i)[1].ravel(), minlength=11) for i in range(0, 480, step)]
    seen = np.array(counts) >= 6
    for start in range(len(seen) - 60 // step):
        window = seen[start : start + 60 // step].any(axis=0)
        assert window.all(), [STREET_CLASSES[i] for i in np.flatnonzero(~window)]


@pytest.mark.parametrize("index", [0, 123, 1000])
def test_conditions_share_the_labels(camera: StreetCamera, index: int) -> None:
    day = camera.render(index, "day")[1]
    for condition in CONDITIONS[1:]:
        assert np.array_equal(camera.render(index, condition)[1], day)


def test_conditions_look_different(camera: StreetCamera) -> None:
    shots = {condition: camera.render(60, condition)[0].astype(float) for condition in CONDITIONS}
    for a in CONDITIONS:
        for b in CONDITIONS:
            assert a == b or np.abs(shots[a] - shots[b]).mean() > 20, (a, b)
    brightness = {condition: shot.mean() for condition, shot in shots.items()}
    assert brightness["night"] < brightness["dusk"] < min(brightness["rain"], brightness["day"])
    contrast = {condition: luma(shot.astype(np.uint8)).std() for condition, shot in shots.items()}
    assert max(contrast["dusk"], contrast["rain"]) < 0.7 * contrast["day"]
    colour = {condition: np.ptp(shot, axis=2).mean() for condition, shot in shots.items()}
    assert colour["rain"] < 0.5 * min(colour["day"], colour["dusk"])


@pytest.mark.parametrize("condition", CONDITIONS)
def test_classes_can_be_told_apart_in_every_condition(camera: StreetCamera, condition: str) -> None:
    """The mean colours of large neighbouring classes differ by more than noise would make them."""
    bgr, label = camera.render(80, condition)
    sky, building, road = (
        bgr[label == STREET_CLASSES.index(name)].mean(axis=0) for name in ("sky", "building", "road")
    )
    assert np.abs(sky - building).max() > 8
    assert np.abs(building - road).max() > 4


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_scene_moves_a_little_from_frame_to_frame(camera: StreetCamera, condition: str) -> None:
    previous = camera.render(200, condition)
    for index in range(201, 211):
        current = camera.render(index, condition)
        changed = np.mean(current[1] != previous[1])
        assert 0.001 < changed < 0.15
        assert not np.array_equal(current[0], previous[0])
        previous = current
    far = camera.render(400, condition)
    assert np.mean(far[1] != previous[1]) > 0.15


@pytest.mark.parametrize("condition", ["day", "dusk", "rain"])
def test_edges_of_image_and_label_coincide(condition: str) -> None:
    """Where labels change the picture changes more than some pixels beside those places."""
    camera = StreetCamera(4, 144, 192)
    at_edges, beside = [], []
    for index in range(0, 300, 60):
        bgr, label = camera.render(index, condition)
        steps = np.abs(np.diff(luma(bgr).astype(int), axis=1))
        edges = np.diff(label.astype(int), axis=1) != 0
        at_edges.append(steps[edges].mean())
        beside.append(max(steps[np.roll(edges, shift, axis=1)].mean() for shift in (-6, -4, 4, 6)))
    assert np.mean(at_edges) > 1.4 * np.mean(beside)


def test_complexity_rises_and_falls_along_the_street(camera: StreetCamera) -> None:
    indicator = make_indicator("detail_loss", (1.0, 0.5))
    scores = [indicator.measure(luma(camera.render(index)[0])).score for index in range(0, 800, 20)]
    assert max(scores) > 1.5 * min(scores)
    sky = [np.mean(camera.render(index)[1] == 0) for index in range(0, 800, 20)]
    assert max(sky) > 1.5 * min(sky)


def test_lamps_are_lit_at_dusk_and_not_by_day(camera: StreetCamera) -> None:
    """Some pixel of a car is brighter at dusk than by day although the scene is darker."""
    brighter = 0
    for index in range(0, 200, 20):
        day, label = camera.render(index, "day")
        dusk, _ = camera.render(index, "dusk")
        cars = label == STREET_CLASSES.index("car")
        brighter += np.count_nonzero(dusk[cars][:, 2].astype(int) - day[cars][:, 2] > 40)
    assert brighter > 20


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (96, 128)])
def test_frames_by_day_have_any_size(size: tuple[int, int]) -> None:
    first, second = day_frames(size, [0, 40])

    assert first.shape == second.shape == (*size, 3)
    assert first.dtype == np.uint8
    assert np.any(first != second)
