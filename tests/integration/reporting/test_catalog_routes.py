"""Protects the catalog's routes: whole shapes, what programs send, what is refused, links, scope."""

import itertools
import random
from collections.abc import AsyncIterator

import httpx
import pytest

from services.reporting.asking.answers import Answer
from services.reporting.catalog import wire
from services.reporting.catalog.api import router
from services.reporting.catalog.handlers import Catalog
from services.reporting.catalog.store import Store
from services.reporting.scope import Scope
from shared.clock import ManualClock, rfc3339
from shared.events import OfferUrl
from shared.http import IdentityCheck, new_app
from shared.postgres import Pool, migrate, open_pool
from tests import reporting_service
from tests.catalog_parts import offer, partner, payout, profile, terms, write
from tests.reporting_service import SIGNER

A, B = Scope(1, 9), Scope(1, 10)
THROUGH = 1_767_225_600.25


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.reporting.migrations")
        yield pool


async def today(scope: Scope, timezone_id: int, currency_id: str) -> Answer:
    """Stands for the reports: says what it was asked."""
    asked = {"partner": scope.network_affiliate_id, "zone": timezone_id, "currency": currency_id}
    return Answer(asked, THROUGH - 1)


@pytest.fixture
async def client(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    clock = ManualClock()
    app = new_app("test", "test")
    catalog = Catalog(Store(pool), lambda: THROUGH, today)
    app.include_router(router(catalog, IdentityCheck(SIGNER, clock)))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def signed(path: str, scope: Scope = A) -> dict[str, str]:
    ids = {"network": scope.network_id, "partner": scope.network_affiliate_id}
    return reporting_service.signed("GET", path, now=ManualClock().time(), **ids)


async def get(client: httpx.AsyncClient, path: str, scope: Scope = A, **query) -> httpx.Response:
    return await client.get(path, params=query, headers=signed(path, scope))


OFFERS, ALL, ALIAS, NETWORK, AFFILIATE, SETTINGS = (
    f"/v1/affiliates/{name}"
    for name in ("offersrunnable", "alloffers", "offers", "network", "affiliate", "settings")
)
LISTS = (OFFERS, ALL, ALIAS)
ONE = f"{ALIAS}/70"
PATHS = (*LISTS, ONE, f"{ONE}/url/0", f"{ONE}/impressionurl/0", NETWORK, AFFILIATE, SETTINGS)


async def test_offers_answer_in_their_documented_shape(client, pool: Pool) -> None:
    """Every member there, of its type, and none beside them."""
    await write(
        pool,
        offer(70, payouts=(payout(25.996),), html_description="a\x00b"),
        terms(70, 9, custom_payouts=(payout(31.0),)),
        offer(71),
    )
    answer = await get(client, OFFERS)
    assert answer.status_code == 200
    page = wire.OffersPage.model_validate(answer.json(), strict=True)
    assert [shown.network_offer_id for shown in page.offers] == [70, 71]
    assert page.offers[0].tracking_url == "https://go.example/1/9/70/"
    assert page.offers[0].html_description == "a\x00b"
    assert page.offers[0].relationship.offer_affiliate_status == "public"
    assert b'"payout_amount":25.996,' in answer.content
    assert b'"payout_amount":31,' in answer.content


async def test_no_offers_are_an_empty_list(client) -> None:
    """200, never 404, as every list."""
    answer = await get(client, OFFERS)
    assert answer.status_code == 200
    assert answer.json() == {
        "offers": [],
        "paging": {"page": 1, "page_size": 50, "total_count": 0},
    }


async def test_pages_hold_each_offer_once_in_order(client, pool: Pool) -> None:
    """Until the first page that is shorter than its echoed size."""
    ids = random.Random(7).sample(range(1, 10_000), 53)
    await write(pool, *(offer(offer_id) for offer_id in ids))
    seen: list[int] = []
    for number in itertools.count(1):
        body = (await get(client, OFFERS, page=number, page_size=10)).json()
        assert body["paging"] == {"page": number, "page_size": 10, "total_count": 53}
        seen += [shown["network_offer_id"] for shown in body["offers"]]
        if len(body["offers"]) < 10:
            break
    assert seen == sorted(ids)


@pytest.mark.parametrize(
    ("query", "echo", "length"),
    [
        ({}, (1, 50), 50),
        ({"page": 0, "page_size": 0}, (1, 50), 50),
        ({"page_size": -1}, (1, 2_000), 60),
        ({"page_size": 5_000}, (1, 2_000), 60),
        ({"page": 2}, (2, 50), 10),
        ({"page": 3}, (3, 50), 0),
        ({"page": 10**20, "page_size": -7}, (1_000_000_000, 2_000), 0),
        ({"relationship": "all", "filter": "offer_status=active", "search": "r 6"}, (1, 50), 2),
        ({"page": "", "page_size": "", "filter": "", "search": "", "autoRun": "1"}, (1, 50), 50),
        ({"relationship": ["urls", "payouts"], "columns": "x"}, (1, 50), 50),
        ({"relationship": ""}, (1, 50), 50),
    ],
)
async def test_page_parameters_are_clamped_and_echoed(
    client, pool: Pool, query, echo, length
) -> None:
    """Unknown parameters are tolerated; the count is of all pages, also behind the last."""
    await write(pool, *(offer(offer_id) for offer_id in range(1, 61)))
    for path in LISTS:
        body = (await get(client, path, **query)).json()
        total = 2 if "r 6" in query.values() else 60
        assert body["paging"] == {"page": echo[0], "page_size": echo[1], "total_count": total}
        assert len(body["offers"]) == length


async def test_a_page_that_is_no_number_is_refused(client) -> None:
    """400 in wire form, naming the parameter."""
    answer = await get(client, OFFERS, page="two")
    assert answer.status_code == 400
    assert "page" in answer.json()["error"]


async def test_the_network_answers_in_its_documented_shape(client, pool: Pool) -> None:
    """The caller's own network, whichever others there are."""
    await write(pool, profile(1, displayed_name="Northwind", timezone_id=80), profile(2))
    answer = await get(client, NETWORK)
    assert wire.Network.model_validate(answer.json(), strict=True)
    assert answer.json() == {
        "network_id": 1,
        "displayed_name": "Northwind",
        "logo_image_url": "",
        "favicon_image_url": "",
        "language_id": 1,
        "timezone_id": 80,
        "currency_id": "USD",
    }


async def test_a_network_that_is_not_known_is_not_found(client, pool: Pool) -> None:
    """In wire form, and another network is no answer."""
    await write(pool, profile(2))
    answer = await get(client, NETWORK)
    assert answer.status_code == 404
    assert answer.json()["Error"] == answer.json()["error"] == "Not Found"


async def test_every_answer_says_how_fresh_it_is(client, pool: Pool) -> None:
    """The catalog's log time, and the lesser of the two where the facts were asked too."""
    await write(pool, profile(1), partner(9), offer(70), terms(70, 9))
    paths = (*LISTS, NETWORK, AFFILIATE, SETTINGS, ONE, f"{ONE}/url/0")
    found = [(await get(client, path)).headers["x-data-through"] for path in paths]
    assert found == [rfc3339(THROUGH)] * len(paths)
    both = await get(client, AFFILIATE, relationship="all")
    assert both.headers["x-data-through"] == rfc3339(THROUGH - 1)


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_is_answered_without_a_doors_word(client, path) -> None:
    """A request that came past the doors has no identity."""
    assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", PATHS)
async def test_a_caller_who_is_no_partner_is_refused(client, path) -> None:
    """Staff come in with zeros, and no row is theirs."""
    answer = await get(client, path, Scope(0, 0))
    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")


# --- lists ----------------------------------------------------------------------------------------


async def ids(client: httpx.AsyncClient, path: str, **query) -> list[int]:
    answer = await get(client, path, **query)
    assert answer.status_code == 200, answer.text
    return [shown["network_offer_id"] for shown in answer.json()["offers"]]


async def test_all_offers_show_beside_runnable_ones_those_to_apply_for(client, pool: Pool) -> None:
    """Not the hidden, the rejected, the private without a grant, the inactive."""
    await write(
        pool,
        offer(1),
        offer(2, visibility="require_approval"),
        offer(3, visibility="require_approval"),
        terms(3, 9, application_status="approved"),
        offer(4, visibility="require_approval"),
        terms(4, 9, application_status="pending"),
        offer(5, visibility="private"),
        offer(6, visibility="private"),
        terms(6, 9, visibility="visible"),
        offer(7),
        terms(7, 9, visibility="hidden"),
        offer(8, visibility="require_approval"),
        terms(8, 9, application_status="rejected"),
        offer(9, offer_status="paused"),
    )
    assert await ids(client, ALL) == [1, 2, 3, 4, 6]
    assert await ids(client, OFFERS) == await ids(client, ALIAS) == [1, 3, 6]
    shown = {
        entry["network_offer_id"]: entry for entry in (await get(client, ALL)).json()["offers"]
    }
    standing = [shown[i]["relationship"]["offer_affiliate_status"] for i in (1, 2, 3, 4, 6)]
    assert standing == ["public", "require_approval", "approved", "pending", "approved"]
    assert [bool(shown[i]["tracking_url"]) for i in (3, 4, 6)] == [True, False, True]


FILTERS = [
    ({"filter": "network_offer_id>2"}, [3, 4]),
    ({"filter": ["network_offer_id>1", "network_offer_id<4"]}, [2, 3]),
    ({"filter": "network_offer_id=9007199254740993"}, []),
    ({"filter": "time_saved>1767225600"}, [2, 3]),
    ({"filter": "time_created<1"}, [1, 2, 3, 4]),
    ({"filter": "visibility=require_approval"}, [4]),
    ({"filter": "currency_id=EUR"}, [3]),
    ({"filter": "network_category_id=0"}, [1, 2, 3, 4]),
    ({"filter": "name=Winter 100% Boots"}, [2]),
    ({"filter": "offer_status=active"}, [1, 2, 3, 4]),
    ({"filter": "offer_status=paused"}, []),
    ({"search": "BOOTS"}, [2, 3]),
    ({"search": "100%"}, [2]),
    ({"search": "o_ts"}, []),
    ({"search": "3"}, [3]),
    ({"search": "boots", "filter": "currency_id=USD"}, [2]),
    ({"search": "'; DROP TABLE offers; --"}, []),
    ({"search": "boots", "page": 2, "page_size": 1}, [3]),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
async def test_filters_and_search_narrow_a_list(client, pool: Pool, query, expected) -> None:
    """All of them hold; values are values, never patterns or SQL."""
    await write(
        pool,
        offer(1, name="Spring Shoes", html_description="a\x00b"),
        offer(2, name="Winter 100% Boots", time_saved=1_767_225_601),
        offer(3, name="rubber boots", time_saved=1_767_300_000, currency_id="EUR"),
        offer(4, name="Hats", visibility="require_approval"),
    )
    assert await ids(client, ALL, **query) == expected


@pytest.mark.parametrize("path", LISTS)
async def test_a_filter_by_another_field_is_refused_and_told_which_there_are(client, path) -> None:
    """400 in wire form, in both spellings."""
    answer = await get(client, path, filter="payout>1")
    assert answer.status_code == 400
    assert answer.json()["Error"] == answer.json()["error"]
    assert "allowed are network_offer_id, network_category_id" in answer.json()["error"]


# --- one offer and its links ----------------------------------------------------------------------


async def test_one_offer_answers_bare_and_whole(client, pool: Pool) -> None:
    """The same shape as in lists, whatever relationships are asked for."""
    await write(pool, offer(70, payouts=(payout(25.996),)), terms(70, 9))
    for query in (
        {},
        {"relationship": "all"},
        {"relationship": ""},
        {"relationship": ["urls", "x"]},
    ):
        answer = await get(client, ONE, **query)
        assert answer.status_code == 200
        shown = wire.Offer.model_validate(answer.json(), strict=True)
        assert shown.tracking_url == "https://go.example/1/9/70/"


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [offer(70, network_id=2)],
        [offer(70, visibility="private")],
        [offer(70), terms(70, 9, visibility="hidden")],
        [offer(70, offer_status="deleted")],
        [offer(70, offer_status="pending")],
    ],
)
async def test_an_offer_that_a_partner_does_not_see_is_not_found(
    client, pool: Pool, changes
) -> None:
    """One answer for what is not there and what is not theirs."""
    await write(pool, *changes)
    for path in (ONE, f"{ONE}/url/0", f"{ONE}/impressionurl/0"):
        answer = await get(client, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "Not Found")


