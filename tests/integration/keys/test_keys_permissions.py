"""Protects who may do what: every route of staff against every kind of caller, refusals told."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from services.keys.staff import CHANGE, READ, SUPER_USER
from shared.events import AccessDenied
from shared.routes import of_service
from shared.tokens import PERMISSIONS, Caller
from tests.keys_parts import KeysProcess, Platform, network, partner, until_published

pytestmark = pytest.mark.slow

READERS = frozenset(READ)
CHANGERS = frozenset(CHANGE)
SUPER = frozenset({SUPER_USER})
PARTNER = frozenset({"partner"})

KEY = "/v1/networks/apikeys/{key_id}"
AFFILIATE = "/v1/networks/affiliates/{affiliate_id}"
ISSUE = {"integration": "app", "resource_id": 7, "resource_type": "affiliate"}
BUDGETS = {"affiliate": {"rate": 5, "burst": 20}, "granular_per_hour": 1000, "shadow": False}

RULES: dict[tuple[str, str], tuple[frozenset[str], Any]] = {
    ("GET", "/v1/networks/apikeys"): (READERS, None),
    ("GET", "/v1/networks/apikeys/export"): (READERS, None),
    ("GET", f"{AFFILIATE}/apikeys"): (READERS, None),
    ("GET", KEY): (READERS, None),
    ("GET", f"{KEY}/shares"): (READERS, None),
    ("POST", f"{AFFILIATE}/apikeys"): (CHANGERS, {"integration": "app"}),
    ("POST", "/v1/networks/apikey"): (CHANGERS, ISSUE),
    ("POST", f"{KEY}/reveal"): (CHANGERS, {}),
    ("POST", f"{KEY}/shares"): (CHANGERS, {}),
    ("DELETE", f"{KEY}/shares/{{share_id}}"): (CHANGERS, None),
    ("PUT", f"{KEY}/allowlist"): (CHANGERS, {"allowlist": ["192.0.2.1"]}),
    ("PUT", f"{KEY}/expiry"): (CHANGERS, {"expires_at": None, "reason": "x"}),
    ("PUT", f"{AFFILIATE}/firehose"): (CHANGERS, {"enabled": True}),
    ("PUT", f"{AFFILIATE}/suspension"): (CHANGERS, {"suspended": False, "reason": "x"}),
    ("POST", f"{KEY}/rotate"): (CHANGERS, {"overlap_seconds": 60, "reason": "x"}),
    ("POST", f"{KEY}/revoke"): (CHANGERS, {}),
    ("GET", "/v1/networks/budgets"): (READERS | SUPER, None),
    ("PUT", "/v1/networks/budgets"): (SUPER, BUDGETS),
    ("GET", "/v1/partner/apikeys"): (PARTNER, None),
}
"""What each route needs, one of these, and a body that it takes."""


@dataclass(frozen=True)
class Kind:
    """A kind of caller, and what the routes may count in their favour."""

    caller: Caller
    holds: frozenset[str]


def kinds(ours: int) -> list[Kind]:
    """Each acts through an impersonation, so that both persons must be in the trail."""
    permissions = [frozenset(), *(frozenset({name}) for name in sorted(PERMISSIONS))]
    found = [Kind(_caller(ours, "+".join(held) or "clerk", held), held) for held in permissions]
    claiming = _caller(ours, "claims super_user as a permission", SUPER)
    super_user = replace(_caller(ours, "super user"), is_super_user=True)
    greedy = replace(
        _caller(ours, "partner user", PERMISSIONS), network_affiliate_id=7, is_super_user=True
    )
    operator = replace(_caller(0, "operator", PERMISSIONS), is_super_user=True)
    return [
        *found,
        Kind(claiming, frozenset()),
        Kind(super_user, SUPER),
        Kind(greedy, PARTNER),
        Kind(operator, frozenset()),
    ]


def _caller(network_id: int, subject: str, held: frozenset[str] = frozenset()) -> Caller:
    return Caller(
        subject=subject, name=subject, network_id=network_id, permissions=held, behind="root-9"
    )


def test_every_route_of_a_person_has_its_rule():
    """A new route cannot be forgotten here."""
    served = {
        (route.method, route.template)
        for route in of_service("keys")
        if route.authentication == "jwt"
    }
    assert set(RULES) == served


async def _made(service: Platform, ours: int, integration: str) -> dict[str, str]:
    """What stands in for the braces of a path: a new key with a link."""
    full = _caller(ours, "maker", CHANGERS)
    key = await service.issue(full, 7, integration)
    path = f"/v1/networks/apikeys/{key['key_id']}/shares"
    share = (await service.call("POST", path, full, {})).json()
    return {"affiliate_id": "7", "key_id": key["key_id"], "share_id": share["share_id"]}


async def test_each_caller_may_do_exactly_what_their_permissions_say(service):
    """All routes by all kinds of callers; what is refused is `Forbidden` and an event each."""
    ours = network()
    await service.tell(partner(ours))
    refused: Counter[str] = Counter()
    for kind in kinds(ours):
        places = await _made(service, ours, f"of {kind.caller.subject}")
        for number, ((method, template), (needed, body)) in enumerate(RULES.items()):
            path, sent = template.format(**places), body
            if body and "integration" in body:  # one key each
                sent = body | {"integration": f"{kind.caller.subject} {number}"}
            answer = await service.call(method, path, kind.caller, sent)
            where = f"{kind.caller.subject}: {method} {template}: {answer.text}"
            if kind.holds & needed:
                assert answer.status_code in (200, 201, 202), where
            else:
                assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden"), where
                refused[kind.caller.subject] += 1
    await until_published(service)
    told = [event for event in await service.told(ours) if isinstance(event, AccessDenied)]
    refused.pop("operator")  # has no network whose trail could tell
    assert Counter(event.actor.subject for event in told) == refused
    assert len(refused) == len(kinds(ours)) - 1
    assert {event.actor.behind for event in told} == {"root-9"}
    assert all(event.action and event.permission for event in told)


@pytest.mark.parametrize(
    ("roles", "partner_id", "network_id", "statuses"),
    [
        (["key manager"], 0, None, (200, 201)),
        (["key reader"], 0, None, (200, 403)),
        (["key manager"], 0, 17, (403, 403)),
        (["key manager", "key reader"], 0, 17, (200, 403)),
        (["Key Manager", "super_user"], 0, None, (403, 403)),
        (["key manager"], 7, None, (403, 403)),
    ],
    ids=str,
)
async def test_a_role_opens_what_its_network_grants_it(
    service, roles, partner_id, network_id, statuses
):
    """By the table that the service was started with; without any permission of their own."""
    ours = network()
    await service.tell(partner(ours))
    caller = replace(_caller(network_id or ours, "by role"), network_affiliate_id=partner_id)
    found = []
    for method, path in (("GET", "/v1/networks/apikeys"), ("POST", AFFILIATE + "/apikeys")):
        path_now = path.format(affiliate_id=7)
        headers = service.headers(method, path_now, caller, roles)
        async with httpx.AsyncClient(verify=False, base_url=service.url, timeout=30) as client:
            body = {"integration": "app"} if method == "POST" else None
            answer = await client.request(method, path_now, json=body, headers=headers)
        found.append(answer.status_code)
    assert tuple(found) == statuses


async def test_a_service_with_a_wrong_table_of_roles_does_not_start(platform):
    """One line that names the setting and the place, exit status 2."""
    process = KeysProcess(platform, {"JWT_ROLES": '{"*": {"clerk": ["security:ful"]}}'})
    assert process.wait_exit() == 2
    said = platform.log.read_text()
    assert said.startswith("JWT_ROLES: role 'clerk' of network *: 'security:ful' is no permission;")
    assert said.count("\n") == 1


async def test_staff_of_one_network_neither_see_nor_touch_another_one(service):
    """With every permission of their own: the others' keys, links and partners are not there."""
    ours, theirs = network(), network()
    await service.tell(partner(ours))
    places = await _made(service, ours, "crm")
    before = await _rows(service, ours)
    stranger = replace(_caller(theirs, "stranger", PERMISSIONS), is_super_user=True)
    for (method, template), (needed, body) in RULES.items():
        if needed == PARTNER:
            continue
        answer = await service.call(method, template.format(**places), stranger, body)
        is_about_them = "{" in template or template == "/v1/networks/apikey"
        assert answer.status_code == (404 if is_about_them else 200), f"{method} {template}"
        assert places["key_id"] not in answer.text
    user = replace(_caller(theirs, "their partner 7"), network_affiliate_id=7)
    assert (await service.call("GET", "/v1/partner/apikeys", user)).status_code == 404
    assert await _rows(service, ours) == before


async def _rows(service: Platform, ours: int) -> list[str]:
    found = []
    for table in ("keys", "shares", "partner_access", "network_budgets"):
        found += await service.execute(
            f"SELECT t::text FROM {table} AS t WHERE network_id = $1 ORDER BY 1", ours
        )
    return [row[0] for row in found]


@pytest.mark.parametrize("method_and_template", RULES, ids=" ".join)
async def test_nobody_gets_in_without_a_token(service, method_and_template):
    """A door's signature says through which door, never who is calling."""
    method, template = method_and_template
    path = template.format(affiliate_id=7, key_id="key_a", share_id="share_a")
    answer = await service.call(method, path, None, RULES[method_and_template][1])
    assert (answer.status_code, answer.json()["error"]) == (401, "No Authentication Method Found")
