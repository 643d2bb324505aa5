"""Protects the key service through its API: every step, every refusal, and what the topics tell of it."""

import asyncio
import statistics
import time

import httpx
import pytest

from shared import events, routes, topics
from shared.clock import SystemClock, rfc3339
from shared.tokens import (
    ACCOUNTS_HISTORY_FULL,
    ACCOUNTS_HISTORY_READ,
    SECURITY_FULL,
    SECURITY_READ,
    Caller,
)
from tests.keys_parts import CLIENT_IP, clerk, network, partner, staff, until

pytestmark = pytest.mark.slow


async def test_the_life_of_a_key_is_told_step_by_step(service):
    """Issue, list, reveal, allowlist, revoke: answers, events in order, and the last state."""
    ours = network()
    ada = staff(ours, behind="user-1")
    await service.tell(partner(ours))
    issued = await service.issue(
        ada, 7, "  Café  CRM ", allowlist=["192.0.2.0/24"], reason="for tests"
    )
    assert issued["propagated"]
    assert issued["integration"] == "Café CRM"
    path = f"/v1/networks/apikeys/{issued['key_id']}"

    listed = (await service.call("GET", "/v1/networks/affiliates/7/apikeys", ada)).json()
    (row,) = listed["apikeys"]
    assert "key" not in row
    assert (row["key_id"], row["masked"], row["status"]) == (
        issued["key_id"],
        f"aff_…{issued['key'][-4:]}",
        "active",
    )
    shown = await service.call("POST", f"{path}/reveal", ada, {"reason": "asked"})
    assert (shown.status_code, shown.json()["key"]) == (200, issued["key"])
    assert shown.headers["cache-control"] == "no-store"
    changed = await service.call("PUT", f"{path}/allowlist", ada, {"allowlist": ["2001:DB8::7"]})
    assert (changed.status_code, changed.json()["allowlist"]) == (200, ["2001:db8::7"])
    revoked = await service.call("POST", f"{path}/revoke", ada, {"reason": "leaked"})
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    again = await service.call("POST", f"{path}/revoke", ada)
    assert (again.status_code, again.json()) == (200, revoked.json())

    told = await service.told(ours)
    assert [type(event).__name__ for event in told] == [
        "KeyIssued",
        "KeyReshared",
        "AllowlistChanged",
        "KeyRevoked",
    ]
    assert [event.reason for event in told] == ["for tests", "asked", "", "leaked"]
    assert {event.key_id for event in told} == {issued["key_id"]}
    assert {(event.actor.subject, event.actor.behind) for event in told} == {("user-7", "user-1")}
    assert {(event.client_ip, event.request_id) for event in told} == {(CLIENT_IP, "request-1")}
    state = (await service.states(topics.KEYS_STATE))[issued["key_id"]]
    assert (state["status"], state["version"], state["allowlist"]) == (
        "revoked",
        3,
        ["2001:db8::7"],
    )
    for call in (("POST", f"{path}/reveal", None), ("PUT", f"{path}/allowlist", {"allowlist": []})):
        refused = await service.call(*call[:2], ada, call[2])
        assert (refused.status_code, "revoked" in refused.json()["error"]) == (409, True)


PARTNER = "/v1/networks/affiliates/7"
KEYS = "/v1/networks/apikeys"
BUDGETS = {"affiliate": {"rate": 9, "burst": 9}, "granular_per_hour": 9, "shadow": True}
RESOURCE = {"resource_id": 7, "resource_type": "affiliate"}
NO_SHARE = "share_0123456789abcdef0123"

