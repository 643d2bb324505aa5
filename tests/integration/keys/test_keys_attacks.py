"""Protects the key service from callers who know its formats: odd text, odd JSON, odd numbers."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from shared.tokens import Caller
from tests.keys_parts import Platform, network, partner, staff

ISSUE = "/v1/networks/affiliates/7/apikeys"


@pytest.fixture(scope="module")
def network_id(service: Platform) -> int:
    """A network with an eligible partner, for requests that change nothing there."""
    found = network()
    asyncio.run(service.tell(partner(found)))
    return found


@pytest.fixture
async def own_network_id(service: Platform) -> int:
    """A network of the test's own with an eligible partner."""
    found = network()
    await service.tell(partner(found))
    return found


async def send(
    service: Platform, method: str, path: str, caller: Caller, content: bytes
) -> httpx.Response:
    """The answer to a body that is sent as it is, called JSON."""
    headers = service.headers(method, path, caller) | {"content-type": "application/json"}
    async with httpx.AsyncClient(verify=False, base_url=service.url, timeout=30) as client:
        return await client.request(method, path, content=content, headers=headers)


@pytest.mark.parametrize(
    "content",
    [
        b'{"integration": "crm", "\\ud800": 1}',
        b'{"integration": "crm\\ud800"}',
        b'{"integration": "crm", "reason": "\\ud800"}',
        b'{"integration": "crm\\u0000"}',
        b'{"integration": "crm", "allowlist": ["\\ud800"]}',
        b'{"integration": "crm", "expires_at": 1e999}',
        b'{"integration": "crm", "expires_at": NaN}',
        b'{"integration": "crm", "expires_at": 4102444800}',
        b'{"integration": "crm", "expires_at": "4102444800"}',
        b'{"integration": "crm", "expires_at": true}',
        b'{"integration": "crm", "integration": "crm"}',
        b'{"integration": "crm", "allowlist": ["192.0.2.7"], "allowlist": []}',
        b'{"integration": ' + b"9" * 5_000 + b"}",
        b"[" * 50_000,
        b"\xff\xfe",
        b'{"integration": "\xff"}',
        b"NaN",
    ],
    ids=lambda content: content[:60].decode("latin-1"),
)
async def test_a_body_that_means_nothing_is_refused_in_words(
    service: Platform, network_id: int, content: bytes
):
    """Lone surrogates, numbers as moments, members that come twice: 400, never a fault of ours."""
    answer = await send(service, "POST", ISSUE, staff(network_id), content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/networks/apikey", {"resource_id": True, "resource_type": "affiliate"}),
        ("POST", "/v1/networks/apikey", {"resource_id": "7", "resource_type": "affiliate"}),
        ("PUT", "/v1/networks/affiliates/7/suspension", {"suspended": "off"}),
        ("PUT", "/v1/networks/affiliates/7/suspension", {"suspended": 0}),
        ("PUT", "/v1/networks/affiliates/7/firehose", {"enabled": "yes"}),
        ("PUT", "/v1/networks/affiliates/7/firehose", {"enabled": 1.0}),
    ],
)
async def test_a_value_of_another_type_is_not_guessed_at(
    service: Platform, network_id: int, method: str, path: str, body: Any
):
    """`true` is no partner 1, and `"off"` does not lift a suspension."""
    answer = await send(service, method, path, staff(network_id), json.dumps(body).encode())
    assert answer.status_code == 400, answer.text


async def test_a_rotation_takes_whole_seconds_only(service: Platform, own_network_id: int):
    """`true` would let the old key live one second."""
    key = await service.issue(staff(own_network_id), 7)
    path = f"/v1/networks/apikeys/{key['key_id']}/rotate"
    for overlap in (True, "60", 1.5, 60.0):
        body = json.dumps({"overlap_seconds": overlap}).encode()
        answer = await send(service, "POST", path, staff(own_network_id), body)
        assert answer.status_code == 400, (overlap, answer.text)


@pytest.mark.parametrize("name", ["A\x00da", "A\ud800da", "A" * 5_000], ids=["nul", "lone", "long"])
async def test_a_name_in_a_token_breaks_nothing(service: Platform, own_network_id: int, name: str):
    """People choose how they are called; an issuer passes that on."""
    caller = replace(staff(own_network_id), name=name)
    answer = await service.call("POST", ISSUE, caller, {"integration": "crm"})
    assert answer.status_code in (201, 401), answer.text
    if answer.status_code == 201:
        listed = await service.call("GET", "/v1/networks/apikeys", staff(own_network_id))
        assert listed.json()["apikeys"][0]["key_id"] == answer.json()["key_id"]


async def test_text_that_tells_why_is_kept_as_it_is(service: Platform, own_network_id: int):
    """Line ends, control characters and markup reach the trail as data, and nothing else."""
    reason = 'left\r\nlevel=error msg="forged"\x1b[2J\x00<script>'
    key = await service.issue(staff(own_network_id), 7, reason=reason)
    path = f"/v1/networks/apikeys/{key['key_id']}/revoke"
    answer = await service.call("POST", path, staff(own_network_id), {"reason": reason})
    assert answer.status_code == 200
    told = await service.told(own_network_id)
    assert [event.reason for event in told if event.key_id == key["key_id"]] == [reason, reason]
    assert "forged" not in service.log.read_text()


@pytest.mark.parametrize(
    "other", ["\N{FULLWIDTH LATIN SMALL LETTER C}rm", "crm\u202e", "c\u200brm", "CRM", " crm "]
)
async def test_a_name_that_looks_alike_is_no_second_integration(
    service: Platform, own_network_id: int, other: str
):
    """Full width, invisible characters, capitals and white space make no other name."""
    await service.issue(staff(own_network_id), 7, "crm")
    answer = await service.call("POST", ISSUE, staff(own_network_id), {"integration": other})
    assert answer.status_code in (400, 409), answer.text


@pytest.mark.parametrize("size", [2_000, 20_000])
async def test_a_body_full_of_errors_gets_a_short_answer(
    service: Platform, network_id: int, size: int
):
    """Neither many members nor long names come back to their sender."""
    members = {f"member {number} {'x' * 30}": number for number in range(size)}
    content = json.dumps({"integration": "crm", "y" * 10_000: 1} | members).encode()
    answer = await send(service, "POST", ISSUE, staff(network_id), content)
    assert answer.status_code == 400
    assert len(answer.content) < 5_000


async def test_a_body_is_refused_once_it_is_too_long(service: Platform):
    """Whoever sends without end is cut off, with a token or without one."""
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 64 * 1024 * 1024:
            sent += 65_536
            yield b" " * 65_536

    headers = service.headers("POST", ISSUE, None) | {"content-type": "application/json"}
    async with httpx.AsyncClient(verify=False, base_url=service.url, timeout=30) as client:
        answer = await client.post(ISSUE, content=endless(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["message"] == "Invalid parameters. The body is longer than 131072 bytes."


async def test_a_budget_that_is_no_number_in_practice_is_refused(
    service: Platform, network_id: int
):
    """A rate of almost nothing makes waiting times endless, and a door that divides by it fall."""
    caller = staff(network_id, super_user=True)
    for rate in ("5e-324", "1e-300", "0", "-1", "NaN", "Infinity", "true", '"5"'):
        rest = '"granular_per_hour": 1000, "shadow": false'
        content = f'{{"affiliate": {{"rate": {rate}, "burst": 20}}, {rest}}}'.encode()
        answer = await send(service, "PUT", "/v1/networks/budgets", caller, content)
        assert answer.status_code == 400, (rate, answer.text)
