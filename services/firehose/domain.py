"""What a client may ask for and what that means: parameters, filters, reasons. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import parse_qs

import msgspec

from shared.access import Refusal
from shared.cursor import Cursor
from shared.errors import InvalidError
from shared.tail import EARLIEST, LATEST, Since, Start

EVENT_NAMES: Final = {"clicks": "click", "conversions": "conversion", "impressions": "impression"}
"""How the stream names one event of a type."""

Format = Literal["sse", "ndjson"]
Coding = Literal["identity", "gzip", "zstd"]

Reason = Literal[
    "revoked",
    "expired",
    "not_yet_valid",
    "allowlist",
    "suspended",
    "firehose_off",
    "stale",
    "slow",
    "gone",
    "unavailable",
    "draining",
    "client",
]
"""Why a stream ended, as partners and the audit trail read it (the README explains each)."""

ACCESS_REASONS: Final[frozenset[Reason]] = frozenset(
    ("revoked", "expired", "not_yet_valid", "allowlist", "suspended", "firehose_off", "stale")
)

PARAMETERS: Final = ("types", "cursor", "since", "start", "offers", "events", "statuses")
STATUSES: Final = frozenset(("approved", "pending", "rejected", "invalid", "on_hold"))
FIELDS_MAX: Final = 100
LATEST_SECONDS: Final = 1e11
"""The latest time that `since` may name: the year 5138."""
VALUES_MAX: Final = 200
"""Values one filter may list."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a stream carries; an empty set lets all pass.

    `offers` holds for every type; `events` and `statuses` hold for conversions alone, since clicks
    and impressions have neither.
    """

    offers: frozenset[int] = frozenset()
    events: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether everything passes, so that nothing needs to be decoded."""
        return not (self.offers or self.events or self.statuses)

    def passes(self, type_name: str, value: bytes) -> bool:
        """Whether the event in `value`, already checked against its schema, is wanted."""
        if self.is_open:
            return True
        seen = _SEEN.decode(value)
        if self.offers and seen.relationship.offer.network_offer_id not in self.offers:
            return False
        if type_name != "conversions":
            return True
        is_wanted_event = not self.events or seen.event in self.events
        return is_wanted_event and (not self.statuses or seen.status in self.statuses)


class _Offer(msgspec.Struct):
    network_offer_id: int


class _Relationship(msgspec.Struct):
    offer: _Offer


class _Seen(msgspec.Struct):
    """What filters look at; `event` has its default in the schema of conversions."""

    relationship: _Relationship
    event: str = "Base"
    status: str = ""


