"""Makes tracking records for tests: valid, of realistic size, and each with a number of its own."""

import msgspec

from shared import events


def _offer(network_id: int, offer_id: int) -> events.OfferReference:
    return events.OfferReference(
        network_offer_id=offer_id, network_id=network_id, name="Shoes, spring"
    )


def _compact(event: events.Event) -> bytes:
    """The JSON of `event` as a tracker sends it: without what is empty."""
    return msgspec.json.encode(_without_empty(msgspec.to_builtins(event)))


def _without_empty(value: dict) -> dict:
    return {
        name: _without_empty(item) if isinstance(item, dict) else item
        for name, item in value.items()
        if item not in ("", False, {}, None) or name == "is_unique"
    }


def click(network_id: int, partner_id: int, number: int, *, offer_id: int = 7) -> bytes:
    """A click of about 800 bytes; `number` is its transaction."""
    return _compact(
        events.Click(
            network_id=network_id,
            network_affiliate_id=partner_id,
            transaction_id=f"{number:032x}",
            sub1="spring-campaign",
            sub2="newsletter",
            source_id="source-17",
            revenue_type="cpa",
            currency_id="USD",
            unix_timestamp=1_767_225_600,
            tracking_url="https://track.example.test/c/7/42?sub1=spring-campaign",
            referer="https://blog.example.test/2026/shoes",
            user_ip="203.0.113.7",
            is_unique=1,
            relationship=events.TrafficRelationship(
                offer=_offer(network_id, offer_id),
                geolocation=events.Geolocation(
                    country_code="DE", country_name="Germany", city_name="Berlin"
                ),
                device_information=events.DeviceInformation(
                    platform_name="Desktop", os_version="Linux", browser_name="Firefox"
                ),
            ),
        )
    )


def conversion(
    network_id: int,
    partner_id: int,
    number: int,
    *,
    offer_id: int = 7,
    status: str = "approved",
    event: str = "Base",
) -> bytes:
    """A conversion; `number` is its transaction and its id."""
    return _compact(
        events.Conversion(
            network_id=network_id,
            network_affiliate_id=partner_id,
            transaction_id=f"{number:032x}",
            conversion_id=f"{number:032x}",
            version=1,
            status=status,
            currency_id="USD",
            revenue=1.5,
            conversion_unix_timestamp=1_767_225_600,
            event=event,
            is_event=event != "Base",
            relationship=events.ConversionRelationship(offer=_offer(network_id, offer_id)),
        )
    )


def number_of(value: bytes) -> int:
    """The number that a record was made with."""
    return int(msgspec.json.decode(value)["transaction_id"], 16)


def key(network_id: int, partner_id: int) -> bytes:
    """The Kafka key of a partner's records."""
    return events.partner_key(network_id, partner_id).encode()
