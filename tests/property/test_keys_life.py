"""Protects a key's whole life over generated histories: commands, crashes, replays, restores, time.

Handlers, stores and Postgres are real; the relay publishes when the history says so. After every
step the tables, the events and the doors are compared with a model that was written apart.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from services.keys.access.handlers import AccessHandlers
from services.keys.domain import Wish
from services.keys.handlers import Handlers
from services.keys.idempotency import Once
from services.keys.issuing import Issuing
from services.keys.lapsing import Lapsing
from services.keys.master_keys.holding import Holding
from services.keys.master_keys.source import Source
from services.keys.master_keys.store import MasterKeysStore
from services.keys.metrics import KeysMetrics
from services.keys.partners import partner_writer
from services.keys.portal.handlers import PortalHandlers
from services.keys.portal.store import PortalStore
from services.keys.rotation import Turnover
from services.keys.sealing import Sealing
from services.keys.shares import handlers as links
from services.keys.shares.credentials import Passphrases
from services.keys.shares.store import ShareStore
from services.keys.staff import Permits, Staff
from services.keys.store import Removed, Store
from services.keys.telling import Confirmations
from services.keys.upkeep import Upkeep
from services.keys.vault import Vault
from shared import events, topics
from shared.batches import Item
from shared.errors import ForbiddenError, NotFoundError, PorticoError
from shared.events import KeyState
from shared.postgres import Pool, migrate, open_pool
from shared.tokens import Caller
from tests.keys_life_parts import (
    BrittlePool,
    Cut,
    Door,
    Plan,
    Relay,
    StandingClock,
    compacted,
    emptied,
    event_of,
)
from tests.keys_model import FLAGS, NEW, Fold, Model, ModelKey, RefusedError, kinds
from tests.keys_parts import clerk, partner, staff
from tests.soak import SOAK, count

NETWORK = 201
PARTNERS = (7, 8)
ADDRESSES = ("192.0.2.7", "198.51.100.9")
KEEP_SECONDS = 30 * 86_400.0
SECRET_LENGTH = 37
_TOLD = ("version", "digest", "integration", "status", "not_before", "expires_at")
"""Members that a key's state has in common with its row."""
_LAST_STATES = """
SELECT DISTINCT ON (key) key, value FROM outbox WHERE topic = $1 ORDER BY key, id DESC"""
_ACCESS = (
    "network_id",
    "network_affiliate_id",
    "version",
    "firehose_enabled",
    "held_by_staff",
    "held_by_status",
)
_PUT_ACCESS_BACK = """
UPDATE partner_access
SET version = $3, firehose_enabled = $4, held_by_staff = $5, held_by_status = $6
WHERE network_id = $1 AND network_affiliate_id = $2"""

partners = st.sampled_from(PARTNERS)
places = st.integers(0, 7)
"""Which of the keys, newest first, is meant; taken modulo how many there are."""
integrations = st.sampled_from(["crm", "CRM", "reports", "feeds", "postbacks"])
allowlists = st.sampled_from([(), ("192.0.2.7",), ("192.0.2.0/24",), ("2001:db8::/32",)])
spans = st.sampled_from([None, None, -1.0, 60.0, 3_600.0, 10 * 86_400.0])
"""How long a key is to live from now on, seconds; None for ever."""
starts = st.sampled_from([0.0, 0.0, 60.0])
names = st.sampled_from(["", "", "first", "second"])
"""`Idempotency-Key`s; none where empty."""
plans = st.sampled_from(
    [("", 0)] * 15
    + [("again", 0)] * 15
    + [("statement", number) for number in range(9)]
    + [("commit", 0), ("answer", 0)] * 3
)
"""When the process goes, if it does; or that the same is asked for again at once."""
statuses = st.sampled_from(["active"] * 4 + ["inactive", "suspended", "pending"])
flag_sets = st.sampled_from([frozenset[str]()] * 5 + [frozenset(FLAGS[:2]), frozenset(FLAGS[2:])])


def plan_of(drawn: tuple[str, int]) -> Plan:
    """The plan that a history names."""
    kind, number = drawn
    return Plan(
        statement=number if kind == "statement" else None,
        at_commit=kind == "commit",
        at_answer=kind == "answer",
    )


