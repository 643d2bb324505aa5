"""Moves every network's data key under the first master key, while the service runs.

1. Wait until every running process holds that key (`Holding` says so every two seconds).
2. Switch: from its commit on, new data keys are wrapped under it.
3. Rewrap what is under another one, a network a transaction, each with its event.
4. Verify: every data key opens under it, and none is under another.

Each step looks again who is running, and no process can join unseen during one: so no running
process ever meets a data key that it cannot open. A kill at any point loses nothing; what was done
stands, and the next run goes on. The secrets themselves are not touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.keys.master_keys.store import Check, Holder, MasterKeysStore, MasterKeysUnit
from services.keys.vault import DamagedError, DataKey, Vault
from shared.clock import Clock
from shared.errors import ConflictError, SetupError
from shared.events import Actor, SecretsRewrapped
from shared.faultpoint import point

PAGE_ROWS: Final = 500
LOOK_SECONDS: Final = 0.5

Told = Callable[[int, int], None]
"""Called as rewrapping goes on: how many are done, of how many."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Attributes:
        actor: who asks.
        reason: why, for the trail.
        wait_seconds: how long running processes may take to hold the key.
        force: go on although some do not hold it.
    """

    actor: Actor
    reason: str = ""
    wait_seconds: float = 30.0
    force: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    Attributes:
        master_key: the fingerprint that everything is under now.
        moved: data keys rewrapped by this run.
        verified: data keys that open under it.
        damaged: networks whose data key opens under no master key, and stays as it is.
    """

    master_key: str
    moved: int
    verified: int
    damaged: tuple[int, ...]


class Rewrap:
    """One rotation, by a vault that holds the new master key first and all that are needed.

    Args:
        store: the tables.
        vault: with the master keys.
        clock: the time.
        told: hears of progress.
    """

    def __init__(self, store: MasterKeysStore, vault: Vault, clock: Clock, told: Told) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._told = told
        self._target = vault.fingerprints[0]

    async def run(self, order: Order) -> Report:
        """Move everything under the first master key.

        Raises:
            SetupError: a master key that is needed was not given.
            ConflictError: a running process does not hold the first one, or another rotation runs.
            UnavailableError: Postgres does not answer; the next run goes on.
        """
        async with self._store.alone() as is_alone:
            if not is_alone:
                raise ConflictError("Another `portico keys rewrap` runs on this database.")
            await self._require_needed()
            if not order.force:
                await self._until_held(order.wait_seconds)
            await self._switch(order)
            moved, damaged = await self._move(order)
            return Report(self._target, moved, await self._verified(damaged), tuple(damaged))

    async def _require_needed(self) -> None:
        missing = (await self._store.uses()).keys() - set(self._vault.fingerprints)
        if missing:
            raise SetupError(
                f"Data keys are under the master key {', '.join(sorted(missing))}, which was not "
                f"given; given: {', '.join(self._vault.fingerprints)}. Add it behind the first."
            )
        if await self._store.check() is None:
            raise SetupError("This database holds no keys yet: start the key service on it first.")

    async def _until_held(self, seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while lacking := await self._store.lacking(self._target):
            if self._clock.monotonic() >= deadline:
                raise ConflictError(_told_of(self._target, lacking))
            await self._clock.sleep(LOOK_SECONDS)

    async def _switch(self, order: Order) -> None:
        check = Check(self._vault.new_check(self._target), self._target)
        async with self._store.transaction("switching the master key") as unit:
            await self._require_held(unit, order)
            await unit.switch(check)
        point("keys.rewrap.switched")

    async def _move(self, order: Order) -> tuple[int, list[int]]:
        """How many were rewrapped, and the networks whose data key does not open."""
        total, moved, behind = await self._store.count(), 0, -1
        damaged: list[int] = []
        self._told(0, total)
        while networks := await self._store.others(self._target, behind, PAGE_ROWS):
            behind = networks[-1]
            for network_id in networks:
                try:
                    moved += await self._rewrapped(network_id, order)
                except DamagedError:
                    damaged.append(network_id)
                self._told(moved, total)
        return moved, damaged

    async def _rewrapped(self, network_id: int, order: Order) -> bool:
        async with self._store.transaction("rewrapping a data key") as unit:
            await self._require_held(unit, order)
            before = await unit.data_key(network_id)
            if before is None or before.master_key == self._target:
                return False
            after = self._vault.rewrapped(before, network_id, self._target)
            self._vault.require_opens(after, network_id)
            is_done = await unit.rewrap(network_id, before, after)
            if is_done:
                await unit.append(self._event(network_id, before, order))
            point("keys.rewrap.before_commit")
        point("keys.rewrap.after_commit")
        return is_done

    def _event(self, network_id: int, before: DataKey, order: Order) -> SecretsRewrapped:
        return SecretsRewrapped(
            network_id=network_id,
            network_affiliate_id=0,
            occurred_at=self._clock.time(),
            actor=order.actor,
            reason=order.reason,
            before=before.master_key or "unknown",
            after=self._target,
        )

    async def _require_held(self, unit: MasterKeysUnit, order: Order) -> None:
        """In the unit's transaction nobody can announce itself any more."""
        await unit.hold_still()
        if not order.force and (lacking := await unit.lacking(self._target)):
            raise ConflictError(_told_of(self._target, lacking))

    async def _verified(self, damaged: list[int]) -> int:
        """How many data keys open under the first master key; all but the damaged ones must."""
        verified, behind = 0, -1
        while page := await self._store.page(behind, PAGE_ROWS):
            behind = page[-1][0]
            for network_id, data_key in page:
                if network_id in damaged:
                    continue
                if data_key.master_key != self._target:
                    raise ConflictError(
                        f"The data key of network {network_id} is under {data_key.master_key!r} "
                        "again: something else changes data keys. Find out what, and run it again."
                    )
                self._open(data_key, network_id, damaged)
                verified += network_id not in damaged
        return verified

    def _open(self, data_key: DataKey, network_id: int, damaged: list[int]) -> None:
        try:
            self._vault.require_opens(data_key, network_id)
        except DamagedError:
            damaged.append(network_id)


def _told_of(fingerprint: str, lacking: list[Holder]) -> str:
    named = "; ".join(
        f"{holder.name} (holds {', '.join(holder.fingerprints) or 'none'}, "
        f"seen {holder.age_seconds:.0f} s ago)"
        for holder in lacking
    )
    return (
        f"Running key services do not hold the master key {fingerprint} yet: {named}. Give it to "
        "them, first or behind the others; a process that has died is forgotten after 10 s."
    )
