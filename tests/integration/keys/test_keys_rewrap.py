"""Protects the rotation of the master key: while everything runs, and without losing a secret."""

import asyncio

import asyncpg
import httpx
import pytest

from services.keys.master_keys.store import Check, MasterKeysStore
from services.keys.store import Store
from services.keys.vault import Vault
from shared.errors import SetupError
from shared.events import SecretsRewrapped
from shared.postgres import migrate, open_pool
from tests.keys_parts import (
    KeysProcess,
    Platform,
    network,
    partner,
    running,
    staff,
    until,
    until_published,
)
from tests.rewrap_parts import as_text, holding, key_file, keys_in, new_key, rewrap, sealed

pytestmark = pytest.mark.slow

FINGERPRINTS = "SELECT DISTINCT master_key FROM data_keys"
WAITING = """
SELECT FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND application_name = current_setting('application_name')"""


async def issued(platform: Platform, networks: int = 2) -> dict[int, dict]:
    """A key of each of so many new networks, by network."""
    found = {}
    for _ in range(networks):
        ours = network()
        await platform.tell(partner(ours))
        found[ours] = await platform.issue(staff(ours), 7)
    return found


async def reveal(platform: Platform, ours: int, key: dict) -> httpx.Response:
    return await platform.call("POST", f"/v1/networks/apikeys/{key['key_id']}/reveal", staff(ours))


async def all_open(platform: Platform, keys: dict[int, dict]) -> None:
    for ours, key in keys.items():
        answer = await reveal(platform, ours, key)
        assert (answer.status_code, answer.json().get("key")) == (200, key["key"]), answer.text


async def fingerprints(platform: Platform) -> set[str]:
    return {row[0] for row in await platform.execute(FINGERPRINTS)}


def beside(platform: Platform) -> Platform:
    """A second process on the same tables, with a port of its own."""
    return Platform(platform.bootstrap, platform.database_url, platform.schema, platform.home)


async def test_the_master_key_is_replaced_while_two_processes_serve(platform):
    """No restart, no refused call, no lost secret; every step is told, and a second run is idle."""
    other = beside(platform)
    old = keys_in(platform.secrets.master_key)[0]
    with running(platform), running(other):
        keys = await issued(platform)
        answers: list[httpx.Response] = []
        ended = asyncio.Event()

        async def keep_revealing() -> None:
            while not ended.is_set():
                for ours, key in keys.items():
                    answers.extend([await reveal(one, ours, key) for one in (platform, other)])

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_revealing())
            done = await rewrap(platform, "--new-key", "--drop-old", "--json", "--reason", "yearly")
            ended.set()
        (new,) = keys_in(platform.secrets.master_key)
        assert done.report == {
            "master_key": new.fingerprint,
            "moved": 2,
            "verified": 2,
            "damaged": [],
            "dropped": [old.fingerprint],
        }
        assert answers
        assert {answer.status_code for answer in answers} == {200}
        assert await fingerprints(platform) == {new.fingerprint} != {old.fingerprint}
        for one in (platform, other):
            await all_open(one, keys)
        fresh = await issued(platform, 1)
        assert (await rewrap(platform, "--json")).report["moved"] == 0
        await until_published(platform)
    with running(platform):
        await all_open(platform, keys | fresh)
    for ours in keys:
        told = [one for one in await platform.told(ours) if isinstance(one, SecretsRewrapped)]
        assert [(one.before, one.after, one.reason, one.actor.kind) for one in told] == [
            (old.fingerprint, new.fingerprint, "yearly", "system")
        ]
    written = platform.log.read_text() + done.out + done.err
    for key in (old, new):
        assert as_text(key) not in written


