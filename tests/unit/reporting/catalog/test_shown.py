"""Protects what partners see of a thing: whole shapes, exact money, their own links alone."""

import pytest

from services.reporting.catalog import wire
from services.reporting.catalog.links import Linker
from services.reporting.catalog.shown import (
    related_of,
    shown_affiliate,
    shown_network,
    shown_offer,
    shown_settings,
)
from shared.events import (
    AccountManager,
    OfferCategory,
    OfferChannel,
    OfferCreative,
    OfferEmail,
    OfferEmailOptout,
    OfferRuleset,
    OfferUrl,
    TargetingRule,
)
from shared.http import json_bytes
from tests.catalog_parts import offer, partner, payout, profile, terms

LINKER = Linker(9)

RICH = offer(
    70,
    3,
    network_id=3,
    visibility="require_approval",
    daily_payout_cap=1000.5,
    category=OfferCategory(network_category_id=4, network_id=3, name="Shoes"),
    payouts=(payout(25.996), payout(5.0, 701)),
    urls=(
        OfferUrl(network_offer_url_id=1, name="Sale", landing_page_url="https://secret.example/"),
    ),
    channels=(OfferChannel(network_channel_id=5, name="Email"),),
    creatives=(OfferCreative(network_offer_creative_id=6, name="Banner", width=300, height=250),),
    creative_bundle_url="https://creatives.example/70.zip",
    ruleset=OfferRuleset(
        countries=(TargetingRule(label="Germany", code="DE"),),
        regions=(TargetingRule(label="Bavaria", code="BY", targeting_type="exclude"),),
        platforms=(TargetingRule(label="iOS"),),
    ),
    email=OfferEmail(from_lines="One\nTwo", subject_lines="Three"),
    email_optout=OfferEmailOptout(suppression_file_link="https://optout.example/70"),
    landing_page_url="https://secret.example/",
    link_code="2CTPL",
)
OWN = terms(
    70,
    9,
    network_id=3,
    application_status="approved",
    redirect_tracking_url="https://go.example/r/",
    impression_tracking_url="https://go.example/i/",
    custom_payouts=(payout(31.25),),
)


@pytest.mark.parametrize("own", [OWN, None])
def test_an_offer_has_every_member_of_its_shape_and_no_other(own) -> None:
    """Programs read members without asking whether they are there."""
    shown = shown_offer(RICH, own, LINKER)
    assert set(shown) == set(wire.Offer.model_fields)
    assert wire.Offer.model_validate(shown, strict=True)


def test_an_offer_shows_what_the_network_said_of_it() -> None:
    """Base members come unchanged, related ones counted."""
    shown = shown_offer(RICH, OWN, LINKER)
    assert (shown["network_offer_id"], shown["name"]) == (70, "Offer 70, version 3")
    assert shown["network_category_id"] == 4
    assert shown["relationship"]["category"]["name"] == "Shoes"
    assert shown["relationship"]["payouts"]["total"] == 2
    assert shown["relationship"]["urls"]["entries"] == [
        {"network_offer_url_id": 1, "name": "Sale", "preview_url": ""},
    ]


def test_an_offer_shows_the_partners_own_links_and_payouts() -> None:
    """What is agreed with the partner stands beside what everybody gets."""
    shown = shown_offer(RICH, OWN, LINKER)
    assert shown["tracking_url"] == "https://go.example/3/9/70/"
    assert shown["redirect_tracking_url"] == "https://go.example/r/"
    assert shown["impression_tracking_url"] == "https://go.example/i/"
    custom = shown["relationship"]["custom_payout_settings"]
    assert custom["total"] == 1
    assert custom["entries"][0]["payout_amount"] == 31.25
    assert custom["entries"][0]["network_offer_id"] == 70
    assert shown["relationship"]["payouts"]["entries"][0]["payout_amount"] == 25.996


def test_an_offer_shows_all_that_belongs_to_it() -> None:
    """Ids that a part leaves to its offer are the offer's; a country has its number."""
    related = shown_offer(RICH, OWN, LINKER)["relationship"]
    assert related["channels"]["entries"][0]["network_id"] == 3
    assert related["creatives"]["entries"][0] == {
        "network_offer_creative_id": 6,
        "network_offer_id": 70,
        "network_id": 3,
        "name": "Banner",
        "creative_type": "image",
        "creative_status": "active",
        "resource_url": "",
        "html_code": "",
        "width": 300,
        "height": 250,
    }
    assert related["creative_bundle"] == {"url": "https://creatives.example/70.zip"}
    everywhere = {"targeting_type": "include", "match_type": "exact"}
    germany = {"label": "Germany", "country_code": "DE", "country_id": 276}
    assert related["ruleset"]["countries"] == [everywhere | germany]
    assert related["ruleset"]["regions"][0]["region_code"] == "BY"
    assert related["ruleset"]["platforms"] == [everywhere | {"label": "iOS"}]
    assert related["email"] == {"from_lines": "One\nTwo", "subject_lines": "Three"}
    assert related["email_optout"] == {
        "suppression_file_link": "https://optout.example/70",
        "unsub_link": "",
    }


