"""What partners see of a thing: an event as one of the shapes in `wire`; pure.

A shape's members are the ones taken, so that a member of an event that no shape names stays inside.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from services.reporting.catalog import wire
from services.reporting.catalog.domain import affiliate_status, may_run
from services.reporting.catalog.links import Linker
from services.reporting.meta.world import country_id
from shared.events import (
    NetworkProfile,
    Offer,
    OfferPartner,
    OfferPayout,
    PartnerProfile,
    TargetingRule,
)

_OFFER: Final = tuple(name for name in wire.Offer.model_fields if name in Offer.__struct_fields__)
_NETWORK: Final = tuple(wire.Network.model_fields)
_PARTNER: Final = tuple(
    name for name in wire.Affiliate.model_fields if name in PartnerProfile.__struct_fields__
)
_LINKS: Final = ("tracking_url", "redirect_tracking_url", "impression_tracking_url")
_RULE: Final = tuple(wire.Rule.model_fields)


# --- offers ---------------------------------------------------------------------------------------


def shown_offer(offer: Offer, terms: OfferPartner | None, linker: Linker) -> dict[str, Any]:
    """An offer as `wire.Offer`: what the partner of `terms` and `linker` sees of it."""
    links = linker.links(offer, terms) if may_run(offer, terms) else dict.fromkeys(_LINKS, "")
    shown = {name: _number(getattr(offer, name)) for name in _OFFER}
    category = {"network_category_id": offer.category.network_category_id}
    return shown | links | category | {"relationship": _relationship(offer, terms)}


def _relationship(offer: Offer, terms: OfferPartner | None) -> dict[str, Any]:
    custom = terms.custom_payouts if terms is not None else ()
    return {
        "offer_affiliate_status": affiliate_status(offer, terms),
        "blocked_variables_count": terms.blocked_variables_count if terms is not None else 0,
        "category": msgspec.to_builtins(offer.category),
        "channels": _collection(_owned(wire.Channel, offer, part) for part in offer.channels),
        "creatives": _collection(_owned(wire.Creative, offer, part) for part in offer.creatives),
        "creative_bundle": {"url": offer.creative_bundle_url},
        "payouts": _collection(map(_payout, offer.payouts)),
        "custom_payout_settings": _collection(_custom_payout(offer, entry) for entry in custom),
        "urls": _collection(_owned(wire.Url, offer, part) for part in offer.urls),
        "ruleset": {
            name: [_rule(name, rule) for rule in getattr(offer.ruleset, name)]
            for name in wire.Ruleset.model_fields
        },
        "email": msgspec.to_builtins(offer.email),
        "email_optout": msgspec.to_builtins(offer.email_optout),
    }


def _collection(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    listed = list(entries)
    return {"total": len(listed), "entries": listed}


def _owned(shape: type[wire.Model], offer: Offer, part: object) -> dict[str, Any]:
    """A part of an offer; ids that the part itself lacks are the offer's."""
    return {
        name: getattr(part if hasattr(part, name) else offer, name) for name in shape.model_fields
    }


def _payout(payout: OfferPayout) -> dict[str, Any]:
    return {name: _number(value) for name, value in msgspec.to_builtins(payout).items()}


def _custom_payout(offer: Offer, payout: OfferPayout) -> dict[str, Any]:
    return _payout(payout) | {
        "network_id": offer.network_id,
        "network_offer_id": offer.network_offer_id,
        "custom_setting_status": "active",
        "is_custom_payout_enabled": True,
        "currency_id": offer.currency_id,
    }


def _rule(kind: str, rule: TargetingRule) -> dict[str, Any]:
    shown = {name: getattr(rule, name) for name in _RULE}
    if kind == "countries":
        return shown | {"country_id": country_id(rule.code), "country_code": rule.code}
    if kind == "regions":
        return shown | {"region_code": rule.code}
    return shown


# --- the network and the partner ------------------------------------------------------------------


def shown_network(profile: NetworkProfile) -> dict[str, Any]:
    """A network as `wire.Network`."""
    return {name: getattr(profile, name) for name in _NETWORK}


def shown_affiliate(partner: PartnerProfile, related: Mapping[str, Any]) -> dict[str, Any]:
    """A partner as `wire.Affiliate`, with what was asked for under `relationship`."""
    shown = {name: getattr(partner, name) for name in _PARTNER}
    return shown | {"default_currency_id": partner.currency_id, "relationship": dict(related)}


def related_of(partner: PartnerProfile) -> dict[str, Any]:
    """What is known of a partner without asking anybody else, by the name it is asked for by."""
    manager = msgspec.to_builtins(partner.account_manager)
    if not (manager["first_name"] or manager["last_name"]):
        manager["first_name"] = partner.manager
    return {"account_manager": manager, "encoded_value": partner.link_code}


def shown_settings(partner: PartnerProfile, network: NetworkProfile | None) -> dict[str, Any]:
    """A partner's settings as `wire.Settings`."""
    return {
        "network_affiliate_id": partner.network_affiliate_id,
        "network_id": partner.network_id,
        "timezone_id": partner.timezone_id,
        "currency_id": partner.currency_id,
        "language_id": network.language_id if network is not None else 1,
        "reporting_timezone_id": (network or partner).timezone_id,
        "network_currency_id": (network or partner).currency_id,
    }


def _number(value: Any) -> Any:
    """`value`; an amount that is whole, without its point: the shortest exact number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
