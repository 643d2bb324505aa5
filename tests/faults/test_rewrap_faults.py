"""Protects the rotation of the master key from its own death: it is gone on with, and told once."""

import signal
from collections import Counter

import pytest

from tests.keys_parts import Platform
from tests.rewrap_parts import key_file, keys_in, new_key, rewrap, sealed
from tests.soak import count

pytestmark = pytest.mark.slow

NETWORKS = count(6, 300)
KILLS = (
    "keys.rewrap.key_written",
    "keys.rewrap.switched",
    "keys.rewrap.before_commit:1",
    "keys.rewrap.before_commit:3",
    "keys.rewrap.after_commit:2",
)


async def test_a_rotation_killed_anywhere_loses_no_secret_and_is_gone_on_with(
    database_url, schema, tmp_path
):
    """After every kill all secrets open, and what is moved is exactly what was told."""
    platform = Platform("nowhere:9092", database_url, schema, tmp_path)
    file, old = platform.secrets.master_key, new_key()
    key_file(file, old)
    async with sealed(database_url, schema, old, NETWORKS) as found:
        for kill in KILLS:
            options = ["--new-key"] if kill == KILLS[0] else []
            ended = await rewrap(platform, *options, PORTICO_CRASH_AT=kill)
            assert ended.status == -signal.SIGKILL, ended.err
            new, also = keys_in(file)
            assert also == old
            await found.require_all_open(new, old)
            moved = [
                network
                for network, name in (await found.under()).items()
                if name != old.fingerprint
            ]
            assert Counter(event.network_id for event in await found.told()) == Counter(moved)
        assert 0 < len(moved) < NETWORKS
        again = await rewrap(platform, "--new-key")
        assert (again.status, keys_in(file)) == (1, (new, old))
        done = await rewrap(platform, "--drop-old", "--json")
        assert done.report["moved"] == NETWORKS - len(moved)
        assert keys_in(file) == (new,)
        await found.require_all_open(new)
        told = await found.told()
    assert Counter(event.network_id for event in told) == Counter(range(1, NETWORKS + 1))
    assert {(event.before, event.after) for event in told} == {(old.fingerprint, new.fingerprint)}
