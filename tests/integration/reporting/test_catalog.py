"""Protects the catalog on a real Postgres and Kafka: versions, removals, scope, paging, shapes."""

import asyncio
import dataclasses
import itertools
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from services.reporting.catalog import domain
from services.reporting.catalog.handlers import TOPICS, Check
from services.reporting.catalog.search import OfferSearch
from services.reporting.catalog.store import Listing, Store, apply
from services.reporting.paging import Page
from services.reporting.scope import Scope
from shared import events
from shared.kafka import open_producer
from shared.postgres import Pool, migrate, open_pool
from shared.projection import Limits, PostgresSink, Projection, ProjectionMetrics
from shared.topics import PARTNER_PARTITIONS, Topic
from tests import projection_parts
from tests.catalog_parts import (
    APPLICATIONS,
    OFFER_STATUSES,
    OFFER_VISIBILITIES,
    TERMS_VISIBILITIES,
    key_bytes,
    offer,
    partner,
    payout,
    profile,
    referral,
    removed,
    terms,
    write,
)
from tests.soak import count
from tests.waiting import until

A, B = Scope(1, 9), Scope(1, 10)
STRANGER = Scope(2, 9)


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.reporting.migrations")
        yield pool


@pytest.fixture
def store(pool: Pool) -> Store:
    return Store(pool)


ALL = OfferSearch(Page.asked(1, -1))


async def runnable(store: Store, scope: Scope = A) -> list[int]:
    return await listed(store, "runnable", scope)


async def listed(store: Store, listing: Listing, scope: Scope = A) -> list[int]:
    found = await store.offers(scope, ALL, listing)
    return [thing.network_offer_id for thing, _ in found.rows]


async def names(store: Store, scope: Scope = A) -> list[str]:
    found = await store.offers(scope, ALL, "runnable")
    return [thing.name for thing, _ in found.rows]


# --- versions and removals ------------------------------------------------------------------------


@pytest.mark.parametrize("versions", list(itertools.permutations((1, 2, 3))))
async def test_the_highest_version_stands_in_whatever_order_they_come(
    pool: Pool, store: Store, versions
) -> None:
    """Each in a batch of its own: an older one never replaces a newer one."""
    for version in versions:
        await write(pool, offer(70, version), profile(1, version))
    assert await names(store) == ["Offer 70, version 3"]
    assert (await store.network(A)).displayed_name == "Network 1, version 3"


async def test_a_batch_with_many_versions_comes_to_its_highest(pool: Pool, store: Store) -> None:
    """Also where the row is there already."""
    await write(pool, offer(70, 2))
    await write(pool, offer(70, 1), offer(70, 4), offer(71, 1), offer(70, 3))
    assert await names(store) == ["Offer 70, version 4", "Offer 71, version 1"]


async def test_the_same_version_again_changes_nothing(pool: Pool, store: Store) -> None:
    """A batch may come twice; the first of a version stands."""
    await write(pool, offer(70, 2, name="first"))
    await write(pool, offer(70, 2, name="second"))
    assert await names(store) == ["first"]


async def test_a_removed_offer_is_gone_for_everybody(pool: Pool, store: Store) -> None:
    """And nothing of its content stays in the database."""
    await write(pool, offer(70), offer(71))
    await write(pool, removed(offer(70)))
    assert await runnable(store) == [71]
    row = await pool.fetchrow("SELECT version, document FROM offers WHERE network_offer_id = 70")
    assert (row["version"], row["document"]) == (1, None)


@pytest.mark.parametrize("version", [2, 3])
async def test_an_older_event_does_not_bring_a_removed_thing_back(
    pool: Pool, store: Store, version
) -> None:
    """Nor does the very one that was removed, published again."""
    await write(pool, offer(70, 3), profile(1, 3))
    await write(pool, removed(offer(70)), removed(profile(1)))
    await write(pool, offer(70, version), profile(1, version))
    assert await runnable(store) == []
    assert await store.network(A) is None


