"""Protects the partner's own view: their keys and nobody else's, and every showing is told."""

import pytest

from shared import events
from tests.keys_parts import CLIENT_IP, network, partner, staff, until, until_published

pytestmark = pytest.mark.slow

PATH = "/v1/partner/apikeys"


def user(ours: int, partner_id: int = 7, **more):
    """A user of a partner."""
    return staff(ours, "nothing", network_affiliate_id=partner_id, **more)


async def own(service, caller, query: str = ""):
    """The answer's keys, which must be one."""
    answer = await service.call("GET", PATH + query, caller)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def shown(service, ours):
    await until_published(service)
    return [event for event in await service.told(ours) if isinstance(event, events.KeyReshared)]


async def test_a_partner_sees_their_keys_and_each_showing_is_told(service):
    """Those that work with their secret, newest first, ended ones after them without."""
    ours = network()
    await service.tell(partner(ours), partner(ours, 8))
    first = await service.issue(staff(ours), 7, "first")
    second = await service.issue(staff(ours), 7, "second", allowlist=["192.0.2.0/24"])
    third = await service.issue(staff(ours), 7, "third")
    theirs = await service.issue(staff(ours), 8, "first")
    await service.call("POST", f"/v1/networks/apikeys/{second['key_id']}/revoke", staff(ours))
    seen = await own(service, user(ours, behind="user-1"))
    assert [(row["key_id"], row["status"], row["key"]) for row in seen["apikeys"]] == [
        (third["key_id"], "active", third["key"]),
        (first["key_id"], "active", first["key"]),
        (second["key_id"], "revoked", None),
    ]
    assert seen["suspended"] is False
    assert "created_by" not in seen["apikeys"][0]
    told = await shown(service, ours)
    assert {(event.channel, event.key_id) for event in told} == {
        ("partner", third["key_id"]),
        ("partner", first["key_id"]),
    }
    assert {(event.actor.kind, event.actor.behind, event.client_ip) for event in told} == {
        ("partner", "user-1", CLIENT_IP)
    }
    other = await own(service, user(ours, 8))
    assert [row["key"] for row in other["apikeys"]] == [theirs["key"]]


async def test_masked_shows_no_secret_and_tells_nothing(service):
    """So that a page may ask again and again whether there is a key."""
    ours = network()
    await service.tell(partner(ours))
    issued = await service.issue(staff(ours), 7)
    for _ in range(3):
        (row,) = (await own(service, user(ours), "?masked=true"))["apikeys"]
        assert (row["masked"], row["key"]) == (issued["masked"], None)
    assert await shown(service, ours) == []
    (row,) = (await own(service, user(ours)))["apikeys"]
    assert row["key"] == issued["key"]
    assert len(await shown(service, ours)) == 1


async def test_before_the_first_key_there_is_nothing(service):
    """404 tells a page to hide its tab; once a key was issued there is something, also revoked."""
    ours = network()
    await service.tell(partner(ours), partner(ours, 8))
    other = await service.issue(staff(ours), 8)
    missing = await service.call("GET", PATH, user(ours))
    assert (missing.status_code, "ask your network" in missing.json()["error"]) == (404, True)
    await service.call("POST", f"/v1/networks/apikeys/{other['key_id']}/revoke", staff(ours))
    (row,) = (await own(service, user(ours, 8)))["apikeys"]
    assert (row["status"], row["key"]) == ("revoked", None)


async def test_a_suspended_partner_sees_no_secret(service):
    """The keys are listed, the view says why none works, and nothing was shown."""
    ours = network()
    await service.tell(partner(ours))
    issued = await service.issue(staff(ours), 7)
    await service.send(partner(ours, version=2, account_status="suspended"))

    async def suspended() -> bool:
        return (await own(service, user(ours), "?masked=true"))["suspended"]

    await until(suspended)
    (row,) = (await own(service, user(ours)))["apikeys"]
    assert (row["key_id"], row["status"], row["key"]) == (issued["key_id"], "active", None)
    assert await shown(service, ours) == []


async def test_only_a_partners_user_gets_in(service):
    """Staff use the table; their attempt is told. A user of the same number elsewhere sees theirs."""
    ours = network()
    await service.tell(partner(ours))
    await service.issue(staff(ours), 7)
    refused = await service.call("GET", PATH, staff(ours, super_user=True))
    assert (refused.status_code, refused.json()["error"]) == (403, "Forbidden")
    assert (await service.call("GET", PATH, None)).status_code == 401
    nowhere = await service.call("GET", PATH, user(0))
    assert nowhere.status_code == 403
    assert (await service.call("GET", PATH, user(network()))).status_code == 404
    assert (await service.call("GET", PATH + "?masked=perhaps", user(ours))).status_code == 400
    await until_published(service)
    denied = [one for one in await service.told(ours) if isinstance(one, events.AccessDenied)]
    assert [(event.action, event.permission) for event in denied] == [
        ("see a partner's own keys", "partner")
    ]


async def test_at_most_a_hundred_keys_are_shown_those_that_work_first(service):
    """An old key that works is not hidden behind a hundred that ended since."""
    ours = network()
    await service.tell(partner(ours))
    oldest = await service.issue(staff(ours), 7, "oldest")
    await service.execute(
        """INSERT INTO keys (key_id, network_id, network_affiliate_id, integration, digest, masked,
               sealed, status, allowlist, version, created_at, created_by, ended_at)
           SELECT 'key_' || substr(md5($1 || n::text), 1, 20), network_id, network_affiliate_id,
               'old ' || n, md5($1 || n::text) || md5($1), masked, sealed, 'revoked', allowlist, 2,
               created_at + n, created_by, created_at + n
           FROM keys, generate_series(1, 120) AS n WHERE key_id = $1""",
        oldest["key_id"],
    )
    rows = (await own(service, user(ours)))["apikeys"]
    assert len(rows) == 100
    assert (rows[0]["key_id"], rows[0]["key"]) == (oldest["key_id"], oldest["key"])
    assert [row["integration"] for row in rows[1:4]] == ["old 120", "old 119", "old 118"]
