"""Keeps this process able to open every secret, and tells the others which master keys it holds.

The file of master keys is read again every few seconds, so that a new one needs no restart. What
cannot be read or is wrong is logged once and changes nothing; a key that is taken out while a
secret still needs it stays in use here. So a rotation, a typing error and a half-written file all
leave the process as able as it was.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from typing import Final

from services.keys.master_keys.source import Source
from services.keys.master_keys.store import Check, MasterKeysStore, MasterKeysUnit
from services.keys.metrics import KeysMetrics
from services.keys.vault import MasterKey, Vault
from shared.clock import Clock
from shared.errors import SetupError, UnavailableError

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 2.0
"""How often the file is read and the others are told; well under `HOLDER_SECONDS_MAX`."""


class Holding:
    """One turn at the start, which may refuse it; then one every few seconds.

    Args:
        vault: to be kept able.
        source: where the master keys come from.
        store: the tables.
        clock: the time between turns.
        metrics: of the service.
    """

    def __init__(
        self,
        vault: Vault,
        source: Source,
        store: MasterKeysStore,
        clock: Clock,
        metrics: KeysMetrics,
    ) -> None:
        self._vault = vault
        self._source = source
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._held: tuple[MasterKey, ...] = ()
        self._wanted: tuple[MasterKey, ...] = ()
        self._problem = ""
        self._lacking: tuple[str, ...] = ()
        self._only_here: tuple[str, ...] = ()

    async def start(self) -> None:
        """Hold what the source says, if that opens every secret of the database.

        Raises:
            SetupError: it does not; the message names what is needed and what was given.
        """
        self._held = self._wanted = self._source.read()
        self._vault.hold(self._held)
        async with self._store.transaction("checking the master keys") as unit:
            await unit.announce(self._name, self._vault.fingerprints)
            await self._recognise(unit)
            needed = await unit.uses()
        if missing := needed.keys() - set(self._vault.fingerprints):
            await self._store.leave(self._name)
            raise SetupError(self._refusal(missing))

    async def run(self) -> None:
        """Take turns for ever; Postgres away is waited for until the next one."""
        while True:
            await self._clock.sleep(TURN_SECONDS)
            try:
                await self.turn()
            except UnavailableError as error:
                log.warning("master keys not announced", extra={"reason": error.message})

    async def turn(self) -> None:
        """Take in what the source says now, as far as every secret can still be opened.

        A new key is held before it is announced, and an old one announced until it is let go.

        Raises:
            UnavailableError: Postgres does not answer; what is held stays.
        """
        await self._read_again()
        both = _united(self._wanted, self._held)
        self._hold(both)
        async with self._store.transaction("announcing the master keys") as unit:
            await unit.announce(self._name, self._vault.fingerprints)
            needed = await unit.uses()
            kept = _united(self._wanted, (key for key in both if key.fingerprint in needed))
            await unit.announce(self._name, [key.fingerprint for key in kept])
        self._hold(kept)
        self._note(needed)

    async def leave(self) -> None:
        """Tell the others that this process ends; if that fails, they notice soon."""
        try:
            await self._store.leave(self._name)
        except UnavailableError as error:
            log.warning("holders of master keys not left", extra={"reason": error.message})

    def missing(self) -> str | None:
        """What keeps the process from being ready: a master key that secrets need."""
        if not self._lacking:
            return None
        return f"secrets need master keys that are not given: {', '.join(self._lacking)}"

    async def _recognise(self, unit: MasterKeysUnit) -> None:
        """Make sure of the check, and of the fingerprints of what an earlier release made."""
        first = self._held[0].fingerprint
        check = await unit.check()
        if check is None:
            await unit.make_check(Check(self._vault.new_check(first), first))
            check = await unit.check()
        if check is None or check.fingerprint:
            return
        opener = self._vault.opener_of(check.sealed)
        if opener is None:
            raise SetupError(self._refusal(("unknown (from an earlier release)",)))
        await unit.name_all(opener)

    def _refusal(self, missing: Iterable[str]) -> str:
        return (
            f"{self._source.name}: the secrets in this database need the master key with the "
            f"fingerprint {', '.join(sorted(missing))}; given: "
            f"{', '.join(self._vault.fingerprints)}. Add the missing key, "
            "or use another schema (KEYS_DB_SCHEMA)."
        )

    async def _read_again(self) -> None:
        """What the source says; while it says nothing usable, what it said before."""
        problem = ""
        try:
            self._wanted = await asyncio.to_thread(self._source.read)
        except SetupError as error:
            problem = error.message
        if problem and problem != self._problem:
            log.error("master keys not taken in, the ones before stay", extra={"reason": problem})
        self._problem = problem
        self._metrics.master_keys_unreadable.set(bool(problem))

    def _hold(self, keys: Sequence[MasterKey]) -> None:
        before, self._held = self._held, tuple(keys)
        self._vault.hold(self._held)
        if {key.fingerprint for key in before} != set(self._vault.fingerprints):
            log.info("master keys held", extra={"fingerprints": self._vault.fingerprints})

    def _note(self, needed: dict[str, int]) -> None:
        wanted = {key.fingerprint for key in self._wanted}
        lacking = tuple(sorted(needed.keys() - set(self._vault.fingerprints)))
        only_here = tuple(sorted(needed.keys() - wanted - set(lacking)))
        if lacking and lacking != self._lacking:
            event = "secrets need a master key that is not given"
            log.error(event, extra={"fingerprints": lacking})
        if only_here and only_here != self._only_here:
            event = "secrets need a master key that is not given any more"
            log.error(event, extra={"fingerprints": only_here})
        self._lacking, self._only_here = lacking, only_here
        self._metrics.master_keys_lacking.set(len(lacking) + len(only_here))
        first = self._wanted[0].fingerprint
        old = sum(networks for name, networks in needed.items() if name != first)
        self._metrics.data_keys_old.set(old)


def _united(first: Iterable[MasterKey], then: Iterable[MasterKey]) -> tuple[MasterKey, ...]:
    return tuple(dict.fromkeys((*first, *then)))