async def test_a_process_without_the_new_key_stops_the_rotation(platform, tmp_path):
    """It is named, and nothing has changed; only who insists goes on, and then it says 503."""
    (old,) = keys_in(platform.secrets.master_key)
    new = new_key()
    both = str(key_file(tmp_path / "both", new, old))
    with running(platform):
        keys = await issued(platform, 1)
        stopped = await rewrap(platform, "--wait", "0.5", KEYS_MASTER_KEY_FILE=both)
        assert (stopped.status, stopped.out) == (1, "")
        assert f"do not hold the master key {new.fingerprint} yet: " in stopped.err
        assert f"(holds {old.fingerprint}, seen " in stopped.err
        assert await fingerprints(platform) == {old.fingerprint}
        await all_open(platform, keys)
        told = (await rewrap(platform, "--status", "--json", KEYS_MASTER_KEY_FILE=both)).report
        (holder,) = told["holders"]
        assert [tuple(one.values()) for one in told["master_keys"]] == [
            (new.fingerprint, 1, 0, False, [holder]),
            (old.fingerprint, 2, 1, True, []),
        ]
        table = await rewrap(platform, "--status", KEYS_MASTER_KEY_FILE=both)
        assert f"1 running key services: {holder}" in table.out
        forced = await rewrap(platform, "--force", "--json", KEYS_MASTER_KEY_FILE=both)
        assert forced.report["moved"] == 1
        ((ours, key),) = keys.items()
        assert (await reveal(platform, ours, key)).status_code == 503

        async def is_unready() -> bool:
            async with httpx.AsyncClient(verify=False, base_url=platform.url) as client:
                return new.fingerprint in (await client.get("/readyz")).text

        await until(is_unready)
        key_file(platform.secrets.master_key, new)

        async def opens() -> bool:
            return (await reveal(platform, ours, key)).status_code == 200

        await until(opens)
    process = KeysProcess(platform, {"KEYS_MASTER_KEY_FILE": str(key_file(tmp_path / "old", old))})
    assert process.wait_exit() == 2
    assert f"fingerprint {new.fingerprint}; given: {old.fingerprint}." in platform.log.read_text()


async def test_what_the_rotation_lacks_is_named(platform, tmp_path):
    """Before anything changes: the key that data keys are under, the tables, or a second new key."""
    (old,) = keys_in(platform.secrets.master_key)
    empty = await rewrap(platform)
    assert empty.status == 2
    assert "holds no key service of this release" in empty.err
    with running(platform):
        await issued(platform, 1)
        new = new_key()
        alone = key_file(tmp_path / "new", new)
        missing = await rewrap(platform, KEYS_MASTER_KEY_FILE=str(alone))
        assert missing.status == 2
        assert f"under the master key {old.fingerprint}, which was not given" in missing.err
        key_file(alone, new, old)
        second = await rewrap(platform, "--new-key", KEYS_MASTER_KEY_FILE=str(alone))
        assert second.status == 1
        assert f"Not everything is under the first master key ({new.fingerprint})" in second.err
        assert keys_in(alone) == (new, old)


@pytest.fixture
async def pool(database_url, schema):
    async with open_pool(database_url, schema=schema, application=schema) as pool:
        await migrate(pool, "services.keys.migrations")
        yield pool


async def test_nobody_joins_unseen_while_a_step_of_the_rotation_runs(pool):
    """Who announces meanwhile waits, and then sees what the step has committed."""
    old, new = new_key(), new_key()
    vault, store = Vault([new, old]), MasterKeysStore(pool)
    async with store.transaction("test") as unit:
        await unit.make_check(Check(vault.new_check(old.fingerprint), old.fingerprint))
    seen: set[str] = set()

    async def join() -> None:
        async with store.transaction("test") as unit:
            await unit.announce("late", [old.fingerprint])
            seen.update(await unit.uses())

    async with asyncio.TaskGroup() as group, store.transaction("test") as unit:
        await unit.hold_still()
        assert await unit.lacking(new.fingerprint) == []
        group.create_task(join())
        await _until_somebody_waits(pool)
        await unit.switch(Check(vault.new_check(new.fingerprint), new.fingerprint))
    assert seen == {new.fingerprint}
    assert [holder.name for holder in await store.lacking(new.fingerprint)] == ["late"]


async def test_no_data_key_is_made_under_the_old_master_key_after_the_switch(pool):
    """The switch waits for who makes one, so that the rotation then finds it."""
    old, new = new_key(), new_key()
    vault, store, keys = Vault([new, old]), MasterKeysStore(pool), Store(pool)
    async with store.transaction("test") as unit:
        await unit.make_check(Check(vault.new_check(old.fingerprint), old.fingerprint))
    found: list[int] = []

    async def switch() -> None:
        async with store.transaction("test") as unit:
            await unit.switch(Check(vault.new_check(new.fingerprint), new.fingerprint))
        found.extend(await store.others(new.fingerprint, 0, 10))

    async with asyncio.TaskGroup() as group, keys.transaction("test") as unit:
        under = await unit.master_key()
        group.create_task(switch())
        await _until_somebody_waits(pool)
        await unit.keep_data_key(201, vault.new_data_key(201, under))
    assert found == [201]
    async with keys.transaction("test") as unit:
        assert await unit.master_key() == new.fingerprint


