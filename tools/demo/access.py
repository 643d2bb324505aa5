"""Acts about who may do what: staff, partners, addresses, budgets."""

import asyncio
from typing import Any, Final

import httpx

from shared.identity import HEADER as IDENTITY_HEADER
from shared.tokens import ACCOUNTS_HISTORY_READ, SECURITY_READ
from tools.demo.record import StepError, check, until
from tools.demo.reports import period
from tools.demo.stage import NETWORK, OTHER_NETWORK, Stage

WIDE_BUDGET: Final = {
    "affiliate": {"rate": 2_000, "burst": 2_000},
    "granular_per_hour": 100_000,
    "shadow": False,
}
ELSEWHERE: Final = "203.0.113.0/24"
HERE: Final = ["127.0.0.1", "::1"]
BURST: Final = 60
DEFAULT_BURST: Final = 20
DEFAULT_RATE: Final = 5
QUOTA_TYPE: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"


async def partners(stage: Stage, network: int) -> list[dict[str, Any]]:
    """The network's partners that may have a key and have traffic, busiest first."""
    answer = await stage.simulator.get("/cast")
    return [
        one
        for one in answer.json()["partners"]
        if one["network_id"] == network and one["may_have_key"] and one["runs"]
    ]


async def staff_without_permission(stage: Stage) -> str:
    """Reading rights are not enough to issue; the attempt is on the record."""
    (busiest, *_) = await partners(stage, NETWORK)
    path = f"/v1/networks/affiliates/{busiest['network_affiliate_id']}/apikeys"
    for permissions in ((), (SECURITY_READ,), (ACCOUNTS_HISTORY_READ,)):
        answer = await stage.staff(
            "POST", path, {"integration": "no"}, permissions=permissions, super_user=False
        )
        told = f"{permissions}: {answer.status_code} {answer.text}"
        check(answer.status_code == httpx.codes.FORBIDDEN, told)
        check(answer.json()["error"] == "Forbidden", told)
    unsigned = await stage.gateway.post(path, json={"integration": "no"})
    check(unsigned.status_code == httpx.codes.UNAUTHORIZED, f"no token: {unsigned.status_code}")

    async def denied() -> list[dict[str, Any]] | None:
        found = await stage.entries(kind="AccessDenied")
        return found if len(found) == 3 else None  # noqa: PLR2004 - the three tries above

    await until(stage.clock, "three AccessDenied entries in the trail", denied)
    return "three tries without full control: 403 Forbidden, each in the audit trail"


async def issue_key(stage: Stage) -> str:
    """Eligible partners get a key that works; others are refused with all reasons."""
    await stage.told("PUT", "/v1/networks/budgets", WIDE_BUDGET)
    first, second, *_ = await partners(stage, NETWORK)
    for name, partner in (("first", first), ("second", second)):
        partner_id = partner["network_affiliate_id"]
        stage.keys[name] = await stage.issue(partner_id, f"demo-{name}")
        await stage.told("PUT", f"/v1/networks/affiliates/{partner_id}/firehose", {"enabled": True})
    refused = await _ineligible(stage)
    again = await stage.staff(
        "POST",
        f"/v1/networks/affiliates/{first['network_affiliate_id']}/apikeys",
        {"integration": "demo-first"},
    )
    check(again.status_code == httpx.codes.CONFLICT, f"same integration: {again.status_code}")
    return f"two keys work; {refused} partners refused with reasons; a second of one name refused"


async def _ineligible(stage: Stage) -> int:
    everybody = (await stage.simulator.get("/cast")).json()["partners"]
    barred = [
        one
        for one in everybody
        if one["network_id"] == NETWORK and set(one["obstacles"]) - {"account_status"}
    ]
    for one in barred:
        path = f"/v1/networks/affiliates/{one['network_affiliate_id']}/apikeys"
        answer = await stage.staff("POST", path, {"integration": "no"})
        told = f"{one['name']}: {answer.status_code} {answer.text}"
        check(answer.status_code == httpx.codes.CONFLICT, told)
    return len(barred)


