"""Commands of clients whose key service dies on the way, and what must be true of each afterwards.

A client whose call broke off cannot know what it came to, and sends it again: the same
`Idempotency-Key` for a new key, the same call otherwise. An act is one such command, made so that no
other act touches what it is about.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import httpx

from shared import events, topics
from shared.events import ShareOpened
from shared.tokens import Caller
from tests.keys_parts import Platform, partner, read_settled

ANSWERED = "answered"
"""The moment after the client has read the answer; the others are names of fault points."""
_BEGUN = ("keys.received", "keys.permitted")
_COMMITTED = ("keys.before_commit", "keys.after_commit")
_PUBLISHED = (
    "outbox.before_send",
    "outbox.mid_send",
    "outbox.before_commit",
    "outbox.after_commit",
    "outbox.after_mark",
)
_CONFIRMED = ("keys.confirmed", ANSWERED)
HOLDER = 7
"""The partner whose keys the acts are about."""
SUSPENDED = 1_000
"""The first of the partners that are suspended, each by one act."""


@dataclass
class Act(ABC):
    """One command.

    Attributes:
        STEPS: the moments between its steps, in their order.
        answer: what was answered, if an answer came before the service died.
    """

    STEPS: ClassVar[tuple[str, ...]] = ()
    platform: Platform
    caller: Caller
    number: int
    answer: httpx.Response | None = field(default=None, init=False)

    async def prepare(self) -> None:  # noqa: B027 - most acts need nothing
        """Make what it is about, while the service lives."""

    @abstractmethod
    async def send(self) -> httpx.Response:
        """Send the command, the first time or again."""

    @abstractmethod
    async def is_done(self) -> bool:
        """Whether the tables say that it took effect."""

    @abstractmethod
    async def repeat(self) -> Counter[tuple[str, str]]:
        """Send it again and judge the answer; the events that it must have come to, in all."""

    async def _has(self, statement: str, *values: object) -> bool:
        return bool(await self.platform.execute(f"SELECT FROM {statement}", *values))

    async def _key(self, key_id: str) -> dict:
        (row,) = await self.platform.execute("SELECT * FROM keys WHERE key_id = $1", key_id)
        return dict(row)

    def _require_same_key(self, again: httpx.Response) -> dict:
        """A repeated request shows the key that it made, whether its client saw it before or not."""
        assert again.status_code == 201, again.text
        shown = again.json()
        if self.answer is not None:
            before = self.answer.json()
            assert (shown["key_id"], shown["key"]) == (before["key_id"], before["key"])
        return shown


class Issue(Act):
    """A new key."""

    STEPS = (
        *_BEGUN,
        "keys.claimed",
        "keys.inserted",
        "keys.answer_kept",
        *_COMMITTED,
        *_PUBLISHED,
        *_CONFIRMED,
    )

    @property
    def _integration(self) -> str:
        return f"issued-{self.number}"

    async def send(self) -> httpx.Response:
        path = f"/v1/networks/affiliates/{HOLDER}/apikeys"
        body = {"integration": self._integration, "allowlist": ["192.0.2.7"]}
        once = f"issue-{self.number}"
        return await self.platform.call("POST", path, self.caller, body, once=once)

    async def is_done(self) -> bool:
        return await self._has("keys WHERE integration = $1", self._integration)

    async def repeat(self) -> Counter[tuple[str, str]]:
        was_done = await self.is_done()
        shown = self._require_same_key(await self.send())
        rows = await self.platform.execute(
            "SELECT * FROM keys WHERE integration = $1", self._integration
        )
        assert [(row["key_id"], row["digest"]) for row in rows] == [
            (shown["key_id"], hashlib.sha256(shown["key"].encode()).hexdigest())
        ]
        told = Counter({("KeyIssued", shown["key_id"]): 1})
        return told + Counter({("KeyReshared", shown["key_id"]): int(was_done)})


class _OfOneKey(Act):
    key_id = ""

    async def prepare(self) -> None:
        name = f"{type(self).__name__}-{self.number}"
        self.key_id = (await self.platform.issue(self.caller, HOLDER, name))["key_id"]


class Rotate(_OfOneKey):
    """A new key in the place of one that lives on for an hour."""

    STEPS = (
        *_BEGUN,
        "keys.claimed",
        "keys.locked",
        "keys.saved",
        "keys.inserted",
        "keys.answer_kept",
        *_COMMITTED,
        *_PUBLISHED,
        *_CONFIRMED,
    )

    async def send(self) -> httpx.Response:
        path = f"/v1/networks/apikeys/{self.key_id}/rotate"
        body = {"overlap_seconds": 3_600}
        once = f"rotate-{self.number}"
        return await self.platform.call("POST", path, self.caller, body, once=once)

    async def is_done(self) -> bool:
        return await self._has("keys WHERE predecessor_key_id = $1", self.key_id)

    async def repeat(self) -> Counter[tuple[str, str]]:
        was_done = await self.is_done()
        shown = self._require_same_key(await self.send())
        old, new = await self._key(self.key_id), await self._key(shown["key_id"])
        assert (old["successor_key_id"], old["status"]) == (new["key_id"], "active")
        assert (new["predecessor_key_id"], new["status"]) == (old["key_id"], "active")
        assert old["expires_at"] == old["rotated_at"] + 3_600
        assert new["digest"] == hashlib.sha256(shown["key"].encode()).hexdigest()
        told = Counter({("KeyIssued", self.key_id): 1, ("KeyRotated", self.key_id): 1})
        told += Counter({("KeyIssued", shown["key_id"]): 1})
        return told + Counter({("KeyReshared", shown["key_id"]): int(was_done)})


class Revoke(_OfOneKey):
    """The end of a key."""

    STEPS = (
        *_BEGUN,
        "keys.locked",
        "keys.saved",
        *_COMMITTED,
        *_PUBLISHED,
        *_CONFIRMED,
    )

    async def send(self) -> httpx.Response:
        path = f"/v1/networks/apikeys/{self.key_id}/revoke"
        return await self.platform.call("POST", path, self.caller, {"reason": "leaked"})

    async def is_done(self) -> bool:
        return (await self._key(self.key_id))["status"] == "revoked"

    async def repeat(self) -> Counter[tuple[str, str]]:
        again = await self.send()
        assert (again.status_code in (200, 202), again.json()["status"]) == (True, "revoked")
        row = await self._key(self.key_id)
        assert (row["status"], row["version"]) == ("revoked", 2)
        return Counter({("KeyIssued", self.key_id): 1, ("KeyRevoked", self.key_id): 1})


class Suspend(Act):
    """A partner's keys, all out of work."""

    STEPS = Revoke.STEPS

    @property
    def _partner(self) -> int:
        return SUSPENDED + self.number

    async def prepare(self) -> None:
        await self.platform.tell(partner(self.caller.network_id, self._partner))

    async def send(self) -> httpx.Response:
        path = f"/v1/networks/affiliates/{self._partner}/suspension"
        body = {"suspended": True, "reason": "breach of terms"}
        return await self.platform.call("PUT", path, self.caller, body)

    async def is_done(self) -> bool:
        return await self._has(
            "partner_access WHERE network_affiliate_id = $1 AND suspended", self._partner
        )

    async def repeat(self) -> Counter[tuple[str, str]]:
        again = await self.send()
        assert (again.status_code in (200, 202), again.json()["suspended"]) == (True, True)
        (row,) = await self.platform.execute(
            "SELECT * FROM partner_access WHERE network_affiliate_id = $1", self._partner
        )
        assert (row["held_by_staff"], row["held_by_status"], row["version"]) == (True, False, 1)
        return Counter({("PartnerSuspended", str(self._partner)): 1})


