from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.children.bounded_log import BoundedLog, copy_bounded

MARK = b"bytes left out ...\n"


def reader(chunks: list[bytes]) -> Callable[[int], bytes]:
    rest = iter([*chunks, b""])
    return lambda size: next(rest, b"")


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=20), limit=st.integers(2, 120))
def test_head_and_tail_are_kept_and_the_file_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "trainer.log"
    copy_bounded(reader(chunks), path, limit=limit, pause=lambda: None)
    said, kept, half = b"".join(chunks), path.read_bytes(), limit // 2
    if len(said) <= 2 * half:
        assert kept == said
        return
    assert kept.startswith(said[:half])
    assert kept.endswith(said[-half:])
    assert kept[half:-half] == b"\n... %d %s" % (len(said) - 2 * half, MARK)


def test_while_it_runs_the_file_never_passes_its_half(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    sizes: list[int] = []
    copy_bounded(
        reader([b"x" * 100] * 1000), path, limit=1000, pause=lambda: sizes.append(path.stat().st_size)
    )
    # Paused for each read once the first half was full, and not before.
    assert sizes == [500] * 995


def test_a_round_that_goes_on_adds_to_its_log(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    copy_bounded(reader([b"first\n"]), path, limit=20, pause=lambda: None)
    copy_bounded(reader([b"second\n"]), path, limit=20, pause=lambda: None)
    assert path.read_bytes() == b"first\nsecond\n"


def test_a_log_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = iter([b"a", b"b", b""])
    copy_bounded(lambda size: next(chunks), tmp_path / "gone" / "trainer.log", pause=lambda: None)
    assert list(chunks) == []
    assert "trainer.log" in caplog.text


def test_a_child_that_spews_fills_no_disk_and_comes_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    script = "import sys; sys.stderr.write('begin' + 'x' * 300_000 + 'ValueError: the end')"
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    assert child.stderr is not None
    bounded = BoundedLog(child.stderr, path, limit=2000)
    assert child.wait(60) == 0
    bounded.finish()
    text = path.read_text()
    assert text.startswith("beginxxx")
    assert text.endswith("ValueError: the end")
    assert len(text) < 2100
    assert child.stderr.closed
