"""What a partner has, marked so that it is known wherever it shows, and how to call every route.

A route of reporting is called by its row in `PROBES`: the requests that name what an owner has, by
path, query, filter, search and column. A new route needs a row here, and nothing else.
"""

import hashlib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from services.reporting.facts.columns import COLUMNS
from shared import events, topics
from shared.topics import Topic

DAY = 86_400
Query = Mapping[str, Any]


@dataclass(frozen=True)
class Owner:
    """A partner, and what is theirs.

    Attributes:
        network_id: the network.
        partner_id: the partner.
        mark: in every text of theirs.
        amount: what they earned, which nobody else did.
        now: seconds, UTC; their facts are of three days before.
    """

    network_id: int
    partner_id: int
    mark: str
    amount: float
    now: int

    @property
    def asker(self) -> dict[str, int]:
        """As the caller of a request."""
        return {"network": self.network_id, "partner": self.partner_id}

    @property
    def offer_id(self) -> int:
        """A private offer that is shown to them alone."""
        return 1_000 + self.partner_id

    @property
    def url_id(self) -> int:
        """A destination of that offer."""
        return 10 * self.offer_id

    def hex_id(self, what: str) -> str:
        """The id of a transaction, a conversion or a hold of theirs."""
        return hashlib.md5(f"{self.network_id}/{self.partner_id}/{what}".encode()).hexdigest()

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that stand in nobody else's answers."""
        ids = ("click", "refused", "conversion", "event", "held", "hold", "impression")
        return (self.mark, str(self.amount), *map(self.hex_id, ids))

    def filled(self, shape: type[Any], **known: Any) -> dict[str, Any]:
        """A `shape` whose every free text has the mark, and the members that are known."""
        texts = {
            member.name: f"{self.mark}-{member.encode_name}"
            for member in msgspec.structs.fields(shape)
            if typing.get_origin(member.type) is typing.Annotated
            and typing.get_args(member.type) in map(typing.get_args, _FREE)
        }
        return texts | known


_FREE = (events.Text, events.LongText, events.Document)


def things(owner: Owner) -> Iterator[tuple[Topic, str, dict[str, Any]]]:
    """What the network's platform says about a partner: topic, key, value."""
    network_id, partner_id, offer_id = owner.network_id, owner.partner_id, owner.offer_id
    ids = {"network_id": network_id, "network_affiliate_id": partner_id, "version": 1}
    offer_ids = {"network_id": network_id, "network_offer_id": offer_id, "version": 1}
    url = {"network_offer_url_id": owner.url_id, "name": f"{owner.mark}-url"}
    paid = {"network_offer_payout_revenue_id": 1, "payout_amount": owner.amount}
    partner = owner.filled(events.PartnerProfile, **ids)
    yield topics.NETWORK_PARTNERS, f"{network_id}:{partner_id}", partner
    offer = owner.filled(
        events.Offer, **offer_ids, visibility="private", urls=[url], payouts=[paid]
    )
    yield topics.NETWORK_OFFERS, f"{network_id}:{offer_id}", offer
    terms = owner.filled(
        events.OfferPartner, **ids, network_offer_id=offer_id, visibility="visible"
    )
    yield topics.NETWORK_OFFER_PARTNERS, f"{network_id}:{offer_id}:{partner_id}", terms
    earned = {"amount": owner.amount, "currency_id": "USD", "unix_timestamp": owner.now - 3 * DAY}
    referral = owner.filled(
        events.Referral,
        **ids,
        **earned,
        referral_history_id=offer_id,
        referred_network_affiliate_id=7,
    )
    yield topics.NETWORK_REFERRALS, f"{network_id}:{offer_id}", referral


def facts(owner: Owner) -> Iterator[tuple[Topic, dict[str, Any]]]:
    """Two clicks, an impression, a conversion, an event and a held conversion."""
    yield topics.CLICKS, _traffic(owner, events.Click, "click", is_unique=1)
    yield topics.CLICKS, _traffic(owner, events.Click, "refused", is_unique=0, error_code=9)
    yield topics.IMPRESSIONS, _traffic(owner, events.Impression, "impression")
    yield topics.CONVERSIONS, _conversion(owner, "conversion", revenue=owner.amount)
    yield topics.CONVERSIONS, _conversion(owner, "event", is_event=True)
    hold = {
        "on_hold_conversion_id": owner.hex_id("hold"),
        "holding_period_end": owner.now + DAY,
        "status": "on_hold",
    }
    yield topics.CONVERSIONS, _conversion(owner, "held", status="on_hold", hold=hold)


def _tracked(owner: Owner, shape: type[Any], transaction: str) -> dict[str, Any]:
    return owner.filled(
        shape,
        network_id=owner.network_id,
        network_affiliate_id=owner.partner_id,
        transaction_id=owner.hex_id(transaction),
        currency_id="USD",
    )


def _offer(owner: Owner) -> dict[str, Any]:
    ids = {"network_offer_id": owner.offer_id, "network_id": owner.network_id}
    return owner.filled(events.OfferReference, **ids)


