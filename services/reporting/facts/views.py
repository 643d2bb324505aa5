"""The scoped views: one partner's facts, the only way to read any.

Each is a SELECT in parentheses with bound parameters: what a parameterised view would be, written
into the query, or, where that is the same, its table and conditions alone. ClickHouse analyses the
body of a stored one twice, at every use, which took a third of a small report's time (ADR 14).

Rows have the columns of their table and, alike in all three, the words that reports group and
filter by (`columns.py`): those of them that the reading texts name, since each costs analysis.
Tables are read with FINAL, so answers do not depend on when merges run.
"""
# ruff: noqa: S608 - the text is made of this file's own words only

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.reporting.facts.tables import (
    CHANGES,
    CLICKS,
    CONVERSIONS,
    IMPRESSIONS,
    RATES,
    columns_of,
)

_SCOPE: Final = "network_id = {network:UInt64} AND network_affiliate_id = {partner:UInt64}"
_DAYS: Final = " AND date >= {first_day:Date} AND date <= {last_day:Date}"
_OFFER: Final = {
    "offer_id": "relationship.offer.network_offer_id",
    "offer_name": "relationship.offer.name",
}
_PLACE: Final = "relationship.geolocation"
_DEVICE: Final = "relationship.device_information"
_OF_TRAFFIC: Final = _OFFER | {
    "stamp": "unix_timestamp",
    "event_name": "''",
    "country": f"{_PLACE}.country_name",
    "country_code": f"{_PLACE}.country_code",
    "region": f"{_PLACE}.region_name",
    "city": f"{_PLACE}.city_name",
    "dma": f"{_PLACE}.dma",
    "dma_name": f"{_PLACE}.dma_name",
    "carrier": f"{_PLACE}.carrier_name",
    "isp": f"{_PLACE}.isp_name",
    "platform": f"{_DEVICE}.platform_name",
    "os_version": f"{_DEVICE}.os_version",
    "device_type": f"{_DEVICE}.device_type",
    "device_model": f"{_DEVICE}.model",
    "device_make": f"{_DEVICE}.brand",
    "browser": f"{_DEVICE}.browser_name",
    "language": f"{_DEVICE}.language",
}
_OF_CONVERSIONS: Final = _OFFER | {
    "stamp": "conversion_unix_timestamp",
    "event_name": "event",
    "dma_name": "''",
    "device_make": "brand",
}
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    CLICKS: _OF_TRAFFIC,
    IMPRESSIONS: _OF_TRAFFIC,
    CONVERSIONS: _OF_CONVERSIONS,
}
_COLUMNS: Final = {table: columns_of(table) for table in _WORDS}
_NAME: Final = re.compile(r"[a-z_]\w*")
_FLAG: Final = re.compile(r"(?:NOT )?is_\w+")


@dataclass(frozen=True, slots=True)
class View:
    """A scoped view; as a text a SELECT in parentheses.

    Attributes:
        table: of the facts.
        columns: those of the table that it has.
        words: what else it has, as expressions with their names.
        conditions: which rows, scope and days.
    """

    table: str
    columns: Sequence[str]
    words: Sequence[str]
    conditions: str

    def __str__(self) -> str:
        chosen = ", ".join([*self.columns, *self.words])
        return f"(SELECT {chosen} FROM {self.table} FINAL WHERE {self.conditions})"

    def plainly(self, flags: Sequence[str]) -> str | None:
        """Its facts without a SELECT around the table, up to a GROUP BY: a tenth of a small report.

        Args:
            flags: columns that hold of the facts wanted, or `NOT` and one that does not.

        Returns:
            A FROM to its end; None if the view has words, or if a flag is none: what is meant to
            narrow the facts might widen them.
        """
        if self.words or not all(map(_FLAG.fullmatch, flags)):
            return None
        return f"{self.table} FINAL WHERE {' AND '.join([self.conditions, *flags])}"


def of_all_time(table: str, *reading: str) -> View:
    """The partner's facts; parameters `network` and `partner` (UInt64).

    Args:
        table: which.
        reading: the texts that name what is read of them.
    """
    return _view(table, reading, "")


def of_days(table: str, *reading: str) -> View:
    """Those of the UTC days from `first_day` to `last_day` (Date), both included."""
    return _view(table, reading, _DAYS)


def between(table: str, *reading: str) -> View:
    """Those of these days from `since` to `until` (UInt32, seconds), both included."""
    stamp = _WORDS[table]["stamp"]
    seconds = f" AND {stamp} >= {{since:UInt32}} AND {stamp} <= {{until:UInt32}}"
    return _view(table, reading, _DAYS + seconds)


def one(table: str, id_column: str, more: str = "") -> str:
    """Where the partner's row `fact` of an id (parameter `id`, String) is: a FROM to its end.

    Args:
        table: which.
        id_column: has the id.
        more: further conditions on `fact`, each beginning with AND.
    """
    return (
        f"{table} AS fact FINAL WHERE {_SCOPE} AND fact.{id_column} = {{id:String}}{more} LIMIT 1"
    )


def _view(table: str, reading: Sequence[str], more: str) -> View:
    names = {"date", *_NAME.findall(" ".join(reading))}
    columns = sorted(_COLUMNS[table] & names)
    words = [f"{text} AS {word}" for word, text in _WORDS[table].items() if word in names]
    return View(table, columns, words, f"{_SCOPE}{more}")


CHANGES_BETWEEN: Final = (
    f"(SELECT * FROM {CHANGES} WHERE {_SCOPE}"
    " AND _offset >= {since:UInt64} AND _offset < {until:UInt64})"
)
"""The records of the partner's conversions from offset `since` to before `until` (UInt64)."""

RATES_BETWEEN: Final = (
    f"(SELECT * FROM {RATES} FINAL WHERE network_id = {{network:UInt64}}"
    " AND date >= toDate({first:Int32}) AND date <= toDate({last:Int32}))"
)
"""A network's rates of some days (Int32, since the epoch)."""
