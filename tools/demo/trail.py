"""Acts about the audit trail: it holds every step, proves itself, and notices what is unusual."""

from collections import Counter
from typing import Any, Final

import asyncpg
import httpx

from tools.demo.record import StepError, check, until
from tools.demo.stage import NETWORK, OTHER_NETWORK, Stage
from tools.demo.streams import REVOCATIONS

EXPECTED: Final = {
    "AccessDenied": 3,
    "KeyIssued": 5 + REVOCATIONS,
    "KeyReshared": 3,
    "KeyRotated": 1,
    "ShareOpened": 2,
    "KeyRevoked": REVOCATIONS,
    "AllowlistChanged": 2,
    "BudgetChanged": 1,
    "FirehoseEnabled": 2,
    "SessionOpened": 5,
    "SessionClosed": 5,
    "AccessRefused": 2,
}
"""Kinds of entries that the story must have left, and at least how many of each."""
TRAIL_SECONDS: Final = 45.0
RULE: Final = "rate_limit_hits"
UNIQUE: Final = (
    *("KeyIssued", "KeyReshared", "KeyRotated", "KeyRevoked", "ShareOpened"),
    *("AccessDenied", "AllowlistChanged"),
)
"""Kinds of which the story knows the exact number."""


async def reshare_recorded(stage: Stage) -> str:
    """Revealing shows the same secret, and the trail names who asked and why."""
    key = stage.key("first")
    path = f"/v1/networks/apikeys/{key.key_id}/reveal"
    shown = await stage.told("POST", path, {"reason": "the partner lost it"})
    check(shown["key"] == key.secret, "another secret was revealed")

    async def recorded() -> dict[str, Any] | None:
        found = await stage.entries(kind="KeyReshared", key_id=key.key_id)
        return found[0] if found else None

    entry = await until(stage.clock, "KeyReshared in the trail", recorded)
    check(entry["actor"] == f"admin@network-{NETWORK}", f"by {entry['actor']}")
    check(entry["body"]["reason"] == "the partner lost it", "without its reason")
    check(key.secret not in str(entry), "the trail holds a secret")
    return f"entry {entry['sequence']}: {entry['actor']}, {entry['body']['reason']!r}"


async def audit_trail_verifies(stage: Stage) -> str:
    """Every step is in the trail, once, and signed checkpoints prove it up to the last of them."""
    for name in ("first", "second"):
        stage.key(name)
    found = await until(stage.clock, "every step in the trail", _complete(stage), TRAIL_SECONDS)
    for kind in UNIQUE:
        check(found[kind] == EXPECTED[kind], f"{kind}: {found[kind]} instead of {EXPECTED[kind]}")
    last = (await stage.entries())[0]["sequence"]

    async def covered() -> dict[str, Any] | None:
        report: dict[str, Any] = await stage.told("GET", "/v1/audit/verify")
        check(report["ok"], f"not intact: {report['problem']}")
        return report if report["covered_sequence"] >= last else None

    report = await until(stage.clock, "a checkpoint of the last step", covered, TRAIL_SECONDS)
    stage.record.figures.audit_entries = report["entries"]
    stage.record.figures.audit_verified = True
    return f"{report['entries']} entries, proved up to {report['covered_sequence']}; {dict(found)}"


def _complete(stage: Stage) -> Any:
    """A probe: the entries by kind, once all that the story must have left is there."""

    async def probe() -> Counter[str] | None:
        found = Counter(row["kind"] for row in await _everything(stage))
        lacking = {kind for kind, least in EXPECTED.items() if found[kind] < least}
        return None if lacking else found

    return probe


async def _everything(stage: Stage) -> list[dict[str, Any]]:
    """All entries of the network, newest first."""
    rows: list[dict[str, Any]] = []
    where: dict[str, str | int] = {"limit": 1_000}
    while True:
        page = await stage.told("GET", "/v1/audit/entries", params=where)
        rows += page["entries"]
        if not page["paging"]["next_cursor"]:
            return rows
        where["cursor"] = page["paging"]["next_cursor"]


async def tampering_found(stage: Stage) -> str:
    """A row changed by SQL is named by verification; restored, the trail is intact again."""
    revoked = await stage.entries(kind="KeyRevoked")
    check(revoked, "there is no KeyRevoked entry to change")
    sequence = revoked[0]["sequence"]
    connection = await asyncpg.connect(stage.stack.env["DATABASE_URL"])
    try:
        before = await connection.fetchval(SELECT, NETWORK, sequence)
        await connection.execute(UPDATE, NETWORK, sequence, before.replace("admin@", "nobody@"))
        try:
            report = await stage.told("GET", "/v1/audit/verify")
        finally:
            await connection.execute(UPDATE, NETWORK, sequence, before)
    finally:
        await connection.close()
    check(not report["ok"], "a changed row was not found")
    problem = report["problem"]
    check(problem["sequence"] == sequence, f"entry {sequence} was changed; found {problem}")
    again = await stage.told("GET", "/v1/audit/verify")
    check(again["ok"], f"restored, yet {again['problem']}")
    return f"entry {sequence} changed by SQL: {problem['kind']}, {problem['detail']}"


SELECT: Final = "SELECT content FROM audit.entries WHERE network_id = $1 AND sequence = $2"
UPDATE: Final = "UPDATE audit.entries SET content = $3 WHERE network_id = $1 AND sequence = $2"


async def anomaly_raised(stage: Stage) -> str:
    """The burst over the budget is an anomaly of the partner who made it."""
    greedy = stage.key("greedy")

    async def opened() -> list[dict[str, Any]] | None:
        answer = await stage.staff("GET", "/v1/audit/anomalies", network=OTHER_NETWORK)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise StepError(answer.text)
        check(answer.is_success, f"anomalies: {answer.status_code} {answer.text}")
        found = [
            row
            for row in answer.json()["anomalies"]
            if row["network_affiliate_id"] == greedy.partner_id and row["rule"] == RULE
        ]
        return found or None

    found = await until(stage.clock, "the anomaly", opened, TRAIL_SECONDS)
    windows = [row["window_start"] for row in found]
    check(len(windows) == len(set(windows)), "an incident opened twice")
    stage.record.figures.anomalies = len(found)
    return f"{RULE} of partner {greedy.partner_id}: {found[0]['detail']}"