def _traffic(owner: Owner, shape: type[Any], transaction: str, **more: Any) -> dict[str, Any]:
    related = {
        "offer": _offer(owner),
        "geolocation": owner.filled(events.Geolocation, dma=owner.offer_id),
        "device_information": owner.filled(events.DeviceInformation),
        "query_parameters": {"mark": owner.mark},
    }
    stamp = owner.now - 3 * DAY
    body = _tracked(owner, shape, transaction)
    return body | {"unix_timestamp": stamp, "relationship": related} | more


def _conversion(owner: Owner, what: str, **more: Any) -> dict[str, Any]:
    return (
        _tracked(owner, events.Conversion, "click")
        | {
            "conversion_id": owner.hex_id(what),
            "version": 1,
            "status": "approved",
            "conversion_unix_timestamp": owner.now - 3 * DAY + 60,
            "click_unix_timestamp": owner.now - 3 * DAY,
            "dma": owner.offer_id,
            "relationship": {"offer": _offer(owner)},
        }
        | more
    )


# --- how every route is called --------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One request: what stands in the path's braces, the query string, the body."""

    path: Mapping[str, Any] = field(default_factory=dict)
    query: Query = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Probe:
    """How a route is called.

    Attributes:
        asks: requests that name what an owner has.
        shows: whether the owner sees something of theirs in answer to one of them.
        cursor: the query parameter that goes on behind a page, if the route has one.
        volatile: members of answers that move without anything having changed.
    """

    asks: Callable[[Owner], Sequence[Ask]]
    shows: bool = True
    cursor: Literal["", "cursor"] = ""
    volatile: frozenset[str] = frozenset()


def _body(owner: Owner, **more: Any) -> dict[str, Any]:
    """A body that takes in everything, with whatever some route over facts needs."""
    day = owner.now // DAY * DAY

    def date(days: int) -> str:
        return events.rfc3339(day + days * DAY)[:10]

    return {
        "from": date(-7),
        "to": date(1),
        "timezone_id": 67,
        "currency_id": "USD",
        "show_conversions": True,
        "show_events": True,
    } | more


def job(owner: Owner) -> dict[str, Any]:
    """The body of an export of all clicks."""
    return _body(owner, kind="clicks", format="ndjson")


def _filters(owner: Owner) -> list[dict[str, Any]]:
    """A filter by each thing that the owner has."""
    values = {
        "offer": owner.offer_id,
        "transaction_id": owner.hex_id("click"),
        "sub1": f"{owner.mark}-sub1",
    }
    return [{"resource_type": name, "filter_id_value": value} for name, value in values.items()]


def _asked_by_filters(owner: Owner, **more: Any) -> list[Ask]:
    """Everything, then what is the owner's by each filter, then everything but that."""
    queries = [{}, *({"filters": [one]} for one in _filters(owner))]
    queries.append({"exclusions": _filters(owner)[:1]})
    return [Ask(body=_body(owner, query=query, **more)) for query in queries]


def _pivots(owner: Owner) -> list[Ask]:
    """Every column, then every filter."""
    names = [name for name, column in COLUMNS.items() if not column.time]
    times = [name for name, column in COLUMNS.items() if column.time]
    groups = [[*names[i : i + 9], times[i % len(times)]] for i in range(0, len(names), 9)]
    asks = [Ask(body=_body(owner, columns=[{"column": name} for name in one])) for one in groups]
    return asks + _asked_by_filters(owner, columns=_BY_SUB)


def _by_id(name: str, *whats: str) -> Probe:
    return Probe(lambda owner: [Ask({name: owner.hex_id(what)}) for what in whats])


def _offers(owner: Owner) -> list[Ask]:
    """The list, then the owner's offer by search and by each kind of filter."""
    return [
        Ask(query=query)
        for query in (
            {},
            {"page_size": -1, "relationship": "all"},
            {"search": f"{owner.mark}-name"},
            {"search": owner.offer_id},
            {"filter": f"network_offer_id={owner.offer_id}"},
            {"filter": f"name={owner.mark}-name"},
            {"filter": "visibility=private"},
        )
    ]


def _account(owner: Owner) -> list[Ask]:
    """Also with somebody's ids, which no route of the account takes."""
    ids = {"network_affiliate_id": owner.partner_id, "network_id": owner.network_id}
    return [Ask(), Ask(query={"relationship": "all"}), Ask(query=ids)]