async def test_a_newer_event_brings_a_removed_thing_back(pool: Pool, store: Store) -> None:
    """The control to the test above."""
    await write(pool, offer(70, 3), profile(1, 3))
    await write(pool, removed(offer(70)), removed(profile(1)))
    await write(pool, offer(70, 4), profile(1, 4))
    assert await names(store) == ["Offer 70, version 4"]
    assert (await store.network(A)).version == 4


async def test_a_removal_sent_again_does_not_remove_what_came_after(
    pool: Pool, store: Store
) -> None:
    """A producer that crashed repeats its last events; another removal does remove."""
    for change in (offer(70, 1), removed(offer(70), "e1"), offer(70, 2)):
        await write(pool, change)
    await write(pool, removed(offer(70), "e1"), offer(70, 2))
    assert await runnable(store) == [70]
    await write(pool, removed(offer(70), "e2"))
    assert await runnable(store) == []


async def test_a_removal_of_a_thing_never_seen_is_remembered(pool: Pool, store: Store) -> None:
    """The log may have forgotten the thing before we read it."""
    changes = (removed(offer(70), "e1"), offer(70, 1), removed(terms(70, 9), "e2"), terms(70, 9))
    await write(pool, *changes)
    await write(pool, *changes)
    assert await runnable(store) == [70]


async def test_a_row_of_the_release_before_is_private_until_it_is_read_again(
    pool: Pool, store: Store
) -> None:
    """That release knows nothing of the columns beside the document; the log brings them."""
    await write(pool, offer(70), offer(71, visibility="private"))
    await pool.execute("UPDATE offers SET described = NULL, visibility = NULL, name = NULL")
    assert await listed(store, "visible") == []
    assert await runnable(store) == [70]
    await write(pool, offer(70), offer(71, visibility="private"))
    assert await listed(store, "visible") == [70]
    shoes = OfferSearch(Page(), text="offer 70")
    assert (await store.offers(A, shoes, "visible")).total_count == 1


async def test_a_row_that_the_release_before_changed_shows_nothing_by_old_columns(
    pool: Pool, store: Store
) -> None:
    """An offer that became private during an upgrade is not listed by what it was before."""
    await write(pool, offer(70))
    await pool.execute(
        "UPDATE offers SET version = 2, is_public = false, document = $1::json",
        events.encode(offer(70, 2, visibility="private")).decode(),
    )
    assert await listed(store, "visible") == []


async def test_removed_terms_leave_the_offers_own_rule(pool: Pool, store: Store) -> None:
    """A partner who was hidden sees a public offer again; one who was let in loses a private one."""
    hidden, granted = terms(70, 9, visibility="hidden"), terms(71, 9, visibility="visible")
    await write(pool, offer(70), offer(71, visibility="private"), hidden, granted)
    assert await runnable(store) == [71]
    await write(pool, removed(hidden), removed(granted))
    assert await runnable(store) == [70]


async def test_any_history_in_any_batches_ends_as_its_changes_one_by_one(
    pool: Pool, store: Store
) -> None:
    """Generated histories of a few offers, against a plain account of what each change means."""
    for seed in range(count(12, 200)):
        dice = random.Random(seed)
        network_id = 1_000 + seed
        account: dict[int, tuple[int, bool]] = {}
        batch: list[domain.Change] = []
        for step in range(40):
            offer_id, version = dice.randint(1, 4), dice.randint(1, 6)
            thing = offer(offer_id, version, network_id=network_id)
            held, is_there = account.get(offer_id, (0, False))
            if dice.random() < 0.3:
                batch.append(removed(thing, f"e{step}"))
                account[offer_id] = (held, False)
            else:
                batch.append(thing)
                account[offer_id] = (version, True) if version > held else (held, is_there)
            if dice.random() < 0.3:
                await write(pool, *batch)
                batch = []
        await write(pool, *batch)
        found = await store.offers(Scope(network_id, 9), ALL, "runnable")
        assert [(thing.network_offer_id, thing.version) for thing, _ in found.rows] == [
            (offer_id, version)
            for offer_id, (version, is_there) in sorted(account.items())
            if is_there
        ], f"seed {seed}"


