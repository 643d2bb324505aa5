"""Protects the table of keys against a plain model: what is in a list, in which order, and the walk.

The tables are real ones, since the orders and the filters are SQL; each example has a network of
its own.
"""

import asyncio
import itertools
import random
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.keys.table.domain import STATUSES, Filters, Found, Listing, Sort
from services.keys.table.store import TableStore
from services.keys.usage.domain import KeyWarning, Watched, warnings
from shared.postgres import Pool, migrate, open_pool
from tests.keys_table_parts import Stored, key_id, name_partner, put

NOW = 1_767_225_600.0
DAY = 86_400.0
PARTNERS = {7: "Cedar Coupons", 8: "100% Ümlaut_Deals", 9: ""}
MOMENTS = [
    NOW - 200 * DAY,
    NOW - 100 * DAY,
    NOW - 1.5 * DAY,
    NOW - 60,
    NOW,
    NOW + 60,
    NOW + 9 * DAY,
]
INTEGRATIONS = ["crm", "CRM", "Ärzte", "ärzte-2", "100%_a", "sheet"]
MASKED = ["aff_…abcd", "aff_…x7Qp"]
WALK_ROWS_MAX = 60
"""More rows than any example's list can have."""


@dataclass
class Tables:
    """A schema with the service's tables, and the loop on which they are read."""

    runner: asyncio.Runner
    pool: Pool

    @property
    def store(self) -> TableStore:
        return TableStore(self.pool)

    async def put(self, *rows: Stored) -> None:
        async with self.pool.acquire() as connection:
            await put(connection, rows)

    async def new_network(self) -> int:
        network_id = random.Random(uuid.uuid4().int).randrange(10**9, 2**52)
        async with self.pool.acquire() as connection:
            for partner, name in PARTNERS.items():
                if name:
                    await name_partner(connection, network_id, partner, name)
        return network_id


@pytest.fixture(scope="module")
def tables(database_url: str) -> Iterator[Tables]:
    schema = f"test_{uuid.uuid4().hex[:12]}"
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        opening = open_pool(database_url, schema=schema, application="test", size_max=2)
        pool = runner.run(stack.enter_async_context(opening))
        runner.run(migrate(pool, "services.keys.migrations"))
        yield Tables(runner, pool)
        runner.run(pool.execute(f'DROP SCHEMA "{schema}" CASCADE'))
        runner.run(stack.aclose())


@st.composite
def stored(draw, moments=tuple(MOMENTS)):
    """A key of network 0; values are few, so that most sorts meet equal ones."""
    moment = st.sampled_from(moments)
    status = draw(st.sampled_from(["active", "active", "revoked", "expired"]))
    return Stored(
        network_id=0,
        key_id=key_id(),
        network_affiliate_id=draw(st.sampled_from(list(PARTNERS))),
        integration=draw(st.sampled_from(INTEGRATIONS)),
        masked=draw(st.sampled_from(MASKED)),
        status=status,
        created_at=draw(moment),
        created_by_name=draw(st.sampled_from(["Ada", "Bob %", ""])),
        not_before=draw(st.sampled_from([0.0, *moments])),
        expires_at=draw(st.none() | moment),
        ended_at=None if status == "active" else draw(moment),
        used_at=draw(st.sampled_from([0.0, *moments])),
        many_networks_at=draw(st.sampled_from([0.0, NOW - 2 * DAY, NOW - 60])),
    )


@st.composite
def tables_of_keys(draw, size_max=12):
    """Keys of network 0, some of them in rotations."""
    keys = [
        replace(key, integration=key.integration)
        for key in draw(st.lists(stored(), max_size=size_max))
    ]
    for old in range(0, len(keys) - 1, 2):
        if draw(st.booleans()):
            keys[old] = replace(keys[old], successor_key_id=keys[old + 1].key_id, rotated_at=NOW)
            keys[old + 1] = replace(keys[old + 1], predecessor_key_id=keys[old].key_id)
    return unique_by_integration(keys)


def unique_by_integration(keys):
    """The same, in which a partner has one active key of an integration, as the tables insist."""
    found, seen = [], set()
    for number, key in enumerate(keys):
        name = (key.network_affiliate_id, key.integration.lower())
        if key.status == "active" and key.successor_key_id is None and name in seen:
            key = replace(key, integration=f"{key.integration} {number}")  # noqa: PLW2901
        seen.add(name)
        found.append(key)
    return found


def sort_key(sort: str, key: Stored):
    """Where a key stands in an order that ascends."""
    values = {
        "created_at": (key.created_at,),
        "last_used_at": (key.last_used_at,),
        "expires_at": (float("inf") if key.expires_at is None else key.expires_at,),
        "integration": (key.integration.lower(),),
        "partner": (key.network_affiliate_id, key.created_at),
        "status": (key.shown_status(NOW), key.created_at),
    }
    return (*values[sort.removeprefix("-")], key.key_id)


