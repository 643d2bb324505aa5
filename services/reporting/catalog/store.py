"""All SQL of the catalog.

The writing functions are what a `PostgresSink` applies inside its transaction. The reading class is
the only way to the rows: each of its methods takes a `Scope`, which stands in the query's condition
and, for row-level security, in the transaction's settings.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from services.reporting.catalog import domain
from services.reporting.catalog.domain import Change, Thing
from services.reporting.paging import Page
from services.reporting.scope import Scope
from shared.batches import Item
from shared.errors import InvalidError
from shared.events import NetworkProfile, Offer, OfferPartner
from shared.postgres import Connection, Pool, translated

T = TypeVar("T", Offer, OfferPartner, NetworkProfile)

# --- writing --------------------------------------------------------------------------------------

_BEGIN_PROJECTING: Final = "SELECT set_config('portico.projecting', 'on', true)"

# Each keeps a row of the same or a higher version as it is, also if its thing was removed.
_SAVE_OFFERS: Final = """
INSERT INTO offers AS held
    (network_id, network_offer_id, version, is_active, is_public, document)
SELECT a, b, c, d, e, f::json
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $5::boolean[], $6::text[])
    AS new(a, b, c, d, e, f)
ON CONFLICT (network_id, network_offer_id) DO UPDATE
SET version = excluded.version, is_active = excluded.is_active, is_public = excluded.is_public,
    document = excluded.document
WHERE held.version < excluded.version
"""
_SAVE_OFFER_PARTNERS: Final = """
INSERT INTO offer_partners AS held
    (network_id, network_offer_id, network_affiliate_id, version, may_run, document)
SELECT a, b, c, d, e, f::json
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[])
    AS new(a, b, c, d, e, f)
ON CONFLICT (network_id, network_affiliate_id, network_offer_id) DO UPDATE
SET version = excluded.version, may_run = excluded.may_run, document = excluded.document
WHERE held.version < excluded.version
"""
_SAVE_NETWORKS: Final = """
INSERT INTO networks AS held (network_id, version, document)
SELECT a, b, c::json FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new(a, b, c)
ON CONFLICT (network_id) DO UPDATE
SET version = excluded.version, document = excluded.document
WHERE held.version < excluded.version
"""

# Each empties the row and keeps its version (0 of a thing never seen). The removal applied last
# does nothing when it is sent again, since the thing may have come back meanwhile.
_REMOVE_OFFERS: Final = """
INSERT INTO offers AS held
    (network_id, network_offer_id, removal_id, version, is_active, is_public)
SELECT *, 0, false, false FROM unnest($1::bigint[], $2::bigint[], $3::text[])
ON CONFLICT (network_id, network_offer_id) DO UPDATE
SET is_active = false, document = NULL, removal_id = excluded.removal_id
WHERE held.removal_id IS DISTINCT FROM excluded.removal_id
"""
_REMOVE_OFFER_PARTNERS: Final = """
INSERT INTO offer_partners AS held
    (network_id, network_offer_id, network_affiliate_id, removal_id, version)
