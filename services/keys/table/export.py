r"""The table as a file: CSV for people and their spreadsheets, JSON for programs. Pure.

CSV is RFC 4180 with a header row and CRLF, every cell quoted, in UTF-8 behind a byte order mark:
without the mark Excel takes the file for another encoding. Addresses and warnings stand in one
cell each, separated by spaces; a value that does not exist is an empty cell.

A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break as a formula,
and names come from outside. So such a cell begins with an apostrophe instead; the same holds behind
anything that may pass for the end of a cell (`,` `;` `|` `"`, a tab, a line break), since a program
set to another separator cuts there. JSON is exact.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from shared.http import json_bytes

_STARTS_FORMULA: Final = re.compile(
    r"""(^|[;,|"\t\r\n])([ ]*)(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"""
)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Rendered = dict[str, Any]
"""A row by its members, as the API answers it."""


class Writer(Protocol):
    """Writes a file in pieces: `head` once, `rows` any number of times, `foot` once."""

    media_type: str
    extension: str

    def head(self) -> bytes:
        """What comes before all rows."""
        ...

    def rows(self, rows: Sequence[Rendered]) -> bytes:
        """The next rows."""
        ...

    def foot(self) -> bytes:
        """What comes behind all rows; without it a file of this kind is not whole."""
        ...


class CsvWriter:
    """A table with `columns`; other members of rows are left out."""

    media_type = "text/csv; charset=utf-8; header=present"
    extension = "csv"

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def head(self) -> bytes:
        """The byte order mark and the header row."""
        return _BYTE_ORDER_MARK + _lines([self._columns])

    def rows(self, rows: Sequence[Rendered]) -> bytes:
        """The next rows."""
        return _lines([cell(row[name]) for name in self._columns] for row in rows)

    def foot(self) -> bytes:
        """Nothing: a CSV has no end of its own, so a broken connection has to tell."""
        return b""


class JsonWriter:
    """One document, `{"apikeys": […]}`."""

    media_type = "application/json"
    extension = "json"

    def __init__(self) -> None:
        self._has_rows = False

    def head(self) -> bytes:
        """The document up to its first row."""
        return b'{"apikeys":['

    def rows(self, rows: Sequence[Rendered]) -> bytes:
        """The next rows, with the comma that parts them from those before."""
        if not rows:
            return b""
        parted = b"," if self._has_rows else b""
        self._has_rows = True
        return parted + b",".join(json_bytes(row) for row in rows)

    def foot(self) -> bytes:
        """The end of the document."""
        return b"]}"


def cell(value: Any) -> str:
    """`value` as the text of one cell that no spreadsheet takes for a formula."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return neutral(" ".join(str(each) for each in value))
        case _:
            return neutral(str(value))


def neutral(text: str) -> str:
    """`text` with an apostrophe wherever a formula might begin."""
    return _STARTS_FORMULA.sub(r"\1\2'", text)


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()
