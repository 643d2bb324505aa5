"""The whole life of a key by `portico keys`, through a real gateway before a real key service."""

import asyncio
import csv
import io
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from shared import topics
from tests.cli_parts import Portico, Ran, gateway, wait_until
from tests.keys_parts import Platform, clerk, errors_logged, network, partner, running, staff
from tests.projection_parts import create
from tools.cli import issuer

PARTNER = "7"


@dataclass(frozen=True)
class Place:
    """Where commands are tried: a network of the module's own, behind a gateway."""

    platform: Platform
    url: str
    network_id: int

    def status(self, secret: str) -> int:
        """What the holder of a key gets at the gateway; 503 if let in, since nothing is behind."""
        headers = {"X-Eflow-API-Key": secret}
        return httpx.get(
            f"{self.url}/v1/affiliates/network", headers=headers, verify=False
        ).status_code

    def wait_for(self, status: int, secret: str) -> None:
        """Wait until the gateway answers so."""
        wait_until(lambda: self.status(secret) == status, f"a {status} at the gateway")

    def token(self, **claims) -> str:
        """A token of the local issuer."""
        return issuer.sign(self.platform.home, staff(self.network_id, **claims))


LET_IN, UNKNOWN, REFUSED = 503, 401, 403


@pytest.fixture(scope="module")
def place(
    kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A key service, a gateway, and a partner who may have keys."""
    asyncio.run(create(kafka_bootstrap, *topics.SOURCES))
    schema = f"test_{uuid.uuid4().hex[:12]}"
    home = tmp_path_factory.mktemp("command")
    platform = Platform(kafka_bootstrap, database_url, schema, home)
    network_id = network()
    with running(platform), gateway(platform) as url:
        asyncio.run(platform.tell(partner(network_id)))
        yield Place(platform, url, network_id)
    assert errors_logged(platform.log) == []
    asyncio.run(_drop(database_url, schema))


async def _drop(database_url: str, name: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    await connection.close()


@pytest.fixture
def keys(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Runs `portico keys …` as a Super User of the network."""
    monkeypatch.setenv("PORTICO_HOME", str(place.platform.home))
    monkeypatch.setenv("PORTICO_GATEWAY", place.url)
    monkeypatch.setenv("PORTICO_NETWORK", str(place.network_id))
    monkeypatch.delenv("PORTICO_TOKEN", raising=False)
    portico = Portico(capsys, monkeypatch)

    def run(*words: str, status: int = 0) -> Ran:
        ran = portico("keys", *words)
        assert ran.status == status, ran
        return ran

    run("budget", "--rate", "1000", "--burst", "1000")
    return run


def issued(keys: Callable[..., Ran], integration: str, *words: str) -> tuple[str, str]:
    """A new key: its id and its secret."""
    ran = keys("issue", PARTNER, "--integration", integration, "--json", *words)
    answer = json.loads(ran.out)
    return answer["key_id"], answer["key"]


def row(keys: Callable[..., Ran], key_id: str) -> dict:
    return json.loads(keys("show", key_id, "--json").out)


def test_a_key_is_issued_bound_and_revoked(place, keys) -> None:
    """What each command says is what the gateway does."""
    secret = keys("issue", PARTNER, "--integration", "life").out.strip()
    place.wait_for(LET_IN, secret)
    listed = keys("list", "--partner", PARTNER, "--integration", "life", "--json")
    (key_id,) = [one["key_id"] for one in json.loads(listed.out)["apikeys"]]
    keys("allow", key_id, "203.0.113.0/24", "--reason", "test")
    place.wait_for(REFUSED, secret)
    keys("allow", key_id)
    place.wait_for(LET_IN, secret)
    keys("expire", key_id, "--at", "30d")
    assert row(keys, key_id)["expires_at"]
    keys("expire", key_id, "--at", "never")
    assert row(keys, key_id)["expires_at"] is None
    told = keys("revoke", key_id, "--yes", "--reason", "test")
    assert "revoked" in told.out
    place.wait_for(UNKNOWN, secret)
    assert "409" in keys("reshare", key_id, "--reveal", status=1).err


def test_a_repeated_wish_gives_the_same_key(keys) -> None:
    """Whoever does not know whether it worked says it again by the same name."""
    words = ("issue", PARTNER, "--integration", "again", "--retry-key", "ticket-1")
    first, second = keys(*words), keys(*words)
    assert first.out == second.out
    assert "409" in keys(*words, "--reason", "another wish", status=1).err


def test_a_rotation_keeps_both_keys_working_for_the_overlap(place, keys) -> None:
    """The old one ends when it was said to; without overlap, at once."""
    old_id, old = issued(keys, "rotated")
    new = json.loads(keys("rotate", old_id, "--overlap", "12h", "--json").out)
    place.wait_for(LET_IN, new["key"])
    assert place.status(old) == LET_IN
    assert row(keys, old_id)["successor_key_id"] == new["key_id"]
    assert "rotated" in keys("list", "--partner", PARTNER).out
    assert new["key_id"] in keys("rotate", old_id, status=1).err
    last = keys("rotate", new["key_id"], "--overlap", "0", "--yes").out.strip()
    place.wait_for(UNKNOWN, new["key"])
    place.wait_for(LET_IN, last)


def test_a_link_shows_the_key_once_and_the_list_tells(place, keys) -> None:
    """Looking at it opens nothing; a withdrawn one opens nothing any more."""
    key_id, secret = issued(keys, "shared")
    url = keys("reshare", key_id, "--for", "1h").out.strip()
    path = url[url.index("/v1/shares/") :]
    with httpx.Client(verify=False, base_url=place.url) as visitor:
        assert secret not in visitor.get(path).text
        assert secret in visitor.post(path, data={}).text
        assert secret not in visitor.post(path, data={}).text
    assert "used" in keys("links", key_id).out
    keys("reshare", key_id)
    (link,) = [
        one["share_id"]
        for one in json.loads(keys("links", key_id, "--json").out)["shares"]
        if one["state"] == "open"
    ]
    assert "withdrawn" in keys("withdraw", key_id, link).out
    assert keys("reshare", key_id, "--reveal").out.strip() == secret


def test_an_export_holds_every_key_and_no_secret(keys, tmp_path: Path) -> None:
    """Both forms, by filter, as files."""
    made = dict(issued(keys, f"exported {number}") for number in range(3))
    keys("export", "--output", str(tmp_path / "keys.csv"), "--search", "exported")
    keys("export", "--output", str(tmp_path / "keys.json"), "--format", "json")
    text = (tmp_path / "keys.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {one["key_id"] for one in rows} == set(made)
    whole = (tmp_path / "keys.json").read_text()
    assert set(made) <= {one["key_id"] for one in json.loads(whole)["apikeys"]}
    for secret in made.values():
        assert secret not in text + whole


def test_suspending_a_partner_refuses_every_key_until_it_is_lifted(place, keys) -> None:
    """No key is revoked by it."""
    secrets = [issued(keys, f"held {number}")[1] for number in range(2)]
    assert "suspended" in keys("suspend", PARTNER, "--reason", "test").out
    for secret in secrets:
        place.wait_for(REFUSED, secret)
    keys("resume", PARTNER)
    for secret in secrets:
        place.wait_for(LET_IN, secret)


def test_streams_are_switched_for_a_partner(keys) -> None:
    """On and off, as it was said."""
    assert json.loads(keys("firehose", PARTNER, "--on", "--json").out)["enabled"] is True
    assert json.loads(keys("firehose", PARTNER, "--off", "--json").out)["enabled"] is False


def test_staff_without_the_permission_are_told_so(place, keys, monkeypatch) -> None:
    """And nothing happens; the same words with the permission work."""
    token = issuer.sign(place.platform.home, clerk(place.network_id))
    monkeypatch.setenv("PORTICO_TOKEN", token)
    for words in (
        ("issue", PARTNER, "--integration", "forbidden"),
        ("list",),
        ("suspend", PARTNER),
        ("export",),
        ("budget", "--rate", "1"),
    ):
        assert keys(*words, status=1).err.startswith("403 Forbidden: the token lacks")
    monkeypatch.setenv("PORTICO_TOKEN", place.token())
    assert "forbidden" not in keys("list").out


def test_a_wrong_wish_is_one_line_that_says_why(keys) -> None:
    """What the key service says reaches the operator."""
    for words, told in (
        (("issue", "999", "--integration", "x"), "404"),
        (("issue", PARTNER, "--integration", "x", "--allow", "300.1.1.1"), "300.1.1.1"),
        (("show", "key_00000000000000000000"), "404"),
        (("list", "--cursor", "nonsense"), "cursor"),
        (("list", "--sort", "shoe_size"), "sort"),
    ):
        ran = keys(*words, status=1)
        assert told in ran.err
        assert len(ran.err.splitlines()) == 1
        assert ran.out == ""
