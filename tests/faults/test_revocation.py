"""Protects the first promise: a revoked key opens no door again, also while a door dies and returns.

The short form of `make bench ONLY=revocation`, which also measures how soon.
"""

import asyncio

import pytest

from deploy.local.ports import free_ports
from shared import topics
from tests.keys_parts import Platform, network, partner, running, staff
from tests.projection_parts import create
from tests.revocation_parts import (
    HIGH_BUDGETS,
    Siege,
    doors_of,
    issue_many,
    let_in,
    open_gateways,
    open_upstream,
)
from tests.soak import count

pytestmark = pytest.mark.slow

REVOCATIONS = count(20, 300)
GATEWAYS = count(2, 3)
PAUSE_SECONDS = 0.02


@pytest.fixture
async def platform(kafka_bootstrap, database_url, schema, tmp_path) -> Platform:
    await create(kafka_bootstrap, *topics.SOURCES)
    return Platform(kafka_bootstrap, database_url, schema, tmp_path)


async def test_a_revoked_key_opens_no_door_again_while_one_dies_and_returns(platform):
    """Once a gateway has refused a key it never lets it in; in the end all refuse all of them.

    A key that nobody revoked is let in by all.
    """
    caller = staff(network(), super_user=True)
    (upstream_port,) = free_ports(1)
    with running(platform):
        await platform.tell(partner(caller.network_id))
        budgets = await platform.call("PUT", "/v1/networks/budgets", caller, HIGH_BUDGETS)
        assert budgets.status_code == 200
        keys = await issue_many(platform, caller, [f"app-{each}" for each in range(REVOCATIONS)])
        spared = await platform.issue(caller, 7, "spared")
        async with (
            open_upstream(upstream_port),
            open_gateways(platform, GATEWAYS, upstream_port) as gateways,
        ):
            victim = gateways[-1]
            with doors_of(gateways) as doors:
                async with asyncio.TaskGroup() as group:
                    for number, key in enumerate(keys):
                        if number == REVOCATIONS // 3:
                            victim.kill()
                        if number == REVOCATIONS // 2:
                            victim.start()
                            group.create_task(victim.until_open())
                        siege = Siege(key["key"], gateways, doors, PAUSE_SECONDS)
                        path = f"/v1/networks/apikeys/{key['key_id']}/revoke"
                        answer = await siege.during(lambda path=path: _post(platform, path, caller))
                        assert answer.status_code in (200, 202), answer.text
                        assert [each.reopened for each in siege.sightings] == [0] * GATEWAYS
                assert all(gateway.is_open for gateway in gateways)
                for door in doors:
                    assert await let_in([key["key"] for key in keys], door) == 0
                    assert await door.ask(spared["key"]) == 200


async def _post(platform: Platform, path: str, caller: object):
    return await platform.call("POST", path, caller, {"reason": "leaked"})