async def other_partner_out_of_reach(stage: Stage) -> str:
    """With one partner's key, nothing of another's shows, by whatever id or trick."""
    first, second = stage.key("first"), stage.key("second")
    rows = (await stage.truth("events", **first.owner, rows_max=2_000))["events"]
    clicks = [row["id"] for row in rows if row["kind"] == "clicks"][:15]
    for transaction in clicks:
        path = f"/v1/affiliates/reporting/clicks/{transaction}"
        own = await stage.gateway.get(path, headers=first.headers)
        check(own.is_success, f"the owner cannot read click {transaction}: {own.status_code}")
        foreign = await stage.gateway.get(path, headers=second.headers)
        check(foreign.status_code == httpx.codes.NOT_FOUND, f"a foreign click: {foreign.text}")
    await _tricks(stage)
    await _foreign_staff(stage)
    return f"{len(clicks)} foreign click ids, selectors, forged identity, foreign staff: nothing"


async def _tricks(stage: Stage) -> None:
    """Selectors and a forged identity change nothing: the answer is the caller's own."""
    first, second = stage.key("first"), stage.key("second")
    body = period(stage) | {"currency_id": "USD", "columns": [{"column": "offer"}]}
    path = "/v1/affiliates/reporting/entity/table"
    plain = await stage.gateway.post(path, json=body, headers=second.headers)
    check(plain.is_success, f"report: {plain.status_code} {plain.text}")
    selector = {"network_affiliate_id": first.partner_id, "affiliate_id": first.partner_id}
    tried = await stage.gateway.post(
        path,
        json=body | selector,
        params=selector,
        headers=second.headers | {IDENTITY_HEADER: "forged"},
    )
    check(tried.json() == plain.json(), "a selector or a forged identity changed the report")
    wanted = {"resource_type": "affiliate", "filter_id_value": str(first.partner_id)}
    filtered = await stage.gateway.post(
        path, json=body | {"query": {"filters": [wanted]}}, headers=second.headers
    )
    shown = filtered.json().get("table", []) if filtered.is_success else []
    own = {str(row["columns"]) for row in plain.json()["table"]}
    check({str(row["columns"]) for row in shown} <= own, "a filter by partner showed foreign rows")


async def _foreign_staff(stage: Stage) -> None:
    """Staff of another network find neither the partner nor the key."""
    first = stage.key("first")
    for method, path in (
        ("POST", f"/v1/networks/apikeys/{first.key_id}/reveal"),
        ("POST", f"/v1/networks/apikeys/{first.key_id}/revoke"),
    ):
        answer = await stage.staff(method, path, {}, network=OTHER_NETWORK)
        refused = (httpx.codes.NOT_FOUND, httpx.codes.FORBIDDEN)
        check(answer.status_code in refused, f"foreign staff, {path}: {answer.status_code}")
    path = f"/v1/networks/affiliates/{first.partner_id}/apikeys"
    listed = await stage.staff("GET", path, network=OTHER_NETWORK)
    check(first.key_id not in listed.text, "foreign staff sees the key in a list")
    check((await stage.ask(first)).is_success, "the key no longer works")


async def allowlist_refuses(stage: Stage) -> str:
    """A key bound to other addresses is refused from here, and works again once bound to here."""
    key = await stage.issue(stage.key("second").partner_id, "demo-allowlist")
    path = f"/v1/networks/apikeys/{key.key_id}/allowlist"
    await stage.told("PUT", path, {"allowlist": [ELSEWHERE]})

    async def refused() -> httpx.Response | None:
        answer = await stage.ask(key)
        return None if answer.is_success else answer

    answer = await until(stage.clock, "a refusal by the allowlist", refused, pause=0.01)
    check(answer.status_code == httpx.codes.FORBIDDEN, f"{answer.status_code} {answer.text}")
    spoofed = await stage.gateway.get(
        "/v1/affiliates/network", headers=key.headers | {"X-Forwarded-For": "203.0.113.9"}
    )
    check(spoofed.status_code == httpx.codes.FORBIDDEN, "X-Forwarded-For of a client was believed")
    await stage.told("PUT", path, {"allowlist": HERE})

    async def admitted() -> bool | None:
        return True if (await stage.ask(key)).is_success else None

    await until(stage.clock, "the key to work from here", admitted, pause=0.01)
    bad = await stage.staff("PUT", path, {"allowlist": ["300.1.1.1"]})
    check(bad.status_code == httpx.codes.BAD_REQUEST, f"a wrong address: {bad.status_code}")
    return f"403 {answer.json()['error']!r} from outside, also with a forged X-Forwarded-For"


