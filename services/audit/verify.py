"""Verification of the trail against its signed checkpoints, in the service and offline.

`verify_trail` needs no running service: the database, the checkpoint folder and the public key are
enough, so that it can be run by whoever distrusts the platform.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.audit import chain, checkpoints
from services.audit.store import Snapshot
from shared.errors import InvalidError
from shared.events import Checkpoint
from shared.postgres import connect, translated


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What verification found of one network.

    Attributes:
        network_id: the network; 0 is the chain of callers whose network is unknown.
        entries: how many were read.
        checkpoints: how many genuine ones vouch for the chain.
        covered_sequence: the last entry that a checkpoint was found to vouch for; what follows it
            could still be changed by somebody who recomputes the hashes.
        covered_at: when that checkpoint was signed, seconds UTC; None when there is none.
        problem: the first one, or None.
    """

    network_id: int
    entries: int
    checkpoints: int
    covered_sequence: int
    covered_at: float | None
    problem: chain.Problem | None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found, network by network, sorted."""

    networks: tuple[NetworkReport, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found anywhere."""
        return all(network.ok for network in self.networks)

    @property
    def entries(self) -> int:
        """How many entries were read."""
        return sum(network.entries for network in self.networks)

    @property
    def first_problem(self) -> tuple[int, chain.Problem] | None:
        """The first network with a problem, and that problem."""
        for network in self.networks:
            if network.problem is not None:
                return network.network_id, network.problem
        return None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A network's checkpoints as they were read before the trail was looked at."""

    signed: list[Checkpoint]
    marks: list[chain.Mark]
    problem: chain.Problem | None

    @classmethod
    async def of(
        cls, journal: checkpoints.Journal, network_id: int, key: Ed25519PublicKey
    ) -> "Evidence":
        """The evidence in `journal`. Take it before the snapshot, which then holds no less."""
        try:
            found = await asyncio.to_thread(journal.read, network_id)
        except InvalidError as error:
            return cls([], [], chain.Problem("forged", 0, f"A checkpoint line: {error.message}"))
        marks, problem = await asyncio.to_thread(checkpoints.vouched, found, network_id, key)
        return cls(found, marks, problem)

    def signed_at(self, sequence: int) -> float | None:
        """When the checkpoint of `sequence` was signed, seconds UTC."""
        times = (item.occurred_at for item in self.signed if item.sequence == sequence)
        return min(times, default=None)


async def verify_network(
    snapshot: Snapshot, network_id: int, evidence: Evidence, noted_head: chain.Head | None
) -> NetworkReport:
    """The report on one network's chain as it stands in `snapshot`."""
    verifier = chain.Verifier(network_id, evidence.marks)
    async for batch in snapshot.walk(network_id):
        verifier.feed(batch)
    verdict = verifier.finish(noted_head or chain.genesis(network_id))
    return NetworkReport(
        network_id=network_id,
        entries=verdict.entries,
        checkpoints=verdict.checkpoints,
        covered_sequence=verdict.covered_sequence,
        covered_at=evidence.signed_at(verdict.covered_sequence),
        problem=verdict.problem or evidence.problem,
    )


async def verify_trail(
    database_url: str, schema: str, checkpoint_dir: Path, public_key: Ed25519PublicKey
) -> VerifyReport:
    """The report on every network that has entries, a noted head or checkpoints.

    Args:
        database_url: Postgres.
        schema: the audit service's schema, `audit`.
        checkpoint_dir: the folder of `AUDIT_CHECKPOINT_DIR`.
        public_key: of the signing key; see `checkpoints.load_public_key`.

    Raises:
        UnavailableError: Postgres or the folder cannot be read.
    """
    journal = checkpoints.Journal(checkpoint_dir)
    evidence = {
        network_id: await Evidence.of(journal, network_id, public_key)
        for network_id in await asyncio.to_thread(journal.networks)
    }
    connection = await connect(database_url, schema=schema, application="portico-audit-verify")
    try:
        with translated("reading the trail"):
            async with Snapshot.of(connection) as snapshot:
                return await _report(snapshot, evidence)
    finally:
        await connection.close()


async def _report(snapshot: Snapshot, evidence: dict[int, Evidence]) -> VerifyReport:
    heads = await snapshot.heads()
    networks = sorted(evidence.keys() | heads.keys() | await snapshot.networks())
    nothing = Evidence([], [], None)
    return VerifyReport(
        tuple(
            [
                await verify_network(
                    snapshot, network_id, evidence.get(network_id, nothing), heads.get(network_id)
                )
                for network_id in networks
            ]
        )
    )