# --- who may run what -----------------------------------------------------------------------------


async def test_the_queries_list_exactly_what_the_rules_allow(pool: Pool, store: Store) -> None:
    """Every combination of status, visibility, terms and application, one offer each."""
    said = [None, *itertools.product(TERMS_VISIBILITIES, APPLICATIONS)]
    changes: list[domain.Change] = []
    runs, sees = [], []
    for offer_id, (status, visibility, own) in enumerate(
        itertools.product(OFFER_STATUSES, OFFER_VISIBILITIES, said), start=1
    ):
        thing = offer(offer_id, offer_status=status, visibility=visibility)
        row = own and terms(offer_id, 9, visibility=own[0], application_status=own[1])
        changes += [thing, row] if row else [thing]
        if domain.may_run(thing, row):
            runs.append(offer_id)
        if domain.is_active(thing) and domain.may_see(thing, row):
            sees.append(offer_id)
    await write(pool, *changes)
    assert await runnable(store) == runs
    assert await listed(store, "visible") == sees
    assert 0 < len(runs) < len(sees) < len(said) * 12


async def test_a_partner_never_sees_what_is_another_partners(pool: Pool, store: Store) -> None:
    """Not the links, not the payouts, not the private offers; nor anything of another network."""
    await write(
        pool,
        offer(70),
        offer(71, visibility="private"),
        terms(70, 9, custom_payouts=(payout(31.25),)),
        terms(70, 10, tracking_url="https://go.example/of-b/"),
        terms(71, 9, visibility="visible"),
        offer(80, network_id=2, visibility="private"),
        terms(80, 9, network_id=2, visibility="visible"),
        profile(1),
        profile(2),
        partner(9),
        partner(10),
        partner(9, network_id=2),
    )
    of_a, of_b, of_stranger = [
        (await store.offers(scope, ALL, "runnable")).rows for scope in (A, B, STRANGER)
    ]
    assert [(thing.network_offer_id, own.network_affiliate_id) for thing, own in of_a] == [
        (70, 9),
        (71, 9),
    ]
    assert of_a[0][1].custom_payouts[0].payout_amount == 31.25
    assert [(thing.network_offer_id, own.tracking_url) for thing, own in of_b] == [
        (70, "https://go.example/of-b/")
    ]
    assert [(thing.network_id, thing.network_offer_id) for thing, _ in of_stranger] == [(2, 80)]
    assert (await store.network(STRANGER)).network_id == 2
    for scope in (A, B, STRANGER):
        whom, _ = await store.partner(scope)
        assert (whom.network_id, whom.network_affiliate_id) == dataclasses.astuple(scope)


