"""Protects what an installation holds when the schema grows: rows of the first release go on working."""

import importlib.resources
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.keys import rotation
from services.keys.access.domain import Access
from services.keys.domain import Made
from services.keys.rotation import Turnover
from services.keys.store import Store
from shared.partner_key import generate
from shared.postgres import Pool, migrate, open_pool
from tests.keys_parts import CAUSE, KEY, NOW

pytestmark = pytest.mark.slow

PACKAGE = "services.keys.migrations"
FIRST = "0001_keys.sql"
INSERT = """
INSERT INTO keys (key_id, network_id, network_affiliate_id, integration, digest, masked, sealed,
    status, allowlist, expires_at, version, created_at, created_by, ended_at)
VALUES ($1, 201, 7, 'crm', $2, 'aff_…abcd', 'sealed', $3, '{192.0.2.7}', $4, 1, $5, 'user-7', $6)"""


@pytest.fixture
async def upgraded(database_url: str, schema: str) -> AsyncIterator[Pool]:
    """A schema that was made and filled by the first release, after all migrations."""
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await pool.execute(importlib.resources.files(PACKAGE).joinpath(FIRST).read_text())
        await pool.execute(
            "CREATE TABLE schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await pool.execute("INSERT INTO schema_migrations (name) VALUES ($1)", FIRST)
        await pool.execute(INSERT, KEY.key_id, KEY.digest, "active", NOW + 60, NOW - 60, None)
        await pool.execute(INSERT, "key_0", "cd" * 32, "revoked", None, NOW - 90, NOW - 60)
        await pool.execute(
            "INSERT INTO partner_access VALUES (201, 7, 4, true, true), (201, 8, 2, true, false)"
        )
        assert FIRST not in await migrate(pool, PACKAGE)
        yield pool


async def test_keys_and_partners_of_the_first_release_are_as_they_were(upgraded):
    """New members have the values that say nothing; who was suspended is, by the account's status."""
    async with Store(upgraded).transaction("reading") as unit:
        assert await unit.key(201, KEY.key_id) == KEY
        revoked = await unit.key(201, "key_0")
        held, free = [await unit.access(201, partner) for partner in (7, 8)]
    assert (revoked.status, revoked.ended_at) == ("revoked", NOW - 60)
    assert held == Access(201, 7, 4, firehose_enabled=True, held_by_status=True)
    assert free == Access(201, 8, 2, firehose_enabled=True)


async def test_a_key_of_the_first_release_is_rotated_once(upgraded):
    """It gives up its integration's place to its successor, and to no other key."""
    store = Store(upgraded)
    async with store.transaction("rotating") as unit:
        made = Made("key_1", generate(), b"sealed anew")
        old, new = rotation.rotated(await unit.key(201, KEY.key_id), made, Turnover(), CAUSE)
        stranger = replace(new.now, key_id="key_2", digest="ef" * 32, predecessor_key_id=None)
        assert not await unit.insert(stranger)
        await unit.save(old.now)
        assert await unit.insert(new.now)
        assert not await unit.insert(stranger)
    async with store.transaction("reading") as unit:
        assert await unit.key(201, KEY.key_id) == old.now
        assert await unit.key(201, "key_1") == new.now
        assert await unit.active_namesake(new.now)