class OpenShare(_OfOneKey):
    """A visitor's press on a link that shows a key once.

    Killed after the commit, the key was shown to nobody or to the one who pressed; never to two.
    """

    STEPS = (
        "shares.locked",
        "shares.saved",
        "shares.before_commit",
        "shares.after_commit",
        *_PUBLISHED,
        ANSWERED,
    )

    async def prepare(self) -> None:
        await super().prepare()
        path = f"/v1/networks/apikeys/{self.key_id}/shares"
        made = await self.platform.call("POST", path, self.caller, {})
        assert made.status_code == 201, made.text
        self._path = f"/v1/shares/{made.json()['url'].rpartition('/')[2]}"
        revealed = f"/v1/networks/apikeys/{self.key_id}/reveal"
        self._secret = (await self.platform.call("POST", revealed, self.caller, {})).json()["key"]

    async def send(self) -> httpx.Response:
        return await self.platform.call("POST", self._path, None)

    async def is_done(self) -> bool:
        return await self._has("shares WHERE key_id = $1 AND status = 'used'", self.key_id)

    async def repeat(self) -> Counter[tuple[str, str]]:
        was_done = await self.is_done()
        if self.answer is not None:
            assert was_done
            assert self._secret in self.answer.text
        again = await self.send()
        assert again.status_code == (410 if was_done else 200), again.text
        assert (self._secret in again.text) is not was_done
        assert await self.is_done()
        told = Counter({("KeyIssued", self.key_id): 1, ("KeyReshared", self.key_id): 2})
        return told + Counter({("ShareOpened", self.key_id): 1})


ACTS: tuple[type[Act], ...] = (Issue, Revoke, Rotate, Suspend, OpenShare)


async def told_once(platform: Platform, network_id: int) -> Counter[tuple[str, str]]:
    """The network's events by type and what they are about, repeats of one `ce_id` left out.

    Openings that showed nothing are told once in a while, and do not count.
    """
    kinds = {events.type_name(one): one for one in topics.KEYS_EVENTS.schemas}
    found = {}
    for record in await read_settled(platform.bootstrap, topics.KEYS_EVENTS.name):
        envelope = events.envelope(record.headers)
        event = events.decode(kinds[envelope.type], record.value)
        is_in_vain = isinstance(event, ShareOpened) and event.outcome != "shown"
        if event.network_id == network_id and not is_in_vain:
            found[envelope.id] = event
    return Counter((type(event).__name__, _about(event)) for event in found.values())


def _about(event: events.Event) -> str:
    return getattr(event, "key_id", "") or str(event.network_affiliate_id)


async def require_told(platform: Platform, network_id: int) -> None:
    """The doors' topics say of the network what its tables say, and nothing else."""
    await _require(
        platform,
        topics.KEYS_STATE,
        network_id,
        "SELECT key_id AS name, status, version, digest, expires_at, not_before "
        "FROM keys WHERE network_id = $1",
    )
    await _require(
        platform,
        topics.PARTNERS_ACCESS,
        network_id,
        "SELECT network_id || ':' || network_affiliate_id AS name, version, suspended "
        "FROM partner_access WHERE network_id = $1 AND version > 0",
    )


async def _require(
    platform: Platform, topic: topics.Topic, network_id: int, statement: str
) -> None:
    rows = {row["name"]: dict(row) for row in await platform.execute(statement, network_id)}
    states = {
        name: state
        for name, state in (await platform.states(topic)).items()
        if state and state["network_id"] == network_id
    }
    assert states.keys() == rows.keys()
    for name, row in rows.items():
        state = states[name] | {"name": name}
        assert {member: state.get(member) for member in row} == row
