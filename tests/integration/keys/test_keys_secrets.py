"""Protects the secrets: they stand nowhere in clear, and only the right master key brings them up."""

import base64
import os
from dataclasses import replace
from typing import Any

import pytest

from services.keys.master_keys.source import Source
from shared.tokens import Caller
from tests.keys_parts import (
    KeysProcess,
    clerk,
    errors_logged,
    network,
    partner,
    running,
    staff,
    until,
    until_published,
)
from tests.rewrap_parts import keys_in, rewrap
from tests.secrets_parts import DEBUG, Door, log_of_kafka, spellings, tables
from tests.shares_parts import path_of

pytestmark = pytest.mark.slow

PASSPHRASE = "seventeen green herons"


async def test_no_secret_of_a_whole_life_stands_anywhere_but_sealed(platform):
    """Through a real gateway, all at debug level; whatever could be read is searched afterwards.

    Searched for: keys, the tokens of links, a passphrase, the staff's tokens, both master keys and
    what the doors sign with. The controls show that each place would have shown what is no secret.
    """
    ours = network()
    door = Door(platform)
    masters = list(keys_in(platform.secrets.master_key))
    with running(platform, **DEBUG), door.open():
        await until(door.is_ready)
        await platform.tell(partner(ours))
        secrets, key_id = await _live(door, ours)
        rotated = await rewrap(platform, "--new-key", "--drop-old", **DEBUG)
        assert rotated.status == 0, rotated.err
        masters += keys_in(platform.secrets.master_key)
        shown = await door.call("POST", f"/v1/networks/apikeys/{key_id}/reveal", staff(ours))
        assert shown.json()["key"] in secrets
        revoked = await door.call("POST", f"/v1/networks/apikeys/{key_id}/revoke", staff(ours))
        door.answers["revoke"] = revoked.text
        await until_published(platform)
        places = {
            "tables": await tables(platform),
            "topics": await log_of_kafka(platform),
            "metrics": await door.metrics(),
        }
    logs = f"{platform.log.read_text()}\n{door.log.read_text()}"
    places |= {"logs": logs, "commands": rotated.out + rotated.err} | door.answers
    wanted = [*secrets, *door.tokens, platform.secrets.identity, *(key.reveal() for key in masters)]
    found = [
        (place, number, spelling)
        for place, text in places.items()
        for number, secret in enumerate(wanted)
        for spelling in spellings(secret)
        if spelling in text
    ]
    assert found == []
    controls = spellings("life of a key")
    assert all(any(one in places[place] for one in controls) for place in ("tables", "topics"))
    assert len(wanted) > 20
    assert key_id in places["tables"]
    assert key_id in places["topics"]
    assert key_id in places["exported as csv"]
    assert masters[-1].fingerprint in places["commands"]
    assert "keys_changes_total" in places["metrics"]
    assert logs.count('"serving"') == 2
    assert '"level":"debug"' in logs
    assert errors_logged(platform.log) == []


def test_the_search_finds_a_secret_however_it_is_written():
    """Alone or amid others, as text, in digits, or in base64 from any place on."""
    for secret in ("aff_" + "0123456789abcdefghijklmnopqrstuvw", os.urandom(32)):
        raw = secret if isinstance(secret, bytes) else secret.encode()
        written = [raw.hex(), *(base64.b64encode(b"_" * n + raw + b"_").decode() for n in range(4))]
        for text in written:
            assert any(one in f"before {text} after" for one in spellings(secret)), text


