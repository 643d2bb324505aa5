"""What the lists of reference hold; see the package for where each comes from."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.reporting.asking.answers import Answer
from services.reporting.meta import world
from services.reporting.scope import Scope
from services.reporting.timezones import TIMEZONES
from services.reporting.traffic import Names
from shared.clock import Clock

EMPTY: Final = "N/A"


Row = Mapping[str, tuple[str, str]]
"""Id and label by column."""


def _country(row: Row) -> dict[str, Any]:
    code = row["country_code"][0]
    known = "" if code == EMPTY else code
    return {"country_code": known, "country_id": world.country_id(known)}


def _text(value: tuple[str, str]) -> str:
    return "" if value[0] == EMPTY else value[0]


@dataclass(frozen=True, slots=True)
class TrafficList:
    """A list that comes from the caller's traffic.

    Attributes:
        columns: of reports; an entry exists where the first is known.
        entry: what it looks like.
    """

    columns: tuple[str, ...]
    entry: Callable[[Row], dict[str, Any]]


def _named(column: str) -> TrafficList:
    return TrafficList((column,), lambda row: {"label": row[column][0]})


TRAFFIC_LISTS: Final[Mapping[str, TrafficList]] = {
    "regions": TrafficList(
        ("region", "country_code"), lambda row: {"label": row["region"][0]} | _country(row)
    ),
    "cities": TrafficList(
        ("city", "region", "country_code"),
        lambda row: {"label": row["city"][0], "region": _text(row["region"])} | _country(row),
    ),
    "dmas": TrafficList(
        ("dma",), lambda row: {"dma_id": int(row["dma"][0]), "label": row["dma"][1]}
    ),
    "mobile_carriers": TrafficList(
        ("carrier", "country_code"), lambda row: {"label": row["carrier"][0]} | _country(row)
    ),
    "browsers": _named("browser"),
    "platforms": _named("platform"),
    "connection_types": _named("connection_type"),
    "os_versions": TrafficList(
        ("os_version", "platform"),
        lambda row: {"label": row["os_version"][0], "platform": _text(row["platform"])},
    ),
    "devices": TrafficList(
        ("device_model", "device_make", "device_type"),
        lambda row: {
            "label": row["device_model"][0],
            "brand": _text(row["device_make"]),
            "device_type": _text(row["device_type"]),
        },
    ),
}
"""By the member of the answer that holds it."""


class Lists:
    """Answers with lists.

    Args:
        names: which values occur together in a partner's facts, by columns.
        clock: the time.
    """

    def __init__(
        self, names: Callable[[Scope, Sequence[str]], Awaitable[Names]], clock: Clock
    ) -> None:
        self._names = names
        self._clock = clock

    def timezones(self) -> Answer:
        """All zones as they are now."""
        now = self._clock.time()
        zones = [
            {
                "timezone_id": zone.timezone_id,
                "timezone_name": zone.display_name(now),
                "timezone": zone.name,
                "utc_offset": zone.utc_offset(now),
            }
            for zone in TIMEZONES.values()
        ]
        return Answer({"timezones": zones}, now)

    def countries(self) -> Answer:
        """All countries by name."""
        listed = [
            {"country_id": number, "country_code": code, "label": name}
            for number, code, name in world.countries()
        ]
        return Answer({"countries": listed}, self._clock.time())

    def currencies(self) -> Answer:
        """All currencies by code."""
        listed = [{"currency_id": code, "label": name} for code, name in world.currencies()]
        return Answer({"currencies": listed}, self._clock.time())

    def languages(self) -> Answer:
        """All languages by name."""
        listed = [
            {"browser_language_id": number, "language_code": code, "label": name}
            for number, code, name in world.languages()
        ]
        return Answer({"browser_languages": listed}, self._clock.time())

    async def of_traffic(self, scope: Scope | None, name: str) -> Answer:
        """The list `name` of `TRAFFIC_LISTS`, by label; empty for a caller who has no traffic.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        if scope is None:
            return Answer({name: []}, self._clock.time())
        wanted = TRAFFIC_LISTS[name]
        found = await self._names(scope, wanted.columns)
        rows = [dict(zip(wanted.columns, row, strict=True)) for row in sorted(found.rows)]
        listed = [wanted.entry(row) for row in rows if row[wanted.columns[0]][0] != EMPTY]
        return Answer({name: listed}, found.through)
