"""Graphs for onnxruntime are kept beside the weights, and only whole ones count."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.runtime.graph_file import read_graph, write_graph


def test_what_is_kept_is_found_again_and_the_newest_is_the_only_one(tmp_path: Path) -> None:
    assert read_graph(tmp_path) is None
    write_graph(tmp_path, b"one")
    assert read_graph(tmp_path) == b"one"
    write_graph(tmp_path, b"two")
    assert read_graph(tmp_path) == b"two"
    write_graph(tmp_path, b"two")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_flipped_bit_makes_it_no_graph(tmp_path: Path) -> None:
    write_graph(tmp_path, b"whole")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"whple")
    assert read_graph(tmp_path) is None
    file.unlink()
    (tmp_path / file.name).mkdir()
    assert read_graph(tmp_path) is None
