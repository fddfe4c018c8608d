"""Tables and field lists of layouts that are ours; those of the product stand in their families."""

from __future__ import annotations

from collections.abc import Sequence


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows below their titles, each column as wide as its widest cell."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in (titles, *shown)) for place in range(len(titles))]
    lines = [_row(titles, widths), "  ".join("-" * width for width in widths)]
    return lines + [_row(row, widths) for row in shown]


def fields(rows: Sequence[tuple[str, str]], *, column: int = 36) -> list[str]:
    """Return `Title:   value` lines whose values begin in one column."""
    return [f"   {title + ':':<{column - 3}}{printable(value)}".rstrip() for title, value in rows]


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: names that others chose may hold commands."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def yes_no(value: bool) -> str:
    """Return True or False as shows print it."""
    return "True" if value else "False"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