@pytest.fixture
async def ordinary(pool: Pool, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as a role that is no superuser, so that the policies hold for it."""
    role = f"{schema}_role"
    await pool.execute(f"CREATE ROLE {role}")
    await pool.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    await pool.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    async with pool.acquire() as connection:
        await connection.execute(f"SET ROLE {role}")
        yield connection
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")


async def test_a_query_that_forgot_its_scope_finds_nothing(
    pool: Pool, ordinary: asyncpg.Connection
) -> None:
    """Row-level security, behind the store's conditions, where the service has its own role."""
    await write(pool, offer(70), terms(70, 9), terms(70, 10), profile(1), offer(80, network_id=2))
    await write(pool, partner(9), partner(10), referral(1, 9), referral(2, 10))
    for table in ("offers", "offer_partners", "networks", "partners", "referrals"):
        assert await ordinary.fetchval(f"SELECT count(*) FROM {table}") == 0
    async with ordinary.transaction():
        await ordinary.execute(
            "SELECT set_config('portico.network_id', '1', true),"
            " set_config('portico.network_affiliate_id', '9', true)"
        )
        partners = await ordinary.fetch(
            "SELECT network_affiliate_id FROM offer_partners"
            " UNION ALL SELECT network_affiliate_id FROM partners"
            " UNION ALL SELECT network_affiliate_id FROM referrals"
        )
        offers = await ordinary.fetch("SELECT network_offer_id FROM offers")
    assert [row["network_affiliate_id"] for row in partners] == [9, 9, 9]
    assert [row["network_offer_id"] for row in offers] == [70]
    assert await ordinary.fetchval("SELECT count(*) FROM offers") == 0


async def test_the_projection_writes_under_the_policies(ordinary: asyncpg.Connection) -> None:
    """The control to the test above: what sets no scope and does not project cannot write."""
    async with ordinary.transaction():
        await apply(ordinary, [])
        await ordinary.execute("INSERT INTO networks (network_id, version) VALUES (1, 1)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ordinary.execute("INSERT INTO networks (network_id, version) VALUES (2, 1)")


# --- from the log ---------------------------------------------------------------------------------


def renamed(unique: Callable[[str], str]) -> list[Topic]:
    """The catalog's topics under names of the test's own."""
    return [dataclasses.replace(topic, name=unique(topic.name)) for topic in TOPICS]


async def send(bootstrap: str, topic: Topic, *records: tuple[bytes, bytes | None]) -> None:
    async with open_producer(bootstrap, client_id="test") as producer:
        for key, value in records:
            await producer.send_and_wait(topic.name, key=key, value=value)


def records(*things: domain.Thing) -> list[tuple[bytes, bytes]]:
    return [(key_bytes(domain.key_of(thing)), events.encode(thing)) for thing in things]


async def until_sees(store: Store, expected: list[str]) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while (found := await names(store)) != expected:
        assert asyncio.get_running_loop().time() < deadline, f"{found} instead of {expected}"
        await asyncio.sleep(0.02)


async def test_the_catalog_follows_the_log(
    kafka_bootstrap: str, pool: Pool, store: Store, unique: Callable[[str], str]
) -> None:
    """Savings, older versions, removals; a record that is none goes to the dead letters."""
    topics = renamed(unique)
    of_network, _, of_offers, of_terms, _ = topics
    await projection_parts.create(kafka_bootstrap, *topics)
    projection = Projection(
        kafka_bootstrap,
        group=unique("reporting.catalog"),
        topics=topics,
        check=Check(topics),
        sink=PostgresSink(pool, "catalog", apply),
        metrics=ProjectionMetrics(CollectorRegistry(), "test"),
        limits=Limits(age_seconds_max=0.05, lag_seconds=0.2),
    )
    async with projection_parts.running(projection):
        await send(kafka_bootstrap, of_network, *records(profile(1)))
        await send(
            kafka_bootstrap, of_terms, *records(terms(70, 9), terms(71, 9, visibility="hidden"))
        )
        await send(
            kafka_bootstrap,
            of_offers,
            *records(offer(70, 2), offer(71, 1), offer(72, 1), offer(70, 1)),
            (b"1:73", b'{"network_id":1}'),
        )
        await until_sees(store, ["Offer 70, version 2", "Offer 72, version 1"])
        await send(kafka_bootstrap, of_offers, (b"1:72", None), *records(offer(70, 3)))
        await send(kafka_bootstrap, of_terms, (b"1:71:9", None))
        await until_sees(store, ["Offer 70, version 3", "Offer 71, version 1"])
        assert (await store.network(A)).displayed_name == "Network 1, version 1"
        now = datetime.now(UTC).timestamp()
        await until(lambda: all(_through(projection, topic) >= now for topic in topics))
    letters = await projection_parts.read_all(kafka_bootstrap, f"{of_offers.name}.dead")
    assert [letter.key for letter in letters] == [b"1:73"]


def _through(projection: Projection[domain.Change], topic: Topic) -> float:
    partitions = topic.partitions or PARTNER_PARTITIONS
    return min(projection.through(topic.name, number) for number in range(partitions))
