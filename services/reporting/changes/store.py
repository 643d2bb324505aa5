"""All SQL of the change feed. Every query takes a `Scope`, and reads through the scoped view.

A place in the log is stored once or more, always with the same content, so no query needs FINAL:
pages are read in the order of the primary key and end where they are full. A page of 2,000 over
600,000 stored changes takes 0.1 s of a core, most of it for the history of its conversions.
"""
# ruff: noqa: S608 - no value is ever part of the text

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
from prometheus_client import Histogram

from services.reporting.changes.domain import Seen
from services.reporting.facts.shapes import CONVERSION, selected, shown
from services.reporting.facts.views import CHANGES_BETWEEN
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse

_ALL_BEFORE: Final = CHANGES_BETWEEN.replace("{since:UInt64}", "0")
_DECIDING: Final = (
    "_offset, toString(conversion_id), version, status, is_scrub,"
    " tuple(hold.holding_period_end, hold.status), revenue, sale_amount"
)
_OLDEST: Final = f"""
SELECT _offset, _appended FROM {CHANGES_BETWEEN}
WHERE _appended >= {{appended:UInt64}} ORDER BY _offset LIMIT 1
"""
_OFFSETS: Final = f"""
SELECT _offset FROM {CHANGES_BETWEEN} ORDER BY _offset LIMIT 1 BY _offset LIMIT {{count:UInt64}}
"""
_RECORDS: Final = f"""
SELECT {_DECIDING}, _appended, hold.on_hold_conversion_id
FROM {CHANGES_BETWEEN} ORDER BY _offset LIMIT 1 BY _offset
"""
_ROWS: Final = f"""
SELECT {selected(CONVERSION.json)}
FROM (SELECT * FROM {CHANGES_BETWEEN} ORDER BY _offset LIMIT 1 BY _offset) AS fact
ORDER BY fact._offset
"""
_HISTORY: Final = f"""
SELECT {_DECIDING} FROM {_ALL_BEFORE}
WHERE conversion_id IN (SELECT conversion_id FROM {CHANGES_BETWEEN})
"""


@dataclass(frozen=True, slots=True)
class Logged:
    """A conversion as one record of the log has it.

    Attributes:
        seen: what decides about it.
        appended_ms: when it was appended.
        hold_id: names its time on hold; empty if there was none.
        row: the public row, as JSON.
    """

    seen: Seen
    appended_ms: int
    hold_id: str
    row: msgspec.Raw


@dataclass(frozen=True, slots=True)
class LogPage:
    """Records that follow one another.

    Attributes:
        records: in the order of the log, each once.
        history: all records of the same conversions up to the last of `records`.
        next_offset: behind the page; None if nothing follows it.
    """

    records: list[Logged]
    history: list[Seen]
    next_offset: int | None


class ChangeStore:
    """The conversions log of all partners, one partner at a time."""

    def __init__(self, clickhouse: ClickHouse, seconds: Histogram) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds

    async def oldest(self, scope: Scope, *, until: int, appended_ms: int) -> tuple[int, int] | None:
        """Offset and append time of the first record since `appended_ms`, before offset `until`.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        found = await self._query("changes_oldest", _OLDEST, scope, 0, until, appended=appended_ms)
        return (int(found[0][0]), int(found[0][1])) if found else None

    async def page(self, scope: Scope, since: int, until: int, count: int) -> LogPage:
        """The first `count` records from offset `since` on, and before `until`.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        if since >= until:
            return LogPage([], [], None)
        found = await self._query("changes_find", _OFFSETS, scope, since, until, count=count + 1)
        offsets = [int(row[0]) for row in found]
        if not offsets:
            return LogPage([], [], None)
        end = offsets[:count][-1] + 1
        records = await self._query("changes", _RECORDS, scope, since, end)
        history = await self._query("changes_history", _HISTORY, scope, since, end)
        with self._seconds.labels("changes_rows").time():
            text = shown(await self._clickhouse.text(_ROWS, _values(scope, since, end)))
        rows = text.splitlines()
        return LogPage(
            [_logged(record, row) for record, row in zip(records, rows, strict=True)],
            [_seen(row) for row in history],
            end if len(offsets) > count else None,
        )

    async def _query(
        self, read: str, sql: str, scope: Scope, since: int, until: int, **more: int
    ) -> Sequence[tuple[Any, ...]]:
        with self._seconds.labels(read).time():
            return await self._clickhouse.query(sql, _values(scope, since, until) | more)


def _values(scope: Scope, since: int, until: int) -> dict[str, int]:
    return {
        "network": scope.network_id,
        "partner": scope.network_affiliate_id,
        "since": since,
        "until": until,
    }


def _seen(row: Sequence[Any]) -> Seen:
    offset, conversion_id, version, status, is_scrub, hold, revenue, sale_amount = row
    return Seen(
        offset=offset,
        conversion_id=conversion_id,
        version=version,
        status=status,
        is_scrub=is_scrub,
        hold=tuple(hold),
        revenue=Decimal(revenue),
        sale_amount=Decimal(sale_amount),
    )


def _logged(record: Sequence[Any], row: bytes) -> Logged:
    *deciding, appended_ms, hold_id = record
    return Logged(_seen(deciding), appended_ms, hold_id, msgspec.Raw(row))
