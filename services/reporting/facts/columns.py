"""The columns a partner may group and filter by, and where each fact table keeps them.

One table decides what a report accepts, what it reads and how a row names its bucket. An empty
value reads `N/A` in both id and label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo

EMPTY: Final = "N/A"
_PLACE: Final = "relationship.geolocation."
_DEVICE: Final = "relationship.device_information."
_OFFER: Final = "relationship.offer."


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as in requests.
        traffic: expression of its id in clicks and impressions.
        conversion: expression of its id in conversions.
        traffic_label: likewise of its label; the id if empty.
        conversion_label: likewise; empty where conversions do not know it.
        unset: the id that stands for no value.
        time: how a time column cuts the day; empty for the others.
    """

    name: str
    traffic: str
    conversion: str
    traffic_label: str = ""
    conversion_label: str = ""
    unset: str = ""
    time: Literal["", "hour", "date", "week", "month", "year"] = ""


def _same(*names: str) -> list[Column]:
    return [Column(name, name, name) for name in names]


def _text(name: str, traffic: str, conversion: str = "") -> Column:
    return Column(name, traffic, conversion or name)


def _time(name: Literal["hour", "date", "week", "month", "year"], function: str) -> Column:
    def cut(stamp: str) -> str:
        return f"toString({function}(toDateTime({stamp}, {{zone:String}})))"

    return Column(name, cut("unix_timestamp"), cut("conversion_unix_timestamp"), time=name)


_ALL: Final = (
    Column(
        "offer",
        f"toString({_OFFER}network_offer_id)",
        f"toString({_OFFER}network_offer_id)",
        f"{_OFFER}name",
        f"{_OFFER}name",
    ),
    *_same("offer_url", "creative", "coupon_code"),
    Column("event_name", "''", "event"),
    *_same("tracking_domain", "sub1", "sub2", "sub3", "sub4", "sub5", "source_id", "referer"),
    _text("country", f"{_PLACE}country_name"),
    _text("country_code", f"{_PLACE}country_code"),
    _text("region", f"{_PLACE}region_name"),
    _text("city", f"{_PLACE}city_name"),
    Column(
        "dma",
        f"toString({_PLACE}dma)",
        "toString(dma)",
        f"{_PLACE}dma_name",
        "''",
        unset="0",
    ),
    _text("carrier", f"{_PLACE}carrier_name"),
    _text("isp", f"{_PLACE}isp_name"),
    *_same("connection_type"),
    _text("platform", f"{_DEVICE}platform_name"),
    _text("os_version", f"{_DEVICE}os_version"),
    _text("device_type", f"{_DEVICE}device_type"),
    _text("device_model", f"{_DEVICE}model"),
    _text("device_make", f"{_DEVICE}brand", "brand"),
    _text("browser", f"{_DEVICE}browser_name"),
    _text("language", f"{_DEVICE}language"),
    _time("hour", "toHour"),
    _time("date", "toDate"),
    _time("week", "toMonday"),
    _time("month", "toStartOfMonth"),
    _time("year", "toStartOfYear"),
)

COLUMNS: Final[Mapping[str, Column]] = MappingProxyType({column.name: column for column in _ALL})
ALIASES: Final[Mapping[str, str]] = MappingProxyType({"day": "date"})


def column_of(name: str) -> Column | None:
    """The column that requests call `name`."""
    return COLUMNS.get(ALIASES.get(name, name))


def shown(column: Column, found_id: str, found_label: str, zone: ZoneInfo) -> tuple[str, str]:
    """Id and label of a bucket, as rows show them.

    Args:
        column: whose bucket it is.
        found_id: its id as the database has it; an ISO date for days and longer.
        found_label: likewise, may be empty.
        zone: in which days begin.
    """
    if column.time == "hour":
        return found_id, f"{int(found_id):02}:00"
    if column.time:
        return _shown_day(column, date.fromisoformat(found_id), zone)
    if found_id in ("", column.unset):
        return EMPTY, EMPTY
    return found_id, found_label or found_id


def _shown_day(column: Column, day: date, zone: ZoneInfo) -> tuple[str, str]:
    start = int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
    label = {"month": f"{day:%Y-%m}", "year": f"{day:%Y}"}.get(column.time, day.isoformat())
    return str(start), label
