"""Protects the secrets: they stand nowhere in clear, and only the right master key brings them up."""

import base64
import os

import pytest

from services.keys.master_keys.source import Source
from shared import topics
from tests.keys_parts import KeysProcess, Platform, network, partner, read_settled, running, staff

pytestmark = pytest.mark.slow

TOPICS = (topics.KEYS_EVENTS, topics.KEYS_STATE, topics.PARTNERS_ACCESS, topics.NETWORKS_STATE)


async def test_a_secret_stands_in_no_table_no_topic_and_no_log(platform):
    """Issued, revealed and revoked; a positive control shows that the search would find it."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        key = await platform.issue(staff(ours), 7)
        for what in ("reveal", "revoke"):
            path = f"/v1/networks/apikeys/{key['key_id']}/{what}"
            assert (await platform.call("POST", path, staff(ours))).status_code == 200
        await platform.call("POST", path, staff(ours), {key["key"]: key["key"]})
    tables = await _rows(platform)
    records = [
        part
        for topic in TOPICS
        for record in await read_settled(platform.bootstrap, topic.name)
        for part in (record.key, record.value, *(value for _, value in record.headers))
    ]
    assert key["key_id"] in tables
    assert any(key["key_id"].encode() in (part or b"") for part in records)
    assert '"serving"' in platform.log.read_text()
    for clear in _spellings(key["key"]):
        assert clear not in tables
        assert clear not in platform.log.read_text()
        assert not any(clear.encode() in (part or b"") for part in records)


async def _rows(platform: Platform) -> str:
    """Every row of every table as text; Postgres writes bytes as hexadecimal digits."""
    names = await platform.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1", platform.schema
    )
    found = []
    for name in names:
        found += await platform.execute(f'SELECT t::text FROM "{name[0]}" AS t')
    return "\n".join(row[0] for row in found)


def _spellings(secret: str) -> list[str]:
    """The secret, and its random part, as text, hexadecimal and base64."""
    body = secret.removeprefix("aff_")
    return [body, body.encode().hex(), base64.b64encode(secret.encode()).decode().rstrip("=")]


async def test_another_master_key_does_not_start(platform, tmp_path):
    """One line that says what to do, exit status 2; with the first one again, secrets open."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        key = await platform.issue(staff(ours), 7)
    other = tmp_path / "other"
    other.write_text(base64.b64encode(os.urandom(32)).decode())
    before = len(platform.log.read_text())
    process = KeysProcess(platform, {"KEYS_MASTER_KEY_FILE": str(other)})
    assert process.wait_exit() == 2
    said = platform.log.read_text()[before:]
    ours_, others = (Source(None, file).read()[0] for file in (platform.secrets.master_key, other))
    assert said == (
        "KEYS_MASTER_KEY_FILE: the secrets in this database need the master key with the "
        f"fingerprint {ours_.fingerprint}; given: {others.fingerprint}. Add the missing key, or "
        "use another schema (KEYS_DB_SCHEMA).\n"
    )
    with running(platform):
        path = f"/v1/networks/apikeys/{key['key_id']}/reveal"
        assert (await platform.call("POST", path, staff(ours))).json()["key"] == key["key"]


async def test_without_a_master_key_nothing_starts(platform):
    """Before anything is opened; the message names both variables."""
    variables = platform.environment()
    del variables["KEYS_MASTER_KEY_FILE"]
    platform.environment = lambda **_: variables
    assert KeysProcess(platform, {}).wait_exit() == 2
    assert "KEYS_MASTER_KEY or KEYS_MASTER_KEY_FILE: give exactly one" in platform.log.read_text()


async def test_a_secret_changed_in_the_database_is_not_shown(platform):
    """A row copied over another: a fault of ours for that request, told without any secret."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        first, second = [await platform.issue(staff(ours), 7, name) for name in ("a", "b")]
        await platform.execute(
            "UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE key_id = $1)"
            " WHERE key_id = $2",
            first["key_id"],
            second["key_id"],
        )
        paths = [f"/v1/networks/apikeys/{key['key_id']}/reveal" for key in (second, first)]
        damaged, whole = [await platform.call("POST", path, staff(ours)) for path in paths]
    assert (damaged.status_code, damaged.json()["error"]) == (500, "Internal error")
    assert whole.json()["key"] == first["key"]
    assert [type(event).__name__ for event in await platform.told(ours)] == [
        "KeyIssued",
        "KeyIssued",
        "KeyReshared",
    ]
