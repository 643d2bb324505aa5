"""Protects the life of a key after its issue: rotation, ends that move, schedules, and amid all at once."""

import asyncio
from collections import Counter

import pytest

from shared import events, topics
from shared.clock import SystemClock, rfc3339
from tests.keys_parts import Platform, network, partner, staff, until, until_published

pytestmark = pytest.mark.slow

PATH = "/v1/networks/affiliates/7/apikeys"


async def states(service: Platform, *key_ids: str) -> list[dict]:
    found = await service.states(topics.KEYS_STATE)
    return [found[key_id] for key_id in key_ids]


async def told(service: Platform, ours: int) -> list[str]:
    await until_published(service)
    return [type(event).__name__ for event in await service.told(ours)]


async def active(service: Platform, ours: int) -> list[str]:
    """The keys that may be used now, by the doors' own rule."""
    now = SystemClock().time()
    return [
        state["key_id"]
        for state in (await service.states(topics.KEYS_STATE)).values()
        if state
        and state["network_id"] == ours
        and state.get("status", "active") == "active"
        and (state.get("expires_at") is None or state["expires_at"] > now)
    ]


async def test_a_rotation_leaves_both_keys_for_the_overlap_and_tells_which_is_which(service):
    """Answer, states and events agree; the old key cannot be rotated again, nor live longer."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    old = await service.issue(ada, 7, allowlist=["192.0.2.7"])
    path = f"/v1/networks/apikeys/{old['key_id']}"
    before = SystemClock().time()
    answer = await service.call(
        "POST", f"{path}/rotate", ada, {"overlap_seconds": 3600, "reason": "yearly"}
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    new = answer.json()
    assert new["key"] != old["key"]
    assert (new["integration"], new["allowlist"]) == ("crm", ["192.0.2.7"])
    assert (new["created_by"], new["created_by_name"]) == ("user-7", "Ada")
    assert (new["predecessor_key_id"], new["successor_key_id"]) == (old["key_id"], None)
    predecessor = new["predecessor"]
    assert (predecessor["status"], predecessor["successor_key_id"]) == ("active", new["key_id"])
    assert rfc3339(before + 3600) <= predecessor["overlap_ends_at"]
    assert predecessor["overlap_ends_at"] == predecessor["expires_at"]
    state_of_old, state_of_new = await states(service, old["key_id"], new["key_id"])
    assert before + 3600 <= state_of_old["expires_at"] <= SystemClock().time() + 3600
    assert state_of_old["version"] == 2
    assert "expires_at" not in state_of_new or state_of_new["expires_at"] is None
    issued, rotated, issued_anew = await service.told(ours)
    assert issued.key_id == old["key_id"]
    assert (rotated.successor_key_id, rotated.reason) == (new["key_id"], "yearly")
    assert rotated.overlap_ends_at == state_of_old["expires_at"]
    assert (type(issued_anew), issued_anew.predecessor_key_id) == (
        events.KeyIssued,
        old["key_id"],
    )
    again = await service.call("POST", f"{path}/rotate", ada)
    assert (again.status_code, new["key_id"] in again.json()["error"]) == (409, True)
    longer = await service.call("PUT", f"{path}/expiry", ada, {"expires_at": None})
    assert (longer.status_code, "earlier" in longer.json()["error"]) == (409, True)


async def test_ten_rotations_of_a_key_at_once_make_one_successor(service):
    """One wins; the others are told which key it made."""
    ours = network()
    await service.tell(partner(ours))
    old = await service.issue(staff(ours), 7)
    path = f"/v1/networks/apikeys/{old['key_id']}/rotate"
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(service.call("POST", path, staff(ours), {"overlap_seconds": seconds}))
            for seconds in [0, 3600] * 5
        ]
    answers = [call.result() for call in calls]
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    (new,) = (answer.json() for answer in answers if answer.status_code == 201)
    rows = await service.execute("SELECT key_id FROM keys WHERE network_id = $1", ours)
    assert {row["key_id"] for row in rows} == {old["key_id"], new["key_id"]}


async def test_a_leaked_key_is_replaced_at_once_whatever_stands_against_its_partner(service):
    """Without overlap the old key is revoked in the transaction that makes the new one."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    old = await service.issue(ada, 7)
    await service.tell(partner(ours, version=2, has_fraud_flag=True, in_onboarding=True))
    path = f"/v1/networks/apikeys/{old['key_id']}/rotate"
    answer = await service.call("POST", path, ada, {"overlap_seconds": 0})
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["predecessor"]["status"], new["propagated"]) == ("revoked", True)
    assert await active(service, ours) == [new["key_id"]]
    assert await told(service, ours) == ["KeyIssued", "KeyRotated", "KeyRevoked", "KeyIssued"]


