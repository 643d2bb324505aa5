"""All SQL of the catalog.

The writing functions are what a `PostgresSink` applies inside its transaction. The reading class is
the only way to the rows: each of its methods takes a `Scope`, which stands in the query's condition
and, for row-level security, in the transaction's settings.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from services.reporting.catalog import domain
from services.reporting.catalog.domain import Change, Thing
from services.reporting.catalog.links import Linker
from services.reporting.catalog.search import NUMBERS, OfferSearch
from services.reporting.reading import reading
from services.reporting.scope import Scope
from shared.batches import Item
from shared.errors import InvalidError
from shared.events import NetworkProfile, Offer, OfferPartner, PartnerProfile, Referral
from shared.postgres import Connection, Pool

T = TypeVar("T", Offer, OfferPartner, NetworkProfile, PartnerProfile)

# --- writing --------------------------------------------------------------------------------------

_BEGIN_PROJECTING: Final = "SELECT set_config('portico.projecting', 'on', true)"

# Each keeps a row of the same or a higher version as it is, also if its thing was removed.
_SAVE_OFFERS: Final = """
INSERT INTO offers AS held (
    network_id, network_offer_id, version, described, is_active, is_public, name, offer_status,
    visibility, currency_id, network_category_id, time_created, time_saved, document
)
SELECT a, b, c, c, d, e, f, g, h, i, j, k, l, m::json
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $5::boolean[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[]
) AS new(a, b, c, d, e, f, g, h, i, j, k, l, m)
ON CONFLICT (network_id, network_offer_id) DO UPDATE
SET version = excluded.version, described = excluded.described, is_active = excluded.is_active,
    is_public = excluded.is_public, name = excluded.name, offer_status = excluded.offer_status,
    visibility = excluded.visibility, currency_id = excluded.currency_id,
    network_category_id = excluded.network_category_id, time_created = excluded.time_created,
    time_saved = excluded.time_saved, document = excluded.document
WHERE held.version < excluded.version
    OR (held.version = excluded.version AND held.described IS DISTINCT FROM held.version
        AND held.document IS NOT NULL)
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
_SAVE_PARTNERS: Final = """
INSERT INTO partners AS held (network_id, network_affiliate_id, version, document)
SELECT a, b, c, d::json
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS new(a, b, c, d)
ON CONFLICT (network_id, network_affiliate_id) DO UPDATE
SET version = excluded.version, document = excluded.document
WHERE held.version < excluded.version
"""
_SAVE_REFERRALS: Final = """
INSERT INTO referrals AS held (
    network_id, referral_history_id, version, network_affiliate_id, unix_timestamp, status,
    currency_id, amount, document
)
SELECT a, b, c, d, e, f, g, h, i::json
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
    $8::numeric[], $9::text[]
) AS new(a, b, c, d, e, f, g, h, i)
ON CONFLICT (network_id, referral_history_id) DO UPDATE
SET version = excluded.version, network_affiliate_id = excluded.network_affiliate_id,
    unix_timestamp = excluded.unix_timestamp, status = excluded.status,
    currency_id = excluded.currency_id, amount = excluded.amount, document = excluded.document
WHERE held.version < excluded.version
"""

# Each empties the row and keeps its version (0 of a thing never seen). The removal applied last
# does nothing when it is sent again, since the thing may have come back meanwhile.
_REMOVE_OFFERS: Final = """
INSERT INTO offers AS held
    (network_id, network_offer_id, removal_id, version, is_active, is_public)
SELECT *, 0, false, false FROM unnest($1::bigint[], $2::bigint[], $3::text[])
ON CONFLICT (network_id, network_offer_id) DO UPDATE
SET is_active = false, name = NULL, document = NULL, removal_id = excluded.removal_id
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
_REMOVE_PARTNERS: Final = """
INSERT INTO partners AS held (network_id, network_affiliate_id, removal_id, version)
SELECT *, 0 FROM unnest($1::bigint[], $2::bigint[], $3::text[])
ON CONFLICT (network_id, network_affiliate_id) DO UPDATE
SET document = NULL, removal_id = excluded.removal_id
WHERE held.removal_id IS DISTINCT FROM excluded.removal_id
"""
_REMOVE_REFERRALS: Final = """
INSERT INTO referrals AS held (network_id, referral_history_id, removal_id, version)
SELECT *, 0 FROM unnest($1::bigint[], $2::bigint[], $3::text[])
ON CONFLICT (network_id, referral_history_id) DO UPDATE
SET document = NULL, removal_id = excluded.removal_id
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
        lambda offer: (
            domain.is_active(offer),
            domain.is_public(offer),
            offer.name.replace("\0", ""),
            offer.offer_status,
            offer.visibility,
            offer.currency_id,
            offer.category.network_category_id,
            offer.time_created,
            offer.time_saved,
        ),
    ),
    OfferPartner: _Table(
        _SAVE_OFFER_PARTNERS, _REMOVE_OFFER_PARTNERS, lambda terms: (domain.grant(terms),)
    ),
    NetworkProfile: _Table(_SAVE_NETWORKS, _REMOVE_NETWORKS, lambda _: ()),
    PartnerProfile: _Table(_SAVE_PARTNERS, _REMOVE_PARTNERS, lambda _: ()),
    Referral: _Table(
        _SAVE_REFERRALS,
        _REMOVE_REFERRALS,
        lambda referral: (
            referral.network_affiliate_id,
            referral.unix_timestamp,
            referral.status,
            referral.currency_id,
            Decimal(str(referral.amount)),
        ),
    ),
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

