"""The columns a partner may group and filter by, in the words of the scoped views.

One table decides what a report accepts and what it reads. The views give all three kinds of fact
the same words (`views.py`), so a column is one expression. An empty value reads `N/A` in both id
and label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from services.reporting.facts import tables

EMPTY: Final = "N/A"

Unit = Literal["hour", "date", "week", "month", "year"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as in requests.
        id: expression of its id over a scoped view; empty for time columns.
        label: likewise of its label; empty where the id is the label.
        word: likewise of both and the tally in one, a `tables.Word`; empty where there is none.
        is_number: whether the id is a number, 0 standing for no value.
        is_of_few: whether it has few values, which are stored by dictionary.
        time: how a time column cuts time; empty for the others.
    """

    name: str
    id: str
    label: str = ""
    word: str = ""
    is_number: bool = False
    is_of_few: bool = False
    time: Unit | Literal[""] = ""


_NUMBERED: Final = (
    Column("offer", "offer_id", "offer_name", tables.OFFER_WORD, is_number=True, is_of_few=True),
    Column("dma", "dma", "dma_name", is_number=True),
)
_FREE_TEXTS: Final = frozenset(
    {"coupon_code", "sub1", "sub2", "sub3", "sub4", "sub5", "source_id", "referer"}
)
_TEXTS: Final = (
    *("offer_url", "creative", "coupon_code", "event_name", "tracking_domain"),
    *("sub1", "sub2", "sub3", "sub4", "sub5", "source_id", "referer"),
    *("country", "country_code", "region", "city", "carrier", "isp", "connection_type"),
    *("platform", "os_version", "device_type", "device_model", "device_make"),
    *("browser", "language"),
)
_UNITS: Final[tuple[Unit, ...]] = ("hour", "date", "week", "month", "year")

COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {
        column.name: column
        for column in (
            *_NUMBERED,
            *(Column(name, name, is_of_few=name not in _FREE_TEXTS) for name in _TEXTS),
            *(Column(unit, "", is_of_few=True, time=unit) for unit in _UNITS),
        )
    }
)
ALIASES: Final[Mapping[str, str]] = MappingProxyType({"day": "date"})


def column_of(name: str) -> Column | None:
    """The column that requests call `name`."""
    return COLUMNS.get(ALIASES.get(name, name))
