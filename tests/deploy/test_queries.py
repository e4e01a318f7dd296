"""Every query that is shipped names metrics and labels that the daemon has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from deployed import alerts, dashboard, targets
from promql_names import Matcher, names

from dance_ondevice.daemon.metrics.page import LABELS, catalogue

#: What Prometheus itself adds to every series.
ADDED = {"instance", "job"}
SERIES = {
    "up": frozenset[str](),
    **{name: labels for facts in catalogue() for name, labels in facts.series().items()},
}


def queries() -> Iterator[tuple[str, str]]:
    yield from alerts().items()
    for title, target in targets():
        yield f"{title} {target['refId']}", target["expr"]


QUERIES = dict(queries())


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_uses_existing_metrics_and_labels(name: str) -> None:
    used = names(QUERIES[name])
    assert used.metrics
    assert used.metrics <= SERIES.keys()
    known = frozenset().union(*(SERIES[metric] for metric in used.metrics)) | ADDED
    assert used.grouped_by <= known
    for matcher in used.matchers:
        assert matcher.label in SERIES[matcher.metric] | ADDED, matcher
        if matcher.label in LABELS and not matcher.value.startswith("$"):
            # A value that the daemon never gives selects nothing, for ever and in silence.
            for value in matcher.value.split("|"):
                assert f"`{value}`" in LABELS[matcher.label], matcher


@pytest.mark.parametrize(("title", "target"), list(targets()))
def test_a_legend_names_labels_that_the_query_leaves(title: str, target: dict[str, str]) -> None:
    used = names(target["expr"])
    legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    aggregated = re.search(r"\bsum by \(([^)]*)\)", target["expr"])
    if aggregated:
        left = {label.strip() for label in aggregated[1].split(",")}
    else:
        left = ADDED.union(*(SERIES[metric] for metric in used.metrics))
    assert legend <= left, title


def test_the_dashboard_shows_every_metric() -> None:
    shown = frozenset().union(*(names(target["expr"]).metrics for _, target in targets()))
    unseen = [facts.name for facts in catalogue() if not shown & facts.series().keys()]
    assert unseen == []


def test_the_dashboards_panels_are_apart_and_numbered() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_the_dashboards_variables_are_defined() -> None:
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = {
        found
        for _, target in targets()
        for found in re.findall(r"\$\{?(\w+)", target["expr"] + target["datasource"]["uid"])
    }
    assert used - {"__rate_interval"} == defined
    (board,) = (v for v in dashboard()["templating"]["list"] if v["name"] == "instance")
    query = re.fullmatch(r"label_values\((\w+), (\w+)\)", board["query"]["query"])
    assert query is not None
    metric, label = query.groups()
    assert metric in SERIES
    assert label in ADDED


@pytest.mark.parametrize(
    ("expression", "metrics", "grouped_by"),
    [
        ("a_total", {"a_total"}, set()),
        ('sum by (le, x) (rate(a_bucket{x="y",z=~"}"}[5m] offset 1h))', {"a_bucket"}, {"le", "x"}),
        ("a <= ignoring (split) b and on () c > 4.5e3 unless bool d", {"a", "b", "c", "d"}, {"split"}),
        ("histogram_quantile(0.5, a_bucket) / 86400", {"a_bucket"}, set()),
    ],
)
def test_names_are_found_in_an_expression(expression: str, metrics: set[str], grouped_by: set[str]) -> None:
    found = names(expression)
    assert found.metrics == metrics
    assert found.grouped_by == grouped_by


def test_matchers_are_found_in_an_expression() -> None:
    found = names('rate(a{x="y", z!~"v|}"}[5m]) > b{q=~"$instance"}')
    assert found.matchers == (
        Matcher("a", "x", "=", "y"),
        Matcher("a", "z", "!~", "v|}"),
        Matcher("b", "q", "=~", "$instance"),
    )


def test_one_camera_can_be_looked_at_wherever_a_metric_tells_them_apart() -> None:
    assert "camera" in {variable["name"] for variable in dashboard()["templating"]["list"]}
    for title, target in targets():
        used = names(target["expr"])
        if any("camera" in SERIES[metric] for metric in used.metrics):
            assert 'camera=~"$camera"' in target["expr"], title
