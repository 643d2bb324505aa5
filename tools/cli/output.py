"""What commands print: tables for people, JSON for programs, remarks on standard error."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 220
"""Columns of a table that goes to a file or a program, where nothing needs to be wrapped."""

SPACE = 3
"""Columns between two of a table."""

console = Console(highlight=False, soft_wrap=True)
remarks = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> None:
    """Rows as a table of `columns` (field, heading) that breaks no word.

    Where there is no room for that, each row is told as facts.
    """
    headings = [heading for _, heading in columns]
    lines = [[cell(row.get(field)) for field, _ in columns] for row in rows]
    out = Console(width=None if console.is_terminal else WIDE)
    widths = _widths(list(zip(headings, *lines, strict=True)), out.width - SPACE * len(columns) - 1)
    if not widths:
        for line in lines:
            print_facts(zip(headings, line, strict=True), out)
            out.print()
        return
    table = Table(box=SIMPLE)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, width=width)
    for line in lines:
        table.add_row(*map(Text, line))
    out.print(table)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """A width for each column, its longest word at least; none if there is no room for these."""
    widths = [
        max(cell_len(word) for text in column for word in text.split() or [""])
        for column in columns
    ]
    room -= sum(widths)
    if room < 0:
        return []
    for index, column in enumerate(columns):
        more = min(room, max(map(cell_len, column)) - widths[index])
        widths[index] += more
        room -= more
    return widths


def print_facts(facts: Iterable[tuple[str, object]], out: Console = console) -> None:
    """One fact a line, names aligned; facts that say nothing are left out."""
    told = [(name, cell(value)) for name, value in facts]
    told = [(name, text) for name, text in told if text]
    width = max((len(name) for name, _ in told), default=0)
    for name, text in told:
        out.print(Text(f"{name:<{width}}  {text}"))


def cell(value: object) -> str:
    """`value` for a terminal: what a name holds cannot move the cursor or change colours."""
    return "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in _text(value)
    )


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value))
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
