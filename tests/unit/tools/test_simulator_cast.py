"""The simulated networks hold every case that the platform has to tell apart."""

import re
from collections import Counter

from shared.events import decode, encode
from tools.simulator import cast, material

BORN_AT = 1_767_225_600


def test_the_same_seed_gives_the_same_cast() -> None:
    """A ledger can be continued by another process, since everybody is made again alike."""
    assert cast.make(7, BORN_AT) == cast.make(7, BORN_AT)
    assert cast.make(7, BORN_AT) != cast.make(8, BORN_AT)


def test_every_record_meets_its_schema() -> None:
    """Master data enters projections without dead letters."""
    everybody = cast.make(1, BORN_AT)
    for rows in (
        everybody.networks,
        everybody.partners,
        everybody.offers,
        everybody.offer_partners,
        everybody.referrals,
    ):
        assert rows
        assert all(decode(type(row), encode(row)) == row for row in rows)


def test_the_cast_covers_every_standing_and_visibility() -> None:
    """Eligibility and visibility rules each meet somebody whom they decide about."""
    everybody = cast.make(1, BORN_AT)
    assert {offer.visibility for offer in everybody.offers} == {
        "public",
        "require_approval",
        "private",
    }
    assert {offer.payouts[0].payout_type for offer in everybody.offers} == {"cpa", "cps", "cpc"}
    assert {"approved", "pending", "rejected"} <= {
        row.application_status for row in everybody.offer_partners
    }
    for network in everybody.networks:
        own = [row for row in everybody.partners if row.network_id == network.network_id]
        assert any(row.in_onboarding for row in own)
        assert any(row.has_fraud_flag for row in own)
        assert sum(row.account_status == "active" for row in own) >= 5


def test_partners_of_each_network_earn_in_another_currency_too() -> None:
    """So that reports that convert nothing would differ from the ledger."""
    everybody = cast.make(1, BORN_AT)
    currencies = cast.currencies(everybody)
    foreign = {offer for offer, (paid, own) in currencies.items() if paid != own}
    ran = {
        (each.partner.network_affiliate_id, each.offer.network_offer_id)
        for each in cast.placements(everybody)
    }
    for partner in (1_001, 1_002, 2_001):
        offers = {offer for runner, offer in ran if runner == partner}
        assert offers & foreign
        assert offers - foreign


def test_everybody_has_a_link_code_of_their_own() -> None:
    """Codes look like the originals; a link with another's code would pay another."""
    everybody = cast.make(1, BORN_AT)
    for things in (everybody.partners, everybody.offers):
        codes = [thing.link_code for thing in things]
        assert len(set(codes)) == len(codes)
        assert all(re.fullmatch("[A-Z2-9]{5}", code) for code in codes)
    assert len({material.link_code(number) for number in range(100_000)}) == 100_000


def test_the_offers_cover_what_an_offer_can_have() -> None:
    """Rules, caps, mailings, direct linking: somebody has each, somebody none."""
    offers = cast.make(1, BORN_AT).offers
    for has in (
        lambda offer: offer.is_use_direct_linking and offer.landing_page_url,
        lambda offer: offer.is_caps_enabled,
        lambda offer: offer.email.from_lines and offer.email_optout.unsub_link,
        lambda offer: offer.ruleset.countries,
        lambda offer: offer.ruleset.platforms,
    ):
        assert 0 < sum(bool(has(offer)) for offer in offers) < len(offers)
    assert all(offer.urls and offer.creatives and offer.channels for offer in offers)


def test_only_who_may_run_an_offer_has_traffic_on_it() -> None:
    """A partner's clicks are on offers that the catalogue shows as runnable to them."""
    everybody = cast.make(1, BORN_AT)
    terms = {
        (row.network_offer_id, row.network_affiliate_id): row for row in everybody.offer_partners
    }
    found = Counter[str]()
    for placement in cast.placements(everybody):
        row = terms.get((placement.offer.network_offer_id, placement.partner.network_affiliate_id))
        found[placement.offer.visibility] += 1
        assert placement.offer.network_id == placement.partner.network_id
        assert placement.offer.offer_status == placement.partner.account_status == "active"
        match placement.offer.visibility:
            case "public":
                assert row is None or row.visibility != "hidden"
            case "require_approval":
                assert row is not None
                assert row.application_status == "approved"
            case "private":
                assert row is not None
                assert row.visibility == "visible"
    assert set(found) == {"public", "require_approval", "private"}


def test_money_is_the_nearest_double() -> None:
    """Millionths go to JSON and back without loss up to the largest amount allowed."""
    for amount in (1, 999_999, 25_996_000, 10**15 - 1):
        assert cast.micros(cast.money(amount)) == amount
