"""What the tests of the table share: rows put into the tables at once, in the columns' own words."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import asyncpg

from services.keys.domain import Key

_NUMBERS = itertools.count(random.randrange(2**40))


@dataclass(frozen=True)
class Stored:
    """A key as its row holds it, and how it was used; the secret is none."""

    network_id: int
    key_id: str
    network_affiliate_id: int = 7
    integration: str = "crm"
    masked: str = "aff_…abcd"
    status: str = "active"
    created_at: float = 1_000.0
    created_by: str = "user-7"
    created_by_name: str = "Ada"
    not_before: float = 0.0
    expires_at: float | None = None
    ended_at: float | None = None
    predecessor_key_id: str | None = None
    successor_key_id: str | None = None
    rotated_at: float | None = None
    used_at: float = 0.0
    many_networks_at: float = 0.0

    @property
    def last_used_at(self) -> float:
        """To the minute."""
        return self.used_at // 60 * 60

    def shown_status(self, now: float) -> str:
        """As the service's own rule says."""
        return Key(
            key_id=self.key_id,
            network_id=self.network_id,
            network_affiliate_id=self.network_affiliate_id,
            integration=self.integration,
            digest="",
            masked=self.masked,
            sealed=b"",
            allowlist=(),
            expires_at=self.expires_at,
            created_at=self.created_at,
            created_by=self.created_by,
            status=self.status,  # type: ignore[arg-type]
            ended_at=self.ended_at,
            not_before=self.not_before,
        ).shown_status(now)


_OF_KEY = tuple(
    field.name for field in fields(Stored) if field.name not in ("used_at", "many_networks_at")
)
_INSERT = f"""
INSERT INTO keys ({", ".join(_OF_KEY)}, digest, sealed, allowlist, version)
SELECT {", ".join(f"given.{name}" for name in _OF_KEY)}, given.digest, '', '{{192.0.2.7}}', 1
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
    $7::float8[], $8::text[], $9::text[], $10::float8[], $11::float8[], $12::float8[], $13::text[],
    $14::text[], $15::float8[], $16::text[]) AS given ({", ".join(_OF_KEY)}, digest)"""
_USE = """
UPDATE key_usage AS known SET used_at = given.used_at, many_networks_at = given.many,
    last_ip = '192.0.2.7', last_endpoint = 'GET /v1/affiliates/network', count_on_day = 3
FROM unnest($1::text[], $2::float8[], $3::float8[]) AS given (key_id, used_at, many)
WHERE known.key_id = given.key_id"""


def key_id() -> str:
    """An id that no other key of this run has."""
    return f"key_{random.Random(next(_NUMBERS)).randbytes(10).hex()}"


async def put(connection: asyncpg.Connection, rows: Iterable[Stored]) -> None:
    """Insert keys, and how they were used."""
    found = [asdict(row) for row in rows]
    columns: list[Sequence[object]] = [[row[name] for row in found] for name in _OF_KEY]
    digests = [f"{next(_NUMBERS):064x}" for _ in found]
    await connection.execute(_INSERT, *columns, digests)
    used = [row for row in found if row["used_at"] or row["many_networks_at"]]
    names = ("key_id", "used_at", "many_networks_at")
    await connection.execute(_USE, *([row[name] for row in used] for name in names))


async def name_partner(connection: asyncpg.Connection, network_id: int, partner: int, name: str):
    """Have a partner with a name."""
    await connection.execute(
        "INSERT INTO partners VALUES ($1, $2, 1, $3, 'active', false, true, false, false)",
        network_id,
        partner,
        name,
    )