SELECT *, 0 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
ON CONFLICT (network_id, network_affiliate_id, network_offer_id) DO UPDATE
SET may_run = NULL, document = NULL, removal_id = excluded.removal_id
WHERE held.removal_id IS DISTINCT FROM excluded.removal_id
"""
_REMOVE_NETWORKS: Final = """
INSERT INTO networks AS held (network_id, removal_id, version)
SELECT *, 0 FROM unnest($1::bigint[], $2::text[])
ON CONFLICT (network_id) DO UPDATE SET document = NULL, removal_id = excluded.removal_id
WHERE held.removal_id IS DISTINCT FROM excluded.removal_id
"""


@dataclass(frozen=True, slots=True)
class _Table:
    """How changes of one kind are written.

    Attributes:
        save: upserts key, version, facts and document.
        remove: empties rows by key and removal.
        facts: what is stored beside the document, since queries decide by it.
    """

    save: str
    remove: str
    facts: Callable[[Any], tuple[object, ...]]


_TABLES: Final[Mapping[type[Thing], _Table]] = {
    Offer: _Table(
        _SAVE_OFFERS,
        _REMOVE_OFFERS,
        lambda offer: (domain.is_active(offer), domain.is_public(offer)),
    ),
    OfferPartner: _Table(
        _SAVE_OFFER_PARTNERS, _REMOVE_OFFER_PARTNERS, lambda terms: (domain.grant(terms),)
    ),
    NetworkProfile: _Table(_SAVE_NETWORKS, _REMOVE_NETWORKS, lambda _: ()),
}


async def apply(connection: Connection, items: Sequence[Item[Change]]) -> None:
    """Write a batch of catalog changes: what `PostgresSink` needs.

    The same or an older version of a thing changes nothing, so a batch may come twice.
    """
    await connection.execute(_BEGIN_PROJECTING)
    for kind, table in _TABLES.items():
        changes = [
            (item.event, item.record.value) for item in items if domain.kind_of(item.event) is kind
        ]
        for wave in domain.waves(changes):
            await _write(connection, table, wave)


async def _write(connection: Connection, table: _Table, wave: domain.Wave) -> None:
    if wave.saved:
        rows = [
            (*key, thing.version, *table.facts(thing), _text(document))
            for key, (thing, document) in wave.saved.items()
        ]
        await connection.execute(table.save, *_columns(rows))
    if wave.removed:
        gone = [(*key, removed.event_id) for key, removed in wave.removed.items()]
        await connection.execute(table.remove, *_columns(gone))


def _text(document: bytes) -> str:
    try:
        return document.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"not UTF-8: {error}") from error


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


# --- reading --------------------------------------------------------------------------------------

_SET_SCOPE: Final = """
SELECT set_config('portico.network_id', $1, true),
       set_config('portico.network_affiliate_id', $2, true)
"""

# The rule of `domain.may_run`, in SQL.
_RUNNABLE: Final = """
FROM offers AS o
LEFT JOIN offer_partners AS p
    ON p.network_id = $1 AND p.network_affiliate_id = $2
    AND p.network_offer_id = o.network_offer_id
WHERE o.network_id = $1 AND o.is_active AND coalesce(p.may_run, o.is_public)
"""
_COUNT_RUNNABLE: Final = f"SELECT count(*) {_RUNNABLE}"
_PAGE_RUNNABLE: Final = f"""
SELECT o.document AS offer, p.document AS terms {_RUNNABLE}
ORDER BY o.network_offer_id OFFSET $3 LIMIT $4
"""
_NETWORK: Final = """
SELECT document FROM networks WHERE network_id = $1 AND document IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class RunnableOffers:
    """One page of what a partner may run.

    Attributes:
        total_count: on all pages.
        rows: offers by ascending id, each with the partner's own terms if there are any.
    """

    total_count: int
    rows: list[tuple[Offer, OfferPartner | None]]


class Store:
    """The rows of one scope at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def runnable(self, scope: Scope, page: Page) -> RunnableOffers:
        """The offers that the partner may run, count and page as of one moment."""
        async with self._reading(scope) as connection:
            ids = (scope.network_id, scope.network_affiliate_id)
            count = await connection.fetchval(_COUNT_RUNNABLE, *ids)
            rows = await connection.fetch(_PAGE_RUNNABLE, *ids, page.offset, page.size)
        return RunnableOffers(
            count,
            [
                (_thing(Offer, row["offer"]), row["terms"] and _thing(OfferPartner, row["terms"]))
                for row in rows
            ],
        )

    async def network(self, scope: Scope) -> NetworkProfile | None:
        """The partner's network, or None while the log has not named it."""
        async with self._reading(scope) as connection:
            document = await connection.fetchval(_NETWORK, scope.network_id)
        return None if document is None else _thing(NetworkProfile, document)

    @asynccontextmanager
    async def _reading(self, scope: Scope) -> AsyncIterator[Connection]:
        """One consistent view of the rows of `scope`; all reading goes through here."""
        with translated("reading the catalog"):
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute(
                    _SET_SCOPE, str(scope.network_id), str(scope.network_affiliate_id)
                )
                yield connection


def _thing(kind: type[T], document: str) -> T:
    """A stored document, which was checked before it was stored."""
    return msgspec.json.decode(document, type=kind)
