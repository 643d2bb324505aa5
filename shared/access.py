"""Who may come in: the same decision at both public doors, from three replicas, without waiting.

The order is part of the contract, since it decides which text a caller gets: the key is well formed
(checked without any look-up), this process knows the present state, the key is known, its realm,
its status and time window, its allowlist, its partner. A key that is malformed, unknown, revoked,
expired or not yet valid gets one and the same text, so that nobody learns which.

A process cut off from Kafka serves on for `stale_seconds`, then refuses everybody with 503: it
cannot know who was revoked meanwhile. The same holds for one partner whose access record cannot be
read. Open streams ask `still_admitted` again: at once when `watch` calls, and every second, since
time windows end without a record.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from shared.clock import Clock
from shared.errors import ForbiddenError, PorticoError, UnauthenticatedError, UnavailableError
from shared.events import KeyState, NetworkState, PartnerAccess, partner_key
from shared.partner_key import PresentedKey, mask_of
from shared.replica import Replica
from shared.runtime import Lifecycle
from shared.topics import KEYS_STATE, NETWORKS_STATE, PARTNERS_ACCESS, Topic

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Realm = Literal["affiliate", "network", "advertiser", "any", "none"]
Reason = Literal[
    "unknown",
    "realm",
    "revoked",
    "expired",
    "not_yet_valid",
    "allowlist",
    "suspended",
    "stale",
]
"""Why a caller is refused, for summaries and metrics; `unknown` includes malformed keys."""

KEY_HEADER: Final = b"x-eflow-api-key"
NO_METHOD: Final = "No Authentication Method Found"
OUT_OF_REALM: Final = "Out of realm"
RETRY_AFTER_SECONDS: Final = 5
REMEMBERED_MAX: Final = 4096
"""Client addresses that `ClientAddresses` remembers."""
FORWARDED_LENGTH_MAX: Final = 64
"""Longer values of `X-Forwarded-For` are read anew each time, so that memory stays bounded."""

T_co = TypeVar("T_co", covariant=True)


class View(Protocol[T_co]):
    """What the decision needs of a replica."""

    def get(self, key: str) -> T_co | None:
        """The value of `key`."""
        ...

    def is_withheld(self, key: str) -> bool:
        """Whether the last record of `key` could not be read."""
        ...

    def freshness_seconds(self) -> float:
        """How long ago the topic was as shown."""
        ...

    def subscribe(self, callback: Callable[[str, T_co | None, T_co | None], None]) -> None:
        """Have `callback` told of every change."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """Whom a key belongs to. Handed out by `admit`, it means: admitted at that moment.

    Attributes:
        network_id: the partner's network.
        network_affiliate_id: the partner.
        key_id: the key.
        masked: the key as people may see it.
        realm: the key's realm.
        firehose_enabled: whether the partner may open streams.
        client_ip: the address it came from.
    """

    network_id: int
    network_affiliate_id: int
    key_id: str
    masked: str
    realm: str
    firehose_enabled: bool
    client_ip: str


class Refusal(msgspec.Struct, frozen=True):
    """Why a caller is not let in, and the answer to it."""

    reason: Reason
    error: PorticoError


class Decision(msgspec.Struct, frozen=True):
    """What was found out about a caller.

    Attributes:
        caller: who it is; None while the key is not known.
        refusal: why it is not let in; None if it is.
    """

    caller: Grant | None
    refusal: Refusal | None


class _Key:
    """A key's state and what follows from it, worked out once; a new state makes a new one.

    The last caller is remembered, since most keys are used from one address.
    """

    __slots__ = ("_grant", "_listed", "allowlist", "partner", "state")

    def __init__(self, state: KeyState) -> None:
        self.state = state
        self.allowlist = parse_allowlist(state.allowlist)
        self.partner = partner_key(state.network_id, state.network_affiliate_id)
        self._grant: Grant | None = None
        self._listed: tuple[str, bool] | None = None

    def admits(self, client_ip: str) -> bool:
        """Whether the allowlist lets `client_ip` in."""
        if not self.allowlist:
            return True
        if self._listed is None or self._listed[0] != client_ip:
            self._listed = client_ip, _is_listed(client_ip, self.allowlist)
        return self._listed[1]

    def grant(self, secret: str, client_ip: str, *, firehose_enabled: bool) -> "Grant":
        """Whom the key belongs to."""
        known = self._grant
        if (
            known is not None
            and known.client_ip == client_ip
            and known.firehose_enabled is firehose_enabled
        ):
            return known
        state = self.state
        self._grant = Grant(
            network_id=state.network_id,
            network_affiliate_id=state.network_affiliate_id,
            key_id=state.key_id,
            masked=mask_of(secret),
            realm=state.realm,
            firehose_enabled=firehose_enabled,
            client_ip=client_ip,
        )
        return self._grant


def _key_name(state: KeyState) -> str:
    return state.key_id


def _access_name(access: PartnerAccess) -> str:
    return partner_key(access.network_id, access.network_affiliate_id)


def _network_name(state: NetworkState) -> str:
    return str(state.network_id)


class AccessReplicas:
    """The three replicas behind an `AccessTable`, wired for safety.

    An unreadable record hides a key or a partner, since it may have been a revocation or a
    suspension; a budget stays as it was.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        clock: Clock,
        client_id: str,
        keys: Topic = KEYS_STATE,
        partners: Topic = PARTNERS_ACCESS,
        networks: Topic = NETWORKS_STATE,
    ) -> None:
        self.keys = Replica(
            bootstrap,
            keys,
            KeyState,
            clock=clock,
            client_id=client_id,
            key_of=_key_name,
            unreadable="withhold",
        )
        self.partners = Replica(
            bootstrap,
            partners,
            PartnerAccess,
            clock=clock,
            client_id=client_id,
            key_of=_access_name,
            unreadable="withhold",
        )
        self.networks = Replica(
            bootstrap,
            networks,
            NetworkState,
            clock=clock,
            client_id=client_id,
            key_of=_network_name,
            unreadable="keep",
        )

    @property
    def all(self) -> tuple[Replica[KeyState], Replica[PartnerAccess], Replica[NetworkState]]:
        """The three, for metrics."""
        return self.keys, self.partners, self.networks

    def register(self, lifecycle: Lifecycle) -> None:
        """Run all three beside the server, and be ready only when they are."""
        for replica in self.all:
            lifecycle.run_task(f"replica {replica.topic.name}", replica.run)
            lifecycle.ready_when(replica.topic.name, replica.missing)