async def test_an_integration_never_has_two_keys_that_are_not_of_one_rotation(service):
    """Neither beside the two of a rotation, nor beside a predecessor whose successor was revoked."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    old = await service.issue(ada, 7)
    rotate = f"/v1/networks/apikeys/{old['key_id']}/rotate"
    new = (await service.call("POST", rotate, ada)).json()
    for revoked in (new["key_id"], old["key_id"]):
        refused = await service.call("POST", PATH, ada, {"integration": "CRM"})
        assert (refused.status_code, "active key for" in refused.json()["error"]) == (409, True)
        await service.call("POST", f"/v1/networks/apikeys/{revoked}/revoke", ada)
    assert await active(service, ours) == []
    assert await service.issue(ada, 7)


async def test_the_end_of_an_overlap_is_noted_within_moments(service):
    """Doors know it before; here it becomes an event and a state."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    old = await service.issue(ada, 7)
    path = f"/v1/networks/apikeys/{old['key_id']}/rotate"
    await service.call("POST", path, ada, {"overlap_seconds": 1})

    async def noted() -> bool:
        (state,) = await states(service, old["key_id"])
        return state["status"] == "expired"

    await until(noted)
    rotated, expired = (
        event
        for event in await service.told(ours)
        if event.key_id == old["key_id"] and not isinstance(event, events.KeyIssued)
    )
    assert (type(expired), expired.actor.kind) == (events.KeyExpired, "system")
    assert 0 <= expired.occurred_at - rotated.overlap_ends_at < 30
    assert len(await active(service, ours)) == 1


async def test_an_end_moves_and_is_told(service):
    """Earlier, later, or never; the same again is no event, and a wrong moment changes nothing."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    key = await service.issue(ada, 7)
    path = f"/v1/networks/apikeys/{key['key_id']}/expiry"
    moment = rfc3339(SystemClock().time() + 3600)
    for expires_at in (moment, moment, None):
        answer = await service.call("PUT", path, ada, {"expires_at": expires_at, "reason": "plan"})
        assert (answer.status_code, answer.json()["expires_at"]) == (200, expires_at)
    for wrong in ("2001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "soon", {}):
        body = {} if wrong == {} else {"expires_at": wrong}
        refused = await service.call("PUT", path, ada, body)
        assert (refused.status_code, "expires_at" in refused.json()["error"]) == (400, True)
    _, *moved = await service.told(ours)
    assert [(type(event), event.before is None, event.after is None) for event in moved] == [
        (events.ExpiryChanged, True, False),
        (events.ExpiryChanged, False, True),
    ]
    (state,) = await states(service, key["key_id"])
    assert (state["version"], state.get("expires_at")) == (3, None)
    await service.call("POST", f"/v1/networks/apikeys/{key['key_id']}/revoke", ada)
    ended = await service.call("PUT", path, ada, {"expires_at": None})
    assert (ended.status_code, "revoked" in ended.json()["error"]) == (409, True)


async def test_a_key_may_be_scheduled(service):
    """It is shown so, takes its integration's place, may be revealed, and doors know its start."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    starts = SystemClock().time() + 3600
    key = await service.issue(ada, 7, not_before=rfc3339(starts), expires_at=rfc3339(starts + 3600))
    assert (key["status"], key["not_before"]) == ("scheduled", rfc3339(starts))
    (state,) = await states(service, key["key_id"])
    assert state["not_before"] == pytest.approx(starts, abs=0.002)
    taken = await service.call("POST", PATH, ada, {"integration": "crm"})
    assert taken.status_code == 409
    reveal = await service.call("POST", f"/v1/networks/apikeys/{key['key_id']}/reveal", ada)
    assert (reveal.status_code, reveal.json()["status"]) == (200, "scheduled")
    listed = (await service.call("GET", "/v1/networks/apikeys?status=scheduled", ada)).json()
    assert [row["key_id"] for row in listed["apikeys"]] == [key["key_id"]]
    never = {"integration": "b", "not_before": rfc3339(starts), "expires_at": rfc3339(starts)}
    refused = await service.call("POST", PATH, ada, never)
    assert (refused.status_code, "start" in refused.json()["error"]) == (400, True)