@pytest.mark.logs_errors
async def test_a_wrong_file_changes_nothing_and_is_told(database_url, schema, tmp_path, caplog):
    """Neither a typing error nor a key taken out too early makes a running service forget."""
    old, new = new_key(), new_key()
    file = key_file(tmp_path / "master-key", old)
    async with sealed(database_url, schema, old, networks=2) as found, holding(found, file) as one:
        for written, gauges in (
            ("half a key", (1, 0, 0)),
            (None, (1, 0, 0)),
            (as_text(new), (0, 1, 2)),  # taken out too early: in use here, and a restart would fail
            (as_text(new, old), (0, 0, 2)),
            (as_text(old), (0, 0, 0)),
        ):
            file.unlink() if written is None else file.write_text(written)
            await one.holding.turn()
            await one.holding.turn()
            assert (one.gauges(), one.holding.missing()) == (gauges, None)
            for network_id, data_key in await MasterKeysStore(found.pool).page(0, 9):
                secret, text = found.secrets[network_id]
                assert one.vault.open(data_key, network_id, "key_a", text) == secret
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in told] == [
        "master keys not taken in, the ones before stay",
        "master keys not taken in, the ones before stay",
        "secrets need a master key that is not given any more",
    ]
    assert "half a key" not in caplog.text


async def test_a_process_starts_only_with_every_master_key_that_is_needed(
    database_url, schema, tmp_path
):
    """Also when the one it lacks is of a single network; then it does not count as running."""
    old, new = new_key(), new_key()
    async with sealed(database_url, schema, old, networks=3) as found:
        both = Vault([old, new])
        ((_, first),) = await MasterKeysStore(found.pool).page(0, 1)
        async with MasterKeysStore(found.pool).transaction("test") as unit:
            await unit.rewrap(1, first, both.rewrapped(first, 1, new.fingerprint))
        for given, missing in ((old, new), (new, old)):
            with pytest.raises(SetupError, match=f"fingerprint {missing.fingerprint}; given: "):
                async with holding(found, key_file(tmp_path / "master-key", given)):
                    pass
        assert await found.pool.fetch("SELECT FROM key_holders") == []
        async with holding(found, key_file(tmp_path / "master-key", new, old)):
            assert len(await found.pool.fetch("SELECT FROM key_holders")) == 1


async def test_what_an_earlier_release_left_gets_its_fingerprint(database_url, schema, tmp_path):
    """It kept one master key and no name of it: recognised at the start, or refused."""
    old, new = new_key(), new_key()
    async with sealed(database_url, schema, old, networks=2) as found:
        await found.pool.execute("UPDATE data_keys SET master_key = ''")
        await found.pool.execute("UPDATE master_key_check SET fingerprint = ''")
        with pytest.raises(SetupError, match="earlier release"):
            async with holding(found, key_file(tmp_path / "master-key", new)):
                pass
        async with holding(found, key_file(tmp_path / "master-key", new, old)):
            assert await found.under() == {1: old.fingerprint, 2: old.fingerprint}
            await found.require_all_open(old)


async def test_a_damaged_data_key_is_told_and_left_as_it_is(database_url, schema, tmp_path):
    """The others are moved; the old key is not dropped, since it may yet be of use."""
    old = new_key()
    platform = Platform("nowhere:9092", database_url, schema, tmp_path)
    file = key_file(platform.secrets.master_key, old)
    async with sealed(database_url, schema, old, networks=3) as found:
        await found.pool.execute("UPDATE data_keys SET wrapped = '\\x00' WHERE network_id = 2")
        done = await rewrap(platform, "--new-key", "--drop-old", "--json")
        new = keys_in(file)[0]
        assert done.status == 1
        assert done.report == {
            "master_key": new.fingerprint,
            "moved": 2,
            "verified": 2,
            "damaged": [2],
            "dropped": [],
        }
        assert keys_in(file) == (new, old)
        assert set((await found.under()).items()) == {
            (1, new.fingerprint),
            (2, old.fingerprint),
            (3, new.fingerprint),
        }


async def test_two_rotations_at_once_are_one(pool):
    """The second says so; when the first has ended, or was killed, the next may run."""
    store = MasterKeysStore(pool)
    async with store.alone() as first, store.alone() as second:
        assert (first, second) == (True, False)
    async with store.alone() as third:
        assert third


async def _until_somebody_waits(pool: asyncpg.Pool) -> None:
    """For a lock, in a transaction of this test's pool, which names itself by its schema."""

    async def waits() -> bool:
        return bool(await pool.fetch(WAITING))

    await until(waits)