def test_an_offer_hides_pages_and_codes() -> None:
    """Where clicks end up is the network's and the advertiser's business."""
    text = json_bytes(shown_offer(RICH, OWN, LINKER))
    assert b"secret.example" not in text
    assert b"2CTPL" not in text


@pytest.mark.parametrize("status", ["pending", "rejected", ""])
def test_an_offer_that_may_not_be_run_has_empty_links(status) -> None:
    """Whatever the network published for the pair before."""
    shown = shown_offer(RICH, terms(70, 9, network_id=3, application_status=status), LINKER)
    assert shown["tracking_url"] == shown["redirect_tracking_url"] == ""
    assert shown["impression_tracking_url"] == ""


def test_an_offer_without_terms_has_empty_links() -> None:
    """Empty text, not null, where nothing is set."""
    shown = shown_offer(RICH, None, LINKER)
    assert shown["tracking_url"] == shown["redirect_tracking_url"] == ""
    assert shown["relationship"]["custom_payout_settings"] == {"total": 0, "entries": []}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (25.996, b"25.996"),
        (5.0, b"5"),
        (0.0, b"0"),
        (-0.0, b"0"),
        (1e9, b"1000000000"),
        (0.1, b"0.1"),
    ],
)
def test_money_is_the_shortest_exact_number(amount, text) -> None:
    """Programs add amounts up and compare for equality."""
    shown = shown_offer(offer(1, payouts=(payout(amount),)), None, LINKER)
    entry = shown["relationship"]["payouts"]["entries"][0]
    assert b'"payout_amount":%b,' % text in json_bytes(entry)


def test_a_description_with_control_characters_is_escaped() -> None:
    """Deployed programs fail on raw ones."""
    shown = shown_offer(offer(1, html_description="a\x00b\x1f\n"), None, LINKER)
    assert rb'"html_description":"a\u0000b\u001f\n"' in json_bytes(shown)


def test_a_network_shows_its_branding_and_nothing_internal() -> None:
    """The version is the platform's own business."""
    shown = shown_network(profile(3, 7, currency_id="EUR", timezone_id=56))
    assert wire.Network.model_validate(shown, strict=True)
    assert (shown["network_id"], shown["currency_id"], shown["timezone_id"]) == (3, "EUR", 56)
    assert "version" not in shown


def test_a_partner_shows_what_was_asked_for_and_nothing_internal() -> None:
    """What decides about keys is the network's own business."""
    nine = partner(9, network_id=3, name="Cedar", has_fraud_flag=True, currency_id="EUR")
    shown = shown_affiliate(nine, {"encoded_value": "9W598"})
    assert wire.Affiliate.model_validate(shown, strict=True)
    assert (shown["network_affiliate_id"], shown["name"]) == (9, "Cedar")
    assert shown["default_currency_id"] == "EUR"
    assert shown["relationship"] == {"encoded_value": "9W598"}
    assert not {name for name in shown if name.startswith(("has_", "in_")) or name == "version"}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"manager": "Noor Haddad"}, ("Noor Haddad", "")),
        (
            {
                "manager": "Noor Haddad",
                "account_manager": AccountManager(first_name="Noor", last_name="Haddad"),
            },
            ("Noor", "Haddad"),
        ),
        ({}, ("", "")),
    ],
)
def test_a_manager_has_a_name_however_the_network_tells_it(more, name) -> None:
    """Older records have the whole name in one member."""
    found = related_of(partner(9, **more))["account_manager"]
    assert wire.AccountManager.model_validate(found, strict=True)
    assert (found["first_name"], found["last_name"]) == name


def test_settings_are_the_partners_and_beside_them_the_networks() -> None:
    """Reports go by the partner's, the network's days by its own; without one, by theirs."""
    nine = partner(9, timezone_id=80, currency_id="EUR")
    shown = shown_settings(nine, profile(1, timezone_id=56, currency_id="USD", language_id=2))
    assert wire.Settings.model_validate(shown, strict=True)
    assert (shown["timezone_id"], shown["reporting_timezone_id"]) == (80, 56)
    assert (shown["currency_id"], shown["network_currency_id"]) == ("EUR", "USD")
    assert shown_settings(nine, None)["reporting_timezone_id"] == 80