Listing: TypeAlias = Literal["runnable", "visible"]

# An offer with the partner's own terms, and the rules of `domain.may_run` and `domain.may_see`.
_OFFERS: Final = """
FROM offers AS o
LEFT JOIN offer_partners AS p
    ON p.network_id = $1 AND p.network_affiliate_id = $2
    AND p.network_offer_id = o.network_offer_id
WHERE o.network_id = $1
"""
_LISTED: Final[Mapping[Listing, str]] = {
    "runnable": f"{_OFFERS} AND o.is_active AND coalesce(p.may_run, o.is_public)",
    "visible": f"""{_OFFERS} AND o.is_active
        AND coalesce(p.may_run, o.described = o.version AND o.visibility <> 'private')""",
}
_SELECTED: Final = "SELECT o.document AS offer, p.document AS terms"
_OFFER: Final = f"{_SELECTED} {_OFFERS} AND o.network_offer_id = $3 AND o.document IS NOT NULL"
_NETWORK: Final = """
SELECT document FROM networks WHERE network_id = $1 AND document IS NOT NULL
"""
_PARTNER: Final = """
SELECT document FROM partners
WHERE network_id = $1 AND network_affiliate_id = $2 AND document IS NOT NULL
"""
_MENTIONS: Final = (
    "(position(lower({text}) IN lower(o.name)) > 0 OR o.network_offer_id::text = {text})"
)


def _matching(search: OfferSearch, values: list[object]) -> str:
    """The conditions of `search`; each value is appended to `values` and stands as a parameter."""

    def bound(value: object, kind: str) -> str:
        values.append(value)
        return f"${len(values)}::{kind}"

    conditions = ["o.described = o.version"] if search.conditions or search.text else []
    conditions += [
        f"o.{condition.field} {condition.operator} "
        + bound(condition.value, "bigint" if condition.field in NUMBERS else "text")
        for condition in search.conditions
    ]
    if search.text:
        conditions.append(_MENTIONS.format(text=bound(search.text, "text")))
    return "".join(f" AND {condition}" for condition in conditions)


OfferRow: TypeAlias = tuple[Offer, OfferPartner | None]
"""An offer with the partner's own terms, if there are any."""


@dataclass(frozen=True, slots=True)
class OfferPage:
    """One page of a list of offers.

    Attributes:
        total_count: on all pages.
        rows: offers by ascending id.
        linker: makes the partner's links.
    """

    total_count: int
    rows: list[OfferRow]
    linker: Linker


class Store:
    """The rows of one scope at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def offers(self, scope: Scope, search: OfferSearch, listing: Listing) -> OfferPage:
        """The active offers that the partner may run, or sees; all as of one moment."""
        values: list[object] = [scope.network_id, scope.network_affiliate_id]
        found = _LISTED[listing] + _matching(search, values)
        page = (
            f"{_SELECTED} {found} ORDER BY o.network_offer_id "
            f"OFFSET ${len(values) + 1} LIMIT ${len(values) + 2}"
        )
        async with self._reading(scope) as connection:
            count = await connection.fetchval(f"SELECT count(*) {found}", *values)
            rows = await connection.fetch(page, *values, search.page.offset, search.page.size)
            linker = await _linker(connection, scope)
        return OfferPage(count, [_offer_row(row) for row in rows], linker)

    async def offer(self, scope: Scope, offer_id: int) -> tuple[OfferRow, Linker] | None:
        """The offer with this id, whether the partner may see it or not; None if there is none."""
        async with self._reading(scope) as connection:
            row = await connection.fetchrow(
                _OFFER, scope.network_id, scope.network_affiliate_id, offer_id
            )
            linker = await _linker(connection, scope)
        return None if row is None else (_offer_row(row), linker)

    async def network(self, scope: Scope) -> NetworkProfile | None:
        """The partner's network, or None while the log has not named it."""
        async with self._reading(scope) as connection:
            return await _network(connection, scope)

    async def partner(self, scope: Scope) -> tuple[PartnerProfile | None, NetworkProfile | None]:
        """The partner and their network, each None while the log has not named it."""
        async with self._reading(scope) as connection:
            return await _partner(connection, scope), await _network(connection, scope)

    def _reading(self, scope: Scope) -> AbstractAsyncContextManager[Connection]:
        return reading(self._pool, scope, "the catalog")


async def _network(connection: Connection, scope: Scope) -> NetworkProfile | None:
    document = await connection.fetchval(_NETWORK, scope.network_id)
    return None if document is None else _thing(NetworkProfile, document)


async def _partner(connection: Connection, scope: Scope) -> PartnerProfile | None:
    ids = (scope.network_id, scope.network_affiliate_id)
    document = await connection.fetchval(_PARTNER, *ids)
    return None if document is None else _thing(PartnerProfile, document)


async def _linker(connection: Connection, scope: Scope) -> Linker:
    return Linker(
        scope.network_affiliate_id,
        await _network(connection, scope),
        await _partner(connection, scope),
    )


def _offer_row(row: Any) -> OfferRow:
    terms = row["terms"] and _thing(OfferPartner, row["terms"])
    return _thing(Offer, row["offer"]), terms


def _thing(kind: type[T], document: str) -> T:
    """A stored document, which was checked before it was stored."""
    return msgspec.json.decode(document, type=kind)
