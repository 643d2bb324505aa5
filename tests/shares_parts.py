"""What the tests of links share: links at every stage, and visitors as the gateway lets them in."""

import re
from dataclasses import replace
from typing import Any

import httpx

from services.keys.shares.domain import Share, Target
from tests.keys_parts import KEY, NOW, Platform

SHARE = Share(
    share_id="share_0123456789abcdef0123",
    network_id=KEY.network_id,
    key_id=KEY.key_id,
    digest="cd" * 32,
    has_passphrase=False,
    passphrase=b"",
    created_at=NOW - 30,
    created_by="user-7",
    created_by_name="Ada",
    expires_at=NOW + 30,
)
WITH_PASSPHRASE = replace(SHARE, has_passphrase=True, passphrase=b"salt and hash")
TARGET = Target(KEY, is_suspended=False)
SECRET = re.compile(r"aff_[0-9A-Za-z]{33}")


def path_of(made: dict[str, Any]) -> str:
    """The path of a link that was made."""
    return made["url"].removeprefix("http://127.0.0.1:8080")


async def visit(
    platform: Platform, method: str, path: str, passphrase: str | None = None, **request: Any
) -> httpx.Response:
    """The answer to a visitor of a link, who comes through the gateway and has no token."""
    headers = platform.headers(method, path, None) | request.pop("headers", {})
    data = None if passphrase is None else {"passphrase": passphrase}
    async with httpx.AsyncClient(verify=False, base_url=platform.url, timeout=60) as client:
        return await client.request(method, path, data=data, headers=headers, **request)


def secrets_in(answer: httpx.Response) -> list[str]:
    """The keys in clear that an answer holds."""
    return SECRET.findall(answer.text)