async def _live(door: Door, ours: int) -> tuple[list[str], str]:
    """A life with every way to a secret, used rightly and wrongly; all secrets, and a live key."""
    ada, path = staff(ours), "/v1/networks/affiliates/7/apikeys"
    retry = {"Idempotency-Key": "first"}
    wish = {"integration": "life of a key"}
    issued = [await door.call("POST", path, ada, json=wish, headers=retry) for _ in range(2)]
    assert [answer.status_code for answer in issued] == [201, 201]
    old = issued[0].json()
    assert issued[1].json()["key"] == old["key"]
    at = f"/v1/networks/apikeys/{old['key_id']}"
    revealed = await door.call("POST", f"{at}/reveal", ada, json={"reason": f"lost {old['key']}"})
    assert revealed.json()["key"] == old["key"]
    links = await _shared(door, at, ada)
    user = replace(clerk(ours), network_affiliate_id=7)
    portal = await door.call("GET", "/v1/partner/apikeys", user)
    assert old["key"] in portal.text
    await _misplaced(door, ours, old["key"])
    body = {"allowlist": ["192.0.2.0/24"], "reason": old["key"]}
    assert (await door.call("PUT", f"{at}/allowlist", ada, json=body)).status_code == 200
    rotated = await door.call("POST", f"{at}/rotate", ada, json={"overlap_seconds": 60})
    assert rotated.status_code == 201
    new = rotated.json()
    for kind in ("csv", "json"):
        exported = await door.call("GET", f"/v1/networks/apikeys/export?format={kind}", ada)
        door.answers[f"exported as {kind}"] = exported.text
    for what in ("/v1/networks/apikeys", path, at, f"{at}/shares"):
        door.answers[what] = (await door.call("GET", what, ada)).text
    return [old["key"], new["key"], *links, PASSPHRASE], new["key_id"]


async def _shared(door: Door, at: str, ada: Caller) -> list[str]:
    """Links that are looked at, opened wrongly, rightly and twice, and withdrawn; their tokens."""
    body = {"passphrase": PASSPHRASE}
    made = (await door.call("POST", f"{at}/shares", ada, json=body)).json()
    page = path_of(made)
    door.answers["page"] = (await door.call("GET", page)).text
    presses = [(body | {"passphrase": "another one"}, 403), (body, 200), (body, 410)]
    for form, status in presses:
        answer = await door.call("POST", page, data=form)
        assert answer.status_code == status, answer.text
        if status != 200:
            door.answers[f"pressed: {status}"] = answer.text
    second = (await door.call("POST", f"{at}/shares", ada, json={})).json()
    gone = await door.call("DELETE", f"{at}/shares/{second['share_id']}", ada)
    assert gone.status_code == 200
    return [one["url"].rpartition("/")[2] for one in (made, second)]


async def _misplaced(door: Door, ours: int, secret: str) -> None:
    """A key, a passphrase and a wrong answer to each, where people and programs put them."""
    ada, clerk_ = staff(ours), clerk(ours)
    header = {"x-eflow-api-key": secret}
    assert (await door.call("GET", "/v1/affiliates/network", headers=header)).status_code >= 500
    calls: list[tuple[str, str, Caller | None, dict[str, Any]]] = [
        ("GET", f"/v1/affiliates/network?api_key={secret}", None, {}),
        ("GET", f"/v1/{secret}", None, {}),
        ("GET", f"/v1/shares/{secret}", None, {}),
        ("GET", f"/v1/networks/apikeys?cursor={secret}", ada, {}),
        ("POST", f"/v1/networks/apikeys/{secret}/reveal", ada, {}),
        ("POST", f"/v1/networks/apikeys/{secret}/revoke", clerk_, {}),
        ("GET", "/v1/networks/apikeys", None, {"headers": {"authorization": f"Bearer {secret}"}}),
        ("GET", "/v1/networks/apikeys", None, {"headers": header}),
        ("POST", "/v1/networks/affiliates/7/apikeys", ada, {"json": {"integration": secret}}),
        ("POST", "/v1/networks/affiliates/7/apikeys", ada, {"json": [secret]}),
        ("POST", "/v1/networks/affiliates/7/apikeys", ada, {"content": f"{{{secret}"}),
        ("POST", "/v1/networks/apikey", ada, {"json": {"resource_id": secret, "integration": "x"}}),
        ("PUT", "/v1/networks/budgets", ada, {"json": {"affiliate": PASSPHRASE}}),
    ]
    for number, (method, path, caller, request) in enumerate(calls):
        answer = await door.call(method, path, caller, **request)
        assert 400 <= answer.status_code < 500, f"{method} {path}: {answer.text}"
        door.answers[f"misplaced {number}"] = answer.text


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
