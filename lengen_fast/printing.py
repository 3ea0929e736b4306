"""What commands print: tables with aligned columns, and numbers of things."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row, cells of a column below one another; the rows are equally long."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a :func:`table`."""
    print(*table(rows), sep="\n")


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``; nouns that take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
