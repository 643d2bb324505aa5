"""Who takes part: networks, partners, offers, and what each partner may run.

Pure: the same seed and the same birth give the same cast, as the records that
`network.profile.v1`, `network.partners.v1`, `network.offers.v1`, `network.offer_partners.v1` and
`network.referrals.v1` carry. Shares fall like 1/n from partner to partner and from offer to offer.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.events import (
    AccountManager,
    NetworkProfile,
    Offer,
    OfferCategory,
    OfferPartner,
    OfferPayout,
    OfferReference,
    PartnerProfile,
    Referral,
)
from tools.simulator import material

_VERSION: Final = 3
"""Raised when the cast is written otherwise, so that what was kept of an earlier one gives way."""
DAY: Final = 86_400
NEW_YORK: Final = 80
BERLIN: Final = 56

_PARTNERS: Final[dict[int, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    201: (
        ("Cedar Coupons", {}),
        ("Bright Search", {}),
        ("Mosaic Newsletters", {}),
        ("Kestrel Video", {}),
        ("Second Story Blog", {}),
        ("Pocket Rewards", {}),
        ("Lantern Loyalty", {}),
        ("Quarry Comparison", {}),
        ("Fresh Onboarding", {"in_onboarding": True, "account_status": "pending"}),
        ("Paper Only Media", {"has_technical_capacity": False}),
        ("Odd Clicks", {"has_fraud_flag": True}),
        ("Thin Content", {"has_quality_flag": True}),
        ("Closed Shop", {"account_status": "inactive"}),
    ),
    202: (
        ("Alpen Gutschein", {}),
        ("Nordlicht Suche", {}),
        ("Isar Post", {}),
        ("Fjord Vergleich", {}),
        ("Rote Route", {}),
        ("Neu Dabei", {"in_onboarding": True, "account_status": "pending"}),
        ("Zwei Flaggen", {"has_fraud_flag": True, "has_quality_flag": True}),
    ),
}
_NETWORKS: Final = (
    (201, "Harbor Lane Network", NEW_YORK, "USD", "go.harborlane.example"),
    (202, "Alpenglow Partner", BERLIN, "EUR", "klick.alpenglow.example"),
)
_FOREIGN: Final = {(201, "Camper Rental"): "EUR", (202, "Camper Rental"): "GBP"}
"""Offers that pay in another currency than their network's."""
_GOODS: Final = (
    ("Travel", ("Weekend Flights", "City Hotels", "Rail Pass", "Camper Rental")),
    ("Finance", ("Savings Account", "Card Switch", "Tax Helper", "Green Funds")),
    ("Health", ("Sleep Tracker", "Meal Boxes", "Running Shoes", "Vision Test")),
    ("Software", ("Photo Vault", "Invoice Desk", "Note Garden", "Backup Box")),
)
_MANAGERS: Final = (("Noor", "Haddad"), ("Tomás", "Vidal"))
_VISIBILITIES: Final = ("public", "public", "require_approval", "private")
_PAYOUT_TYPES: Final = ("cpa", "cps", "cpc", "cpa")
_APPLICATIONS: Final = ("approved", "approved", "pending", "rejected")
_AMOUNTS: Final = {"cpa": (4_000_000, 45_000_000), "cpc": (30_000, 450_000), "event": (5, 20)}


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody; each tuple is in order of ids."""

    networks: tuple[NetworkProfile, ...]
    partners: tuple[PartnerProfile, ...]
    offers: tuple[Offer, ...]
    offer_partners: tuple[OfferPartner, ...]
    referrals: tuple[Referral, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """A partner running an offer, and how much traffic that brings relative to the others."""

    partner: PartnerProfile
    offer: Offer
    reference: OfferReference
    payouts: tuple[OfferPayout, ...]
    domain: str
    weight: float


def money(micros: int) -> float:
    """`micros` millionths of a unit as the nearest double: one division, rounded once."""
    return micros / 1_000_000


def micros(amount: float) -> int:
    """An amount of at most six decimals as a whole number of millionths."""
    return round(amount * 1_000_000)


def make(seed: int, born_at: int) -> Cast:
    """The cast of `seed`; `born_at` (seconds, UTC) is when the newest of them joined."""
    dice = random.Random(f"cast/{seed}")  # noqa: S311 - a repeatable story, no secret
    partners = tuple(_partners(born_at))
    offers = tuple(_offers(dice, born_at))
    return Cast(
        networks=tuple(_networks()),
        partners=partners,
        offers=offers,
        offer_partners=tuple(_offer_partners(dice, partners, offers)),
        referrals=tuple(_referrals(partners, born_at)),
    )


def placements(cast: Cast) -> tuple[Placement, ...]:
    """Who runs what, by the visibility of the offer and the standing of the partner."""
    terms = {
        (row.network_id, row.network_offer_id, row.network_affiliate_id): row
        for row in cast.offer_partners
    }
    domains = {network.network_id: network.default_tracking_domain for network in cast.networks}
    found = []
    for partner in cast.partners:
        for offer in cast.offers:
            row = terms.get(
                (offer.network_id, offer.network_offer_id, partner.network_affiliate_id)
            )
            if offer.network_id == partner.network_id and _runs(partner, offer, row):
                payouts = (row.custom_payouts if row else ()) or offer.payouts
                weight = 1 / _rank(partner.network_affiliate_id) / _rank(offer.network_offer_id)
                domain = domains[offer.network_id]
                found.append(Placement(partner, offer, _reference(offer), payouts, domain, weight))
    return tuple(found)


def currencies(cast: Cast) -> dict[int, tuple[str, str]]:
    """By offer: the currency it pays in, and that of its network."""
    own = {network.network_id: network.currency_id for network in cast.networks}
    return {
        offer.network_offer_id: (offer.currency_id, own[offer.network_id]) for offer in cast.offers
    }


def _reference(offer: Offer) -> OfferReference:
    return OfferReference(
        network_offer_id=offer.network_offer_id,
        network_id=offer.network_id,
        name=offer.name,
        offer_status=offer.offer_status,
        network_tracking_domain_id=offer.network_tracking_domain_id,
    )


def _runs(partner: PartnerProfile, offer: Offer, terms: OfferPartner | None) -> bool:
    if partner.account_status != "active" or offer.offer_status != "active":
        return False
    if terms is not None and terms.visibility in ("hidden", "rejected"):
        return False
    if offer.visibility == "public":
        return True
    if offer.visibility == "private":
        return terms is not None and terms.visibility == "visible"
    return terms is not None and terms.application_status == "approved"


def _rank(identifier: int) -> int:
    """Ids of a network's partners and offers are numbered from 1 within their hundred."""
    return identifier % 100 or 1


