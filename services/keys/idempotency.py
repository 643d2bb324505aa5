"""Requests that take effect once, however often they are sent: what `Idempotency-Key` means. Pure.

The first request with a key of its sender is carried out; the same one sent again is answered as
the first was, for `KEEP_SECONDS`. What failed was not carried out, and is tried anew. An answer is
kept in the transaction that it tells of, without the secret in it.
"""

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import msgspec

from services.keys.domain import LIVE, Key
from shared.errors import ConflictError

KEEP_SECONDS: Final = 86_400.0
"""How long a request is known again."""
_HIDDEN: Final = frozenset({"sealed", "digest"})
"""What the row of a key alone keeps."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request that is to take effect once.

    Attributes:
        subject: `sub` of the sender; others may use the same key.
        key: the `Idempotency-Key`.
        request_digest: tells equal requests from others.
    """

    network_id: int
    subject: str
    key: str
    request_digest: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What was answered to the request before.

    Attributes:
        key_id: the key that it made.
        status: the HTTP status.
        answer: `answer_of` that key.
    """

    request_digest: str
    key_id: str
    status: int
    answer: dict[str, Any]

    def require_same(self, once: Once) -> None:
        """Let pass the request that this was the answer to.

        Raises:
            ConflictError: it is another.
        """
        if self.request_digest != once.request_digest:
            raise ConflictError(
                "Idempotency-Key: used within 24 hours for another request; give each its own."
            )


def request_digest(*parts: object) -> str:
    """What tells a request from every other; `parts` are plain values and dataclasses."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def answer_of(key: Key, predecessor: Key | None, at: float) -> dict[str, Any]:
    """What is kept of an answer that shows a new `key` as of `at`, and the one before it."""
    return {
        "at": at,
        "key": _shown(key),
        "predecessor": _shown(predecessor) if predecessor else None,
    }


def _shown(key: Key) -> dict[str, Any]:
    names = (one.name for one in fields(key) if one.name not in _HIDDEN)
    return {name: getattr(key, name) for name in names}


def as_answered(key: Key, shown: dict[str, Any]) -> Key:
    """A key as it was shown before, whatever has changed since; to be shown and nothing else.

    What is never shown is that of `key`, the one that the answer is about.
    """
    return replace(key, **shown | {"allowlist": tuple(shown["allowlist"])})


def require_live(key: Key, now: float) -> None:
    """Let pass a key whose secret may be shown to whoever asked for it before.

    Raises:
        ConflictError: it has ended since.
    """
    status = key.shown_status(now)
    if status not in LIVE:
        raise ConflictError(
            f"This request made {key.key_id}, which is {status} by now; to get another key, send "
            "it with a new Idempotency-Key."
        )