async def test_a_public_client_issues_by_its_own_path(service):
    """The partner in the body, an integration of its own if none is named; the same rules."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    path, body = "/v1/networks/apikey", {"resource_id": 7, "resource_type": "affiliate"}
    key = await service.call("POST", path, ada, body)
    assert (key.status_code, key.json()["integration"]) == (201, "API")
    assert key.json()["network_affiliate_id"] == 7
    assert (await service.call("POST", path, ada, body)).status_code == 409
    named = await service.call("POST", path, ada, body | {"integration": "crm"})
    assert named.status_code == 201
    for wrong, status, word in [
        (body | {"resource_type": "advertiser"}, 400, "resource_type"),
        ({"resource_type": "affiliate"}, 400, "resource_id"),
        (body | {"resource_id": 0}, 400, "resource_id"),
        (body | {"resource_id": 8}, 404, "Not Found"),
    ]:
        refused = await service.call("POST", path, ada, wrong)
        assert (refused.status_code, word in refused.json()["error"]) == (status, True)


async def test_everything_at_once_neither_locks_up_nor_leaves_two_keys(service):
    """Issue, rotate, move the end, bind, suspend and revoke together: each is done or refused."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))

    async def busy(number: int) -> list[int]:
        found = []
        for turn in range(3):
            rows = (await service.call("GET", "/v1/networks/apikeys?status=active", ada)).json()
            calls = [("POST", PATH, {"integration": "crm"})]
            for row in rows["apikeys"]:
                path = f"/v1/networks/apikeys/{row['key_id']}"
                later = rfc3339(SystemClock().time() + 3600)
                calls += [
                    ("POST", f"{path}/rotate", {"overlap_seconds": 3600 * (turn % 2)}),
                    ("PUT", f"{path}/expiry", {"expires_at": later}),
                    ("PUT", f"{path}/allowlist", {"allowlist": [f"192.0.2.{number}"]}),
                ]
                if number == turn:
                    calls.append(("POST", f"{path}/revoke", {}))
            held = {"suspended": bool(number % 2)}
            calls.append(("PUT", "/v1/networks/affiliates/7/suspension", held))
            for method, path, body in calls:
                found.append((await service.call(method, path, ada, body)).status_code)
        return found

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(busy(number)) for number in range(5)]
    statuses = Counter(status for worker in workers for status in worker.result())
    assert set(statuses) <= {200, 201, 409}, statuses
    assert statuses[201] >= 1
    rows = await service.execute(
        "SELECT key_id, status, version, successor_key_id, predecessor_key_id FROM keys "
        "WHERE network_id = $1",
        ours,
    )
    live = [row for row in rows if row["status"] == "active"]
    assert len([row for row in live if row["successor_key_id"] is None]) <= 1
    by_id = {row["key_id"]: row for row in rows}
    for row in rows:
        if row["successor_key_id"]:
            assert by_id[row["successor_key_id"]]["predecessor_key_id"] == row["key_id"]
    await until_published(service)
    known = await service.states(topics.KEYS_STATE)
    for row in rows:
        state = known[row["key_id"]]
        assert (state["status"], state["version"]) == (row["status"], row["version"])
