"""A working partner key for whoever starts the platform, made through the public door."""

from typing import Any, Final

import httpx

from deploy.local.stack import Stack
from shared.clock import SystemClock
from shared.errors import SetupError, UnavailableError
from tools.cli import door, issuer
from tools.cli.keyfile import KnownKey, read_key, write_key

INTEGRATION: Final = "first-steps"
PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.25


async def partner_key(stack: Stack) -> KnownKey:
    """The key kept in the stack's home if it still works, else a new one, kept there.

    Raises:
        SetupError: no partner may have a key, or the door refuses.
        UnavailableError: the door did not answer in time.
    """
    async with httpx.AsyncClient(base_url=stack.urls["gateway"], timeout=10) as client:
        known = read_key(stack.settings.home)
        if known is None or not await _works(client, known):
            known = await _obtained(stack, client)
            write_key(stack.settings.home, known)
        return known


async def _works(client: httpx.AsyncClient, known: KnownKey) -> bool:
    headers = {"X-Eflow-API-Key": known.key}
    answer = await client.get("/v1/affiliates/network", headers=headers)
    return answer.status_code not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


async def _obtained(stack: Stack, client: httpx.AsyncClient) -> KnownKey:
    """Issue a key to the busiest partner that may have one, and let it open streams."""
    network_id, partner_id = await _busiest(stack)
    token = issuer.sign(stack.settings.home, issuer.administrator(network_id))
    client.headers["Authorization"] = f"Bearer {token}"
    path = f"/v1/networks/affiliates/{partner_id}"
    answer = await _once_known(client, f"{path}/apikeys")
    if answer.status_code == httpx.codes.CONFLICT:
        answer = await _revealed(client, path)
    found = _checked(answer)
    _checked(await client.put(f"{path}/firehose", json={"enabled": True}))
    return KnownKey(network_id, partner_id, found["key_id"], found["key"])


async def _once_known(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Issue as soon as the key service knows the partner: it learns of partners from the log."""
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await client.post(path, json={"integration": INTEGRATION})
        if answer.status_code != httpx.codes.NOT_FOUND or clock.monotonic() > deadline:
            return answer
        await clock.sleep(PAUSE_SECONDS)


async def _revealed(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The active key of our integration, whose file was lost."""
    listed = _checked(await client.get(f"{path}/apikeys"))["apikeys"]
    for row in listed:
        if row["integration"] == INTEGRATION and row["status"] == "active":
            return await client.post(f"/v1/networks/apikeys/{row['key_id']}/reveal", json={})
    raise SetupError(f"The partner has no active key for {INTEGRATION}, yet one is in the way.")


async def _busiest(stack: Stack) -> tuple[int, int]:
    async with httpx.AsyncClient(base_url=stack.urls["simulator"], timeout=10) as client:
        cast = _checked(await client.get("/cast"))
    for partner in cast["partners"]:
        if partner["may_have_key"] and partner["runs"]:
            return partner["network_id"], partner["network_affiliate_id"]
    raise SetupError("No partner may have a key.")


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        error = door.refusal(answer)
        if isinstance(error, UnavailableError):
            raise error
        raise SetupError(f"{answer.request.method} {answer.request.url.path}: {error}")
    return answer.json()
