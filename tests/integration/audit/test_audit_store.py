"""Protects: one chain a network, whoever appends at the same time and whatever arrives again."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from services.audit import chain, domain
from services.audit.store import Search, Store, append
from shared.errors import UnavailableError
from shared.postgres import Pool, migrate, open_pool
from tests.soak import count


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    """The audit schema, empty."""
    async with open_pool(database_url, schema=schema, application="test", size_max=10) as opened:
        await migrate(opened, "services.audit.migrations")
        yield opened


def _draft(network_id: int, number: int) -> domain.Draft:
    return domain.Draft(
        network_id=network_id,
        event_id=f"event-{number}",
        kind="KeyIssued",
        occurred_at=float(number),
        actor="user-7",
        network_affiliate_id=2,
        key_id="",
        body={"number": number},
    )


async def _append(pool: Pool, drafts: list[domain.Draft]) -> int:
    async with pool.acquire() as connection, connection.transaction():
        return await append(connection, drafts, notify="unheard")


async def _chain(pool: Pool, network_id: int) -> tuple[list[chain.StoredEntry], chain.Head]:
    store = Store(pool)
    return [entry for _, entry in await store.after(network_id, 0, 10_000)], await store.head(
        network_id
    )


async def test_batches_that_overlap_in_time_and_content_keep_one_chain_a_network(pool: Pool):
    """Writers of several partitions append to the same networks at once, with redeliveries."""
    choose = random.Random(1)
    networks, numbers = (1, 2, 3), range(count(200, 2_000))
    batches = [
        [_draft(choose.choice(networks), choose.choice(numbers)) for _ in range(20)]
        for _ in range(len(numbers) // 4)
    ]
    waiting = iter(batches)

    async def write() -> int:
        return sum([await _append(pool, batch) for batch in waiting])

    added = sum(await asyncio.gather(*(write() for _ in range(8))))
    distinct = {(draft.network_id, draft.event_id) for batch in batches for draft in batch}
    assert added == len(distinct)
    for network_id in networks:
        entries, head = await _chain(pool, network_id)
        verdict = chain.verify(network_id, entries, noted_head=head)
        assert verdict.problem is None
        assert verdict.entries == sum(1 for found, _ in distinct if found == network_id)


async def test_an_append_that_is_rolled_back_leaves_no_trace(pool: Pool):
    """Neither entry nor head; the next one takes its place in the chain."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await append(connection, [_draft(1, 1)], notify="unheard") == 1
        await transaction.rollback()
    assert await _chain(pool, 1) == ([], chain.genesis(1))
    await _append(pool, [_draft(1, 2)])
    entries, head = await _chain(pool, 1)
    assert chain.verify(1, entries, noted_head=head).entries == 1


async def test_nothing_is_appended_to_a_trail_whose_head_was_set_back(pool: Pool):
    """The event stays on the log until an operator has restored the trail."""
    await _append(pool, [_draft(1, 1), _draft(1, 2)])
    first, _ = await _chain(pool, 1)
    await pool.execute("UPDATE heads SET sequence = 1, hash = $1", first[0].hash)
    with pytest.raises(UnavailableError, match="portico audit verify"):
        await _append(pool, [_draft(1, 3)])


async def test_search_pages_by_sequence_and_stays_within_the_network(pool: Pool):
    """Another network's entries are no one's business."""
    await _append(pool, [_draft(1 + number % 2, number) for number in range(40)])
    store = Store(pool)
    first = await store.search(1, Search(), 8)
    rest = await store.search(1, Search(before=13), 100)
    numbers = [int(entry.content.split('"number":')[1].split("}")[0]) for entry in first + rest]
    assert numbers == list(range(38, -1, -2))
