"""Signs checkpoints: one process at a time, and only chains that continue from the last one signed.

The place of the signer is a lock of the very Postgres session through which the trail is read: who
loses the one loses the other. Before a head is signed, every entry since the last checkpoint is
checked against that checkpoint as the file has it, not as the database says: a trail that was
rewritten meanwhile gets no signature, an error is logged, and `audit_broken_trails` rises.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit import chain, checkpoints
from services.audit.metrics import AuditMetrics
from services.audit.store import Snapshot, is_signer
from shared.clock import Clock
from shared.errors import InvalidError, UnavailableError
from shared.events import Checkpoint
from shared.faultpoint import point
from shared.postgres import translated

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 1.0
"""How often heads are looked at: the precision of "every N entries"."""

Connect = Callable[[], Awaitable[asyncpg.Connection]]
Publish = Callable[[Checkpoint], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Due:
    """When a head is signed.

    Attributes:
        seconds: an entry waits no longer,
        entries: nor with more than so many others.
    """

    seconds: float
    entries: int

    def is_due(self, uncovered: int, waited_seconds: float) -> bool:
        """Whether `uncovered` entries, the first of which was seen so long ago, are signed now."""
        return uncovered >= self.entries or waited_seconds >= self.seconds


@dataclass(slots=True)
class _Chain:
    """What the notary knows of one network.

    Attributes:
        signed: the head of the last checkpoint.
        waiting_since: when entries behind it were first seen, or last refused; monotonic seconds.
        problem: why its head is not signed, or None.
    """

    signed: chain.Head
    waiting_since: float | None = None
    problem: chain.Problem | None = None


class Notary:
    """The signing task of one process, and its candidacy while another process signs."""

    def __init__(
        self,
        connect: Connect,
        publish: Publish,
        journal: checkpoints.Journal,
        key: Ed25519PrivateKey,
        *,
        due: Due,
        clock: Clock,
        metrics: AuditMetrics,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self._round_seconds = round_seconds
        self._connect = connect
        self._publish = publish
        self._journal = journal
        self._signer = checkpoints.Signer(key)
        self._public_key = key.public_key()
        self._due = due
        self._clock = clock
        self._metrics = metrics
        self._chains: dict[int, _Chain] = {}

    async def run(self) -> None:
        """Sign whenever it is this process's place, for as long as it lives."""
        while True:
            try:
                await self._serve()
            except UnavailableError as error:
                log.warning("signing pauses", extra={"reason": error.message})
                await self._clock.sleep(self._round_seconds)
            finally:
                self._metrics.is_signer.set(0)

    async def _serve(self) -> None:
        connection = await self._connect()
        try:
            while not await is_signer(connection):
                await self._clock.sleep(self._round_seconds)
            await self._take_over()
            while True:
                await self.sign_due(connection)
                await self._clock.sleep(self._round_seconds)
        finally:
            connection.terminate()

    async def _take_over(self) -> None:
        """Go on from the files; publish their last lines again, as Kafka may not have them."""
        log.info("signer")
        self._metrics.is_signer.set(1)
        self._chains.clear()
        for network_id in await asyncio.to_thread(self._journal.networks):
            known = self._chains[network_id] = await self._known(network_id)
            last = await asyncio.to_thread(self._journal.last, network_id)
            if known.problem is None and last is not None:
                await self._publish(last)

    async def _known(self, network_id: int) -> _Chain:
        """What the network's file says; a last line that is not genuine is a problem."""
        start = chain.genesis(network_id)
        try:
            last = await asyncio.to_thread(self._journal.last, network_id)
        except InvalidError as error:
            return _Chain(start, problem=chain.Problem("forged", 0, error.message))
        if last is None:
            return _Chain(start)
        _, problem = checkpoints.vouched([last], network_id, self._public_key)
        return _Chain(chain.Head(last.sequence, last.hash), problem=problem)

    async def sign_due(self, connection: asyncpg.Connection) -> None:
        """Sign every head that is due, as one moment of the database has them."""
        with translated("signing checkpoints"):
            async with Snapshot.of(connection) as snapshot:
                heads = await snapshot.heads()
                for network_id, head in heads.items():
                    await self._consider(snapshot, network_id, head)
        self._report(heads)

    async def _consider(self, snapshot: Snapshot, network_id: int, head: chain.Head) -> None:
        known = self._chains.get(network_id)
        if known is None:
            known = self._chains[network_id] = await self._known(network_id)
        if head == known.signed:
            known.waiting_since = None
            return
        now = self._clock.monotonic()
        if known.waiting_since is None:
            known.waiting_since = now
        uncovered = 0 if known.problem else head.sequence - known.signed.sequence
        if self._due.is_due(uncovered, now - known.waiting_since):
            await self._seal(snapshot, network_id, known, head)

    async def _seal(
        self, snapshot: Snapshot, network_id: int, known: _Chain, head: chain.Head
    ) -> None:
        problem = await self._checked(snapshot, network_id, known, head)
        known.waiting_since = self._clock.monotonic()
        if problem is not None:
            if problem != known.problem:
                log.error(
                    "trail broken", extra={"network_id": network_id, "problem": problem.detail}
                )
            known.problem = problem
            return
        checkpoint = self._signer.sign(network_id, head, now=self._clock.time())
        point("audit.before_checkpoint")
        await asyncio.to_thread(self._journal.append, checkpoint)
        known.signed, known.waiting_since, known.problem = head, None, None
        self._metrics.checkpoints.inc()
        point("audit.checkpoint_written")
        await self._publish(checkpoint)

    async def _checked(
        self, snapshot: Snapshot, network_id: int, known: _Chain, head: chain.Head
    ) -> chain.Problem | None:
        """Whether the entries since the last checkpoint lead from it to `head`."""
        if (recorded := await self._known(network_id)).problem is not None:
            return recorded.problem
        verifier = chain.Verifier(network_id, start=recorded.signed)
        async for batch in snapshot.walk(network_id, recorded.signed.sequence):
            verifier.feed(batch)
        return verifier.finish(head).problem

    def _report(self, heads: dict[int, chain.Head]) -> None:
        self._metrics.uncovered.set(
            sum(
                max(0, head.sequence - self._chains[network_id].signed.sequence)
                for network_id, head in heads.items()
            )
        )
        broken = sum(known.problem is not None for known in self._chains.values())
        self._metrics.broken.set(broken)
