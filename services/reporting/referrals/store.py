"""The SQL that reads referrals; each read takes a `Scope`, and the catalog's projection writes."""

from dataclasses import dataclass
from typing import Final

import msgspec

from services.reporting.asking.interval import Interval
from services.reporting.paging import Page
from services.reporting.reading import reading
from services.reporting.referrals.domain import Total
from services.reporting.scope import Scope
from shared.events import Referral
from shared.postgres import Pool

_FOUND: Final = """
FROM referrals
WHERE network_id = $1 AND network_affiliate_id = $2 AND unix_timestamp BETWEEN $3 AND $4
    AND document IS NOT NULL
"""
_PAGE: Final = f"""
SELECT document {_FOUND} ORDER BY unix_timestamp, referral_history_id OFFSET $5 LIMIT $6
"""
_TOTALS: Final = f"""
SELECT currency_id, status, count(*) AS count, sum(amount) AS amount {_FOUND}
GROUP BY currency_id, status ORDER BY currency_id, status
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One page of referrals, and the totals of all pages."""

    referrals: list[Referral]
    totals: list[Total]


class ReferralStore:
    """The referrals of one scope at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def referrals(self, scope: Scope, interval: Interval, page: Page) -> Found:
        """What the partner earned in the interval, by time and id; all as of one moment.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        which = (scope.network_id, scope.network_affiliate_id, interval.since, interval.until)
        async with reading(self._pool, scope, "referrals") as connection:
            rows = await connection.fetch(_PAGE, *which, page.offset, page.size)
            totals = await connection.fetch(_TOTALS, *which)
        return Found(
            [msgspec.json.decode(row["document"], type=Referral) for row in rows],
            [Total(**row) for row in totals],
        )
