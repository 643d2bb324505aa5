"""What may be asked of the table of keys, in which order rows come, and where a page ends. Pure.

An order is total, since every sort ends in the key's id, and a page begins behind the last row of
the one before it by value, not by number. So a walk through the pages meets each row that keeps its
place exactly once, whatever else is issued, revoked or used meanwhile. A row whose own place
changes during the walk (by its last use in the order of last uses) may come twice or not at all.

A cursor is that place as opaque text: base64url without padding of JSON and its CRC-32. It is bound
to the network, the filters and the sort. It is not signed: a forged one can only begin a page of
the caller's own network elsewhere.
"""

import base64
import binascii
import hashlib
import struct
import unicodedata
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from services.keys.domain import KEY_ID, ShownStatus, Status, shown_status
from services.keys.usage.domain import KeyWarning, Use, Watched, day_of, warnings
from shared.errors import InvalidError

SortName = Literal["created_at", "last_used_at", "expires_at", "integration", "partner", "status"]
Sort = Literal[
    "created_at",
    "-created_at",
    "last_used_at",
    "-last_used_at",
    "expires_at",
    "-expires_at",
    "integration",
    "-integration",
    "partner",
    "-partner",
    "status",
    "-status",
]
"""A sort's name; a minus turns it round."""
SORT_DEFAULT: Final[Sort] = "-created_at"

CURSOR_LENGTH_MAX: Final = 1_400
"""That of an integration of 100 characters of four bytes, with room to spare."""
_SUM: Final = struct.Struct(">I")

Value = float | int | str | None
Place = tuple[Value, ...]
"""A row's values in the columns of its sort, the key's id last; `None` for a time that never is."""

_KeyId = Annotated[str, msgspec.Meta(pattern=f"^{KEY_ID.pattern}$")]
_Text = Annotated[str, msgspec.Meta(max_length=400, pattern=r"^[^\x00]*$")]
_PartnerId = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
PLACES: Final[dict[SortName, Any]] = {
    "created_at": tuple[float, _KeyId],
    "last_used_at": tuple[float, _KeyId],
    "expires_at": tuple[float | None, _KeyId],
    "integration": tuple[_Text, _KeyId],
    "partner": tuple[_PartnerId, float, _KeyId],
    "status": tuple[ShownStatus, float, _KeyId],
}
"""What a place consists of: within a partner and a status, rows are sorted by their creation."""
STATUSES: Final[tuple[ShownStatus, ...]] = tuple(sorted(get_args(ShownStatus)))
"""In the order of the sort by status."""


@dataclass(frozen=True, slots=True)
class Row:
    """A key as the table knows it: never its secret, sealed or not. Times are seconds, UTC.

    Attributes:
        partner_name: empty if the log has not told of the partner.
        is_suspended: whether the partner's keys are out of work altogether.
        status: as it is kept; people see `shown_status`.
        not_before: from when on it works; 0 from its creation.
        expires_at: from when on it does not; None for never.
        last: its last use.
        count_on_day: uses on the UTC day of the last.
        many_networks_at: as in `usage.domain.Usage`.
        predecessor_used_at: the last use, to the minute, of the key that it replaces while that one
            still works; None if there is none.
    """

    key_id: str
    network_affiliate_id: int
    partner_name: str
    is_suspended: bool
    integration: str
    masked: str
    status: Status
    allowlist: tuple[str, ...]
    created_at: float
    created_by: str
    created_by_name: str
    not_before: float
    expires_at: float | None
    ended_at: float | None
    predecessor_key_id: str | None
    successor_key_id: str | None
    last: Use
    count_on_day: int
    many_networks_at: float
    predecessor_used_at: float | None

    def shown_status(self, now: float) -> ShownStatus:
        """Its status for people at a moment."""
        return shown_status(self.status, self.not_before, self.expires_at, now)

    @property
    def overlap_ends_at(self) -> float | None:
        """When it ends beside its successor; None if it was not rotated."""
        return None if self.successor_key_id is None else self.expires_at

    def used_today(self, now: float) -> int:
        """Its uses on the UTC day of `now`."""
        return self.count_on_day if day_of(self.last.at) == day_of(now) else 0

    def warnings(self, now: float) -> tuple[KeyWarning, ...]:
        """What staff should look at."""
        watched = Watched(
            is_active=self.shown_status(now) == "active",
            works_since=max(self.created_at, self.not_before),
            expires_at=self.expires_at,
            is_superseded=self.successor_key_id is not None,
            last_used_at=self.last.minute,
            many_networks_at=self.many_networks_at,
            predecessor_used_at=self.predecessor_used_at,
        )
        return warnings(watched, now)


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a list, and its place there."""

    row: Row
    place: Place


@dataclass(frozen=True, slots=True)
class Filters:
    """Which keys are wanted; None where it does not matter.

    Attributes:
        network_affiliate_id: of this partner.
        status: as people see it at the moment of the question.
        integration: of this name, however it is capitalised.
        warning: that carry this warning.
        search: part of the integration's, the partner's or the issuer's name, a whole key id, or
            the last four of a key.
    """

    network_affiliate_id: int | None = None
    status: ShownStatus | None = None
    integration: str | None = None
    warning: KeyWarning | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of one network's keys: what a cursor is bound to."""

    network_id: int
    filters: Filters = Filters()
    sort: Sort = SORT_DEFAULT

    @property
    def sort_name(self) -> SortName:
        """The sort without its direction."""
        return self.sort.removeprefix("-")  # type: ignore[return-value]

    @property
    def is_descending(self) -> bool:
        """Whether the largest value comes first."""
        return self.sort.startswith("-")

    def cursor(self, place: Place) -> str:
        """The text from which `place` is read again, for this list alone."""
        body = msgspec.json.encode((self._digest(), place))
        text = base64.urlsafe_b64encode(body + _SUM.pack(zlib.crc32(body)))
        return text.rstrip(b"=").decode()

    def place(self, cursor: str) -> Place:
        """The place that `cursor` tells.

        Raises:
            InvalidError: it was damaged, or belongs to another list.
        """
        try:
            digest, place = msgspec.json.decode(_checked(cursor), type=tuple[str, msgspec.Raw])
            if digest != self._digest():
                raise InvalidError(
                    "cursor: belongs to a list with another sort or other filters; ask with those, "
                    "or begin this list without a cursor."
                )
            found: Place = msgspec.json.decode(place, type=PLACES[self.sort_name])
        except msgspec.DecodeError as error:
            raise _damaged() from error
        return found

    def _digest(self) -> str:
        """16 hex digits that another list has only by chance."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def plain(text: str | None, form: Literal["NFC", "NFKC"] = "NFC") -> str | None:
    """`text` composed, without white space around or doubled within; NFKC for names of our own."""
    name = " ".join(unicodedata.normalize(form, text or "").split())
    return name or None


def _damaged() -> InvalidError:
    return InvalidError("cursor: cut short or damaged; send paging.next_cursor exactly as it came.")


def _checked(cursor: str) -> bytes:
    """The body of a cursor, proved whole by its checksum."""
    if len(cursor) > CURSOR_LENGTH_MAX:
        raise _damaged()
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error
    body, check = raw[: -_SUM.size], raw[-_SUM.size :]
    if len(check) < _SUM.size or zlib.crc32(body) != _SUM.unpack(check)[0]:
        raise _damaged()
    return body