def _networks() -> Iterator[NetworkProfile]:
    for network_id, name, zone, currency, domain in _NETWORKS:
        yield NetworkProfile(
            network_id=network_id,
            version=_VERSION,
            displayed_name=name,
            timezone_id=zone,
            currency_id=currency,
            default_tracking_domain=domain,
        )


def _partners(born_at: int) -> Iterator[PartnerProfile]:
    for network_id, _, zone, currency, _ in _NETWORKS:
        for rank, (name, standing) in enumerate(_PARTNERS[network_id], start=1):
            joined = born_at - (40 + 31 * rank) * DAY
            yield PartnerProfile(
                network_id=network_id,
                network_affiliate_id=1_000 * (network_id % 100) + rank,
                version=_VERSION,
                name=name,
                manager=" ".join(_MANAGERS[rank % 2]),
                account_manager=_manager(rank % 2),
                link_code=material.link_code(1_000 * (network_id % 100) + rank),
                timezone_id=zone,
                currency_id=currency,
                time_created=joined,
                time_saved=joined,
                **standing,
            )


def _manager(which: int) -> AccountManager:
    first, last = _MANAGERS[which]
    return AccountManager(
        first_name=first, last_name=last, email=f"manager-{which + 1}@network.example"
    )


def _offers(dice: random.Random, born_at: int) -> Iterator[Offer]:
    for network_id, _, zone, currency, _ in _NETWORKS:
        named = ((group, name) for group, names in _GOODS for name in names)
        for rank, (group, name) in enumerate(named, start=1):
            offer_id = 10_000 * (network_id % 100) + rank
            created = born_at - (20 + 9 * rank) * DAY
            yield Offer(
                network_id=network_id,
                network_offer_id=offer_id,
                version=_VERSION,
                name=name,
                offer_status="paused" if rank % 11 == 0 else "active",
                visibility=_VISIBILITIES[rank % 4],
                currency_id=_FOREIGN.get((network_id, name), currency),
                html_description=f"<p>{name}: a {group.lower()} offer.</p>",
                network_tracking_domain_id=network_id,
                caps_timezone_id=zone,
                time_created=created,
                time_saved=created,
                category=_category(network_id, group, created),
                payouts=_payouts(dice, offer_id, _PAYOUT_TYPES[rank % 3]),
                **material.of_offer(offer_id, rank, name, created),
            )


def _category(network_id: int, group: str, created: int) -> OfferCategory:
    names = [name for name, _ in _GOODS]
    return OfferCategory(
        network_category_id=names.index(group) + 1,
        network_id=network_id,
        name=group,
        time_created=created,
        time_saved=created,
    )