@pytest.mark.parametrize("name", ["x", "-1", "7.0", "9" * 30, "%00", "70%2F", "\u0667"])
async def test_what_is_no_id_is_not_found(client, pool: Pool, name) -> None:
    """It names nothing."""
    await write(pool, offer(70))
    for path in (f"{ALIAS}/{name}", f"{ALIAS}/70/url/{name}"):
        answer = await get(client, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "Not Found")


async def test_a_paused_offer_is_shown_without_links(client, pool: Pool) -> None:
    """So a program learns to stop, rather than that the offer never was."""
    await write(pool, offer(70, offer_status="paused"), terms(70, 9))
    shown = (await get(client, ONE)).json()
    assert (shown["offer_status"], shown["tracking_url"]) == ("paused", "")
    refused = await get(client, f"{ONE}/url/0")
    assert refused.status_code == 400
    assert "not allowed to run this offer" in refused.json()["error"]


async def test_links_lead_to_the_offer_and_its_destinations(client, pool: Pool) -> None:
    """0 is the offer's own; another offer's destination is not found."""
    urls = (OfferUrl(network_offer_url_id=4, name="Sandals"),)
    own = terms(70, 9, impression_tracking_url="https://go.example/i/")
    await write(pool, offer(70, urls=urls), own, offer(71), terms(71, 9))
    found = [
        (await get(client, f"{ONE}/{kind}/{url_id}")).json()["url"]
        for kind in ("url", "impressionurl")
        for url_id in (0, 4)
    ]
    assert found == [
        "https://go.example/1/9/70/",
        "https://go.example/1/9/70/?uid=4",
        "https://go.example/i/",
        "https://go.example/i/?uid=4",
    ]
    assert (await get(client, f"{ALIAS}/71/url/4")).status_code == 404
    missing = await get(client, f"{ALIAS}/71/impressionurl/0")
    assert missing.status_code == 404
    assert missing.json()["error"] == "Impressions are not in use for this offer."


