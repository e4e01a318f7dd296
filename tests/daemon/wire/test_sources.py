"""Folders, videos, cameras and the synthetic street as sources of frames."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from ingest_harness import jpeg, label, picture

from dance_ondevice.daemon.wire.capture import Silence, SourceSilent
from dance_ondevice.daemon.wire.sources import SourceError, iter_frames
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images whose names sort otherwise as text than as numbers, labels for three, and other files."""
    frames, annotations = tmp_path / "train", tmp_path / "trainannot"
    frames.mkdir()
    annotations.mkdir()
    for number in (2, 10, 1):
        (frames / f"seq1_{number}.jpg").write_bytes(jpeg(number))
        (annotations / f"seq1_{number}.png").write_bytes(label(classes=(0, 11)))
    (frames / "seq2_1.PNG").write_bytes(images.encode_png(picture(20)))
    (frames / "notes.txt").write_text("no image")
    return tmp_path


def test_folder_in_natural_order_as_the_files_are(folder: Path) -> None:
    source = iter_frames(str(folder / "train"))

    frames = list(source)

    assert [frame.name for frame in frames] == ["seq1_1.jpg", "seq1_2.jpg", "seq1_10.jpg", "seq2_1.PNG"]
    assert [frame.image for frame in frames[:3]] == [jpeg(1), jpeg(2), jpeg(10)]
    assert [frame.encoding for frame in frames] == ["jpeg", "jpeg", "jpeg", "png"]
    assert {frame.label for frame in frames} == {None}
    assert (source.count, source.live, source.fps) == (4, False, None)


def test_match_chooses_by_name(folder: Path) -> None:
    source = iter_frames(str(folder / "train"), match="seq2")

    assert [frame.name for frame in source] == ["seq2_1.PNG"]
    assert source.count == 1


def test_labels_by_name_where_there_is_one_and_it_is_wanted(folder: Path) -> None:
    source = iter_frames(
        str(folder / "train"), labels=folder / "trainannot", void=(), wants_label=lambda index: index != 1
    )

    assert [frame.label is not None for frame in source] == [True, False, True, False]


@pytest.mark.parametrize(
    ("name", "void", "expected"),
    [
        ("trainannot", None, {0, 255}),
        ("trainannot", (), {0, 11}),
        ("masks", None, {0, 11}),
        ("masks", (0, 7), {11, 255}),
    ],
)
def test_void_ids_become_ignore(
    folder: Path, name: str, void: tuple[int, ...] | None, expected: set[int]
) -> None:
    labels = (folder / "trainannot").rename(folder / name)

    first = next(iter(iter_frames(str(folder / "train"), labels=labels, void=void)))

    assert first.label is not None
    assert set(np.unique(images.decode_label(first.label)).tolist()) == expected


def test_label_without_void_ids_and_unreadable_label_are_sent_as_they_are(folder: Path) -> None:
    annotations = folder / "trainannot"
    (annotations / "seq1_1.png").write_bytes(label(classes=(0, 3)))
    (annotations / "seq1_2.png").write_bytes(b"no label")

    frames = list(iter_frames(str(folder / "train"), labels=annotations, match="seq1"))

    assert [frame.label for frame in frames[:2]] == [label(classes=(0, 3)), b"no label"]


def test_one_image_is_a_source(folder: Path) -> None:
    (frame,) = iter_frames(str(folder / "train" / "seq1_2.jpg"))

    assert (frame.name, frame.image) == ("seq1_2.jpg", jpeg(2))


def test_folder_that_gives_nothing_says_why(folder: Path, tmp_path: Path) -> None:
    train = str(folder / "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no images \(\.jpg"):
        iter_frames(str(tmp_path / "empty"))
    with pytest.raises(SourceError, match=r"none of the 4 images .* 'seq9'"):
        iter_frames(train, match="seq9")
    with pytest.raises(SourceError, match="not a folder of labels"):
        iter_frames(train, labels=tmp_path / "missing")
    with pytest.raises(SourceError, match=r"no label .* such as seq1_1\.png"):
        iter_frames(train, labels=tmp_path / "empty")


