"""Seeded histories of a network's tracker, as unkind as they come.

Duplicates, late arrivals, versions out of order, statuses and amounts that change and change back,
conversions held and released, scrubs, events, view-throughs, corrected clicks, three currencies
with rates that skip days and are corrected, two networks with a partner of the same number.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from tests.recount import DAY, Rates, Scope, Sent
from tests.soak import count

OFFERS = {7: "Shoes", 8: "Hats, wide", 9: 'Bags "small"', 12: "Gloves"}
TEXTS = ("", "a", "b'quoted", "snow ☃ man", "N/A", "x\\y")
PLACES = (
    ("Germany", "DE", "Berlin", "Berlin"),
    ("Germany", "DE", "Hesse", "Frankfurt"),
    ("Brazil", "BR", "", "São Paulo"),
    ("", "", "", ""),
)
DEVICES = (
    ("Desktop", "Linux", "PC", "", "", "Firefox", "de"),
    ("iOS", "18.1", "Mobile", "iPhone 15", "Apple", "Safari", "en"),
    ("Android", "14", "Mobile", "Pixel", "Google", "Chrome", ""),
)
CURRENCIES = ("USD", "EUR", "JPY")
PAST_DAYS = count(120, 350)
"""How far back facts lie; raw conversions are shown for 365 days, raw clicks for 92."""
LIVES = (
    ("approved",),
    ("pending", "approved"),
    ("pending", "rejected"),
    ("approved", "rejected", "approved"),
    ("pending", "approved", "rejected", "approved"),
    ("approved", "invalid"),
    ("on_hold", "approved"),
    ("on_hold", "rejected"),
    ("on_hold",),
)
"""What conversions go through."""


class History:
    """The log of some thousand records of three partners, and the rates of their networks.

    Attributes:
        partners: whose records.
        log: in the order of sending.
        rates: by network, what the records of rates come to.
        rate_records: those records.
    """

    def __init__(self, seed: int, records: int, network: int, now: int) -> None:
        self._random = random.Random(seed)
        self._now = now
        self._number = 0
        self.partners: tuple[Scope, ...] = ((network, 10), (network, 11), (network + 1, 10))
        self.rates = {network: Rates("USD"), network + 1: Rates("EUR")}
        self.rate_records = list(self._rates())
        self._edges = _clock_changes(now)
        values: list[Sent] = []
        while len(values) < records * 9 // 10:
            values.extend(self._visit())
        self.log = self._disordered(values)

    def changes(self, standing: Mapping[str, Any], scope: Scope, share: float) -> list[Sent]:
        """New versions of some of the conversions that stand."""
        chosen = [body for body in standing.values() if self._random.random() < share]
        return [Sent("conversions", scope, self._changed(body)) for body in chosen]

    def _changed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        status = "rejected" if body["status"] == "approved" else "approved"
        more = {"version": body["version"] + 10, "status": status, "revenue": self._money()}
        return {**body, **more}

    # --- visits -----------------------------------------------------------------------------------

    def _visit(self) -> Iterator[Sent]:
        """A click or an impression, and what comes of it."""
        scope = self._random.choices(self.partners, (6, 3, 1))[0]
        stamp = self._stamp()
        body = self._common(scope) | {"unix_timestamp": stamp}
        if self._random.random() < 0.25:
            yield Sent("impressions", scope, body)
            if self._random.random() < 0.1:
                yield from self._conversion(scope, body, is_view_through=True)
            return
        click = body | self._judged()
        yield Sent("clicks", scope, click)
        if self._random.random() < 0.02:
            yield Sent("clicks", scope, click | self._judged())
        for _ in range(self._random.choice((0, 0, 1, 1, 2))):
            yield from self._conversion(scope, click, is_view_through=False)

    def _judged(self) -> dict[str, Any]:
        return {
            "is_unique": self._random.choice((0, 1, 1)),
            "error_code": self._random.choice((0, 0, 0, 9)),
            "revenue": self._money() if self._random.random() < 0.2 else Decimal(0),
            "is_redirect_traffic": self._random.random() < 0.1,
        }

    def _common(self, scope: Scope) -> dict[str, Any]:
        offer = self._random.choice(list(OFFERS))
        country, code, region, city = self._random.choice(PLACES)
        platform, os_version, device_type, model, brand, browser, language = self._random.choice(
            DEVICES
        )
        return {
            "network_id": scope[0],
            "network_affiliate_id": scope[1],
            "transaction_id": self._id(),
            **{name: self._random.choice(TEXTS) for name in ("sub1", "sub2", "source_id")},
            "sub3": str(self._random.randrange(40)),
            "creative": self._random.choice(("", "banner", "text")),
            "connection_type": self._random.choice(("wifi", "")),
            "offer_url": self._random.choice(("", "https://shop.example/a")),
            "tracking_domain": self._random.choice(("", "t.example")),
            "coupon_code": self._random.choice(("", "", "TEN")),
            "referer": self._random.choice(("", "blog.example")),
            "currency_id": self._random.choice(CURRENCIES),
            "revenue": Decimal(0),
            "relationship": {
                "offer": {
                    "network_offer_id": offer,
                    "network_id": scope[0],
                    "name": OFFERS[offer],
                },
                "geolocation": {
                    "country_name": country,
                    "country_code": code,
                    "region_name": region,
                    "city_name": city,
                    "dma": self._random.choice((0, 501, 602)),
                    "carrier_name": self._random.choice(("Vodafone", "")),
                    "isp_name": self._random.choice(("Telekom", "")),
                },
                "device_information": {
                    "platform_name": platform,
                    "os_version": os_version,
                    "device_type": device_type,
                    "model": model,
                    "brand": brand,
                    "browser_name": browser,
                    "language": language,
                },
            },
        }

    # --- conversions ------------------------------------------------------------------------------

    def _conversion(
        self, scope: Scope, visit: dict[str, Any], *, is_view_through: bool
    ) -> Iterator[Sent]:
        """Every version of a conversion of `visit`."""
        body = self._born(visit, is_view_through=is_view_through)
        life = self._random.choice(LIVES)
        hold_id, scrubs = self._id(), self._random.random() < 0.08
        for index, status in enumerate(life):
            changed: dict[str, Any] = {"version": index + 1, "status": status}
            if index == 0 or self._random.random() < 0.4:
                body |= {"revenue": self._money(), "sale_amount": self._money()}
            if life[0] == "on_hold":
                held = status if status in ("on_hold", "approved", "rejected") else "on_hold"
                changed["hold"] = {
                    "on_hold_conversion_id": hold_id,
                    "holding_period_end": body["conversion_unix_timestamp"] + 30 * DAY,
                    "status": held,
                }
            changed["is_scrub"] = scrubs and self._random.random() < 0.6
            yield Sent("conversions", scope, body | changed)

    def _born(self, visit: dict[str, Any], *, is_view_through: bool) -> dict[str, Any]:
        left_out = ("unix_timestamp", "is_unique", "error_code", "relationship", "revenue")
        body = {name: value for name, value in visit.items() if name not in left_out}
        place = visit["relationship"]["geolocation"]
        device = visit["relationship"]["device_information"]
        stamp = visit["unix_timestamp"]
        body |= {
            "conversion_id": self._id(),
            "conversion_unix_timestamp": min(stamp + self._random.randrange(DAY), self._now),
            "click_unix_timestamp": stamp,
            "is_event": self._random.random() < 0.3,
            "is_view_through": is_view_through,
            "is_redirect_traffic": self._random.random() < 0.1,
            "order_id": self._random.choice(TEXTS),
            "country": place["country_name"],
            "country_code": place["country_code"],
            "region": place["region_name"],
            "city": place["city_name"],
            "dma": place["dma"],
            "carrier": place["carrier_name"],
            "isp": place["isp_name"],
            "platform": device["platform_name"],
            "os_version": device["os_version"],
            "device_type": device["device_type"],
            "device_model": device["model"],
            "brand": device["brand"],
            "browser": device["browser_name"],
            "language": device["language"],
            "relationship": {"offer": visit["relationship"]["offer"]},
        }
        body["event"] = self._random.choice(("Purchase", "Lead")) if body["is_event"] else "Base"
        return body

    # --- chance -----------------------------------------------------------------------------------

    def _stamp(self) -> int:
        """Mostly of the last days; some around changes of the clocks, some of the whole year."""
        kind = self._random.random()
        if kind < 0.5:
            return self._now - self._random.randrange(3 * DAY)
        if kind < 0.7:
            return self._now - self._random.randrange(60 * DAY)
        if kind < 0.85 and self._edges:
            edge = self._random.choice(self._edges) + self._random.randrange(-DAY, DAY)
            return min(edge, self._now)
        return self._now - self._random.randrange(PAST_DAYS * DAY)

    def _id(self) -> str:
        self._number += 1
        return f"{self._random.getrandbits(96):024x}{self._number:08x}"

    def _money(self) -> Decimal:
        return Decimal(self._random.randrange(90_000_000)).scaleb(-6)

    def _rate(self) -> Decimal:
        return Decimal(self._random.randrange(10**7, 10**10)).scaleb(-10)

    def _disordered(self, values: list[Sent]) -> list[Sent]:
        """Late, repeated, and versions out of order."""
        repeated = self._random.choices(range(len(values)), k=len(values) // 9)
        placed = [(index, value) for index, value in enumerate(values)]
        placed += [(index, values[index]) for index in repeated]
        reach = (1 / 3, 1 / 3, 1 / 40, 1 / 800)
        late = [
            (index + self._random.expovariate(self._random.choice(reach)), value)
            for index, value in placed
        ]
        return [value for _, value in sorted(late, key=lambda pair: pair[0])]

    def _rates(self) -> Iterator[dict[str, Any]]:
        """A rate now and then, never eight days apart; some are told again, or corrected."""
        first = datetime.fromtimestamp(self._now - (PAST_DAYS + 9) * DAY, UTC).date()
        for network, rates in self.rates.items():
            for currency in CURRENCIES:
                day = 0
                while currency != rates.base and day < PAST_DAYS + 11:
                    rate = self._rate()
                    for version in self._random.choice(((1,), (1, 2), (1, 1))):
                        rate = self._rate() if version > 1 else rate
                        body = {
                            "network_id": network,
                            "version": version,
                            "base_currency_id": rates.base,
                            "currency_id": currency,
                            "date": (first + timedelta(days=day)).isoformat(),
                            "rate": f"{rate:f}",
                        }
                        rates.add(body)
                        yield body
                    day += self._random.randrange(1, 6)


def _clock_changes(now: int) -> list[int]:
    """When clocks changed in the year behind us, at Berlin's and New York's."""
    found = []
    for name in ("Europe/Berlin", "America/New_York"):
        zone = ZoneInfo(name)
        offsets = [
            (at, datetime.fromtimestamp(at, zone).utcoffset())
            for at in range(now - PAST_DAYS * DAY + 2 * DAY, now, 3_600)
        ]
        found += [at for (_, before), (at, after) in pairwise(offsets) if before != after]
    return found
