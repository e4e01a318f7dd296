"""Markdown for the page of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return ["| " + " | ".join(cells).replace("\n", " ") + " |" for cells in (columns, rule, *rows)]


def number(value: float | None, form: str) -> str:
    """A number as ``form`` says; a dash where there is none."""
    return "-" if value is None else format(value, form)
