"""Protects requests that are sent again: one Idempotency-Key is one key, also at once and after a crash."""

import asyncio
import signal
from collections import Counter
from dataclasses import replace

import httpx
import pytest

from services.keys.idempotency import KEEP_SECONDS
from services.keys.store import Store
from shared import events
from shared.clock import SystemClock
from shared.postgres import open_pool
from tests.keys_parts import (
    KeysProcess,
    network,
    partner,
    serving,
    staff,
    until,
    until_published,
)

pytestmark = pytest.mark.slow

PATH = "/v1/networks/affiliates/7/apikeys"
CRM = {"integration": "crm", "allowlist": ["192.0.2.7"], "reason": "for tests"}


async def kinds(service, ours: int) -> Counter:
    """How often which event was told of a network."""
    await until_published(service)
    return Counter(type(event).__name__ for event in await service.told(ours))


async def at_once(number: int, call) -> list[httpx.Response]:
    """The answers to `number` calls that are made together."""
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call()) for _ in range(number)]
    return [one.result() for one in calls]


async def test_twenty_equal_requests_at_once_make_one_key_and_get_one_answer(service):
    """One row, one event of its issue; that its secret was shown again is told each time."""
    ours = network()
    await service.tell(partner(ours))
    answers = await at_once(20, lambda: service.call("POST", PATH, staff(ours), CRM, once="one"))
    assert {answer.status_code for answer in answers} == {201}
    first = answers[0].json()
    assert [answer.json() for answer in answers] == [first] * 20
    rows = await service.execute("SELECT key_id FROM keys WHERE network_id = $1", ours)
    assert [row["key_id"] for row in rows] == [first["key_id"]]
    assert await kinds(service, ours) == {"KeyIssued": 1, "KeyReshared": 19}
    shown = [one for one in await service.told(ours) if isinstance(one, events.KeyReshared)]
    assert {one.channel for one in shown} == {"retry"}


async def test_twenty_equal_rotations_at_once_make_one_successor(service):
    """Each answer shows the same secret, and the predecessor as it was then."""
    ours = network()
    await service.tell(partner(ours))
    old = await service.issue(staff(ours), 7)
    path = f"/v1/networks/apikeys/{old['key_id']}/rotate"
    answers = await at_once(20, lambda: service.call("POST", path, staff(ours), {}, once="two"))
    assert {answer.status_code for answer in answers} == {201}
    first = answers[0].json()
    assert [answer.json() for answer in answers] == [first] * 20
    assert first["predecessor"]["key_id"] == old["key_id"]
    assert first["predecessor"]["successor_key_id"] == first["key_id"]
    assert await kinds(service, ours) == {"KeyIssued": 2, "KeyRotated": 1, "KeyReshared": 19}


