"""docs/metrics.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from dance_ondevice.daemon.metrics import page as metrics_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_page_is_the_one_that_the_code_writes() -> None:
    command = "python -m dance_ondevice.daemon.metrics.page > docs/metrics.md"
    assert PAGE.read_text() == metrics_page.page(), f"run: {command}"
    assert command in PAGE.read_text()


def test_every_label_is_explained_and_no_other() -> None:
    used = {label for facts in metrics_page.catalogue() for label in facts.labels}
    assert used == set(metrics_page.LABELS)


def test_a_metric_is_told_with_its_query_names() -> None:
    catalogue = {facts.name: facts for facts in metrics_page.catalogue()}
    assert catalogue["dance_frames_total"].kind == "counter"
    assert catalogue["dance_frames_total"].labels == ("camera", "outcome")
    assert catalogue["dance_frame_score"].series() == {
        "dance_frame_score_bucket": {"camera", "le"},
        "dance_frame_score_sum": {"camera"},
        "dance_frame_score_count": {"camera"},
    }
    assert catalogue["dance_store_free_bytes"].series() == {"dance_store_free_bytes": frozenset()}


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert links
    for link in links:
        assert (PAGE.parent / link).exists()