_SEEN: Final = msgspec.json.Decoder(_Seen)


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asks for.

    Attributes:
        types: which events; None means those of the cursor, or all.
        start: where to begin.
        start_text: the same for the audit trail.
        filter: which of them.
        format: how they are framed.
        coding: how the body is compressed.
    """

    types: tuple[str, ...] | None
    start: Start
    start_text: str
    filter: Filter
    format: Format
    coding: Coding


def read_stream_request(query: str, headers: Mapping[str, str]) -> StreamRequest:
    """The request in a query string and headers (lower-case names).

    Raises:
        InvalidError: an unknown parameter or value; the message names it.
    """
    try:
        given = parse_qs(query, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise InvalidError(f"at most {FIELDS_MAX} parameters") from error
    if unknown := sorted(given.keys() - set(PARAMETERS)):
        raise InvalidError(f"{unknown[0]}: unknown parameter; there are {', '.join(PARAMETERS)}")
    start, start_text = _start(given, headers.get("last-event-id", ""))
    return StreamRequest(
        types=_types(given.get("types")),
        start=start,
        start_text=start_text,
        filter=_filter(given),
        format=choose_format(headers.get("accept", "")),
        coding=choose_coding(headers.get("accept-encoding", "")),
    )


def _types(values: Sequence[str] | None) -> tuple[str, ...] | None:
    if values is None:
        return None
    names = _listed("types", values)
    unknown = sorted(names - EVENT_NAMES.keys())
    if unknown or not names:
        what = f"{unknown[0]} unknown" if unknown else "none given"
        raise InvalidError(f"types: {what}; there are {', '.join(EVENT_NAMES)}")
    return tuple(name for name in EVENT_NAMES if name in names)


def _start(given: Mapping[str, Sequence[str]], last_event_id: str) -> tuple[Start, str]:
    """`Last-Event-ID` comes first: a browser that reconnects sends it beside the first URL."""
    if last_event_id:
        return Cursor.decode(last_event_id), "cursor"
    chosen = [(name, given[name]) for name in ("cursor", "since", "start") if name in given]
    if not chosen:
        return LATEST, "latest"
    (name, values), *others = chosen
    if others or len(values) > 1:
        raise InvalidError("cursor, since, start: give one of them, once")
    value = values[0]
    if name == "cursor":
        return Cursor.decode(value), "cursor"
    if value in ("earliest", "latest"):
        return EARLIEST if value == "earliest" else LATEST, value
    if name == "start":
        raise InvalidError("start: earliest or latest")
    return Since(_moment(value)), f"since {value}"


def _moment(text: str) -> float:
    """Seconds UTC of an RFC 3339 time or of seconds since the epoch."""
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else _iso(text)
    except ValueError as error:
        raise InvalidError(_SINCE_TEXT) from error
    if not 0 <= seconds <= LATEST_SECONDS:
        raise InvalidError(_SINCE_TEXT)
    return seconds


def _iso(text: str) -> float:
    """Without an offset UTC is meant; a `+` that was not escaped in the URL arrives as a space."""
    found = datetime.fromisoformat(text.replace(" ", "+"))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


_SINCE_TEXT: Final = "since: a time such as 2026-01-31T12:00:00Z, or seconds since 1970"


def _filter(given: Mapping[str, Sequence[str]]) -> Filter:
    offers = _listed("offers", given.get("offers", ()))
    statuses = _listed("statuses", given.get("statuses", ()))
    if wrong := sorted(offer for offer in offers if not offer.isdecimal()):
        raise InvalidError(f"offers: {wrong[0]} is no number of an offer")
    if wrong := sorted(statuses - STATUSES):
        raise InvalidError(f"statuses: {wrong[0]} unknown; there are {', '.join(sorted(STATUSES))}")
    return Filter(
        frozenset(int(offer) for offer in offers),
        _listed("events", given.get("events", ())),
        statuses,
    )


def _listed(name: str, values: Iterable[str]) -> frozenset[str]:
    """The values of a parameter that may be repeated and may hold commas."""
    found = frozenset(item.strip() for value in values for item in value.split(",") if item.strip())
    if len(found) > VALUES_MAX:
        raise InvalidError(f"{name}: at most {VALUES_MAX} values")
    return found


def choose_format(accept: str) -> Format:
    """NDJSON where it is accepted by name and not less than an event stream, else SSE."""
    wanted = _weights(accept)
    ndjson = max(wanted.get("application/x-ndjson", 0.0), wanted.get("application/ndjson", 0.0))
    return "ndjson" if ndjson and ndjson >= wanted.get("text/event-stream", 0.0) else "sse"


_PREFERRED: Final[tuple[Coding, ...]] = ("zstd", "gzip")


def choose_coding(accept_encoding: str) -> Coding:
    """The accepted compression with the greatest weight; of equals zstd, which costs less."""
    wanted = _weights(accept_encoding)
    best = max(_PREFERRED, key=lambda coding: wanted.get(coding, 0.0))
    return best if wanted.get(best, 0.0) > 0 else "identity"


def _weights(header: str) -> dict[str, float]:
    """What a header of alternatives lists, with weights."""
    found: dict[str, float] = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 0.0
    return found


def reason_of(refusal: Refusal) -> Reason:
    """How a stream's end is named when its key would not be let in any more."""
    match refusal.reason:
        case "unknown" | "realm":
            return "revoked"
        case other:
            return other
