"""All SQL of the table of keys. It reads only, one statement a page, and never a secret's column.

Each order is one that an index has, ending in the key's id, and a page begins behind a place by
comparing rows of values; so a page costs the same wherever it lies. A list of one status is made of
`_SEGMENTS`: the kept status that an index has, and the clock's part of it. The order by status is
one segment behind the other. Filters that no index serves (search, warnings, integration in another
order) are judged row by row on the way; the farther apart the hits, the longer the way.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

import asyncpg

from services.keys.domain import ShownStatus
from services.keys.table.domain import (
    STATUSES,
    Filters,
    Found,
    Listing,
    Place,
    Row,
    SortName,
    Value,
)
from services.keys.usage import store as usage
from services.keys.usage.domain import Use
from shared.errors import NotFoundError
from shared.postgres import Pool, translated

_COLUMNS: Final = """k.key_id, k.network_affiliate_id, k.integration, k.masked, k.status,
    k.allowlist, k.created_at, k.created_by, k.created_by_name, k.not_before, k.expires_at,
    k.ended_at, k.predecessor_key_id, k.successor_key_id,
    coalesce(p.name, '') AS partner_name, coalesce(a.suspended, false) AS is_suspended,
    u.used_at, u.last_ip, u.last_endpoint, u.count_on_day, u.many_networks_at,
    CASE WHEN old.status = 'active' AND (old.expires_at IS NULL OR old.expires_at > $2)
         THEN old_use.last_used_at END AS predecessor_used_at"""
_TABLES: Final = """keys k
    JOIN key_usage u ON u.network_id = k.network_id AND u.key_id = k.key_id
    LEFT JOIN partners p ON p.network_id = k.network_id
        AND p.network_affiliate_id = k.network_affiliate_id
    LEFT JOIN partner_access a ON a.network_id = k.network_id
        AND a.network_affiliate_id = k.network_affiliate_id
    LEFT JOIN keys old ON old.network_id = k.network_id AND old.key_id = k.predecessor_key_id
    LEFT JOIN key_usage old_use ON old_use.key_id = old.key_id"""
# $1 is the network and $2 the moment, here and in every list.
_ONE: Final = f"""
SELECT {_COLUMNS} FROM {_TABLES} WHERE k.network_id = $1 AND k.key_id = $3"""  # noqa: S608

# The columns of a place. A time that never comes is later than all others.
_ORDERS: Final[dict[SortName, tuple[str, ...]]] = {
    "created_at": ("k.created_at", "k.key_id"),
    "last_used_at": ("u.last_used_at", "u.key_id"),
    "expires_at": ("coalesce(k.expires_at, 'infinity')", "k.key_id"),
    "integration": ('lower(k.integration) COLLATE "C"', "k.key_id"),
    "partner": ("k.network_affiliate_id", "k.created_at", "k.key_id"),
    "status": ("k.created_at", "k.key_id"),
}
_UNENDED: Final = "(k.expires_at IS NULL OR k.expires_at > $2)"
_SEGMENTS: Final[dict[ShownStatus, tuple[str, ...]]] = {
    "active": (f"k.status = 'active' AND k.not_before <= $2 AND {_UNENDED}",),
    "expired": ("k.status = 'expired'", "k.status = 'active' AND k.expires_at <= $2"),
    "revoked": ("k.status = 'revoked'",),
    "scheduled": (
        f"k.status = 'active' AND k.not_before > 0 AND k.not_before > $2 AND {_UNENDED}",
    ),
}
"""What `Row.shown_status` says at the moment $2, each part with a kept status."""


class TableStore:
    """What the table shows of one network."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self,
        listing: Listing,
        behind: Place | None,
        *,
        now: float,
        limit: int,
        issued_until: float | None = None,
    ) -> list[Found]:
        """Up to `limit` rows of a list, in its order.

        Args:
            listing: the list.
            behind: the place that they follow; None for the beginning.
            now: the moment by which status and warnings are judged; seconds, UTC.
            limit: rows.
            issued_until: only keys that were issued by then; None for all.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        question = _Question(listing, now, limit)
        if issued_until is not None:
            question.require_issued_until(issued_until)
        statement = question.statement(_segments(listing, behind))
        if not statement:
            return []
        with translated("listing keys"):
            rows = await self._pool.fetch(statement, *question.values)
        return [_found(row, listing, now) for row in rows]

    async def one(self, network_id: int, key_id: str, now: float) -> Row:
        """A key of the network.

        Raises:
            NotFoundError: the network has no such key.
            UnavailableError: Postgres does not answer.
        """
        with translated("reading a key"):
            row = await self._pool.fetchrow(_ONE, network_id, now, key_id)
        if row is None:
            raise NotFoundError
        return _row(row)


class _Segment(NamedTuple):
    """A part of a list with one order of its own, behind all segments of a lower rank."""

    rank: int
    condition: str
    behind: Place | None


class _Question:
    """A page of a list as a statement and its arguments, $1 the network and $2 the moment."""

    def __init__(self, listing: Listing, now: float, limit: int) -> None:
        self.values: list[Any] = [listing.network_id, now]
        self._order = _ORDERS[listing.sort_name]
        self._direction = "DESC" if listing.is_descending else "ASC"
        self._limit = self._argument(limit)
        self._conditions = ["k.network_id = $1", "u.network_id = $1"]
        self._conditions += self._filtered(listing.filters)

    def require_issued_until(self, moment: float) -> None:
        """Leave out keys that were issued later."""
        self._conditions.append(f"k.created_at <= {self._argument(moment)}")

    def statement(self, segments: Iterable[_Segment]) -> str:
        """The page that begins with these parts; empty if there are none."""
        parts = [self._part(segment) for segment in segments]
        if not parts:
            return ""
        if len(parts) == 1:
            return parts[0]
        places = [f"place_{number} {self._direction}" for number in range(len(self._order))]
        union = " UNION ALL ".join(f"({part})" for part in parts)
        return (
            f"SELECT * FROM ({union}) AS found"  # noqa: S608
            f" ORDER BY rank, {', '.join(places)} LIMIT {self._limit}"
        )

    def _part(self, segment: _Segment) -> str:
        """The rows of one segment, as many as the page may need."""
        where = [*self._conditions, segment.condition or "true"]
        if segment.behind is not None:
            sign = "<" if self._direction == "DESC" else ">"
            place = [self._argument(_kept(value)) for value in segment.behind]
            where.append(f"({', '.join(self._order)}) {sign} ({', '.join(place)})")
        places = [f"{column} AS place_{number}" for number, column in enumerate(self._order)]
        sorting = [f"{column} {self._direction}" for column in self._order]
        return (
            f"SELECT {segment.rank} AS rank, {', '.join(places)}, {_COLUMNS} FROM {_TABLES}"  # noqa: S608
            f" WHERE {' AND '.join(where)} ORDER BY {', '.join(sorting)} LIMIT {self._limit}"
        )

    def _filtered(self, filters: Filters) -> Iterator[str]:
        """The conditions of all filters but the status."""
        if filters.network_affiliate_id is not None:
            yield f"k.network_affiliate_id = {self._argument(filters.network_affiliate_id)}"
        if filters.integration is not None:
            name = self._argument(filters.integration)
            yield f'lower(k.integration) COLLATE "C" = lower({name}) COLLATE "C"'
        if filters.warning is not None:
            yield usage.condition(filters.warning, "$2")
        if filters.search is not None:
            text = self._argument(filters.search)
            names = ("k.integration", "p.name", "k.created_by_name")
            parts = [f"strpos(lower({name}), lower({text})) > 0" for name in names]
            yield f"({' OR '.join(parts)} OR k.key_id = {text} OR right(k.masked, 4) = {text})"

    def _argument(self, value: Any) -> str:
        """The place of `value` in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"