# Every route of a network's staff: the call, the permission that it needs, what the trail calls it,
# and how it is answered if it is allowed.
CALLS = [
    ("POST", f"{PARTNER}/apikeys", {"integration": "no"}, "change", "issue a key", 201),
    ("POST", "/v1/networks/apikey", RESOURCE, "change", "issue a key", 201),
    ("GET", f"{PARTNER}/apikeys", None, "read", "list keys", 200),
    ("GET", KEYS, None, "read", "list keys", 200),
    ("GET", f"{KEYS}/export?format=csv", None, "read", "export keys", 200),
    ("GET", f"{KEYS}/{{key}}", None, "read", "look at {key}", 200),
    ("GET", f"{KEYS}/{{key}}/shares", None, "read", "list links of {key}", 200),
    ("POST", f"{KEYS}/{{key}}/shares", {}, "change", "share {key}", 201),
    (
        "DELETE",
        f"{KEYS}/{{key}}/shares/{NO_SHARE}",
        None,
        "change",
        "withdraw a link of {key}",
        404,
    ),
    ("POST", f"{KEYS}/{{key}}/reveal", {}, "change", "reveal {key}", 200),
    (
        "PUT",
        f"{KEYS}/{{key}}/allowlist",
        {"allowlist": []},
        "change",
        "set the allowlist of {key}",
        200,
    ),
    (
        "PUT",
        f"{KEYS}/{{key}}/expiry",
        {"expires_at": None},
        "change",
        "set the expiry of {key}",
        200,
    ),
    ("POST", f"{KEYS}/{{key}}/rotate", {}, "change", "rotate {key}", 201),
    ("POST", f"{KEYS}/{{key}}/revoke", {}, "change", "revoke {key}", 200),
    ("PUT", f"{PARTNER}/firehose", {"enabled": True}, "change", "switch the firehose", 200),
    ("PUT", f"{PARTNER}/suspension", {"suspended": True}, "change", "suspend a partner", 200),
    ("PUT", f"{PARTNER}/suspension", {"suspended": False}, "change", "resume a partner", 200),
    ("GET", "/v1/networks/budgets", None, "read", "read budgets", 200),
    ("PUT", "/v1/networks/budgets", BUDGETS, "super", "set budgets", 200),
]


def test_every_route_of_staff_is_among_the_calls():
    """A new one is tried without permission, and by another network's staff, as all others are."""
    table = routes.RouteTable()
    called = {table.find(call[0], call[1].partition("?")[0]) for call in CALLS}
    ours = {row for row in routes.of_service("keys") if row.template.startswith("/v1/networks/")}
    assert called == ours


async def test_without_permission_nothing_happens_and_every_attempt_is_told(service):
    """`Forbidden` on all routes, for staff without permissions and for partner users alike."""
    ours = network()
    await service.tell(partner(ours))
    key = (await service.issue(staff(ours), 7))["key_id"]
    partner_user = staff(ours, super_user=True, network_affiliate_id=7)
    for caller in (clerk(ours), partner_user):
        for method, path, body, *_ in CALLS:
            answer = await service.call(method, path.format(key=key), caller, body)
            assert answer.status_code == 403, (path, answer.text)
            assert answer.json() == dict.fromkeys(("Error", "error", "message"), "Forbidden")
    actions = [action.format(key=key) for *_, action, _ in CALLS]

    async def all_told() -> bool:
        return len(await service.told(ours)) == 1 + 2 * len(CALLS)

    await until(all_told)
    found = [event for event in await service.told(ours) if isinstance(event, events.AccessDenied)]
    found.sort(key=lambda event: event.occurred_at)
    assert [event.action for event in found] == actions * 2
    assert [event.actor.kind for event in found] == ["staff"] * len(CALLS) + ["partner"] * len(
        CALLS
    )
    listed = (await service.call("GET", "/v1/networks/apikeys", staff(ours))).json()["apikeys"]
    assert [(row["key_id"], row["status"]) for row in listed] == [(key, "active")]


@pytest.mark.parametrize(
    ("permission", "granted"),
    [
        (SECURITY_READ, {"read"}),
        (ACCOUNTS_HISTORY_READ, {"read"}),
        (SECURITY_FULL, {"read", "change"}),
        (ACCOUNTS_HISTORY_FULL, {"read", "change"}),
        ("super_user", set()),
    ],
)
async def test_each_permission_allows_what_it_says(service, permission, granted):
    """Reading needs any; changing needs full control; budgets need the claim of a Super User."""
    ours = network()
    await service.tell(partner(ours))
    key = (await service.issue(staff(ours), 7))["key_id"]
    caller = staff(ours, permission)
    for method, path, body, needed, _, allowed in CALLS:
        answer = await service.call(method, path.format(key=key), caller, body)
        expected = allowed if needed in granted else 403
        assert answer.status_code == expected, (method, path, answer.text)


async def test_nobody_gets_in_without_token_and_identity(service):
    """Each alone is not enough; staff of no network have nothing here."""
    ours = network()
    path = "/v1/networks/apikeys"
    anonymous = await service.call("GET", path, None)
    assert (anonymous.status_code, anonymous.json()["error"]) == (
        401,
        "No Authentication Method Found",
    )
    other_path = service.headers("GET", "/v1/networks/budgets", staff(ours))
    async with httpx.AsyncClient(verify=False, base_url=service.url) as client:
        misused = await client.get(path, headers=other_path)
        direct = await client.get(path, headers={"authorization": other_path["authorization"]})
    assert (misused.status_code, direct.status_code) == (401, 401)
    operator = Caller("operator", permissions=frozenset(["security:full"]), is_super_user=True)
    assert (await service.call("GET", path, operator)).status_code == 403
    assert (await service.call("GET", path, staff(ours))).status_code == 200