async def budget_shared(stage: Stage) -> str:
    """One budget for the network: a burst empties it, honest headers tell, others feel it."""
    greedy, modest = (await partners(stage, OTHER_NETWORK))[:2]
    keys = [
        await stage.issue(one["network_affiliate_id"], "demo-budget", network=OTHER_NETWORK)
        for one in (greedy, modest)
    ]
    stage.keys["greedy"] = keys[0]
    await _full_bucket(stage, keys[0].headers)
    began = stage.clock.monotonic()
    answers = await _burst(stage, keys[0].headers)
    other = await stage.ask(keys[1])
    seconds = stage.clock.monotonic() - began
    admitted = [one for one in answers if one.is_success]
    refused = [one for one in answers if one.status_code == httpx.codes.TOO_MANY_REQUESTS]
    most = DEFAULT_BURST + DEFAULT_RATE * seconds + 1
    told = f"{len(admitted)} of {BURST} admitted in {seconds:.2f} s"
    check(len(admitted) + len(refused) == BURST, f"{told}; others were neither")
    check(DEFAULT_BURST - 1 <= len(admitted) <= most, told)
    for one in refused:
        _check_honest(one)
    waited = await _second_partner(stage, keys[1].headers, other, seconds)
    return f"{told}; the other partner was refused too, and admitted {waited:.2f} s later"


async def _second_partner(
    stage: Stage, headers: dict[str, str], answer: httpx.Response, seconds: float
) -> float:
    """The other partner meets the empty bucket, and is admitted when `Retry-After` said.

    A slow machine may have refilled the bucket by then: bursts are repeated until one is fast.
    """
    for _ in range(20):
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            break
        await _burst(stage, headers | stage.key("greedy").headers)
        answer = await stage.gateway.get("/v1/affiliates/network", headers=headers)
    check(answer.status_code == httpx.codes.TOO_MANY_REQUESTS, f"after {seconds:.2f} s: admitted")
    _check_honest(answer)
    promised = float(answer.headers["retry-after"])
    began = stage.clock.monotonic()

    async def admitted() -> bool | None:
        again = await stage.gateway.get("/v1/affiliates/network", headers=headers)
        return True if again.is_success else None

    await until(stage.clock, "the budget to refill", admitted, seconds=promised + 5)
    waited = stage.clock.monotonic() - began
    check(waited <= promised + 1, f"Retry-After said {promised} s, it took {waited:.2f} s")
    return waited


async def _full_bucket(stage: Stage, headers: dict[str, str]) -> None:
    async def full() -> bool | None:
        answer = await stage.gateway.get("/v1/affiliates/network", headers=headers)
        left = int(answer.headers.get("x-ratelimit-remaining", -1))
        return True if left >= DEFAULT_BURST - 1 else None

    await until(stage.clock, "the budget to be full", full, pause=1.0)


async def _burst(stage: Stage, headers: dict[str, str]) -> list[httpx.Response]:
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(stage.gateway.get("/v1/affiliates/network", headers=headers))
            for _ in range(BURST)
        ]
    return [call.result() for call in calls]


def _check_honest(answer: httpx.Response) -> None:
    """A 429 says the same in its headers, its draft headers and its body."""
    headers, body = answer.headers, answer.json()
    try:
        state = dict(part.split("=") for part in headers["ratelimit"].split(";")[1:])
        honest = (
            headers["x-ratelimit-limit"] == str(DEFAULT_BURST)
            and headers["x-ratelimit-remaining"] == state["r"] == "0"
            and headers["retry-after"] == state["t"]
            and int(state["t"]) >= 1
            and f'"affiliate";q={DEFAULT_BURST};w=4' in headers["ratelimit-policy"]
            and body["type"] == QUOTA_TYPE
            and body["Error"] == body["error"]
        )
    except (KeyError, ValueError) as error:
        raise StepError(f"a 429 lacks {error}: {dict(headers)} {body}") from error
    check(honest, f"a 429 contradicts itself: {dict(headers)} {body}")
