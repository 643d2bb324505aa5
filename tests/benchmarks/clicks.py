"""Clicks of about 800 bytes with the variety of real ones."""

import random
from typing import Any


def click(chance: random.Random, number: int, partner: int) -> dict[str, Any]:
    """A click of `partner` in network 1; `number` is the end of its id."""
    offer = chance.randrange(1, 60)
    place = chance.choice((("DE", "Germany"), ("US", "United States"), ("BR", "Brazil")))
    return {
        "network_id": 1,
        "network_affiliate_id": partner,
        "transaction_id": f"{chance.getrandbits(96):024x}{number:08x}",
        "unix_timestamp": 1_774_000_000 + chance.randrange(7 * 86_400),
        "sub1": f"campaign-{chance.randrange(40)}",
        "sub2": f"placement-{chance.randrange(400)}",
        "sub3": f"{chance.getrandbits(64):016x}",
        "source_id": f"source-{chance.randrange(30)}",
        "revenue_type": "cpa",
        "revenue": 0,
        "currency_id": "USD",
        "tracking_url": "track.example.test",
        "referer": f"https://blog-{chance.randrange(50)}.example.test/",
        "user_ip": f"203.0.{chance.randrange(256)}.{chance.randrange(256)}",
        "is_unique": int(chance.random() < 0.8),
        "relationship": {
            "offer": {"network_offer_id": offer, "network_id": 1, "name": f"Offer number {offer}"},
            "geolocation": {
                "country_code": place[0],
                "country_name": place[1],
                "city_name": f"City {chance.randrange(200)}",
                "timezone": "Europe/Berlin",
                "isp_name": f"Carrier {chance.randrange(20)}",
                "is_mobile": chance.random() < 0.5,
            },
            "device_information": {
                "platform_name": chance.choice(("Desktop", "iOS", "Android")),
                "os_version": f"{chance.randrange(9, 18)}.{chance.randrange(5)}",
                "browser_name": chance.choice(("Firefox", "Chrome", "Safari")),
                "device_type": chance.choice(("PC", "Mobile", "Tablet")),
                "language": "en-US",
            },
            "query_parameters": {"gclid": f"{chance.getrandbits(64):x}"},
        },
    }