async def test_staff_of_another_network_find_nothing(service):
    """Neither partner nor key, by any route; theirs of the same number is another."""
    ours, theirs = network(), network()
    await service.tell(partner(ours), partner(theirs, 8))
    key = await service.issue(staff(ours), 7)
    foreign = staff(theirs, super_user=True)
    for method, path, body, *_ in CALLS:
        answer = await service.call(method, path.format(key=key["key_id"]), foreign, body)
        names_nothing = path in (KEYS, f"{KEYS}/export?format=csv", "/v1/networks/budgets")
        assert answer.status_code == (200 if names_nothing else 404), (path, answer.text)
        assert key["key_id"] not in answer.text
        assert key["masked"] not in answer.text
    shown = await service.call("POST", f"/v1/networks/apikeys/{key['key_id']}/reveal", staff(ours))
    assert shown.json()["key"] == key["key"]
    assert (await service.call("GET", "/v1/networks/budgets", staff(ours))).json() == {
        "affiliate": {"rate": 5, "burst": 20},
        "granular_per_hour": 1000,
        "shadow": False,
    }


async def test_a_partner_with_obstacles_gets_no_key_unless_a_super_user_says_why(service):
    """All reasons at once; overriding is told, and only a Super User may."""
    ours = network()
    await service.tell(partner(ours, in_onboarding=True, has_quality_flag=True))
    path = "/v1/networks/affiliates/7/apikeys"
    refused = await service.call("POST", path, staff(ours), {"integration": "crm"})
    assert refused.status_code == 409
    assert refused.json()["reasons"] == ["in_onboarding", "quality_flag"]
    assert "open quality flag" in refused.json()["error"]
    override = {"integration": "crm", "override_reason": "pilot agreed"}
    presumed = await service.call("POST", path, staff(ours), override)
    assert (presumed.status_code, presumed.json()["error"]) == (403, "Forbidden")
    wordless = await service.call(
        "POST", path, staff(ours, super_user=True), override | {"override_reason": " "}
    )
    assert wordless.status_code == 409
    assert await service.issue(staff(ours, super_user=True), 7, override_reason="pilot agreed")
    denied, issued = await service.told(ours)
    assert (denied.permission, denied.network_affiliate_id) == ("super_user", 7)
    assert (issued.reason, issued.override_reasons) == (
        "pilot agreed",
        ("in_onboarding", "quality_flag"),
    )


async def test_an_unknown_partner_is_not_found(service):
    """By every route that names one."""
    ours = network()
    for method, path, body, *_ in CALLS:
        if "affiliates" in path or path.endswith("apikey"):
            answer = await service.call(method, path, staff(ours), body)
            assert answer.status_code == 404, path


async def test_an_integration_has_one_active_key_also_when_many_ask_at_once(service):
    """One of ten calls wins; after a revocation the name is free again."""
    ours = network()
    await service.tell(partner(ours))
    path = "/v1/networks/affiliates/7/apikeys"
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(service.call("POST", path, staff(ours), {"integration": name}))
            for name in ["crm", "CRM"] * 5
        ]
    statuses = sorted(call.result().status_code for call in calls)
    assert statuses == [201] + [409] * 9
    (winner,) = (call.result().json() for call in calls if call.result().status_code == 201)
    refused = await service.call("POST", path, staff(ours), {"integration": "crm"})
    assert "active key for 'crm'" in refused.json()["error"]
    await service.issue(staff(ours), 7, "another")
    await service.call("POST", f"/v1/networks/apikeys/{winner['key_id']}/revoke", staff(ours))
    assert (await service.issue(staff(ours), 7, "crm"))["key_id"] != winner["key_id"]


