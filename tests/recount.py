"""What the reporting service must answer about a log, recounted by the contract in plain Python.

Nothing here comes from the service, and there is no SQL: records are dictionaries, amounts are
decimals, time zones are `zoneinfo`'s. One fact an id counts: of clicks and impressions the last in
the log, of conversions the highest version.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

Body = Mapping[str, Any]
Sums = dict[str, Decimal]
Scope = tuple[int, int]

DAY = 86_400
EMPTY = "N/A"
SUMS = (
    "imp",
    "unique_click",
    "duplicate_click",
    "invalid_click",
    "cv",
    "view_through_cv",
    "event",
    "revenue",
    "redirect_traffic_revenue",
    "on_hold_conversion_count",
    "on_hold_potential_revenue",
)
DAILY = ("imp", "total_click", "unique_click", "cv", "cvr", "revenue", "event")
TIMES = ("hour", "date", "week", "month", "year")
CARDS = {
    "revenue": "revenue",
    "click": "total_click",
    "conversion": "cv",
    "events": "event",
    "impression": "imp",
    "redirect_revenue": "redirect_traffic_revenue",
    "on_hold_potential_revenue": "on_hold_potential_revenue",
    "on_hold_conversion_count": "on_hold_conversion_count",
}

_PLACE = {"country": "country_name", "country_code": "country_code", "region": "region_name"}
_PLACE |= {"city": "city_name", "dma": "dma", "carrier": "carrier_name", "isp": "isp_name"}
_DEVICE = {"platform": "platform_name", "os_version": "os_version", "device_type": "device_type"}
_DEVICE |= {"device_model": "model", "device_make": "brand", "browser": "browser_name"}
_DEVICE |= {"language": "language"}
_FLAT = ("offer_url", "creative", "coupon_code", "tracking_domain", "connection_type", "referer")
_FLAT += ("sub1", "sub2", "sub3", "sub4", "sub5", "source_id")
DIMENSIONS = ("offer", "event_name", *_FLAT, *_PLACE, *_DEVICE)
"""Every column that is not a time."""


@dataclass(frozen=True)
class Sent:
    """One record of the log."""

    kind: str
    scope: Scope
    body: Body


@dataclass
class Rates:
    """What a unit of a currency is worth in a network's own, by UTC day: the highest version."""

    base: str
    known: dict[tuple[str, int], tuple[int, Decimal]] = field(default_factory=dict)

    def add(self, body: Body) -> None:
        """Take a record in, in any order."""
        day = (date.fromisoformat(body["date"]) - date(1970, 1, 1)).days
        held = self.known.get((body["currency_id"], day))
        if held is None or held[0] <= body["version"]:
            self.known[body["currency_id"], day] = body["version"], Decimal(body["rate"])

    def converted(self, amount: Decimal, currency: str, wanted: str, stamp: int) -> Decimal:
        """An amount of that second in another currency, exactly."""
        if currency == wanted or not amount:
            return amount
        with localcontext(prec=60):
            rate = self._worth(currency, stamp // DAY) / self._worth(wanted, stamp // DAY)
            return amount * rate.quantize(Decimal(1).scaleb(-10), ROUND_HALF_UP)

    def _worth(self, currency: str, day: int) -> Decimal:
        if currency == self.base:
            return Decimal(1)
        return next(
            self.known[currency, at][1]
            for at in range(day, day - 8, -1)
            if (currency, at) in self.known
        )


@dataclass
class Facts:
    """What stands of one partner, by id."""

    clicks: dict[str, Body] = field(default_factory=dict)
    impressions: dict[str, Body] = field(default_factory=dict)
    conversions: dict[str, Body] = field(default_factory=dict)
    versions: set[tuple[str, int]] = field(default_factory=set)
    """Every conversion and version that was ever told."""

    def add(self, sent: Sent) -> None:
        """Take the next record of the log in."""
        if sent.kind != "conversions":
            held = self.clicks if sent.kind == "clicks" else self.impressions
            held[sent.body["transaction_id"]] = sent.body
            return
        key, version = sent.body["conversion_id"], sent.body["version"]
        self.versions.add((key, version))
        if key not in self.conversions or version >= self.conversions[key]["version"]:
            self.conversions[key] = sent.body

    def counted(self, rates: Rates, currency: str) -> list["Counted"]:
        """What each fact adds to a report in `currency`."""
        parts = (
            ("clicks", self.clicks, _of_click),
            ("impressions", self.impressions, _of_impression),
            ("conversions", self.conversions, _of_conversion),
        )
        return [
            Counted(kind, body, stamp_of(body), sums)
            for kind, bodies, count in parts
            for body in bodies.values()
            if (sums := count(body, _priced(body, rates, currency))) is not None
        ]

    def listed(self, is_wanted: Callable[[Body], bool]) -> list[Body]:
        """Conversions in the order of the raw rows."""
        found = [body for body in self.conversions.values() if is_wanted(body)]
        return sorted(found, key=lambda body: (stamp_of(body), body["conversion_id"]))

    def newest_clicks(self, since: int, until: int) -> list[Body]:
        """Clicks of an interval, both ends included, newest first."""
        found = [body for body in self.clicks.values() if since <= stamp_of(body) <= until]
        return sorted(
            found, key=lambda body: (stamp_of(body), body["transaction_id"]), reverse=True
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """One fact, and what it adds to the row that it belongs to."""

    kind: str
    body: Body
    stamp: int
    sums: Sums


def is_listed(body: Body) -> bool:
    """Whether a conversion is shown among the raw ones."""
    return body["status"] == "approved" and not body["is_scrub"]


def stamp_of(body: Body) -> int:
    """When a fact happened."""
    return int(body["conversion_unix_timestamp" if "version" in body else "unix_timestamp"])


def total(counted: Iterable[Counted]) -> Sums:
    """The sums of all."""
    found = dict.fromkeys(SUMS, Decimal(0))
    for each in counted:
        for name, value in each.sums.items():
            found[name] += value
    return found


def grouped(
    counted: Iterable[Counted], columns: Sequence[str], zone: ZoneInfo
) -> dict[tuple[str, ...], Sums]:
    """The sums of each row of a report, by the ids of its columns."""
    rows: dict[tuple[str, ...], Sums] = defaultdict(lambda: dict.fromkeys(SUMS, Decimal(0)))
    for each in counted:
        row = rows[tuple(cell(each, column, zone) for column in columns)]
        for name, value in each.sums.items():
            row[name] += value
    return rows


def cell(fact: Counted, column: str, zone: ZoneInfo) -> str:
    """The id that a row shows of a column."""
    if column in TIMES:
        return _time(datetime.fromtimestamp(fact.stamp, zone), column, zone)
    found = _value(fact, column)
    return str(found) if found else EMPTY


def measured(sums: Sums) -> Sums:
    """The whole `reporting` member of a row."""
    whole = sums | {"total_click": sums["unique_click"] + sums["duplicate_click"]}
    return whole | {
        "ctr": _ratio(whole["total_click"] * 100, whole["imp"], 3),
        "cvr": _ratio(whole["cv"] * 100, whole["total_click"], 3),
        "evr": _ratio(whole["event"] * 100, whole["cv"], 3),
        "rpc": _ratio(whole["revenue"], whole["total_click"], 2),
        "rpm": _ratio(whole["revenue"] * 1000, whole["imp"], 3),
    }


def day_start(day: date, zone: ZoneInfo) -> int:
    """The first second of a day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def hour_start(stamp: int, zone: ZoneInfo) -> int:
    """The first second of the hour that a moment is in, on a day without a change of clocks."""
    local = datetime.fromtimestamp(stamp, zone)
    return stamp - local.minute * 60 - local.second


def cards(counted: Sequence[Counted], now: int, zone: ZoneInfo) -> dict[str, Any]:
    """The dashboard's cards at this second."""
    local = datetime.fromtimestamp(now, zone)
    today, yesterday = local.date(), local.date() - timedelta(days=1)
    month = today.replace(day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    begin = day_start(today, zone)
    same_time = int(datetime.combine(yesterday, local.time(), zone).timestamp())
    ranges = {
        "today": (begin, now),
        "yesterday": (day_start(yesterday, zone), begin - 1),
        "current_month": (day_start(month, zone), now),
        "last_month": (day_start(last_month, zone), day_start(month, zone) - 1),
    }
    before = _within(counted, ranges["yesterday"][0], min(same_time, begin - 1))
    periods = {name: _within(counted, *bounds) for name, bounds in ranges.items()}
    found: dict[str, Any] = {
        card: {name: sums[metric] for name, sums in periods.items()}
        | {"trending_percentage": _trend(periods["today"][metric], before[metric])}
        for card, metric in CARDS.items()
    }
    ratios = ("cvr", "evr")
    return found | {card: {name: sums[card] for name, sums in periods.items()} for card in ratios}


def _within(counted: Iterable[Counted], since: int, until: int) -> Sums:
    return measured(total(each for each in counted if since <= each.stamp <= until))


def _trend(value: Decimal, earlier: Decimal) -> Decimal:
    if not earlier:
        return Decimal(100 if value else 0)
    return _ratio((value - earlier) * 100, earlier, 1)


def _ratio(above: Decimal, below: Decimal, places: int) -> Decimal:
    with localcontext(prec=60):
        exact = above / below if below else Decimal(0)
        return exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _priced(body: Body, rates: Rates, currency: str) -> Decimal:
    return rates.converted(body["revenue"], body["currency_id"], currency, stamp_of(body))


def _of_click(body: Body, amount: Decimal) -> Sums:
    if body["error_code"]:
        return {"invalid_click": Decimal(1)}
    unique = "unique_click" if body["is_unique"] else "duplicate_click"
    return {unique: Decimal(1)} | _earned(body, amount)


def _of_impression(body: Body, amount: Decimal) -> Sums:
    return {"imp": Decimal(1)} | _earned(body, amount)


def _of_conversion(body: Body, amount: Decimal) -> Sums | None:
    """None if no report has it; one that counts for nothing is in a row of zeros."""
    if body["is_scrub"]:
        return None
    if body["status"] == "on_hold":
        return {"on_hold_conversion_count": Decimal(1), "on_hold_potential_revenue": amount}
    if body["status"] != "approved":
        return {}
    kind = "event" if body["is_event"] else "view_through_cv" if body["is_view_through"] else "cv"
    return {kind: Decimal(1)} | _earned(body, amount)


def _earned(body: Body, amount: Decimal) -> Sums:
    redirected = amount if body.get("is_redirect_traffic") else Decimal(0)
    return {"revenue": amount, "redirect_traffic_revenue": redirected}


def _time(local: datetime, column: str, zone: ZoneInfo) -> str:
    day = local.date()
    if column == "hour":
        return str(local.hour)
    if column == "week":
        day -= timedelta(days=day.weekday())
    elif column == "month":
        day = day.replace(day=1)
    elif column == "year":
        day = day.replace(month=1, day=1)
    return str(day_start(day, zone))


def _value(fact: Counted, column: str) -> Any:
    """What a fact says of a column; traffic keeps place and device in related objects."""
    body = fact.body
    if column == "offer":
        return body["relationship"]["offer"]["network_offer_id"]
    if column in _FLAT:
        return body.get(column)
    if fact.kind == "conversions":
        names = {"event_name": "event", "device_make": "brand"}
        return body.get(names.get(column, column))
    if column in _PLACE:
        return body["relationship"]["geolocation"].get(_PLACE[column])
    if column in _DEVICE:
        return body["relationship"]["device_information"].get(_DEVICE[column])
    return None