async def test_an_answer_given_again_is_as_it_was(service):
    """Whatever has become of partner and key; only a key that has ended is not shown."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    first = (await service.call("POST", PATH, ada, CRM, once="three")).json()
    path = f"/v1/networks/apikeys/{first['key_id']}"
    await service.call("PUT", f"{path}/allowlist", ada, {"allowlist": []})
    await service.tell(partner(ours, version=2, has_fraud_flag=True))
    again = await service.call("POST", PATH, ada, CRM, once="three")
    assert (again.status_code, again.json()) == (201, first)
    assert again.headers["cache-control"] == "no-store"
    await service.call("POST", f"{path}/revoke", ada)
    ended = await service.call("POST", PATH, ada, CRM, once="three")
    assert ended.status_code == 409
    assert f"{first['key_id']}, which is revoked" in ended.json()["error"]


async def test_an_idempotency_key_stands_for_one_request_of_one_person(service):
    """Another body or route is refused; another person, or network, has keys of their own."""
    ours, theirs = network(), network()
    ada = staff(ours)
    await service.tell(partner(ours), partner(theirs))
    first = (await service.call("POST", PATH, ada, CRM, once="four")).json()
    resource = CRM | {"resource_id": 7, "resource_type": "affiliate"}
    for path, body in [
        (PATH, CRM | {"reason": "another"}),
        ("/v1/networks/apikey", resource),
        (f"/v1/networks/apikeys/{first['key_id']}/rotate", {}),
    ]:
        refused = await service.call("POST", path, ada, body, once="four")
        assert (refused.status_code, "another request" in refused.json()["error"]) == (409, True)
    other = await service.call("POST", PATH, replace(ada, subject="user-9"), CRM, once="four")
    assert (other.status_code, "active key" in other.json()["error"]) == (409, True)
    foreign = await service.call("POST", PATH, staff(theirs), CRM, once="four")
    assert foreign.status_code == 201
    assert foreign.json()["key"] != first["key"]
    assert await kinds(service, ours) == {"KeyIssued": 1}


async def test_a_refusal_is_not_kept(service):
    """Once what stood against it is gone, the same request succeeds."""
    ours = network()
    await service.tell(partner(ours, in_onboarding=True))
    refused = await service.call("POST", PATH, staff(ours), CRM, once="five")
    assert (refused.status_code, refused.json()["reasons"]) == (409, ["in_onboarding"])
    await service.tell(partner(ours, version=2))

    async def granted() -> bool:
        answer = await service.call("POST", PATH, staff(ours), CRM, once="five")
        assert answer.status_code in (201, 409), answer.text
        return answer.status_code == 201

    await until(granted)


@pytest.mark.parametrize("once", ["", "x" * 256, "caf\u00e9", "a\tb"])
async def test_a_wrong_idempotency_key_is_refused_by_name(service, once):
    """400; nothing is issued under a key that cannot be told from others."""
    ours = network()
    await service.tell(partner(ours))
    headers = service.headers("POST", PATH, staff(ours)) | {"idempotency-key": once.encode()}
    async with httpx.AsyncClient(verify=False, base_url=service.url) as client:
        answer = await client.post(PATH, json=CRM, headers=headers)
    assert (answer.status_code, "Idempotency-Key" in answer.json()["error"]) == (400, True)
    assert await service.execute("SELECT FROM keys WHERE network_id = $1", ours) == []


async def test_answers_are_kept_for_a_day_without_the_secret(service):
    """Then the same key is new again, and the row is forgotten."""
    ours = network()
    await service.tell(partner(ours))
    first = (await service.call("POST", PATH, staff(ours), CRM, once="six")).json()
    (row,) = await service.execute(
        "SELECT idempotent_answers::text AS all FROM idempotent_answers WHERE network_id = $1", ours
    )
    assert first["key_id"] in row["all"]
    assert first["key"] not in row["all"]
    age = "UPDATE idempotent_answers SET created_at = created_at - $2 WHERE network_id = $1"
    await service.execute(age, ours, KEEP_SECONDS + 1)
    new = await service.call("POST", PATH, staff(ours), CRM | {"integration": "b"}, once="six")
    assert new.status_code == 201
    assert new.json()["key_id"] != first["key_id"]
    await service.execute(age, ours, KEEP_SECONDS + 1)
    async with open_pool(service.database_url, schema=service.schema, application="test") as pool:
        before = SystemClock().time() - KEEP_SECONDS
        assert await Store(pool).forget_answers(before, 500) >= 1
    kept = await service.execute("SELECT FROM idempotent_answers WHERE network_id = $1", ours)
    assert kept == []


async def test_a_request_sent_again_after_crashes_makes_one_key(platform):
    """Killed before its commit, nothing stands; killed after it, the next process has the answer."""
    ours = network()
    ada = staff(ours)
    for point, left in (("keys.before_commit", 0), ("keys.after_commit", 1)):
        process = KeysProcess(platform, {"PORTICO_CRASH_AT": point})
        assert process.wait_until_served()
        await platform.tell(partner(ours))
        with pytest.raises(httpx.TransportError):
            await platform.call("POST", PATH, ada, CRM, once="seven")
        assert await asyncio.to_thread(process.wait_exit) == -signal.SIGKILL
        found = await platform.execute("SELECT key_id FROM keys")
        assert len(found) == left
    with serving(platform):
        answer = await platform.call("POST", PATH, ada, CRM, once="seven")
        assert (answer.status_code, answer.json()["key_id"]) == (201, found[0]["key_id"])
        assert len(await platform.execute("SELECT FROM keys")) == 1
        assert await kinds(platform, ours) == {"KeyIssued": 1, "KeyReshared": 1}