async def test_a_link_of_an_offer_that_needs_an_approval_is_refused(client, pool: Pool) -> None:
    """400, saying how the partner stands with it."""
    await write(pool, offer(70, visibility="require_approval"))
    answer = await get(client, f"{ONE}/url/0")
    assert answer.status_code == 400
    assert "(offer_affiliate_status: require_approval)" in answer.json()["error"]


async def test_a_public_offer_without_terms_has_a_link_of_the_codes(client, pool: Pool) -> None:
    """Of the caller's own code, each time."""
    await write(
        pool,
        profile(1, default_tracking_domain="go.example"),
        partner(9, link_code="AAA"),
        partner(10, link_code="BBB"),
        offer(70, link_code="CCC"),
    )
    for scope, code in ((A, "AAA"), (B, "BBB")):
        link = (await get(client, f"{ONE}/url/0", scope)).json()["url"]
        assert link == f"https://go.example/{code}/CCC/"
        assert (await get(client, ONE, scope)).json()["tracking_url"] == link
        (listed,) = (await get(client, OFFERS, scope)).json()["offers"]
        assert listed["tracking_url"] == link


# --- who the caller is ----------------------------------------------------------------------------


async def test_the_caller_is_told_who_they_are(client, pool: Pool) -> None:
    """At top level, where programs that check a key look."""
    await write(pool, profile(1), partner(9, name="Cedar", manager="Noor"), partner(10))
    shown = wire.Affiliate.model_validate((await get(client, AFFILIATE)).json(), strict=True)
    assert (shown.network_affiliate_id, shown.network_id, shown.name) == (9, 1, "Cedar")
    settings = wire.Settings.model_validate((await get(client, SETTINGS)).json(), strict=True)
    assert (settings.network_affiliate_id, settings.network_id) == (9, 1)
    assert (await get(client, AFFILIATE, B)).json()["network_affiliate_id"] == 10


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, set()),
        ({"relationship": ""}, set()),
        ({"relationship": "all"}, {"account_manager", "encoded_value", "reporting"}),
        ({"relationship": "reporting"}, {"reporting"}),
        (
            {"relationship": ["users", "account_manager,encoded_value"]},
            {"account_manager", "encoded_value"},
        ),
    ],
)
async def test_relationships_of_the_caller_come_when_asked_for(
    client, pool: Pool, asked, expected
) -> None:
    """Metrics cost a report: nobody who checks a key pays for it."""
    await write(pool, partner(9, link_code="9W598"))
    shown = (await get(client, AFFILIATE, **asked)).json()
    assert set(shown["relationship"]) == expected


async def test_metrics_are_of_the_callers_own_day_and_currency(client, pool: Pool) -> None:
    """The partner's time zone and currency, as their profile says."""
    await write(pool, partner(9, timezone_id=80, currency_id="EUR"))
    shown = (await get(client, AFFILIATE, relationship="reporting")).json()
    assert shown["relationship"]["reporting"] == {"partner": 9, "zone": 80, "currency": "EUR"}


@pytest.mark.parametrize("path", [AFFILIATE, SETTINGS])
async def test_a_partner_who_is_not_known_is_not_found(client, pool: Pool, path) -> None:
    """And another network's partner of the same id is no answer."""
    await write(pool, partner(9, network_id=2))
    assert (await get(client, path)).status_code == 404


@pytest.mark.parametrize("path", PATHS)
async def test_a_content_type_without_a_body_does_no_harm(client, pool: Pool, path) -> None:
    """Deployed programs send one with every GET."""
    await write(pool, offer(70), terms(70, 9, impression_tracking_url="https://i/"), partner(9))
    await write(pool, profile(1))
    headers = signed(path) | {"content-type": "application/json", "accept": "application/json"}
    assert (await client.get(path, headers=headers)).status_code == 200
