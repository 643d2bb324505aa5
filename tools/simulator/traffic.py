"""What happens: clicks, impressions, and what becomes of them.

Pure: a story (one click or impression with all its consequences) is decided by the seed, the
ledger's birth and the story's number alone, so stories may be made in any order and after any
crash without meeting one another's ids. An item of a story is an event and the moment at which it
reaches the log: late records come after their own time, and a few come twice.
"""

import hashlib
import heapq
import random
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Generic, TypeVar

import msgspec

from shared.clock import utc
from shared.events import (
    Click,
    Conversion,
    ConversionRelationship,
    ConversionStatus,
    Geolocation,
    Hold,
    Impression,
    OfferPayout,
    Tracked,
    TrafficRelationship,
)
from tools.simulator import visitors
from tools.simulator.cast import Cast, Placement, micros, money, placements
from tools.simulator.visitors import Device

HOUR: Final = 3_600
T = TypeVar("T")

_CURVE: Final = tuple(
    percent / 100
    for percent in (
        *(52, 41, 34, 31, 33, 42, 60, 83, 102, 113, 119, 124),
        *(127, 123, 118, 117, 121, 130, 142, 155, 160, 145, 119, 85),
    )
)
_WEEK: Final = (1.05, 1.06, 1.04, 1.03, 1.00, 0.88, 0.94)

_IMPRESSIONS: Final = 0.2
_INVALID: Final = 0.04
_DUPLICATE_CLICK: Final = 0.09
_REDIRECTED: Final = 0.01
_CONVERTS: Final = 0.09
_VIEW_CONVERTS: Final = 0.01
_HAS_EVENT: Final = 0.35
_LATE: Final = 0.02
_TWICE: Final = 0.004
_SALE: Final = (9_990_000, 480_000_000)


@dataclass(frozen=True, slots=True)
class Item:
    """One record to send: the event, when, and whether it repeats one sent before."""

    due_at: float
    event: Tracked
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    after_hours: float
    status: ConversionStatus
    percent: int = 100


@dataclass(frozen=True, slots=True)
class _Fate:
    """How a conversion starts and what is decided about it later."""

    first: ConversionStatus
    changes: tuple[_Change, ...] = ()


_FATES: Final = {
    _Fate("approved"): 66,
    _Fate("pending", (_Change(9, "approved"),)): 12,
    _Fate("pending", (_Change(14, "rejected"),)): 4,
    _Fate("approved", (_Change(20, "rejected"),)): 4,
    _Fate("approved", (_Change(6, "approved", 90),)): 3,
    _Fate("on_hold", (_Change(24, "approved"),)): 5,
    _Fate("on_hold", (_Change(30, "rejected"),)): 2,
    _Fate("on_hold"): 1,
    _Fate("invalid"): 3,
}