@dataclass
class World:
    """What all histories share: a loop, a migrated schema, and the master key."""

    runner: asyncio.Runner
    pool: Pool
    columns: list[str]
    vault: Vault

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)


class Life(RuleBasedStateMachine):
    """One history of one network; a second network's staff stand by and may touch nothing."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.run(emptied(world.pool))
        self.clock = StandingClock()
        self.model = Model(self.clock.time())
        self.known = self.model.copied()
        self.fold = Fold()
        self.door = Door()
        self.relay = Relay(world.pool, doors=[self.door])
        self.pool: Any = BrittlePool(world.pool)
        self._wire()
        self.last_id = 0
        self.searched_id = 0
        self.versions: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.heard_revoked: set[str] = set()
        self.earlier: dict[str, list[tuple[Any, ModelKey, dict[str, Any]]]] = {}
        self.earlier_access: dict[int, list[tuple[Any, ...]]] = {}
        self.account_version = 0
        self.asked: dict[
            str, tuple[Callable[[], Awaitable[Any]], Callable[[Model], list[str]]]
        ] = {}

    def _wire(self) -> None:
        """The service's own parts, as `services.keys.app` puts them together."""
        store, metrics, sealing = Store(self.pool), KeysMetrics(), Sealing(self.world.vault)
        permits = Permits(store, self.clock, metrics)
        confirmations = Confirmations(self.relay, metrics, 5.0)
        common: Any = (sealing, permits, confirmations)
        self.issuing = Issuing(store, *common, self.clock)
        self.handlers = Handlers(store, *common, self.clock)
        self.access = AccessHandlers(store, permits, confirmations, self.clock)
        self.links = links.ShareHandlers(
            ShareStore(self.pool), *common, Passphrases(), self.clock, str, "https://test"
        )
        self.portal = PortalHandlers(PortalStore(self.pool), *common, self.clock)
        self.lapsing = Lapsing(store, lambda: True, self.clock)
        views: Any = list(self.door.views.values())
        self.upkeep = Upkeep(
            store,
            views,
            lambda: True,
            clock=self.clock,
            metrics=metrics,
            pause_seconds=60,
            keep_seconds=KEEP_SECONDS,
        )

    # --- how a step is taken --------------------------------------------------------------------

    def do(
        self,
        command: Callable[[], Awaitable[Any]],
        predicted: Callable[[Model], list[str]],
        drawn: tuple[str, int] = ("", 0),
    ) -> Any:
        """Do `command`; it must be refused, and told, as the model says. None if it was."""
        plan = plan_of(drawn)
        before = self.model
        self.model = before.copied()
        error: type[PorticoError] | None = None
        try:
            told = predicted(self.model)
        except RefusedError as refused:
            self.model, error, told = before.copied(), refused.kind, list(refused.told)
        result, found, is_cut = self._attempted(command, plan)
        if is_cut and not plan.at_answer:
            self.model, told = before.copied(), []
        elif not is_cut:
            assert (found is None) == (error is None), f"expected {error}, got {found!r}"
            assert found is None or isinstance(found, error or ()), f"expected {error}: {found!r}"
        self.note(told)
        return result

    def _attempted(
        self, command: Callable[[], Awaitable[Any]], plan: Plan
    ) -> tuple[Any, PorticoError | None, bool]:
        self.pool.plan = self.relay.plan = plan
        try:
            return self.world.run(command()), None, False
        except PorticoError as error:
            return None, error, False
        except Cut:
            return None, None, True
        finally:
            self.pool.plan = self.relay.plan = Plan()

    def note(self, told: list[str]) -> None:
        """Take in what the outbox has gained, which must be `told` and no more."""
        rows = self.world.run(
            self.world.pool.fetch("SELECT * FROM outbox WHERE id > $1 ORDER BY id", self.last_id)
        )
        self.last_id = max([self.last_id, *(row["id"] for row in rows)])
        found: list[Any] = [
            event_of(row) for row in rows if row["topic"] == topics.KEYS_EVENTS.name
        ]
        assert kinds(found) == sorted(told)
        for event in found:
            assert event.network_id == NETWORK
            self.fold.take(event)
            if isinstance(event, events.KeyIssued):
                self._name(event.key_id)
        for row in rows:
            self._note_version(row)

    def _name(self, key_id: str) -> None:
        """The model's new key has the id and the secret that the service drew."""
        self.model.named(key_id)
        self.model.keys[key_id].secret = self.world.run(self._opened(key_id))

    async def _opened(self, key_id: str) -> str:
        async with Store(self.world.pool).transaction("") as unit:
            key = await unit.key(NETWORK, key_id)
            return (await Sealing(self.world.vault).opened(unit, key)).reveal()

    def _note_version(self, row: Any) -> None:
        """States of a thing only ever grow."""
        if row["topic"] == topics.KEYS_EVENTS.name or row["value"] is None:
            return
        version = msgspec.json.decode(row["value"])["version"]
        assert version > self.versions.get(row["key"], 0), f"{row['key']}: {version} came again"
        self.versions[row["key"]] = version

    def chosen(self, place: int) -> str:
        """One of the keys, or an id that names none."""
        found = list(reversed(self.model.keys))
        return found[place % len(found)] if found else "key_" + "0" * 20

    @property
    def staff(self) -> Staff:
        return Staff(staff(NETWORK), "request-1", "192.0.2.99")

    def from_now(self, span: float | None) -> float | None:
        return None if span is None else self.clock.time() + span

    # --- what the network's platform tells ------------------------------------------------------

    @initialize(first=spans, second=spans, is_held=st.booleans())
    def begin(self, first: float | None, second: float | None, is_held: bool) -> None:
        """Two partners with a key each, one with a link; the other may be suspended by staff."""
        for one, span in zip(PARTNERS, (first, second), strict=True):
            self._tell(one, "active", frozenset())
            self._issue(one, "crm", span=span)
        self._share(next(iter(self.model.keys), ""), 86_400)
        if is_held:
            self.set_access(one=PARTNERS[1], is_on=True, suspends=True, plan=("", 0))

    @rule(
        one=partners,
        kind=st.sampled_from(["told"] * 6 + ["told again", "removed"]),
        status=statuses,
        flags=flag_sets,
    )
    def account(self, one: int, kind: str, status: str, flags: frozenset[str]) -> None:
        """A partner is told of anew, or late, or removed."""
        if kind == "told":
            self._tell(one, status, flags)
        elif kind == "told again":
            self._tell(one, "suspended", frozenset(FLAGS), self.model.partners[one].version)
        else:
            self.do(
                lambda: self._projected(Removed(NETWORK, one)),
                lambda model: model.account_removed(one),
            )

    def _tell(self, one: int, status: str, flags: frozenset[str], version: int = 0) -> None:
        self.account_version += 1
        number = version or self.account_version
        profile = partner(
            NETWORK,
            one,
            version=number,
            account_status=status,
            in_onboarding="in_onboarding" in flags,
            has_technical_capacity="no_technical_capacity" not in flags,
            has_fraud_flag="fraud_flag" in flags,
            has_quality_flag="quality_flag" in flags,
        )
        self.do(
            lambda: self._projected(profile),
            lambda model: model.account(one, number, status, flags),
        )

    async def _projected(self, event: Any) -> None:
        record: Any = None
        async with self.world.pool.acquire() as connection, connection.transaction():
            await partner_writer(self.clock)(connection, [Item(event, record)])

    # --- keys come into being -------------------------------------------------------------------

    @rule(
        one=partners,
        integration=integrations,
        allowlist=allowlists,
        start=starts,
        span=spans,
        by=st.sampled_from(["staff", "staff", "staff overriding", "super user overriding"]),
        name=names,
        plan=plans,
    )
    def issue(
        self,
        one: int,
        integration: str,
        allowlist: tuple[str, ...],
        start: float,
        span: float | None,
        by: str,
        name: str,
        plan: Any,
    ) -> None:
        """Staff issue a key, perhaps against obstacles, perhaps asking twice."""
        self._issue(one, integration, allowlist, start, span, by=by, name=name, plan=plan)

    def _issue(
        self,
        one: int,
        integration: str,
        allowlist: tuple[str, ...] = (),
        start: float = 0.0,
        span: float | None = None,
        *,
        by: str = "staff",
        name: str = "",
        plan: Any = ("", 0),
    ) -> None:
        expires_at, not_before = self.from_now(span), self.clock.time() + start
        is_super, overrides = by.startswith("super"), by.endswith("overriding")
        why = "agreed with legal" if overrides else ""
        wish = Wish(integration, allowlist, expires_at, not_before, "", why)
        caller = Staff(staff(NETWORK, super_user=is_super), "request-1", "192.0.2.99")
        wanted = ModelKey(one, integration, "", allowlist, not_before, expires_at)
        request = repr((one, integration, allowlist, start, span))
        self._make(
            lambda: self.issuing.issue(caller, one, wish, _once(name, request)),
            lambda model: model.issue(
                wanted, override=overrides, super_user=is_super, once=name, request=request
            ),
            name,
            plan,
        )

    def _make(
        self,
        command: Callable[[], Awaitable[Any]],
        predicted: Callable[[Model], list[str]],
        name: str,
        plan: Any,
    ) -> None:
        """A key comes into being; the answer carries the secret that works."""
        if name:
            self.asked[name] = (command, predicted)
        shown = self.do(command, predicted, plan)
        if shown is not None:
            assert shown.secret.reveal() == self.model.keys[shown.key.key_id].secret
            self._is_told(shown.key, propagated=shown.propagated)

    @precondition(lambda self: self.asked)
    @rule(name=names, plan=plans)
    def ask_again(self, name: str, plan: Any) -> None:
        """The same request once more, as by a client that got no answer."""
        name = name if name in self.asked else next(iter(self.asked))
        self._make(*self.asked[name], name, plan)

    @rule(
        place=places,
        overlap=st.sampled_from([0, 60, 604_800]),
        span=st.sampled_from(["rule", "rule", None, -1.0, 3_600.0]),
        name=names,
        plan=plans,
    )
    def rotate(self, place: int, overlap: int, span: Any, name: str, plan: Any) -> None:
        """A key gives way to another; the two live on together for a while."""
        key_id = self.chosen(place)
        has_rule = span == "rule"
        expires_at = None if has_rule else self.from_now(span)
        turnover = Turnover(overlap, has_expiry=not has_rule, expires_at=expires_at)
        request = repr((key_id, overlap, span))
        self._make(
            lambda: self.issuing.rotate(self.staff, key_id, turnover, _once(name, request)),
            lambda model: model.rotate(
                key_id, overlap, "rule" if has_rule else expires_at, name, request
            ),
            name,
            plan,
        )

    def _is_told(self, owned: Any, *, propagated: bool) -> None:
        """A change that was answered as propagated is at the doors; with Kafka there, all are."""
        assert propagated or self.relay.is_kafka_away
        assert not propagated or self.relay.told_id >= self.world.run(self._owed(owned))

    async def _owed(self, owned: Any) -> int:
        """The last outbox row of this thing's state."""
        key = getattr(owned, "key_id", None) or f"{NETWORK}:{owned.network_affiliate_id}"
        statement = "SELECT coalesce(max(id), 0) FROM outbox WHERE key = $1 AND topic <> $2"
        found: int = await self.world.pool.fetchval(statement, key, topics.KEYS_EVENTS.name)
        return found

    # --- keys change, and are shown -------------------------------------------------------------

    def _change(
        self,
        command: Callable[[], Awaitable[Any]],
        predicted: Callable[[Model], list[str]],
        plan: Any,
    ) -> None:
        for _ in range(2 if plan[0] == "again" else 1):
            done = self.do(command, predicted, plan)
            if done is not None:
                self._is_told(done.now, propagated=done.propagated)

    @rule(place=places, plan=plans)
    def revoke(self, place: int, plan: Any) -> None:
        """A key ends for good."""
        key_id = self.chosen(place)
        self._change(
            lambda: self.handlers.revoke(self.staff, key_id, "left"),
            lambda model: model.revoke(key_id),
            plan,
        )

    @rule(place=places, allowlist=allowlists, plan=plans)
    def set_allowlist(self, place: int, allowlist: tuple[str, ...], plan: Any) -> None:
        """A key is bound to addresses."""
        key_id = self.chosen(place)
        self._change(
            lambda: self.handlers.set_allowlist(self.staff, key_id, allowlist, "moved"),
            lambda model: model.set_allowlist(key_id, allowlist),
            plan,
        )

    @rule(place=places, span=spans, plan=plans)
    def set_expiry(self, place: int, span: float | None, plan: Any) -> None:
        """A key is to end at another moment."""
        key_id, expires_at = self.chosen(place), self.from_now(span)
        self._change(
            lambda: self.handlers.set_expiry(self.staff, key_id, expires_at, "agreed"),
            lambda model: model.set_expiry(key_id, expires_at),
            plan,
        )

    @rule(one=partners, is_on=st.booleans(), suspends=st.booleans(), plan=plans)
    def set_access(self, one: int, is_on: bool, suspends: bool, plan: Any) -> None:
        """Staff hold a partner, or switch its streams."""
        if suspends:
            self._change(
                lambda: self.access.set_suspension(self.staff, one, suspended=is_on, reason=""),
                lambda model: model.suspend(one, suspended=is_on),
                plan,
            )
        else:
            self._change(
                lambda: self.access.set_firehose(self.staff, one, enabled=is_on, reason=""),
                lambda model: model.set_firehose(one, enabled=is_on),
                plan,
            )

    @rule(place=places, plan=plans)
    def reveal(self, place: int, plan: Any) -> None:
        """Staff see a secret again."""
        key_id = self.chosen(place)
        shown = self.do(
            lambda: self.handlers.reveal(self.staff, key_id, "lost"),
            lambda model: model.reveal(key_id),
            plan,
        )
        if shown is not None:
            assert shown.secret.reveal() == self.model.keys[key_id].secret

    @rule(one=partners, plan=plans)
    def look_at_own(self, one: int, plan: Any) -> None:
        """A partner's user sees the secrets of the partner's live keys, and of no other."""
        caller = Caller("user-9", network_id=NETWORK, network_affiliate_id=one)
        user = Staff(caller, "request-3", "192.0.2.97")
        found = self.do(
            lambda: self.portal.own(user, masked=False), lambda model: model.own(one), plan
        )
        for own in found.keys if found else ():
            key = self.model.keys[own.key.key_id]
            is_shown = key.is_live(self.model.now) and not self.model.partners[one].holds
            assert key.partner == one
            assert (own.secret and own.secret.reveal()) == (key.secret if is_shown else None)

    # --- links ----------------------------------------------------------------------------------

    @rule(place=places, seconds=st.sampled_from([60, 86_400]), plan=plans)
    def share(self, place: int, seconds: int, plan: Any) -> None:
        """Staff make a link."""
        self._share(self.chosen(place), seconds, plan)

    def _share(self, key_id: str, seconds: int, plan: Any = ("", 0)) -> None:
        made = self.do(
            lambda: self.links.make(self.staff, key_id, links.Wish(seconds, None, "")),
            lambda model: model.share(key_id, seconds),
            plan,
        )
        share = self.model.shares.pop(NEW, None)
        if made is not None and share is not None:
            listed, share.token = made
            self.model.shares[listed.share.share_id] = share

    @precondition(lambda self: self.model.shares)
    @rule(place=places, withdraws=st.sampled_from([False, False, True]), plan=plans)
    def use_link(self, place: int, withdraws: bool, plan: Any) -> None:
        """A visitor presses the button of a link, or staff take the link back."""
        found = list(reversed(self.model.shares))
        share_id = found[place % len(found)]
        if withdraws:
            key_id = self.model.shares[share_id].key_id
            self.do(
                lambda: self.links.withdraw(self.staff, key_id, share_id, ""),
                lambda model: model.withdraw(share_id),
                plan,
            )
            return
        for _ in range(2 if plan[0] == "again" else 1):
            self._press(share_id, plan)

    def _press(self, share_id: str, plan: Any) -> None:
        """The button of a link; only the first to press it while it is open sees the secret."""
        share, state = self.model.shares[share_id], self.model.link_state(share_id)
        visitor = links.Visitor("request-4", "192.0.2.96")
        view = self.do(
            lambda: self.links.open(visitor, share.token, SecretStr("")),
            lambda model: model.open_link(share_id),
            plan,
        )
        if view is not None:
            assert view.outcome == ("shown" if state == "open" else state)
            secret = self.model.keys[share.key_id].secret if state == "open" else None
            assert (view.secret and view.secret.reveal()) == secret

    # --- those who may not ----------------------------------------------------------------------

    @rule(place=places, one=partners, is_clerk=st.booleans(), which=st.integers(0, 8))
    def trespass(self, place: int, one: int, is_clerk: bool, which: int) -> None:
        """Staff of another network find nothing; who lacks the permission is told so, on record."""
        key_id = self.chosen(place)
        who = Staff(clerk(NETWORK) if is_clerk else staff(NETWORK + 1), "request-2", "192.0.2.98")
        commands: list[Callable[[], Awaitable[Any]]] = [
            lambda: self.issuing.issue(who, one, Wish("crm")),
            lambda: self.issuing.rotate(who, key_id, Turnover()),
            lambda: self.handlers.reveal(who, key_id, ""),
            lambda: self.handlers.revoke(who, key_id, ""),
            lambda: self.handlers.set_allowlist(who, key_id, ["192.0.2.1"], ""),
            lambda: self.handlers.set_expiry(who, key_id, None, ""),
            lambda: self.access.set_firehose(who, one, enabled=True, reason=""),
            lambda: self.access.set_suspension(who, one, suspended=True, reason=""),
            lambda: self.links.make(who, key_id, links.Wish(60, None, "")),
        ]

        def predicted(_: Model) -> list[str]:
            if is_clerk:
                raise RefusedError(ForbiddenError, "AccessDenied")
            raise RefusedError(NotFoundError)

        self.do(commands[which], predicted)

    # --- time, Kafka, crashes, disasters --------------------------------------------------------

    @rule(
        place=places,
        seconds=st.sampled_from([None, None, -0.001, 1.0, 60.0, 3_600.0, 86_400.0, 31 * 86_400.0]),
        notes=st.booleans(),
    )
    def pass_time(self, place: int, seconds: float | None, notes: bool) -> None:
        """A while; or to the very moment at which a key ends, or a millisecond before."""
        key = self.model.keys.get(self.chosen(place))
        if seconds is not None and seconds > 0:
            self.clock.advance(seconds)
        elif key is not None and key.expires_at is not None:
            self.clock.advance(max(0.0, key.expires_at + (seconds or 0.0) - self.clock.time()))
        self.model.now = self.clock.time()
        if notes:
            self.do(self.lapsing.note_lapsed, lambda model: model.note_lapsed())

    @rule(what=st.sampled_from(["away", "back", "publish", "publish", "die publishing"]))
    def kafka(self, what: str) -> None:
        """Kafka goes and comes; the relay takes turns, or dies before it has marked one."""
        if what in ("away", "back"):
            self.relay.is_kafka_away = what == "away"
        else:
            self.world.run(self.relay.publish(marks=what == "publish"))

    @precondition(lambda self: self.relay.log)
    @rule(places=st.lists(st.integers(0, 99), min_size=1, max_size=5))
    def replay(self, places: list[int]) -> None:
        """Earlier records come again at a door that has read them all."""
        log = self.relay.log
        self.door.read([log[place % len(log)] for place in places])

    @rule(is_compacted=st.booleans())
    def restart_a_door(self, is_compacted: bool) -> None:
        """A door that reads the topics from their start knows what the others know."""
        fresh = Door()
        fresh.read(compacted(self.relay.log) if is_compacted else self.relay.log)
        for name, view in fresh.views.items():
            assert dict(view.items()) == dict(self.door.views[name].items()), name

    @precondition(lambda self: not self.relay.is_kafka_away)
    @rule()
    def keep_up(self) -> None:
        """What has lapsed is noted, what ended long ago leaves the doors, answers are forgotten."""
        self.do(self.lapsing.note_lapsed, lambda model: model.note_lapsed())
        self.do(self.lapsing.forget_answers, lambda _: [])
        self.world.run(self.relay.publish())

        def predicted(model: Model) -> list[str]:
            model.forget(KEEP_SECONDS)
            return []

        self.do(self.upkeep.turn, predicted)
        self.world.run(self.relay.publish())

    @precondition(lambda self: self.earlier and not self.relay.is_kafka_away)
    @rule(place=places, age=st.integers(0, 5))
    def restore(self, place: int, age: int) -> None:
        """A key's row is as it was earlier, as after a restore; the comparison mends the doors."""
        key_id = self.chosen(place)
        if self.model.keys[key_id].is_forgotten:
            return  # what the log has forgotten, it cannot hold against the tables
        self.world.run(self.relay.publish())
        row, key, told = self.earlier[key_id][age % len(self.earlier[key_id])]
        if not self.world.run(self._put_back(row)):
            return
        self.fold.keys[key_id] = dict(told)
        highest, self.versions[key_id] = self.versions[key_id], row["version"]

        def predicted(model: Model) -> list[str]:
            noted = model.restore(key_id, key, KEEP_SECONDS)
            model.forget(KEEP_SECONDS)
            return noted

        self.do(self.upkeep.turn, predicted)
        self.world.run(self.relay.publish())
        assert self.versions[key_id] >= highest or self.model.keys[key_id].is_forgotten

    @precondition(lambda self: not self.relay.is_kafka_away)
    @rule(one=partners, age=st.integers(0, 5))
    def restore_access(self, one: int, age: int) -> None:
        """Likewise a partner's row: whom the doors keep out, they keep out."""
        if not self.earlier_access.get(one):
            return
        self.world.run(self.relay.publish())
        held = self.earlier_access[one]
        row = held[age % len(held)]
        self.world.run(self.world.pool.execute(_PUT_ACCESS_BACK, *row))
        holds = {hold for hold, stands in (("staff", row[4]), ("account_status", row[5])) if stands}
        self.fold.partners[one] = {"firehose_enabled": row[3], "holds": set(holds)}
        name = f"{NETWORK}:{one}"
        highest, self.versions[name] = self.versions[name], row[2]

        def predicted(model: Model) -> list[str]:
            model.forget(KEEP_SECONDS)
            return model.restore_access(one, holds, firehose=row[3])

        self.do(self.upkeep.turn, predicted)
        self.world.run(self.relay.publish())
        assert self.versions[name] >= highest

    async def _put_back(self, row: Any) -> bool:
        """The row of a key as it was; False where another key has taken its place."""
        assignments = ", ".join(f"{name} = ${at}" for at, name in enumerate(self.world.columns, 2))
        statement = f"UPDATE keys SET {assignments} WHERE key_id = $1"
        values = [row[name] for name in self.world.columns]
        try:
            await self.world.pool.execute(statement, row["key_id"], *values)
        except asyncpg.UniqueViolationError:
            return False
        return True

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def tables_events_and_model_agree(self) -> None:
        """No event without state, no state without event, and both as the model has them."""
        rows = self.world.run(self.world.pool.fetch("SELECT * FROM keys"))
        assert {row["key_id"] for row in rows} == self.model.keys.keys() == self.fold.keys.keys()
        states = self.world.run(self._last_states())
        for row in rows:
            key, told = self.model.keys[row["key_id"]], self.fold.keys[row["key_id"]]
            self._is_as_modelled(row, key)
            for member, value in told.items():
                found = tuple(row[member]) if member == "allowlist" else row[member]
                assert value == found, f"{member}: told {value}, is {found}"
            self._is_state_of(row, states.get(row["key_id"]))
            self._remember(row, key, told)

    def _is_as_modelled(self, row: Any, key: ModelKey) -> None:
        assert row["network_id"] == NETWORK
        for member in ("status", "expires_at", "ended_at", "not_before", "created_at"):
            assert row[member] == getattr(key, member), member
        assert tuple(row["allowlist"]) == key.allowlist
        chain = (row["predecessor_key_id"], row["successor_key_id"])
        assert chain == (key.predecessor, key.successor)

    async def _last_states(self) -> dict[str, KeyState]:
        """The last state appended of each key, unless that was its removal."""
        rows = await self.world.pool.fetch(_LAST_STATES, topics.KEYS_STATE.name)
        return {row["key"]: events.decode(KeyState, row["value"]) for row in rows if row["value"]}

    def _is_state_of(self, row: Any, state: KeyState | None) -> None:
        """The last state told of a key is what its row says."""
        if state is None:
            assert self.model.keys[row["key_id"]].is_forgotten
            return
        for member in _TOLD:
            assert getattr(state, member) == row[member], member
        assert state.allowlist == tuple(row["allowlist"])

    def _remember(self, row: Any, key: ModelKey, told: dict[str, Any]) -> None:
        held = self.earlier.setdefault(row["key_id"], [])
        if not held or held[-1][0]["version"] != row["version"]:
            held.append((row, Model(0.0, {NEW: key}).copied().keys[NEW], dict(told)))

    @invariant()
    def partners_are_as_told(self) -> None:
        """The tables' access of a partner is what its events tell."""
        rows = self.world.run(self.world.pool.fetch("SELECT * FROM partner_access"))
        found = {row["network_affiliate_id"]: row for row in rows}
        for one, wanted in self.model.partners.items():
            row = found.get(one)
            assert (row is not None and row["suspended"]) == bool(wanted.holds)
            assert (row is not None and row["firehose_enabled"]) == wanted.firehose
            held = self.earlier_access.setdefault(one, [])
            if row and row["version"] and (not held or held[-1][2] != row["version"]):
                held.append(tuple(row[name] for name in _ACCESS))
            told = self.fold.partners.get(one, {"firehose_enabled": False, "holds": set()})
            assert told == {"firehose_enabled": wanted.firehose, "holds": wanted.holds}

    @invariant()
    def one_key_an_integration(self) -> None:
        """Beside those that were rotated."""
        active = [
            (key.partner, key.integration.lower())
            for key in self.model.keys.values()
            if key.status == "active" and key.successor is None
        ]
        assert len(active) == len(set(active))

    @invariant()
    def revoked_is_for_good(self) -> None:
        """In the tables, and at a door that has once heard of it."""
        for key_id in self.revoked:
            assert self.model.keys[key_id].status != "active"
        self.revoked |= {name for name, key in self.model.keys.items() if key.status == "revoked"}
        for key_id, state in self.door.views[topics.KEYS_STATE.name].items():
            assert key_id not in self.heard_revoked or state.status == "revoked"
            if state.status == "revoked":
                self.heard_revoked.add(key_id)

    @invariant()
    def doors_decide_as_the_model(self) -> None:
        """By what has been published; time alone needs no record."""
        if self.relay.told_id >= self.last_id:
            self.known = self.model.copied()
        now = self.clock.time()
        for key in self.known.keys.values():
            for address in ADDRESSES:
                expected = self.known.refusal(key, address, now)
                assert self.door.refusal(key.secret, address, now) == expected

    @invariant()
    def no_secret_is_told(self) -> None:
        """Neither in a value nor in a header of any record."""
        statement = "SELECT value, headers FROM outbox WHERE id > $1"
        rows = self.world.run(self.world.pool.fetch(statement, self.searched_id))
        self.searched_id = self.last_id
        texts = b"".join((row["value"] or b"") + row["headers"].encode() for row in rows)
        for key in self.model.keys.values():
            assert len(key.secret) == SECRET_LENGTH
            assert key.secret[4:31].encode() not in texts


