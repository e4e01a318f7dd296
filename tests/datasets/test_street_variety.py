"""Varied streets: every scene another one, all of them a function of the seed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from dance_ondevice.datasets import street_variety
from dance_ondevice.datasets.street import CONDITIONS, Mount, StreetCamera
from dance_ondevice.datasets.street_world import Layout
from dance_ondevice.images.labels import STREET_CLASSES

SIZE = (48, 64)


def frames(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(street_variety.frames(count, seed=seed, size=SIZE))


def test_frames_are_a_function_of_the_seed() -> None:
    first, again, other = frames(3, 1), frames(3, 1), frames(3, 2)

    for (image, label), (same, same_label), (different, _) in zip(first, again, other, strict=True):
        assert image.shape == (*SIZE, 3)
        assert label.shape == SIZE
        assert np.array_equal(image, same)
        assert np.array_equal(label, same_label)
        assert not np.array_equal(image, different)
        assert label.max() < len(STREET_CLASSES)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    long = islice(street_variety.frames(10_000, seed=1, size=SIZE), 3)

    assert all(np.array_equal(a[0], b[0]) for a, b in zip(long, frames(3, 1), strict=True))


@pytest.mark.slow
def test_scenes_differ_in_light_and_colour_and_show_every_class() -> None:
    found = frames(6 * street_variety.PER_SCENE, 0)
    scenes = [found[i : i + street_variety.PER_SCENE] for i in range(0, len(found), street_variety.PER_SCENE)]
    brightness = [np.mean([image.mean() for image, _ in scene]) for scene in scenes]

    assert len(scenes) == 6
    assert max(brightness) - min(brightness) > 30
    assert set(np.unique([label for _, label in found])) == set(range(len(STREET_CLASSES)))


def test_what_is_drawn_is_within_reason() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        light, mount, layout = (
            street_variety.draw_light(rng),
            street_variety.draw_mount(rng),
            street_variety.draw_layout(rng),
        )

        assert light.sight > 10
        assert light.noise >= 0
        assert 0 <= light.lamps <= 1
        assert 0.3 <= mount.horizon <= 0.56
        assert layout.breadth > 0.5


def test_mount_and_layout_change_what_is_seen() -> None:
    usual = StreetCamera(seed=1, height=48, width=64)
    high = StreetCamera(seed=1, height=48, width=64, mount=Mount(y=2.5, horizon=0.3))
    broad = StreetCamera(seed=1, height=48, width=64, layout=Layout(breadth=1.4))
    empty = StreetCamera(seed=1, height=48, width=64, layout=Layout(traffic=0.0))
    road, bicyclist = STREET_CLASSES.index("road"), STREET_CLASSES.index("bicyclist")
    labels = {
        name: np.stack([camera.render(index * 20, CONDITIONS[0])[1] for index in range(12)])
        for name, camera in (("usual", usual), ("high", high), ("broad", broad), ("empty", empty))
    }

    assert (labels["broad"] == road).mean() > (labels["usual"] == road).mean()
    assert (labels["high"] == road).mean() > (labels["usual"] == road).mean()
    assert (labels["usual"] == bicyclist).any()
    assert not (labels["empty"] == bicyclist).any()