def _segments(listing: Listing, behind: Place | None) -> Iterator[_Segment]:
    """The parts of a list from a place on."""
    wanted = listing.filters.status
    if listing.sort_name != "status":
        for condition in _SEGMENTS[wanted] if wanted else ("",):
            yield _Segment(0, condition, behind)
        return
    ordered = STATUSES[::-1] if listing.is_descending else STATUSES
    first = ordered.index(cast("ShownStatus", behind[0])) if behind else 0
    for rank, status in enumerate(ordered[first:]):
        if wanted in (None, status):
            for condition in _SEGMENTS[status]:
                yield _Segment(rank, condition, behind[1:] if behind and rank == 0 else None)


def _kept(value: Value) -> Value:
    return math.inf if value is None else value


def _found(row: asyncpg.Record, listing: Listing, now: float) -> Found:
    found = _row(row)
    columns = range(len(_ORDERS[listing.sort_name]))
    place = tuple(_told(row[f"place_{number}"]) for number in columns)
    if listing.sort_name == "status":
        place = (found.shown_status(now), *place)
    return Found(found, place)


def _told(value: Value) -> Value:
    return None if value == math.inf else value


def _row(row: asyncpg.Record) -> Row:
    return Row(
        key_id=row["key_id"],
        network_affiliate_id=row["network_affiliate_id"],
        partner_name=row["partner_name"],
        is_suspended=row["is_suspended"],
        integration=row["integration"],
        masked=row["masked"],
        status=row["status"],
        allowlist=tuple(row["allowlist"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        created_by_name=row["created_by_name"],
        not_before=row["not_before"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        predecessor_key_id=row["predecessor_key_id"],
        successor_key_id=row["successor_key_id"],
        last=Use(row["used_at"], row["last_ip"], row["last_endpoint"]),
        count_on_day=row["count_on_day"],
        many_networks_at=row["many_networks_at"],
        predecessor_used_at=row["predecessor_used_at"],
    )
