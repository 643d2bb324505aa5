"""Protects the report of referrals: whose it is, its pages, exact totals, what changes it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.reporting.referrals.api import router
from services.reporting.referrals.handlers import Referrals
from services.reporting.referrals.store import ReferralStore
from shared.clock import SystemClock, rfc3339
from shared.http import IdentityCheck, new_app
from shared.postgres import Pool, migrate, open_pool
from tests.catalog_parts import referral, removed, write
from tests.reporting_service import SIGNER, call

PATH = "/v1/affiliates/reporting/referrals"
BODY = {"from": "2026-01-01", "to": "2026-01-02", "timezone_id": 67, "currency_id": "EUR"}
START = 1_767_225_600
"""2026-01-01 00:00 UTC, which is what time zone 67 is."""
THROUGH = START + 0.25


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.reporting.migrations")
        yield pool


@pytest.fixture
async def client(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    app = new_app("test", "test")
    referrals = Referrals(ReferralStore(pool), lambda: THROUGH)
    app.include_router(router(referrals, IdentityCheck(SIGNER, SystemClock())))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def ask(
    client: httpx.AsyncClient, *, network: int = 1, partner: int = 9, **more: Any
) -> dict[str, Any]:
    answer = await call(client, "POST", PATH, BODY | more, network=network, partner=partner)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-data-through"] == rfc3339(THROUGH)
    return answer.json()


def ids(body: dict[str, Any]) -> list[int]:
    return [row["referral_history_id"] for row in body["referrals"]]


async def test_a_partner_sees_what_they_earned_in_pages_with_totals_of_all(client, pool) -> None:
    """Of the interval, by time and id; nobody else's; totals exact by currency and status."""
    end = START + 2 * 86_400
    await write(
        pool,
        referral(5, 9, unix_timestamp=START + 1, amount=0.1, referred_affiliate_name="Twelve"),
        referral(3, 9, unix_timestamp=START + 1, amount=0.2),
        referral(4, 9, unix_timestamp=end - 1, amount=7.0, status="pending"),
        referral(1, 9, unix_timestamp=START, amount=3.5, currency_id="EUR"),
        referral(6, 9, unix_timestamp=end),
        referral(7, 9, unix_timestamp=START - 1),
        referral(8, 10, unix_timestamp=START),
        referral(1, 9, unix_timestamp=START, network_id=2),
    )
    body = await ask(client)
    assert ids(body) == [1, 3, 5, 4]
    assert body["referrals"][2] == {
        "referral_history_id": 5,
        "network_id": 1,
        "referred_network_affiliate_id": 12,
        "referred_affiliate_name": "Twelve",
        "status": "approved",
        "commission_type": "percentage",
        "commission_percentage": 0,
        "amount": 0.1,
        "currency_id": "USD",
        "unix_timestamp": START + 1,
        "time_created": 0,
        "time_saved": 0,
    }
    totals = [
        {"currency_id": "EUR", "status": "approved", "count": 1, "amount": 3.5},
        {"currency_id": "USD", "status": "approved", "count": 2, "amount": 0.3},
        {"currency_id": "USD", "status": "pending", "count": 1, "amount": 7},
    ]
    assert body["totals"] == totals
    second = await ask(client, page=2, page_size=3)
    assert ids(second) == [4]
    assert second["totals"] == totals
    assert second["paging"] == {"page": 2, "page_size": 3, "total_count": 4}
    assert ids(await ask(client, partner=10)) == [8]
    assert ids(await ask(client, partner=12)) == []
    assert ids(await ask(client, network=2)) == [1]


async def test_the_highest_version_stands_and_a_removed_one_is_gone(client, pool) -> None:
    """Also where a version names another referrer: it is theirs alone then."""
    await write(pool, referral(1, 9, 2), referral(2, 9), referral(3, 9))
    await write(pool, referral(1, 9, 1, amount=99.0), referral(2, 10, 2), removed(referral(3, 9)))
    await write(pool, referral(3, 9), removed(referral(4, 9)))
    body = await ask(client)
    assert ids(body) == [1]
    assert body["totals"] == [
        {"currency_id": "USD", "status": "approved", "count": 1, "amount": 1.25}
    ]
    assert ids(await ask(client, partner=10)) == [2]


async def test_what_cannot_be_honoured_is_refused_by_name(client) -> None:
    """A clear text in the form of every error; nothing earned is an empty list."""
    wrong = BODY | {"query": {"filters": [{"resource_type": "offer", "filter_id_value": 1}]}}
    answer = await call(client, "POST", PATH, wrong, network=1, partner=9)
    assert answer.status_code == 400
    assert "query.filters" in answer.json()["error"]
    empty = {"page": 1, "page_size": 50, "total_count": 0}
    assert await ask(client) == {"referrals": [], "totals": [], "paging": empty}
