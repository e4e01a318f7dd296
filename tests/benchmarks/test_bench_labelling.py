"""``bench labelling``: a simulated person's taps, by the code of the console's page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from test_bench_base import SIZE, write

from dance_ondevice.benchmarks.labelling import streams
from dance_ondevice.benchmarks.labelling.command import _STREAMS
from dance_ondevice.benchmarks.labelling.page import lines
from dance_ondevice.benchmarks.labelling.person import Habits, correct
from dance_ondevice.benchmarks.labelling.report import LabellingReport
from dance_ondevice.benchmarks.labelling.taps import Taps, TapsError
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.labels import IGNORE, STREET_CLASSES
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import ModelCard

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
GREY: NDArray[np.uint8] = np.full((24, 32, 3), 127, np.uint8)


def halves(left: int, right: int) -> NDArray[np.uint8]:
    found = np.full((24, 32), left, np.uint8)
    found[:, 16:] = right
    return found


@needs_node
def test_each_tap_gives_the_largest_wrong_region_its_class_and_the_rest_stays_unknown() -> None:
    predicted, truth = halves(1, 2), halves(1, 3)
    truth[:4, :4] = 5  # a corner of the left half, which the model takes for the rest of it
    with Taps() as pieces:
        one = correct(pieces, GREY, predicted, truth, most=1, habits=Habits())
        many = correct(pieces, GREY, predicted, truth, most=9, habits=Habits())
        whole = correct(pieces, GREY, predicted, truth, most=9, habits=Habits(confirms=True))
    assert one.taps == 1
    np.testing.assert_array_equal(one.label, halves(IGNORE, 3))
    # The corner cannot be had without the half that is right: tapped, taken back, and left alone.
    assert many.taps == 3
    np.testing.assert_array_equal(many.label, halves(IGNORE, 3))
    assert whole.taps == 4
    np.testing.assert_array_equal(whole.label, halves(1, 3))


def test_without_node_it_says_what_to_install() -> None:
    with pytest.raises(TapsError, match="apt install nodejs"):
        Taps("no-such-node")


@needs_node
@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_one_seed")
def test_every_way_is_measured_once_with_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, count in (("train", 12), ("test", 3)):
        for number in range(count):
            write(tmp_path / "camvid", part, f"0001TP_{number:03d}", n_classes=11, seed=number)
    built = {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 16}
    card = ModelCard(
        version="small", architecture="fastscnn", arguments=built, classes=STREET_CLASSES, macs_at=SIZE
    )
    checkpoint.save(tmp_path / "base", registry.build("fastscnn", 11, built), card)
    command = [
        *("bench", "labelling", "--stream", "camvid-dusk", "--root", str(tmp_path / "camvid")),
        *("--base", str(tmp_path / "base"), "--seeds", "1", "--steps", "1", "--unlabelled", "0.5"),
        *("--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json"), "--json"),
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found["gain"]) == {"taps", "random", "labelled_frames"}
    assert set(found["gain"]["taps"]) == set(found["gain"]["random"]) == {"30", "100"}
    assert set(found["gain"]["labelled_frames"]) == {"10%"}
    assert (found["stream"], found["seed"]) == ("camvid-dusk", 0)
    report = as_body(read_result(tmp_path / "out.json"), LabellingReport)
    assert all(arm.taps <= 100 and 0 <= arm.right <= 1 for arm in report.arms)
    page = "\n".join(lines(report))
    assert "30 taps, of the gain of whole labels" in page

    # Finished rounds are not trained again.
    monkeypatch.setattr("dance_ondevice.benchmarks.labelling.run.Trainer", None)
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["arms"] == found["arms"]


def test_the_command_offers_every_stream() -> None:
    assert set(_STREAMS) == set(streams.STREAMS)


def test_no_frame_of_idd_teaches_and_judges(tmp_path: Path) -> None:
    for drive in range(7):
        for frame in range(3):
            write(tmp_path, "train", f"d{drive:03d}_{frame:06d}", n_classes=7, seed=drive)
    found = streams.open_stream("idd-drives", tmp_path)
    pool, tests = ({sample.image.stem[:4] for sample in some} for some in (found.pool, found.tests))
    assert (len(pool), len(tests)) == (4, 3)
    assert not pool & tests


def test_a_folder_of_another_kind_and_a_base_of_other_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = ["bench", "labelling", "--stream", "idd-drives", "--root"]
    assert CliRunner().invoke(main, [*command, str(tmp_path / "empty")]).exit_code == 2
    for drive in range(4):
        write(tmp_path, "train", f"d{drive:03d}_000001", n_classes=7, seed=drive)
    refused = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert refused.exit_code == 1
    assert "--class-map" in refused.stderr