def warned(key: Stored, keys: list[Stored]) -> tuple[str, ...]:
    """The warnings of a key among its fellows, by the service's own rule."""
    old = next((other for other in keys if other.key_id == key.predecessor_key_id), None)
    works = old is not None and old.shown_status(NOW) in ("active", "scheduled")
    watched = Watched(
        is_active=key.shown_status(NOW) == "active",
        works_since=max(key.created_at, key.not_before),
        expires_at=key.expires_at,
        is_superseded=key.successor_key_id is not None,
        last_used_at=key.last_used_at,
        many_networks_at=key.many_networks_at,
        predecessor_used_at=old.last_used_at if old and works else None,
    )
    return warnings(watched, NOW)


def is_wanted(filters: Filters, key: Stored, keys: list[Stored]) -> bool:
    """Whether a key belongs to a list."""
    text = (filters.search or "").lower()
    names = (key.integration, PARTNERS[key.network_affiliate_id], key.created_by_name)
    return (
        filters.network_affiliate_id in (None, key.network_affiliate_id)
        and filters.status in (None, key.shown_status(NOW))
        and (filters.integration or key.integration).lower() == key.integration.lower()
        and (filters.warning is None or filters.warning in warned(key, keys))
        and (
            filters.search is None
            or any(text in name.lower() for name in names)
            or filters.search in (key.key_id, key.masked[-4:])
        )
    )


def expected(listing: Listing, keys: list[Stored]) -> list[Stored]:
    """The list, by the model."""
    chosen = [key for key in keys if is_wanted(listing.filters, key, keys)]
    return sorted(
        chosen, key=lambda key: sort_key(listing.sort, key), reverse=listing.is_descending
    )


filters = st.builds(
    Filters,
    network_affiliate_id=st.none() | st.sampled_from(list(PARTNERS)),
    status=st.none() | st.sampled_from(["active", "scheduled", "revoked", "expired"]),
    integration=st.none() | st.sampled_from(["crm", "ÄRZTE"]),
    warning=st.none() | st.sampled_from(get_args(KeyWarning)),
    search=st.none()
    | st.sampled_from(["%", "_", "\\", "ärz", "ada", "CEDAR", "abcd", "ABCD", "é"]),
)
sorts = st.sampled_from(get_args(Sort))
sizes = st.integers(1, 7)


async def walked(store: TableStore, listing: Listing, size: int, between=None) -> list[Found]:
    """All rows of a list, page by page through its cursors; `between` runs after each page."""
    found: list[Found] = []
    cursor = None
    while True:
        behind = listing.place(cursor) if cursor else None
        page = await store.page(listing, behind, now=NOW, limit=size)
        found += page
        assert len(found) <= WALK_ROWS_MAX, "the walk goes round"
        if len(page) < size:
            return found
        cursor = listing.cursor(page[-1].place)
        if between is not None:
            await between()


@given(tables_of_keys(), st.lists(st.tuples(filters, sorts, sizes), min_size=1, max_size=6))
def test_a_list_is_what_the_model_says(tables: Tables, keys, questions):
    """Each filter and all together, in each order, cut into pages of any size.

    A neighbour's keys, alike in everything, are in none of them.
    """

    async def check() -> None:
        network, neighbour = [await tables.new_network() for _ in range(2)]
        ours = [replace(key, network_id=network) for key in keys]
        theirs = [
            replace(key, network_id=neighbour, key_id=key_id(), predecessor_key_id=None)
            for key in keys
        ]
        await tables.put(*ours, *theirs)
        for chosen, sort, size in questions:
            listing = Listing(network, chosen, sort)
            found = await walked(tables.store, listing, size)
            told = [one.row.key_id for one in found]
            assert told == [key.key_id for key in expected(listing, ours)], listing

    tables.runner.run(check())


def broad() -> list[Stored]:
    """Keys of network 0 of which each single filter finds some, and each order meets equals."""
    dice = random.Random(4)
    keys = []
    for status in ("active", "active", "active", "revoked", "expired") * 8:
        moments = [dice.choice(MOMENTS) for _ in range(5)]
        keys.append(
            Stored(
                network_id=0,
                key_id=key_id(),
                network_affiliate_id=dice.choice(list(PARTNERS)),
                integration=dice.choice(INTEGRATIONS),
                masked=dice.choice(MASKED),
                status=status,
                created_at=moments[0],
                created_by_name=dice.choice(["Ada", "Bob %", ""]),
                not_before=dice.choice([0.0, 0.0, moments[1]]),
                expires_at=dice.choice([None, moments[2]]),
                ended_at=None if status == "active" else moments[3],
                used_at=dice.choice([0.0, moments[4]]),
                many_networks_at=dice.choice([0.0, NOW - 60]),
            )
        )
    for old, new in ((0, 1), (6, 7), (12, 15)):
        keys[old] = replace(keys[old], successor_key_id=keys[new].key_id, rotated_at=NOW)
        keys[new] = replace(keys[new], predecessor_key_id=keys[old].key_id)
    return unique_by_integration(keys)