def _payouts(dice: random.Random, offer_id: int, kind: str) -> tuple[OfferPayout, ...]:
    """The base payout, and one for an event with offers that pay for actions."""
    base = _payout(dice, offer_id * 10, kind)
    if kind != "cpa":
        return (base,)
    event = OfferPayout(
        network_offer_payout_revenue_id=offer_id * 10 + 1,
        entry_name="Deposit",
        is_default=False,
        payout_type="cpa",
        payout_amount=money(micros(base.payout_amount) // dice.randint(*_AMOUNTS["event"])),
    )
    return (base, event)


def _payout(dice: random.Random, payout_id: int, kind: str) -> OfferPayout:
    if kind == "cps":
        return OfferPayout(
            network_offer_payout_revenue_id=payout_id,
            payout_type=kind,
            payout_percentage=float(dice.randint(3, 14)),
        )
    low, high = _AMOUNTS[kind]
    return OfferPayout(
        network_offer_payout_revenue_id=payout_id,
        payout_type=kind,
        payout_amount=money(dice.randrange(low, high, 1_000)),
    )


def _offer_partners(
    dice: random.Random, partners: tuple[PartnerProfile, ...], offers: tuple[Offer, ...]
) -> Iterator[OfferPartner]:
    for offer in offers:
        for partner in partners:
            if partner.network_id == offer.network_id:
                terms = _terms(dice, offer, partner)
                if terms is not None:
                    yield terms


def _terms(dice: random.Random, offer: Offer, partner: PartnerProfile) -> OfferPartner | None:
    """What sets this pair apart; None where the offer's own rules say it all."""
    roll = dice.randrange(100)
    links = _links(offer, partner)
    pair = (offer.network_id, offer.network_offer_id, partner.network_affiliate_id)
    match offer.visibility:
        case "private":
            return _row(pair, visibility="visible", **links) if roll < _SHARE_PRIVATE else None
        case "require_approval":
            status = _APPLICATIONS[roll % len(_APPLICATIONS)]
            shown = links if status == "approved" else {}
            return _row(pair, application_status=status, **shown)
        case "public" if roll < _SHARE_HIDDEN:
            return _row(pair, visibility="hidden")
        case "public" if roll > _SHARE_CUSTOM:
            return _row(pair, custom_payouts=_better(offer.payouts), **links)
        case _:
            return _row(pair, **links)


_SHARE_PRIVATE: Final = 30
_SHARE_HIDDEN: Final = 5
_SHARE_CUSTOM: Final = 89


def _row(pair: tuple[int, int, int], **more: Any) -> OfferPartner:
    network_id, offer_id, partner_id = pair
    return OfferPartner(
        network_id=network_id,
        network_offer_id=offer_id,
        network_affiliate_id=partner_id,
        version=_VERSION,
        **more,
    )


def _links(offer: Offer, partner: PartnerProfile) -> dict[str, str]:
    """The impression link; the tracking link is made of the codes of both."""
    domain = next(row[4] for row in _NETWORKS if row[0] == offer.network_id)
    return {"impression_tracking_url": f"https://{domain}/i/{partner.link_code}/{offer.link_code}/"}


def _better(payouts: tuple[OfferPayout, ...]) -> tuple[OfferPayout, ...]:
    """The same payouts, a tenth higher."""
    return tuple(
        OfferPayout(
            network_offer_payout_revenue_id=payout.network_offer_payout_revenue_id,
            entry_name=payout.entry_name,
            is_default=payout.is_default,
            payout_type=payout.payout_type,
            payout_amount=money(micros(payout.payout_amount) * 11 // 10),
            payout_percentage=payout.payout_percentage,
        )
        for payout in payouts
    )


def _referrals(partners: tuple[PartnerProfile, ...], born_at: int) -> Iterator[Referral]:
    """The first partner of each network referred the next ones; each earned them a week's days."""
    first: dict[int, PartnerProfile] = {}
    for partner in partners:
        referrer = first.setdefault(partner.network_id, partner)
        if 1 < _rank(partner.network_affiliate_id) <= _REFERRED_UP_TO:
            for day in range(1, _REFERRED_DAYS + 1):
                yield _referral(referrer, partner, day, born_at)


_REFERRED_UP_TO: Final = 3
_REFERRED_DAYS: Final = 7
_REFERRAL_PERCENTAGE: Final = 5.0


def _referral(
    referrer: PartnerProfile, referred: PartnerProfile, day: int, born_at: int
) -> Referral:
    """What one of them earned the other `day` days before the birth; yesterday's is pending."""
    referred_id = referred.network_affiliate_id
    return Referral(
        network_id=referrer.network_id,
        referral_history_id=100 * referred_id + day,
        network_affiliate_id=referrer.network_affiliate_id,
        version=_VERSION,
        referred_network_affiliate_id=referred_id,
        referred_affiliate_name=referred.name,
        status="pending" if day == 1 else "approved",
        commission_percentage=_REFERRAL_PERCENTAGE,
        amount=money(1_250_000 * day + referred_id),
        currency_id=referrer.currency_id,
        unix_timestamp=born_at - day * DAY,
        time_created=born_at - (day - 1) * DAY,
        time_saved=born_at - (day - 1) * DAY,
    )