@pytest.mark.parametrize("spec", ["nowhere", "/dev/null/nowhere.mp4", "synthetic:ocean"])
def test_source_that_is_not_there(spec: str) -> None:
    with pytest.raises(SourceError, match="is not there"):
        iter_frames(spec)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    assert writer.isOpened()
    for number in range(5):
        writer.write(picture(number))
    writer.release()
    return path


def test_video(video: Path) -> None:
    source = iter_frames(str(video))

    frames = list(source)

    assert (source.count, source.fps, source.live) == (5, 12.5, False)
    assert [frame.at for frame in frames] == pytest.approx([0.0, 0.08, 0.16, 0.24, 0.32])
    for number, frame in enumerate(frames):
        decoded = images.decode_colour(frame.image).astype(int)
        assert np.abs(decoded - picture(number)).mean() < 8
        assert (frame.encoding, frame.label) == ("jpeg", None)


def test_video_of_variable_rate_has_its_mean_rate(tmp_path: Path) -> None:
    """OpenCV gives the finest step of its clock as the rate: its frames would be dated into the future."""
    times = [0.0, 0.04, 1.0, 3.5, 4.0]
    path, step = str(tmp_path / "phone.mov"), 1000
    writer, raw = cv2.VideoWriter(), [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    assert writer.open(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), step, (64, 48), raw)
    for number, at in enumerate(times):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, round(at * step))
        writer.write(cv2.imencode(".jpg", picture(number))[1].reshape(1, -1))
    writer.release()

    source = iter_frames(path)

    assert source.count == len(times)
    assert source.fps == pytest.approx(len(times) / times[-1], rel=0.01)
    assert [frame.at for frame in source] == pytest.approx(times, abs=0.002)


def test_labels_and_match_go_with_folders_only(video: Path, tmp_path: Path) -> None:
    for options in ({"labels": tmp_path}, {"match": "x"}):
        with pytest.raises(SourceError, match="folder of images"):
            iter_frames(str(video), **options)


def test_file_that_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no video")
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        iter_frames(str(path))