class AccessTable:
    """Decides who comes in. `AccessTable.over(replicas, …)` makes the usual one.

    Args:
        keys: key states by `key_id`.
        partners: access by `network:partner`; none means neither suspended nor firehose.
        networks: budgets by network.
        stale_seconds: how old the replicas may be before everybody is refused.
    """

    def __init__(
        self,
        *,
        keys: View[KeyState],
        partners: View[PartnerAccess],
        networks: View[NetworkState],
        stale_seconds: float,
    ) -> None:
        self._keys = keys
        self._partners = partners
        self._networks = networks
        self._stale_seconds = stale_seconds
        self._by_digest: dict[str, _Key] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        keys.subscribe(self._on_key)
        partners.subscribe(self._on_partner)

    @classmethod
    def over(cls, replicas: AccessReplicas, *, stale_seconds: float) -> "AccessTable":
        """The table over `replicas`; make it before they run."""
        return cls(
            keys=replicas.keys,
            partners=replicas.partners,
            networks=replicas.networks,
            stale_seconds=stale_seconds,
        )

    def admit(self, secret: str, *, realm: Realm, client_ip: str, now: float) -> Grant:
        """Let a caller in.

        Args:
            secret: the partner key as sent.
            realm: what the route asks for; `any` takes every realm, `none` no key at all.
            client_ip: the caller's address, see `client_ip`.
            now: seconds, UTC.

        Raises:
            UnauthenticatedError: the key is malformed, unknown, revoked, expired or not yet valid.
            ForbiddenError: realm, allowlist or suspension; the text says which.
            UnavailableError: the present state is not known here.
        """
        decision = self.decide(PresentedKey(secret), realm=realm, client_ip=client_ip, now=now)
        if decision.refusal is not None:
            raise decision.refusal.error
        if decision.caller is None:
            raise UnauthenticatedError
        return decision.caller

    def decide(
        self, presented: PresentedKey, *, realm: Realm, client_ip: str, now: float
    ) -> Decision:
        """As `admit`, but returns a refusal together with whom it concerns."""
        if not presented.is_well_formed:
            return Decision(None, _unknown())
        if self.freshness_seconds() > self._stale_seconds:
            return Decision(None, _stale())
        key = self._by_digest.get(presented.digest)
        if key is None:
            return Decision(None, _unknown())
        access = self._partners.get(key.partner)
        enabled = access is not None and access.firehose_enabled
        grant = key.grant(presented.text, client_ip, firehose_enabled=enabled)
        if realm not in ("any", key.state.realm):
            return Decision(grant, Refusal("realm", ForbiddenError(OUT_OF_REALM)))
        return Decision(grant, self._judge(key, access, client_ip, now))

    def still_admitted(self, grant: Grant, now: float) -> Refusal | None:
        """Why the holder of `grant` would not be let in now, or None.

        `grant.firehose_enabled` is as it was: `firehose_enabled` tells the present.
        """
        if self.freshness_seconds() > self._stale_seconds:
            return _stale()
        state = self._keys.get(grant.key_id)
        key = None if state is None else self._by_digest.get(state.digest)
        if key is None:
            return _unknown()
        return self._judge(key, self._partners.get(key.partner), grant.client_ip, now)

    def firehose_enabled(self, grant: Grant) -> bool:
        """Whether the partner of `grant` may open streams now."""
        access = self._partners.get(partner_key(grant.network_id, grant.network_affiliate_id))
        return access is not None and access.firehose_enabled

    def watch(self, grant: Grant, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the key or the partner of `grant` changes.

        Call what is returned to end that. The callback must not wait; it asks `still_admitted` and
        `firehose_enabled`.
        """
        names = (
            f"key {grant.key_id}",
            f"partner {partner_key(grant.network_id, grant.network_affiliate_id)}",
        )
        for name in names:
            self._watchers.setdefault(name, set()).add(callback)
        return partial(self._unwatch, names, callback)

    def network(self, network_id: int) -> NetworkState:
        """The budgets of a network; the defaults where none were set."""
        state = self._networks.get(str(network_id))
        return NetworkState(network_id=network_id, version=1) if state is None else state

    def freshness_seconds(self) -> float:
        """How old the oldest of the replicas that decide is."""
        return max(self._keys.freshness_seconds(), self._partners.freshness_seconds())

    def _judge(
        self, key: _Key, access: PartnerAccess | None, client_ip: str, now: float
    ) -> Refusal | None:
        state = key.state
        if state.status != "active":
            return Refusal(state.status, UnauthenticatedError())
        if now < state.not_before:
            return Refusal("not_yet_valid", UnauthenticatedError())
        if state.expires_at is not None and now >= state.expires_at:
            return Refusal("expired", UnauthenticatedError())
        if not key.admits(client_ip):
            text = f"Address {client_ip} is not on the allowlist of this key"
            return Refusal("allowlist", ForbiddenError(text))
        return self._judge_partner(key.partner, access)

    def _judge_partner(self, name: str, access: PartnerAccess | None) -> Refusal | None:
        if self._partners.is_withheld(name):
            return _stale()
        if access is not None and access.suspended:
            text = "API access of this partner is suspended; ask the network"
            return Refusal("suspended", ForbiddenError(text))
        return None

    def _on_key(self, key_id: str, old: KeyState | None, new: KeyState | None) -> None:
        held = None if old is None else self._by_digest.get(old.digest)
        if held is not None and held.state.key_id == key_id:
            del self._by_digest[held.state.digest]
        if new is not None:
            self._by_digest[new.digest] = _Key(new)
        self._call(f"key {key_id}")

    def _on_partner(self, name: str, old: PartnerAccess | None, new: PartnerAccess | None) -> None:
        self._call(f"partner {name}")

    def _call(self, name: str) -> None:
        for callback in tuple(self._watchers.get(name, ())):
            callback()

    def _unwatch(self, names: Iterable[str], callback: Callable[[], None]) -> None:
        for name in names:
            watchers = self._watchers.get(name, set())
            watchers.discard(callback)
            if not watchers:
                self._watchers.pop(name, None)


def _unknown() -> Refusal:
    return Refusal("unknown", UnauthenticatedError())


def _stale() -> Refusal:
    text = "the state of keys is not known here"
    return Refusal("stale", UnavailableError(text, retry_after_seconds=RETRY_AFTER_SECONDS))


_NOBODY: Final = ipaddress.ip_network("0.0.0.0/32")


def parse_allowlist(entries: Iterable[str]) -> tuple[Network, ...]:
    """The networks of an allowlist; an entry that is none lets nobody in, not everybody."""
    return tuple(_network(entry) for entry in entries)


def _network(entry: str) -> Network:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return _NOBODY
    mapped = network.network_address
    if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped is not None:
        bits = max(network.prefixlen - 96, 0)
        return ipaddress.ip_network((mapped.ipv4_mapped, bits), strict=False)
    return network


def _is_listed(client_ip: str, allowlist: tuple[Network, ...]) -> bool:
    address = parse_address(client_ip)
    return address is not None and any(address in network for network in allowlist)


def parse_address(text: str) -> Address | None:
    """The address in `text`, an IPv4 address wrapped in IPv6 unwrapped; None if it is none."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_proxies(text: str) -> tuple[Network, ...]:
    """The networks of a comma-separated setting.

    Raises:
        ValueError: an entry is no address and no network; the message names it.
    """
    return tuple(
        ipaddress.ip_network(entry.strip(), strict=False)
        for entry in text.split(",")
        if entry.strip()
    )


def client_ip(peer: str, forwarded_for: Iterable[str], trusted: tuple[Network, ...]) -> str:
    """The address of whoever called, as far as it can be believed.

    Walks from our own connection outwards and stops at the first address that is not one of our
    proxies: whatever stands further left in `X-Forwarded-For` may have been invented by it. An
    entry that is no address is not believed either, nor anything beyond it.

    Args:
        peer: the address of the connection.
        forwarded_for: the values of all `X-Forwarded-For` headers in their order.
        trusted: the networks of our own proxies.
    """
    believed = parse_address(peer)
    if believed is None:
        return peer
    hops = [hop for value in forwarded_for for hop in value.split(",")]
    while hops and any(believed in network for network in trusted):
        further = parse_address(_without_port(hops.pop().strip()))
        if further is None:
            break
        believed = further
    return str(believed)


class ClientAddresses:
    """`client_ip` with a memory, as most requests come the way of the one before.

    Args:
        trusted: the networks of our own proxies.
    """

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._known: dict[tuple[str, str], str] = {}

    def of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """As `client_ip` says, of the same arguments."""
        via = ", ".join(forwarded_for) if self._trusted else ""
        found = self._known.get((peer, via))
        if found is None:
            found = client_ip(peer, (via,) if via else (), self._trusted)
            if len(via) <= FORWARDED_LENGTH_MAX:
                self._remember((peer, via), found)
        return found

    def __len__(self) -> int:
        return len(self._known)

    def _remember(self, way: tuple[str, str], address: str) -> None:
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[way] = address


def _without_port(hop: str) -> str:
    """Some proxies write `203.0.113.7:4711` or `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