_OFFER = Probe(lambda owner: [Ask({"offer_id": owner.offer_id})])
_LINK = Probe(
    lambda owner: [Ask({"offer_id": owner.offer_id, "url_id": i}) for i in (0, owner.url_id)]
)
_ROWS = Probe(_asked_by_filters, cursor="cursor")
_CHANGES = Probe(
    lambda _: [Ask(), Ask(query={"page_size": 1})],
    cursor="cursor",
    volatile=frozenset({"next_cursor"}),
)
_PIVOT = Probe(lambda owner: _pivots(owner)[:1] + _asked_by_filters(owner, columns=_BY_SUB)[:2])
_WHOLE = Probe(lambda owner: [Ask(body=_body(owner, query={}))])
_UNFILTERED = Probe(_asked_by_filters)
_SUBS = Probe(
    lambda owner: (
        [Ask({"sub_id": f"sub{i}"}, body=_body(owner, query={})) for i in (1, 5)]
        + [Ask({"sub_id": i}, body=_body(owner, query={})) for i in (1, 5)]
    )
)
_BY_SUB = [{"column": "offer"}, {"column": "sub1"}]
_DASHBOARD = Probe(
    lambda owner: [Ask(body=_body(owner, query={}))],
    volatile=frozenset({"trending_percentage"}),
)
_TRENDING = Probe(
    lambda owner: [Ask({"offer_id": owner.offer_id}, body=_body(owner, query={}))], shows=False
)
"""Of yesterday and today, when nobody had facts."""
_NAMES = Probe(lambda _: [Ask()])
_WORLD = Probe(lambda _: [Ask()], shows=False, volatile=frozenset({"utc_offset"}))

_JOBS = "/v1/affiliates/reporting/exports"
JOBS = frozenset(
    {
        ("POST", _JOBS),
        ("GET", _JOBS),
        ("GET", f"{_JOBS}/{{export_id}}"),
        ("DELETE", f"{_JOBS}/{{export_id}}"),
        ("GET", f"{_JOBS}/{{export_id}}/download"),
    }
)
"""Routes of jobs: there is nothing to ask for until an owner has made one."""

PROBES: Mapping[tuple[str, str], Probe] = {
    ("POST", "/v1/affiliates/reporting/entity/table"): Probe(_pivots),
    ("POST", "/v1/affiliates/reporting/entity"): _PIVOT,
    ("POST", "/v1/affiliates/reporting/entity/table/export"): _PIVOT,
    ("POST", "/v1/affiliates/reporting/entity/stream"): _PIVOT,
    ("POST", "/v1/affiliates/reporting/daily"): _WHOLE,
    ("POST", "/v1/affiliates/reporting/offer"): _WHOLE,
    ("POST", "/v1/affiliates/reporting/referrals"): _WHOLE,
    ("POST", "/v1/affiliates/reporting/sub/{sub_id}"): _SUBS,
    ("POST", "/v1/affiliates/reporting/conversions"): _ROWS,
    ("POST", "/v1/affiliates/reporting/conversions/export"): _UNFILTERED,
    ("GET", "/v1/affiliates/reporting/conversions/{conversion_id}"): _by_id(
        "conversion_id", "conversion", "event"
    ),
    ("POST", "/v1/affiliates/reporting/postconversions"): _UNFILTERED,
    ("POST", "/v1/affiliates/reporting/onhold"): _UNFILTERED,
    ("GET", "/v1/affiliates/reporting/onhold/{hold_id}"): _by_id("hold_id", "hold"),
    ("POST", "/v1/affiliates/reporting/clicks"): _UNFILTERED,
    ("POST", "/v1/affiliates/reporting/clicks/stream"): _UNFILTERED,
    ("GET", "/v1/affiliates/reporting/clicks/{transaction_id}"): _by_id(
        "transaction_id", "click", "refused"
    ),
    ("GET", "/v1/affiliates/reporting/changes"): _CHANGES,
    ("POST", "/v1/affiliates/dashboard/summary"): _DASHBOARD,
    ("POST", "/v1/affiliates/dashboard/performance"): _DASHBOARD,
    ("POST", "/v1/affiliates/dashboard/trending/offers"): _TRENDING,
    ("POST", "/v1/affiliates/dashboard/trending/offers/{offer_id}"): _TRENDING,
    ("GET", "/v1/affiliates/offersrunnable"): Probe(_offers),
    ("GET", "/v1/affiliates/alloffers"): Probe(_offers),
    ("GET", "/v1/affiliates/offers"): Probe(_offers),
    ("GET", "/v1/affiliates/offers/{offer_id}"): _OFFER,
    ("GET", "/v1/affiliates/offers/{offer_id}/url/{url_id}"): _LINK,
    ("GET", "/v1/affiliates/offers/{offer_id}/impressionurl/{url_id}"): _LINK,
    ("GET", "/v1/affiliates/affiliate"): Probe(_account),
    ("GET", "/v1/affiliates/settings"): Probe(_account, shows=False),
    ("GET", "/v1/affiliates/network"): Probe(_account, shows=False),
    ("GET", "/v1/meta/timezones"): _WORLD,
    ("GET", "/v1/meta/countries"): _WORLD,
    ("GET", "/v1/meta/currencies"): _WORLD,
    ("GET", "/v1/meta/browserlanguages"): _WORLD,
    ("GET", "/v1/meta/regions"): _NAMES,
    ("GET", "/v1/meta/cities"): _NAMES,
    ("GET", "/v1/meta/dmas"): _NAMES,
    ("GET", "/v1/meta/mobilecarriers"): _NAMES,
    ("GET", "/v1/meta/browsers"): _NAMES,
    ("GET", "/v1/meta/platforms"): _NAMES,
    ("GET", "/v1/meta/osversions"): _NAMES,
    ("GET", "/v1/meta/devices"): _NAMES,
    ("GET", "/v1/meta/connectiontypes"): _NAMES,
}
