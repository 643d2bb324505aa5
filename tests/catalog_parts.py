"""Things of a network for tests of the catalog, and their records as the log would hold them."""

import itertools
from collections.abc import Sequence
from typing import Any

from services.reporting.catalog import domain
from services.reporting.catalog.store import apply
from shared import events
from shared.batches import Item
from shared.events import NetworkProfile, Offer, OfferPartner, OfferPayout, PartnerProfile, Referral
from shared.kafka import Record
from shared.postgres import Pool

OFFER_VISIBILITIES = ("public", "require_approval", "private")
OFFER_STATUSES = ("active", "paused", "pending", "deleted")
TERMS_VISIBILITIES = ("", "visible", "hidden", "rejected")
APPLICATIONS = ("", "pending", "approved", "rejected")

_TOPICS = {
    NetworkProfile: "network.profile.v1",
    PartnerProfile: "network.partners.v1",
    Offer: "network.offers.v1",
    OfferPartner: "network.offer_partners.v1",
    Referral: "network.referrals.v1",
}
_offsets = itertools.count()


def offer(offer_id: int, version: int = 1, *, network_id: int = 1, **rest: Any) -> Offer:
    """An offer; public and active unless told otherwise."""
    rest = {"name": f"Offer {offer_id}, version {version}"} | rest
    return Offer(network_id=network_id, network_offer_id=offer_id, version=version, **rest)


def terms(
    offer_id: int, partner_id: int, version: int = 1, *, network_id: int = 1, **rest: Any
) -> OfferPartner:
    """What a partner has of an offer, with a link that names both."""
    rest = {"tracking_url": f"https://go.example/{network_id}/{partner_id}/{offer_id}/"} | rest
    return OfferPartner(
        network_id=network_id,
        network_offer_id=offer_id,
        network_affiliate_id=partner_id,
        version=version,
        **rest,
    )


def payout(amount: float, payout_id: int = 700) -> OfferPayout:
    """A payout per action."""
    return OfferPayout(network_offer_payout_revenue_id=payout_id, payout_amount=amount)


def profile(network_id: int = 1, version: int = 1, **rest: Any) -> NetworkProfile:
    """A network's profile."""
    rest = {"displayed_name": f"Network {network_id}, version {version}"} | rest
    return NetworkProfile(network_id=network_id, version=version, **rest)


def partner(
    partner_id: int, version: int = 1, *, network_id: int = 1, **rest: Any
) -> PartnerProfile:
    """A partner's profile."""
    rest = {"name": f"Partner {partner_id}, version {version}"} | rest
    return PartnerProfile(
        network_id=network_id, network_affiliate_id=partner_id, version=version, **rest
    )


def referral(
    referral_id: int, partner_id: int, version: int = 1, *, network_id: int = 1, **rest: Any
) -> Referral:
    """What a partner earned once by referring partner 12."""
    rest = {"amount": 1.25, "currency_id": "USD", "unix_timestamp": 1_767_225_600} | rest
    return Referral(
        network_id=network_id,
        referral_history_id=referral_id,
        network_affiliate_id=partner_id,
        version=version,
        referred_network_affiliate_id=12,
        **rest,
    )


def key_bytes(key: domain.Key) -> bytes:
    """The record key of a thing by its ids."""
    return ":".join(map(str, key)).encode()


def record(
    topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
) -> Record[bytes, bytes]:
    """A record as a consumer gets it."""
    return Record(topic, 0, next(_offsets), 0, 0, key, value, None, -1, -1, tuple(headers))


def item(change: domain.Change) -> Item[domain.Change]:
    """`change` with the record it would come in."""
    is_removed = isinstance(change, domain.Removed)
    value = None if is_removed else events.encode(change)
    topic = _TOPICS[domain.kind_of(change)]
    return Item(change, record(topic, key_bytes(domain.key_of(change)), value))


def removed(thing: domain.Thing, event_id: str = "removal") -> domain.Removed:
    """That `thing` was taken off the log."""
    return domain.Removed(type(thing), domain.key_of(thing), event_id)


async def write(pool: Pool, *changes: domain.Change) -> None:
    """Apply `changes` as one batch."""
    async with pool.acquire() as connection, connection.transaction():
        await apply(connection, [item(change) for change in changes])