class FakeCamera:
    """A camera that gives three frames and is then unplugged."""

    def __init__(self, frames: int = 3, opened: bool = True) -> None:
        self.left = frames
        self.opened = opened
        self.released = False

    def isOpened(self) -> bool:
        return self.opened

    def get(self, property_id: int, /) -> float:
        return {cv2.CAP_PROP_FPS: 30.0}.get(property_id, -1.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, picture(self.left)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize(
    ("spec", "opened"), [("/dev/video3", 3), ("rtsp://10.0.0.9/stream", "rtsp://10.0.0.9/stream")]
)
def test_camera_is_live(spec: str, opened: str | int) -> None:
    camera = FakeCamera()
    asked: list[str | int] = []

    def open_capture(where: str | int) -> FakeCamera:
        asked.append(where)
        return camera

    source = iter_frames(spec, open_capture=open_capture, silence=Silence(reconnect=0))

    assert asked == [opened]
    assert (source.live, source.count, source.fps) == (True, None, 30.0)
    frames = []
    with pytest.raises(SourceSilent, match="the source sent nothing for 0 s"):
        frames.extend(source)
    assert camera.released


def test_a_camera_by_its_own_name_is_followed_to_another_number(tmp_path: Path) -> None:
    """/dev/videoN is given out in the order of finding; /dev/v4l/by-id says which camera is meant."""
    link, clock, asked = tmp_path / "usb-Acme_Cam_42-video-index0", Clock(), []
    link.symlink_to("/dev/video7")

    def open_capture(where: str | int) -> FakeCamera:
        asked.append(where)
        link.unlink(missing_ok=True)  # unplugged once its frames are read
        return FakeCamera(1)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now == 3.0:  # plugged in again
            link.symlink_to("/dev/video2")

    silence = Silence(timeout=5, reconnect=5, monotonic=lambda: clock.now, sleep=sleep)
    source = iter_frames(str(link), open_capture=open_capture, silence=silence)
    assert source.live
    frames = []
    with pytest.raises(SourceSilent):
        frames.extend(source)
    assert (asked, len(frames)) == ([7, 2], 2)


class Clock:
    """Time that passes where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_camera_that_falls_silent_is_opened_again(tmp_path: Path) -> None:
    clock, said = Clock(), []
    silence = Silence(
        timeout=10, reconnect=20, say=said.append, monotonic=lambda: clock.now, sleep=clock.sleep
    )
    # Unplugged, away for three tries, back, open without a frame, back, away for good.
    cameras = [FakeCamera(), *(FakeCamera(opened=False) for _ in range(3)), FakeCamera(2)]
    cameras += [FakeCamera(0), FakeCamera(1), *(FakeCamera(opened=False) for _ in range(100))]
    opened = iter(cameras)
    source = iter_frames("/dev/video3", open_capture=lambda where: next(opened), silence=silence)
    found: list[str] = []

    with pytest.raises(SourceSilent, match="the source sent nothing for 30 s"):
        found.extend(frame.name for frame in source)

    assert found == ["0", "1", "2", "3", "4", "5"]
    assert said == [
        "/dev/video3 sends nothing; opening it again for up to 20 s",
        "/dev/video3 sends again",
        "/dev/video3 sends nothing; opening it again for up to 20 s",
        "/dev/video3 sends again",
        "/dev/video3 sends nothing; opening it again for up to 20 s",
    ]
    assert all(camera.released for camera in cameras[:7])


def test_a_file_behind_a_url_ends(video: Path) -> None:
    source = iter_frames("http://host/a.mp4", open_capture=lambda where: cv2.VideoCapture(str(video)))

    assert source.live
    assert len(list(source)) == 5


def test_a_pipe_is_a_camera_that_ends_with_its_writer(video: Path, tmp_path: Path) -> None:
    """As ``rpicam-vid -o - | dance-ondevice stream -`` brings the camera of a Pi, which is no /dev/videoN."""
    pipe, asked = tmp_path / "camera", []
    os.mkfifo(pipe)

    def open_capture(where: str | int) -> FakeCamera:
        asked.append(where)
        return FakeCamera()

    source = iter_frames(str(pipe), open_capture=open_capture)

    assert (source.live, source.endless, source.count) == (True, True, None)
    assert len(list(source)) == 3  # and its end is no silence
    assert asked == [str(pipe)]
    with pytest.raises(SourceError, match="expected MJPEG"):
        iter_frames(str(pipe), open_capture=lambda where: FakeCamera(opened=False))

    read, write = os.pipe()
    written: list[int] = []

    def camera() -> None:
        with contextlib.suppress(BrokenPipeError):
            for number in range(400):
                os.write(write, jpeg(number % 20))
                written.append(number)
        os.close(write)

    stdin, writer = os.dup(0), threading.Thread(target=camera)
    try:
        os.dup2(read, 0)
        os.close(read)
        writer.start()
        frames = iter(iter_frames("-"))
        first = next(frames)
        # What lies in the pipe and FFmpeg's buffer, and not the 125 frames more that it would look at first.
        assert len(written) * len(jpeg(0)) < (64 << 10) * 2
        assert (first.encoding, 1 + len(list(frames))) == ("jpeg", 400)
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        writer.join()


def test_frames_that_are_all_one_picture_are_told_of(tmp_path: Path) -> None:
    """What OpenCV gives of interlaced video: the same picture each time."""

    class Stale(FakeCamera):
        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (True, picture(0)) if self.left >= 0 else (False, None)

    said: list[str] = []
    for camera in (Stale(60), FakeCamera(60), Stale(3)):
        path = tmp_path / "tape.mpg"
        path.touch()
        source = iter_frames(
            str(path), open_capture=lambda where, camera=camera: camera, silence=Silence(say=said.append)
        )
        list(source)

    (line,) = said
    assert "interlaced" in line
    assert "yadif" in line


def test_what_is_not_sent_is_counted_by_its_ending(folder: Path) -> None:
    for name in ("a.bmp", "b.TIFF", "c.tiff", "notes", ".DS_Store"):
        (folder / "train" / name).touch()
    (folder / "train" / "more").mkdir()
    empty = folder / "empty"
    empty.mkdir()
    (empty / "a.avif").touch()

    assert iter_frames(str(folder / "train")).passed_over == {
        **{".bmp": 1, ".tiff": 2, ".txt": 1, "folders": 1, "without an ending": 1}
    }
    with pytest.raises(SourceError, match=r"no images .* passed over: 1 \.avif"):
        iter_frames(str(empty))


def test_the_content_tells_the_format_and_what_is_no_image_is_named(folder: Path) -> None:
    train = folder / "train"
    for file in train.iterdir():
        file.unlink()
    (train / "a.png").write_bytes(jpeg(1))
    (train / "b.jpg").write_bytes(images.encode_png(picture(2)))
    (train / "c.jpg").write_bytes(b"\0\0\0 ftypheic")
    (train / "d.jpg").write_bytes(jpeg(1)[:-40])  # as far as it was copied
    source = iter_frames(str(train))

    assert [(frame.name, frame.encoding) for frame in source] == [("a.png", "jpeg"), ("b.jpg", "png")]
    why = {Path(file).name: text for file, text in source.unreadable.items()}
    assert set(why) == {"c.jpg", "d.jpg"}
    assert "neither JPEG, PNG nor WebP" in why["c.jpg"]
    assert "truncated" in why["d.jpg"]


def test_files_that_cannot_be_read_and_hidden_ones_do_not_end_a_folder(folder: Path) -> None:
    train = folder / "train"
    before = [frame.name for frame in iter_frames(str(train))]
    (train / "0_gone.jpg").symlink_to("nowhere")
    (train / "folder.png").mkdir()
    (train / f"._{before[0]}").write_bytes(b"\0\5\x16\7Mac OS X")
    os.mkfifo(train / "0_pipe.jpg")
    source = iter_frames(str(train))

    assert [frame.name for frame in source] == before
    assert [Path(name).name for name in source.unreadable] == ["0_gone.jpg", "0_pipe.jpg"]
    source = iter_frames(str(train))
    train.rename(folder / "taken out")
    with pytest.raises(FileNotFoundError):
        next(iter(source))


def test_camera_that_cannot_be_opened() -> None:
    camera = FakeCamera(opened=False)

    with pytest.raises(SourceError, match=r"cannot be opened as a camera.* group video"):
        iter_frames("/dev/video3", open_capture=lambda where: camera)
    assert camera.released
    with pytest.raises(SourceError, match=r"cannot be opened as a camera.* reachable.* password"):
        iter_frames("rtsp://camera.local/main", open_capture=lambda where: camera)


def test_synthetic_street() -> None:
    source = iter_frames(
        "synthetic:street?condition=dusk&frames=3&seed=5&size=96x64&start=40",
        wants_label=lambda index: index == 2,
    )

    frames = list(source)

    camera = StreetCamera(seed=5, height=64, width=96)
    assert (source.count, source.live) == (3, False)
    for index, frame in enumerate(frames):
        bgr, ids = camera.render(40 + index, "dusk")
        assert frame.image == images.encode_jpeg(bgr)
        assert frame.label == (images.encode_label(ids) if index == 2 else None)


def test_synthetic_street_needs_no_options() -> None:
    assert iter_frames("synthetic:street").count == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("condition=fog", "day, dusk, rain, night"),
        ("weather=fog", "unknown option weather"),
        ("frames=many", "whole numbers"),
        ("frames=0", "at least 1"),
        ("start=-1", "at least 0"),
        ("size=big", "320x240"),
        ("size=1x1", "too small"),
    ],
)
def test_wrong_option_of_the_street_is_named(query: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        iter_frames(f"synthetic:street?{query}")