def _once(name: str, request: str) -> Once | None:
    return Once(NETWORK, "user-7", name, request) if name else None


@pytest.mark.timeout(count(180, 7_200))
def test_a_key_lives_as_the_model_says(database_url: str, schema: str) -> None:
    """No event without state, no state without event, and a revoked key never becomes active."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        world = runner.run(_opened(runner, stack, database_url, schema))
        run_state_machine_as_test(
            lambda: Life(world),
            settings=settings(
                max_examples=count(45, 1_500),
                stateful_step_count=50,
                phases=list(Phase) if SOAK else [Phase.generate],  # to shrink takes minutes
            ),
        )
        runner.run(stack.aclose())


async def _opened(
    runner: asyncio.Runner, stack: AsyncExitStack, database_url: str, schema: str
) -> World:
    pool = await stack.enter_async_context(
        open_pool(database_url, schema=schema, application="test", size_max=2)
    )
    await migrate(pool, "services.keys.migrations")
    rows = await pool.fetch(
        "SELECT column_name AS name FROM information_schema.columns"
        " WHERE table_schema = $1 AND table_name = 'keys' AND column_name <> 'key_id'"
        " AND is_generated = 'NEVER'",
        schema,
    )
    source = Source(SecretStr(base64.b64encode(bytes(32)).decode()), None)
    vault = Vault(source.read())
    await Holding(vault, source, MasterKeysStore(pool), StandingClock(), KeysMetrics()).start()
    return World(runner, pool, [row["name"] for row in rows], vault)