async def test_a_lapsed_key_makes_room_for_its_successor(service):
    """Its end is told in the same transaction as the new key."""
    ours = network()
    await service.tell(partner(ours))
    ends_at = SystemClock().time() + 1.0
    old = await service.issue(staff(ours), 7, expires_at=rfc3339(ends_at))

    async def lapsed() -> bool:
        found = await service.call("GET", "/v1/networks/apikeys?status=expired", staff(ours))
        return [row["key_id"] for row in found.json()["apikeys"]] == [old["key_id"]]

    await until(lapsed)
    reveal = await service.call("POST", f"/v1/networks/apikeys/{old['key_id']}/reveal", staff(ours))
    assert (reveal.status_code, "expired" in reveal.json()["error"]) == (409, True)
    new = await service.issue(staff(ours), 7)
    told = [(type(event).__name__, event.key_id) for event in await service.told(ours)]
    assert told == [
        ("KeyIssued", old["key_id"]),
        ("KeyExpired", old["key_id"]),
        ("KeyIssued", new["key_id"]),
    ]
    states = await service.states(topics.KEYS_STATE)
    assert [states[key["key_id"]]["status"] for key in (old, new)] == ["expired", "active"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "integration"),
        ({"integration": ""}, "integration"),
        ({"integration": "crm\x00"}, "integration"),
        ({"integration": "crm", "allowlist": ["300.1.1.1"]}, "300.1.1.1"),
        ({"integration": "crm", "allow": []}, "allow"),
        ({"integration": "crm", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"integration": "crm", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"integration": "crm", "reason": "x" * 601}, "reason"),
    ],
)
async def test_a_wrong_wish_is_refused_by_name(service, body, named):
    """400 with what is wrong, and nothing is issued."""
    ours = network()
    await service.tell(partner(ours))
    path = "/v1/networks/affiliates/7/apikeys"
    answer = await service.call("POST", path, staff(ours), body)
    assert (answer.status_code, named in answer.json()["error"]) == (400, True), answer.text
    assert (await service.call("GET", path, staff(ours))).json()["apikeys"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/networks/apikeys?limit=0", None),
        ("GET", "/v1/networks/apikeys?cursor=nonsense", None),
        ("GET", "/v1/networks/apikeys?status=lost", None),
        ("GET", "/v1/networks/apikeys?search=%00", None),
        ("GET", "/v1/networks/affiliates/0/apikeys", None),
        ("PUT", "/v1/networks/affiliates/7/firehose", {"enabled": "perhaps"}),
        ("PUT", "/v1/networks/budgets", {"affiliate": {"rate": 0, "burst": 1}}),
    ],
)
async def test_a_wrong_call_is_refused(service, method, path, body):
    """400, in the wire form."""
    answer = await service.call(method, path, staff(network(), super_user=True), body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(("Invalid parameters.", "cursor: "))


async def test_streams_are_switched_and_told_once(service):
    """The state carries it; the same again is no event."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    path = "/v1/networks/affiliates/7/firehose"
    for enabled in (True, True, False):
        answer = await service.call("PUT", path, ada, {"enabled": enabled, "reason": "plan"})
        assert answer.status_code == 200
        assert answer.json() == {
            "network_affiliate_id": 7,
            "enabled": enabled,
            "suspended": False,
            "propagated": True,
        }
    told = [type(event).__name__ for event in await service.told(ours)]
    assert told == ["FirehoseEnabled", "FirehoseDisabled"]
    state = (await service.states(topics.PARTNERS_ACCESS))[f"{ours}:7"]
    assert (state["version"], state["firehose_enabled"], state["suspended"]) == (2, False, False)


async def test_budgets_are_set_by_super_users_and_told(service):
    """Before and after; the gateway's topic has the new ones when the answer comes."""
    ours = network()
    wanted = {"affiliate": {"rate": 7.5, "burst": 40}, "granular_per_hour": 500, "shadow": True}
    boss = staff(ours, super_user=True)
    answer = await service.call("PUT", "/v1/networks/budgets", boss, wanted)
    assert (answer.status_code, answer.json()) == (200, wanted | {"propagated": True})
    state = (await service.states(topics.NETWORKS_STATE))[str(ours)]
    assert state == wanted | {"network_id": ours, "version": 1}
    assert (await service.call("GET", "/v1/networks/budgets", staff(ours))).json() == wanted
    again = await service.call("PUT", "/v1/networks/budgets", boss, wanted)
    assert again.status_code == 200
    told = await service.told(ours)
    assert sorted((event.realm, event.before, event.after) for event in told) == [
        ("affiliate", "5/s, burst 20", "7.5/s, burst 40"),
        ("granular", "1000/h", "500/h"),
        ("shadow", "enforce", "report only"),
    ]


async def test_a_partner_is_suspended_while_the_account_is_not_active(service):
    """Inactive or removed: suspended; active again: resumed; what comes late changes nothing."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours, version=5))
    await service.call("PUT", "/v1/networks/affiliates/7/firehose", ada, {"enabled": True})

    async def state() -> tuple[bool, bool]:
        found = (await service.states(topics.PARTNERS_ACCESS))[f"{ours}:7"]
        return found["suspended"], found["firehose_enabled"]

    async def suspended() -> bool:
        return await state() == (True, True)

    async def resumed() -> bool:
        return await state() == (False, True)

    inactive = partner(ours, version=6, account_status="inactive")
    await service.tell(inactive, partner(ours, version=5), inactive)
    await until(suspended)
    await service.tell(partner(ours, version=7))
    await until(resumed)
    await service.remove(ours, 7)
    await until(suspended)
    gone = await service.call("GET", "/v1/networks/affiliates/7/apikeys", ada)
    assert gone.status_code == 404
    await service.send(partner(ours, version=7))
    await service.tell(partner(ours, version=8))
    await until(resumed)
    told = [event for event in await service.told(ours) if event.actor.kind == "system"]
    assert [(type(event).__name__, event.reason) for event in told] == [
        ("PartnerSuspended", "account status: inactive"),
        ("PartnerResumed", "account status: active"),
        ("PartnerSuspended", "account status: removed"),
        ("PartnerResumed", "account status: active"),
    ]


async def test_a_suspension_by_staff_outlives_whatever_the_account_does(service):
    """Each hold is told when placed and lifted; keys work again once none is left."""
    ours = network()
    ada = staff(ours)
    path = f"{PARTNER}/suspension"
    await service.tell(partner(ours))

    async def set_to(*, suspended: bool) -> tuple[bool, list[str]]:
        answer = await service.call("PUT", path, ada, {"suspended": suspended, "reason": "abuse"})
        assert (answer.status_code, answer.json()["propagated"]) == (200, True)
        return answer.json()["suspended"], answer.json()["holds"]

    async def state() -> dict:
        return (await service.states(topics.PARTNERS_ACCESS))[f"{ours}:7"]

    async def at(version: int) -> None:
        async def reached() -> bool:
            return (await state())["version"] == version

        await until(reached)

    assert await set_to(suspended=True) == (True, ["staff"])
    assert await set_to(suspended=True) == (True, ["staff"])
    await service.tell(partner(ours, version=2, account_status="inactive"))
    await at(2)
    await service.tell(partner(ours, version=3))
    await at(3)
    assert (await state())["suspended"]
    await service.tell(partner(ours, version=4, account_status="suspended"))
    await at(4)
    assert await set_to(suspended=False) == (True, ["account_status"])
    assert (await state())["suspended"]
    await service.tell(partner(ours, version=5))
    await at(6)
    assert not (await state())["suspended"]
    told = [
        (type(event).__name__, event.hold, event.actor.kind, getattr(event, "remaining", None))
        for event in await service.told(ours)
    ]
    assert told == [
        ("PartnerSuspended", "staff", "staff", None),
        ("PartnerSuspended", "account_status", "system", None),
        ("PartnerResumed", "account_status", "system", ("staff",)),
        ("PartnerSuspended", "account_status", "system", None),
        ("PartnerResumed", "staff", "staff", ("account_status",)),
        ("PartnerResumed", "account_status", "system", ()),
    ]


async def test_a_partner_whose_account_is_inactive_gets_no_key(service):
    """That is one of the reasons, told with the others."""
    ours = network()
    await service.tell(partner(ours, account_status="inactive", has_fraud_flag=True))
    refused = await service.call("POST", f"{PARTNER}/apikeys", staff(ours), {"integration": "crm"})
    assert refused.status_code == 409
    assert refused.json()["reasons"] == ["fraud_flag", "account_inactive"]


async def test_a_revocation_is_answered_once_kafka_has_it(service, record_property):
    """When the answer comes, any reader of the topic finds the key revoked; prints how long it took."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    ids = [(await service.issue(ada, 7, f"app-{number}"))["key_id"] for number in range(20)]
    seconds = []
    for key_id in ids:
        began = time.perf_counter()
        answer = await service.call("POST", f"/v1/networks/apikeys/{key_id}/revoke", ada)
        seconds.append(time.perf_counter() - began)
        assert (answer.status_code, answer.json()["propagated"]) == (200, True)
    states = await service.states(topics.KEYS_STATE)
    assert {states[key_id]["status"] for key_id in ids} == {"revoked"}
    told = f"revoke to 200: p50 {1000 * statistics.median(seconds):.0f} ms, max {1000 * max(seconds):.0f} ms"
    record_property("revocation", told)
    print(f"\n{told}")
