"""What commands print: tables for people, JSON for programs, remarks on standard error."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 220
"""Columns of a table that goes to a file or a program, where nothing needs to be wrapped."""

console = Console(highlight=False, soft_wrap=True)
remarks = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> None:
    """Rows as a table of `columns` (field, heading); the first one is never broken."""
    table = Table(box=SIMPLE)
    for index, (_, heading) in enumerate(columns):
        table.add_column(heading, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell(row.get(field))) for field, _ in columns))
    Console(width=None if console.is_terminal else WIDE).print(table)


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
