"""Acts about a key after it was issued: seen by its partner, handed over by a link, replaced."""

from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from shared.tokens import Caller
from tools.cli import issuer
from tools.demo.access import partners
from tools.demo.record import check, until
from tools.demo.stage import NETWORK, Key, Stage

PORTAL: Final = "/v1/partner/apikeys"
OVERLAP_SECONDS: Final = 3
LATE_SECONDS: Final = 1.0
"""How long after its time an old key may still be let in."""


async def partner_sees_own_keys(stage: Stage) -> str:
    """The portal shows a partner their key, once there is one, and nobody else's."""
    (*_, without) = await partners(stage, NETWORK)
    none = await _portal(stage, without["network_affiliate_id"])
    check(none.status_code == httpx.codes.NOT_FOUND, f"without a key: {none.status_code}")
    _, _, third, *_ = await partners(stage, NETWORK)
    key = await stage.issue(third["network_affiliate_id"], "demo-life")
    stage.keys["life"] = key
    answer = await _portal(stage, key.partner_id)
    check(answer.is_success, f"portal: {answer.status_code} {answer.text}")
    shown = [(row["key_id"], row["key"]) for row in answer.json()["apikeys"]]
    check(shown == [(key.key_id, key.secret)], f"the portal shows {len(shown)} keys")
    check(answer.headers["cache-control"] == "no-store", "the portal's answer may be cached")
    return f"404 for a partner without a key; partner {key.partner_id} sees the one they have"


async def _portal(stage: Stage, partner_id: int) -> httpx.Response:
    caller = Caller(
        subject=f"user@partner-{partner_id}",
        name="Partner user",
        network_id=NETWORK,
        network_affiliate_id=partner_id,
    )
    token = issuer.sign(stage.stack.settings.home, caller)
    headers = {"Authorization": f"Bearer {token}"}
    return await stage.gateway.get(PORTAL, headers=headers)


async def link_works_once(stage: Stage) -> str:
    """A link shows the key to the first who presses its button; the trail has both visits."""
    key = stage.key("life")
    made = await stage.told("POST", f"/v1/networks/apikeys/{key.key_id}/shares", {})
    page = urlsplit(made["url"]).path
    preview = await stage.gateway.get(page)
    check(preview.is_success, f"the page: {preview.status_code}")
    check(key.secret not in preview.text, "the page shows the key before the button is pressed")
    first, second = await stage.gateway.post(page), await stage.gateway.post(page)
    check(key.secret in first.text, f"the button shows no key: {first.status_code}")
    check(second.status_code == httpx.codes.GONE, f"opened twice: {second.status_code}")
    check(key.secret not in second.text, "the link showed the key twice")

    async def recorded() -> list[str] | None:
        found = await stage.entries(kind="ShareOpened", key_id=key.key_id)
        outcomes = sorted(entry["body"]["outcome"] for entry in found)
        return outcomes if outcomes == ["shown", "used"] else None

    await until(stage.clock, "both visits in the trail", recorded)
    return "a look shows nothing, the first press the key, the second that it was used"


async def rotation_overlaps(stage: Stage) -> str:
    """Both keys work until the overlap ends; then the old one stops by itself, at once."""
    old = stage.key("life")
    wanted = {"overlap_seconds": OVERLAP_SECONDS, "reason": "quarterly"}
    found = await stage.told("POST", f"/v1/networks/apikeys/{old.key_id}/rotate", wanted)
    began = stage.clock.monotonic()
    new = Key(NETWORK, old.partner_id, found["key_id"], found["key"], old.integration)

    async def works() -> bool | None:
        return True if (await stage.ask(new)).is_success else None

    await until(stage.clock, "the new key at the gateway", works, pause=0.01)
    check((await stage.ask(old)).is_success, "the old key stopped before its time")

    async def ended() -> httpx.Response | None:
        answer = await stage.ask(old)
        return None if answer.is_success else answer

    answer = await until(stage.clock, "the end of the old key", ended, pause=0.01)
    seconds = stage.clock.monotonic() - began
    told = f"refused {seconds:.2f} s after the rotation with an overlap of {OVERLAP_SECONDS} s"
    check(answer.status_code == httpx.codes.UNAUTHORIZED, f"the old key: {answer.status_code}")
    check(seconds <= OVERLAP_SECONDS + LATE_SECONDS, told)
    check((await stage.ask(new)).is_success, "the new key stopped")
    await _table_tells(stage, old, new)
    return f"both worked; the old one was {told}"


async def _table_tells(stage: Stage, old: Key, new: Key) -> None:
    """The table ties the two together and shows the last use; it never shows a secret."""

    async def used() -> dict[str, Any] | None:
        row: dict[str, Any] = await stage.told("GET", f"/v1/networks/apikeys/{new.key_id}")
        return row if row["last_used_at"] else None

    row = await until(stage.clock, "the last use in the table", used)
    check(row["predecessor_key_id"] == old.key_id, f"it follows {row['predecessor_key_id']}")
    check(bool(row["usage"]["sources"]), "nobody is named who uses it")
    check(old.secret not in str(row) and new.secret not in str(row), "the table shows a secret")
