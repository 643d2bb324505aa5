"""Reading a file into checked events: pure but for the file itself, and in bounded memory."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from shared.errors import InvalidError, SetupError
from shared.events import Tracked
from tools.tracking import EVENTS, Kind

Format = Literal["ndjson", "csv"]

LINE_BYTES_MAX: Final = 1024 * 1024
_NAMED: Final[Mapping[str, Kind]] = {
    "click": "clicks",
    "impression": "impressions",
    "conversion": "conversions",
}
_CLICKS_ONLY: Final = frozenset(("is_unique", "error_code", "error_message", "is_redirect_traffic"))


@dataclass(frozen=True, slots=True)
class Good:
    """A correct event of line `number`."""

    number: int
    kind: Kind
    event: Tracked


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that is none, and why; `original` is its text, or its cells by header."""

    number: int
    reason: str
    original: str | dict[str, str]


Line = Good | Bad


def format_of(file: Path) -> Format:
    """The format by the file's name: `.csv`, anything else is NDJSON."""
    return "csv" if file.suffix.lower() == ".csv" else "ndjson"


def read(source: BinaryIO, written_as: Format, kind: Kind | None = None) -> Iterator[Line]:
    """The lines of `source`, each checked; blank lines are passed over.

    Args:
        source: the file, opened for bytes.
        written_as: its format.
        kind: what every line is; by default each line tells.

    Raises:
        SetupError: a CSV file has no usable header.
    """
    if written_as == "csv":
        yield from _read_csv(source, kind)
    else:
        yield from _read_ndjson(source, kind)


def _read_ndjson(source: BinaryIO, kind: Kind | None) -> Iterator[Line]:
    number = 0
    while raw := source.readline(LINE_BYTES_MAX + 1):
        number += 1
        text = raw.decode(errors="replace").rstrip("\r\n")
        if len(raw) > LINE_BYTES_MAX:
            _skip_rest(source, raw)
            yield Bad(number, f"longer than {LINE_BYTES_MAX} bytes", text[:200])
        elif text.strip():
            yield _checked_json(number, raw, text, kind)


def _skip_rest(source: BinaryIO, read_last: bytes) -> None:
    while read_last and not read_last.endswith(b"\n"):
        read_last = source.readline(LINE_BYTES_MAX)


def _checked_json(number: int, raw: bytes, text: str, kind: Kind | None) -> Line:
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        return _checked(number, fields, kind, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidError) as error:
        return Bad(number, str(error), text)


def _read_csv(source: BinaryIO, kind: Kind | None) -> Iterator[Line]:
    rows = csv.reader(_texts(source), strict=True)
    header = _header(rows)
    while True:
        before = rows.line_num
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Bad(before + 1, f"not CSV: {error}", "")
            continue
        if any(cells):
            yield _checked_row(before + 1, header, cells, kind)


def _texts(source: BinaryIO) -> Iterator[str]:
    """Lines as text; bytes that are no UTF-8 stay visible, so that only their own line fails."""
    for index, raw in enumerate(source):
        text = raw.decode(errors="surrogateescape")
        yield text.removeprefix("\ufeff") if index == 0 else text


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise SetupError(f"The first line is no CSV header: {error}.") from error
    if not any(header):
        raise SetupError("The file is empty: the first line of a CSV file names the fields.")
    if len(set(header)) < len(header):
        raise SetupError("The CSV header names a field twice.")
    return header


def _checked_row(number: int, header: list[str], cells: list[str], kind: Kind | None) -> Line:
    original = dict(zip(header, (_visible(cell) for cell in cells), strict=False))
    if len(cells) != len(header):
        return Bad(number, f"{len(cells)} cells under {len(header)} header names", original)
    try:
        fields = _nested({name: cell for name, cell in zip(header, cells, strict=True) if cell})
        return _checked(number, fields, kind, strict=False)
    except UnicodeEncodeError:
        return Bad(number, "not UTF-8", original)
    except (msgspec.MsgspecError, InvalidError) as error:
        return Bad(number, str(error), original)


def _visible(cell: str) -> str:
    return cell.encode(errors="surrogateescape").decode(errors="replace")


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    """`{"a.b": x}` as `{"a": {"b": x}}`; everything after `query_parameters.` is one name."""
    found: dict[str, Any] = {}
    for name, cell in flat.items():
        cell.encode()
        path = name.split(".")
        if "query_parameters" in path:
            depth = path.index("query_parameters") + 1
            path = [*path[:depth], ".".join(path[depth:])]
        _place(found, path, cell)
    return found


def _place(into: dict[str, Any], path: list[str], cell: str) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
        if not isinstance(into, dict):
            raise InvalidError(f"{part}: both a value and a group of fields")
    if path[-1] in into:
        raise InvalidError(f"{path[-1]}: both a value and a group of fields")
    into[path[-1]] = cell


def _checked(number: int, fields: dict[str, Any], kind: Kind | None, *, strict: bool) -> Good:
    found = _kind(fields, kind)
    event: Tracked = msgspec.convert(fields, EVENTS[found], strict=strict)
    return Good(number, found, event)


def _kind(fields: dict[str, Any], chosen: Kind | None) -> Kind:
    """What the line is: as chosen, as its field `type` says (taken out), or by its fields."""
    named = fields.pop("type", None)
    if named is not None:
        if not isinstance(named, str) or named not in _NAMED:
            raise InvalidError(f"type: {named!r} is none of {', '.join(_NAMED)}")
        if chosen not in (None, _NAMED[named]):
            raise InvalidError(f"type: {named!r}, while the whole file is said to hold {chosen}")
        return _NAMED[named]
    if chosen is not None:
        return chosen
    if "conversion_id" in fields or "conversion_unix_timestamp" in fields:
        return "conversions"
    return "impressions" if _CLICKS_ONLY.isdisjoint(fields) else "clicks"
