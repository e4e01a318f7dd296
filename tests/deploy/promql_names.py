"""Which metrics and labels a PromQL expression names; enough of the grammar for the queries shipped here."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{((?:[^}\"]|\"[^\"]*\")*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_NO_METRIC = re.compile(r"\"[^\"]*\"|\[[^\]]*\]|\boffset\s+\w+|\b[\d.]+(?:e[+-]?\d+)?\b")
_IDENTIFIER = re.compile(r"[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
_KEYWORDS = {"and", "or", "unless", "bool", "inf", "nan"}


@dataclass(frozen=True)
class Matcher:
    """One condition of a selector, such as ``outcome="failed"`` on ``dance_rounds_total``."""

    metric: str
    label: str
    operator: str
    value: str


@dataclass(frozen=True)
class Names:
    """What an expression names."""

    metrics: frozenset[str]
    grouped_by: frozenset[str]
    matchers: tuple[Matcher, ...]


def names(expression: str) -> Names:
    grouped = {label.strip() for found in _GROUPING.findall(expression) for label in found.split(",")}
    rest = _GROUPING.sub(" ", expression)
    matchers = tuple(
        Matcher(metric, *matcher)
        for metric, inside in _SELECTOR.findall(rest)
        for matcher in _MATCHER.findall(inside)
    )
    rest = _NO_METRIC.sub(" ", _SELECTOR.sub(r"\1 ", rest))
    metrics = frozenset(word for word in _IDENTIFIER.findall(rest) if word.lower() not in _KEYWORDS)
    return Names(metrics, frozenset(grouped - {""}), matchers)