SINGLE = [
    Filters(),
    *(Filters(status=status) for status in STATUSES),
    *(Filters(network_affiliate_id=partner) for partner in PARTNERS),
    *(Filters(integration=name) for name in ("crm", "ÄRZTE")),
    *(Filters(warning=warning) for warning in get_args(KeyWarning)),
    *(Filters(search=text) for text in ("%", "_", "ärz", "aDa", "CEDAR", "abcd", "x7Qp", "\\")),
]


def test_each_filter_and_each_order_is_the_models(tables: Tables):
    """One by one over one table; each filter but one finds some keys, and none finds all."""

    async def check() -> None:
        network = await tables.new_network()
        ours = [replace(key, network_id=network) for key in broad()]
        await tables.put(*ours)
        exact = [Filters(search=ours[3].key_id)]
        sizes = itertools.cycle((3, 7, 11, 50))
        for chosen, sort in itertools.product(SINGLE + exact, get_args(Sort)):
            listing = Listing(network, chosen, sort)
            wanted = [key.key_id for key in expected(listing, ours)]
            assert wanted or chosen.search == "\\", chosen
            assert len(wanted) < len(ours) or chosen == Filters(), chosen
            found = await walked(tables.store, listing, next(sizes))
            assert [one.row.key_id for one in found] == wanted, listing

    tables.runner.run(check())


@given(tables_of_keys())
def test_a_row_tells_what_the_model_says(tables: Tables, keys):
    """Status, use and warnings; and alone as in the list."""

    async def check() -> None:
        network = await tables.new_network()
        ours = [replace(key, network_id=network) for key in keys]
        await tables.put(*ours)
        by_id = {key.key_id: key for key in ours}
        for found in await tables.store.page(Listing(network), None, now=NOW, limit=100):
            row, key = found.row, by_id.pop(found.row.key_id)
            assert row.shown_status(NOW) == key.shown_status(NOW)
            assert row.warnings(NOW) == warned(key, ours)
            assert row.partner_name == PARTNERS[key.network_affiliate_id]
            assert (row.last.at, row.last.minute) == (key.used_at, key.last_used_at)
            assert row == await tables.store.one(network, key.key_id, NOW)
        assert by_id == {}

    tables.runner.run(check())


@given(
    tables_of_keys(size_max=16),
    st.lists(
        st.tuples(st.sampled_from(["issue", "revoke", "use"]), stored(), st.integers(0, 99)),
        max_size=12,
    ),
    sorts,
    sizes,
    st.none() | st.sampled_from(["active", "revoked", "scheduled", "expired"]),
)
def test_no_unchanged_row_is_repeated_or_left_out(tables: Tables, keys, steps, sort, size, status):
    """While others are issued, revoked and used between any two pages."""

    async def check() -> None:
        network = await tables.new_network()
        ours = [replace(key, network_id=network) for key in keys]
        await tables.put(*ours)
        listing = Listing(network, Filters(status=status), sort)
        before = expected(listing, ours)
        changed: set[str] = set()
        waiting = iter(steps)

        async def change() -> None:
            deed, key, number = next(waiting, ("none", None, 0))
            key_id = ours[number % len(ours)].key_id
            if deed == "issue":
                fresh = replace(
                    key, network_id=network, integration=f"{key.integration} new {number}"
                )
                if fresh.key_id not in changed:
                    changed.add(fresh.key_id)
                    await tables.put(fresh)
            elif deed == "revoke":
                changed.add(key_id)
                await tables.pool.execute(
                    "UPDATE keys SET status = 'revoked', ended_at = $2 WHERE key_id = $1",
                    key_id,
                    NOW,
                )
            elif deed == "use":
                changed.add(key_id)
                await tables.pool.execute(
                    "UPDATE key_usage SET used_at = $2 WHERE key_id = $1", key_id, key.used_at
                )

        found = await walked(tables.store, listing, size, change)
        unchanged = [one.row.key_id for one in found if one.row.key_id not in changed]
        assert unchanged == [key.key_id for key in before if key.key_id not in changed]
        places = [listing.cursor(one.place) for one in found]
        assert len(set(places)) == len(places)

    tables.runner.run(check())
