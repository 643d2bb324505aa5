"""What a single-use link allows, and what becomes of it when it is opened. Pure."""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec

from services.keys import domain
from services.keys.domain import LIVE, Cause, Key
from shared import events
from shared.errors import ConflictError
from shared.events import Actor

SHARE_ID: Final = re.compile(r"share_[0-9a-f]{20}")
EXPIRES_SECONDS_MIN: Final = 60
EXPIRES_SECONDS_MAX: Final = 7 * 86_400
EXPIRES_SECONDS_DEFAULT: Final = 86_400
OPEN_MAX: Final = 10
"""Open links a key has at most: each is a way to the secret."""
WRONG_PASSPHRASES_MAX: Final = 5
"""Wrong passphrases after which a link is closed for good."""
TOLD_SECONDS: Final = 60.0
"""A link that is opened in vain again and again is told of once in this time."""
KEEP_SECONDS: Final = 400 * 86_400.0
"""How long a link is remembered; as long as the events that tell of it."""
VISITOR: Final = Actor(subject="visitor", name="Visitor of a link", kind="visitor")

Status = Literal["open", "used", "withdrawn", "locked"]
State = Literal["open", "used", "withdrawn", "locked", "expired", "ended", "suspended"]
"""What a link stands at: its status, or that its time, its key or its partner forbids opening it.

`ended`: its key is not active any more. `suspended`: its partner is, for now.
"""
Outcome = Literal[State, "shown", "refused"]
"""What a visitor meets; `refused` is a wrong passphrase."""

_TOLD_AS: Final[dict[State, Literal["used", "expired", "refused", "withdrawn", "ended"]]] = {
    "used": "used",
    "withdrawn": "withdrawn",
    "locked": "refused",
    "expired": "expired",
    "ended": "ended",
    "suspended": "ended",
}


@dataclass(frozen=True, slots=True)
class Share:
    """A link as its owner knows it.

    Attributes:
        digest: SHA-256 of the token, lower-case hex.
        has_passphrase: whether its visitor needs one.
        passphrase: its salt and hash; empty without one, and once the link has ended.
        created_by: `sub` of who made it.
        ended_at: when it was used, withdrawn or locked; None while it is open or has expired.
        ended_ip: from where it was used or locked.
        told_at: when it was last told that it was opened in vain.
    """

    share_id: str
    network_id: int
    key_id: str
    digest: str
    has_passphrase: bool
    passphrase: bytes = field(repr=False)
    created_at: float
    created_by: str
    created_by_name: str
    expires_at: float
    status: Status = "open"
    ended_at: float | None = None
    ended_ip: str = ""
    wrong_passphrases: int = 0
    told_at: float = 0.0

    @property
    def attempts_left(self) -> int:
        """How many wrong passphrases it still takes until it is closed, that one included."""
        return WRONG_PASSPHRASES_MAX - self.wrong_passphrases


@dataclass(frozen=True, slots=True)
class Target:
    """What a link leads to."""

    key: Key
    is_suspended: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """What an attempt to open a link came to; the event is None if it was told a moment ago."""

    share: Share
    outcome: Outcome
    event: events.ShareOpened | None


def state_of(share: Share, target: Target, now: float) -> State:
    """What `share` stands at. What ended it first is what is said of it for good."""
    if share.status != "open":
        return share.status
    if now >= share.expires_at:
        return "expired"
    if target.key.shown_status(now) not in LIVE:
        return "ended"
    return "suspended" if target.is_suspended else "open"


def made(share: Share, key: Key, open_count: int, cause: Cause) -> events.KeyReshared:
    """`share` comes into being beside `open_count` others of `key` that are open.

    Raises:
        ConflictError: the key is not active, or has as many open links as it may.
    """
    event = domain.reshared(key, cause, "link")
    if open_count >= OPEN_MAX:
        raise ConflictError(
            f"The key has {open_count} open links, and {OPEN_MAX} are allowed; withdraw one first."
        )
    return msgspec.structs.replace(
        event, share_id=share.share_id, share_expires_at=share.expires_at
    )


def opened(share: Share, target: Target, *, fits: bool, cause: Cause) -> Opening:
    """What becomes of `share` when a visitor presses the button.

    Args:
        share: the link, which nobody else changes meanwhile.
        target: what it leads to.
        fits: whether the visitor gave its passphrase; true if it has none.
        cause: the visitor's press.
    """
    state = state_of(share, target, cause.at)
    if state != "open":
        return _in_vain(share, target.key, state, cause)
    if not fits:
        return _refused(share, target.key, cause)
    used = _ended(share, "used", cause)
    return Opening(used, "shown", _event(share, target.key, "shown", cause))


def withdrawn(
    share: Share, target: Target, cause: Cause
) -> tuple[Share, events.ShareWithdrawn] | None:
    """`share` opens no more; None if it was withdrawn before.

    Raises:
        ConflictError: it ended otherwise, and there is nothing to take back.
    """
    state = state_of(share, target, cause.at)
    if state == "withdrawn":
        return None
    if state in ("used", "locked", "expired"):
        raise ConflictError(f"The link is {state}: it shows nothing any more.")
    event = events.ShareWithdrawn(**domain.told(target.key, cause), share_id=share.share_id)
    return _ended(share, "withdrawn", cause), event


def _refused(share: Share, key: Key, cause: Cause) -> Opening:
    """A wrong passphrase; the last that is allowed closes the link."""
    event = _event(share, key, "refused", cause)
    counted = replace(share, wrong_passphrases=share.wrong_passphrases + 1)
    if counted.attempts_left > 0:
        return Opening(counted, "refused", event)
    return Opening(_ended(counted, "locked", cause), "locked", event)


def _in_vain(share: Share, key: Key, state: State, cause: Cause) -> Opening:
    """An opening that shows nothing; told of once a while, so that nobody can flood the trail."""
    if cause.at < share.told_at + TOLD_SECONDS:
        return Opening(share, state, None)
    event = _event(share, key, _TOLD_AS[state], cause)
    return Opening(replace(share, told_at=cause.at), state, event)


def _ended(share: Share, status: Status, cause: Cause) -> Share:
    return replace(
        share, status=status, ended_at=cause.at, ended_ip=cause.client_ip, passphrase=b""
    )


def _event(share: Share, key: Key, outcome: Any, cause: Cause) -> events.ShareOpened:
    return events.ShareOpened(**domain.told(key, cause), outcome=outcome, share_id=share.share_id)