class Weighted(Generic[T]):
    """Things to choose from, each as often as its weight says."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._things = tuple(weights)
        self._bounds = tuple(accumulate(weights.values()))

    def choose(self, dice: random.Random) -> T:
        """One of the things."""
        aim = dice.random() * self._bounds[-1]
        return self._things[bisect(self._bounds, aim, 0, len(self._things) - 1)]


_PLACES: Final = Weighted(visitors.PLACES)
_DEVICES: Final = Weighted(visitors.DEVICES)
_PAGES: Final = Weighted(visitors.PAGES)
_CHANNELS: Final = Weighted(visitors.CHANNELS)
_REFUSALS: Final = Weighted(visitors.REFUSALS)
_FATE_OF: Final = Weighted(_FATES)


@dataclass(frozen=True, slots=True)
class _Visit:
    """What a click or an impression hands on to its conversions."""

    placement: Placement
    place: Geolocation
    device: Device
    address: str
    page: str


class Traffic:
    """The stories of one seed and one ledger."""

    def __init__(self, cast: Cast, seed: int, born_at: int) -> None:
        self._salt = f"{seed}/{born_at}"
        found = placements(cast)
        self._everybody = Weighted({placement: placement.weight for placement in found})
        self._of_partner = {
            partner.network_affiliate_id: Weighted(
                {placement: placement.weight for placement in found if placement.partner == partner}
            )
            for partner in {placement.partner for placement in found}
        }

    @property
    def partners(self) -> frozenset[int]:
        """The partners that have traffic."""
        return frozenset(self._of_partner)

    def story(
        self, number: int, at: float, *, compression: float = 1.0, partner: int | None = None
    ) -> list[Item]:
        """All that comes of story `number`, in no order of time.

        Args:
            number: unlike that of any other story.
            at: when the visitor comes, seconds UTC.
            compression: how many times faster than usual the consequences follow.
            partner: only traffic of this one.
        """
        teller = _Teller(f"{self._salt}/{number}", at, compression)
        choice = self._everybody if partner is None else self._of_partner[partner]
        return list(teller.tell(choice.choose(teller.dice)))


class _Teller:
    """Makes one story; its dice are its own."""

    def __init__(self, salt: str, at: float, compression: float) -> None:
        self.dice = random.Random(salt)  # noqa: S311 - a repeatable story, no secret
        self._salt = salt
        self._at = at
        self._compression = compression

    def tell(self, placement: Placement) -> Iterator[Item]:
        visit = _Visit(
            placement,
            _PLACES.choose(self.dice),
            _DEVICES.choose(self.dice),
            f"203.0.113.{self.dice.randrange(1, 255)}",
            _PAGES.choose(self.dice),
        )
        shown = self._chance(_IMPRESSIONS)
        seen: Click | Impression = self._impression(visit) if shown else self._click(visit)
        yield from self._sent(self._at, seen)
        if placement.payouts[0].payout_type != "cpc" and self._converts(seen):
            yield from self._conversions(visit, seen)

    def _chance(self, share: float) -> bool:
        return self.dice.random() < share

    def _id(self, what: str) -> str:
        return hashlib.blake2b(f"{self._salt}/{what}".encode(), digest_size=16).hexdigest()

    def _converts(self, seen: Click | Impression) -> bool:
        if isinstance(seen, Impression):
            return self._chance(_VIEW_CONVERTS)
        return seen.error_code == 0 and self._chance(_CONVERTS)

    def _sent(self, at: float, event: Tracked) -> Iterator[Item]:
        """When a record reaches the log: mostly at once, some late, a few twice."""
        due = at
        if self._chance(_LATE):
            due += self.dice.uniform(0.05, 3) * HOUR / self._compression
        yield Item(due, event)
        if self._chance(_TWICE):
            yield Item(due + self.dice.uniform(1, 30), event, is_copy=True)

    def _click(self, visit: _Visit) -> Click:
        code, reason = _REFUSALS.choose(self.dice) if self._chance(_INVALID) else (0, "N/A")
        base = visit.placement.payouts[0]
        earns = base.payout_amount if base.payout_type == "cpc" and code == 0 else 0.0
        return Click(
            **self._traffic(visit),
            revenue=earns,
            is_unique=0 if code or self._chance(_DUPLICATE_CLICK) else 1,
            error_code=code,
            error_message=reason,
            is_redirect_traffic=code == 0 and self._chance(_REDIRECTED),
        )

    def _impression(self, visit: _Visit) -> Impression:
        return Impression(**self._traffic(visit))

    def _traffic(self, visit: _Visit) -> dict[str, Any]:
        placement = visit.placement
        channel, campaign = _CHANNELS.choose(self.dice), self.dice.randrange(1, 40)
        tags = {"sub2": f"campaign-{campaign}"}
        if channel:
            tags["sub1"] = channel
        if self._chance(0.5):
            tags["sub3"] = f"ad-{self.dice.randrange(1, 400)}"
        asked = {
            "oid": str(placement.offer.network_offer_id),
            "affid": str(placement.partner.network_affiliate_id),
        }
        return {
            **tags,
            **_identity(placement),
            "transaction_id": self._id("visit"),
            "unix_timestamp": int(self._at),
            "source_id": f"src-{self.dice.randrange(1, 25)}",
            "tracking_url": placement.domain,
            "referer": visit.page,
            "user_ip": visit.address,
            "creative": f"banner-{campaign % 5}" if channel == "display" else "",
            "relationship": TrafficRelationship(
                offer=placement.reference,
                geolocation=visit.place,
                device_information=visit.device.information,
                query_parameters=asked | tags,
            ),
        }

    def _conversions(self, visit: _Visit, seen: Click | Impression) -> Iterator[Item]:
        """The base conversion and perhaps an event, each with what is decided about it."""
        base, *events = visit.placement.payouts
        delay = self.dice.lognormvariate(0, 1.1) * 0.6 * HOUR / self._compression
        yield from self._decided(self._conversion(visit, seen, base, self._at + delay))
        if events and self._chance(_HAS_EVENT):
            later = self._at + delay * self.dice.uniform(1.2, 6)
            yield from self._decided(self._conversion(visit, seen, events[0], later))

    def _conversion(
        self, visit: _Visit, seen: Click | Impression, payout: OfferPayout, at: float
    ) -> Conversion:
        sale = self.dice.randrange(*_SALE, 10_000) if payout.payout_type == "cps" else 0
        identifier = self._id(payout.entry_name)
        place, device = visit.place, visit.device.information
        return Conversion(
            **_identity(visit.placement),
            **{name: getattr(seen, name) for name in _INHERITED},
            conversion_id=identifier,
            version=1,
            status="pending",
            conversion_unix_timestamp=int(at),
            click_unix_timestamp=seen.unix_timestamp,
            revenue=_earned(payout, sale),
            sale_amount=money(sale),
            is_event=not payout.is_default,
            event=payout.entry_name,
            is_view_through=isinstance(seen, Impression),
            is_redirect_traffic=isinstance(seen, Click) and seen.is_redirect_traffic,
            order_id=f"ord-{identifier[:10]}" if sale else "",
            session_user_ip=visit.address,
            conversion_user_ip=visit.address,
            http_user_agent=visit.device.user_agent,
            referer=visit.page,
            country=place.country_name,
            country_code=place.country_code,
            region=place.region_name,
            city=place.city_name,
            dma=place.dma,
            carrier=place.carrier_name,
            isp=place.isp_name,
            platform=device.platform_name,
            os_version=device.os_version,
            device_type=device.device_type,
            device_model=device.model,
            brand=device.brand,
            browser=device.browser_name,
            language=device.language,
            relationship=ConversionRelationship(offer=visit.placement.reference),
        )

    def _decided(self, conversion: Conversion) -> Iterator[Item]:
        """The conversion as it starts, and again after each decision."""
        fate = _FATE_OF.choose(self.dice)
        at = float(conversion.conversion_unix_timestamp)
        end = int(at + sum(change.after_hours for change in fate.changes) * HOUR)
        current = _turned(conversion, fate.first, end, version=1)
        yield from self._sent(at, current)
        for version, change in enumerate(fate.changes, start=2):
            at += change.after_hours * self.dice.uniform(0.3, 1.7) * HOUR / self._compression
            cut = money(micros(current.revenue) * change.percent // 100)
            current = _turned(current, change.status, end, version=version)
            current = msgspec.structs.replace(current, revenue=cut)
            yield from self._sent(at, current)


_INHERITED: Final = (
    *("transaction_id", "sub1", "sub2", "sub3", "sub4", "sub5", "source_id"),
    *("coupon_code", "creative", "offer_url", "connection_type"),
)


def _turned(
    conversion: Conversion, status: ConversionStatus, holding_end: int, *, version: int
) -> Conversion:
    hold = conversion.hold
    if status == "on_hold":
        held = conversion.conversion_id[::-1]
        hold = Hold(on_hold_conversion_id=held, holding_period_end=holding_end, status="on_hold")
    elif hold is not None and status in ("approved", "rejected"):
        hold = msgspec.structs.replace(hold, status=status)
    return msgspec.structs.replace(conversion, version=version, status=status, hold=hold)


def _earned(payout: OfferPayout, sale_micros: int) -> float:
    if payout.payout_type == "cps":
        return money(sale_micros * micros(payout.payout_percentage) // 100_000_000)
    return payout.payout_amount


def _identity(placement: Placement) -> dict[str, Any]:
    return {
        "network_id": placement.partner.network_id,
        "network_affiliate_id": placement.partner.network_affiliate_id,
        "revenue_type": placement.payouts[0].payout_type.upper(),
        "currency_id": placement.offer.currency_id,
        "tracking_domain": placement.domain,
    }


def intensity(at: float) -> float:
    """How busy the moment is beside the average one, by hour of day and day of week (UTC)."""
    moment = utc(at)
    return _CURVE[moment.hour] * _WEEK[moment.weekday()]


def history_times(start: float, end: float, visits: int) -> Iterator[float]:
    """When the visitors of the past came: `visits` moments within [start, end), ascending.

    They are spread by `intensity`, evenly within an hour.
    """
    hours = [start + HOUR * index for index in range(max(1, round((end - start) / HOUR)))]
    edges = list(accumulate(intensity(hour) for hour in hours))
    sent = 0
    for hour, edge in zip(hours, edges, strict=True):
        upto = round(visits * edge / edges[-1])
        share = upto - sent
        yield from (hour + HOUR * (index + 0.5) / share for index in range(share))
        sent = upto


def history(traffic: Traffic, start: float, end: float, clicks: int) -> Iterator[Item]:
    """Everything that came of the visits within [start, end), in the order of its due times.

    Includes what becomes due after `end`. Holds only what is still to come at a time. Stories are
    numbered from 0; `history_stories` says how many there are.
    """
    waiting: list[tuple[float, int, Item]] = []
    entered = 0
    for number, at in enumerate(history_times(start, end, history_stories(clicks))):
        while waiting and waiting[0][0] <= at:
            yield heapq.heappop(waiting)[2]
        for item in traffic.story(number, at):
            heapq.heappush(waiting, (item.due_at, entered, item))
            entered += 1
    while waiting:
        yield heapq.heappop(waiting)[2]


def history_stories(clicks: int) -> int:
    """How many visits have about `clicks` clicks among them."""
    return round(clicks / (1 - _IMPRESSIONS))
