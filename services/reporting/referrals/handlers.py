"""What the report of referrals does: read the request, ask the store, shape the answer."""

from collections.abc import Callable, Mapping

from services.reporting.asking.answers import Answer
from services.reporting.asking.members import read_body
from services.reporting.referrals import domain
from services.reporting.referrals.store import ReferralStore
from services.reporting.scope import Scope


class Referrals:
    """Answers what a partner earned by referring others.

    Args:
        store: the rows.
        through: log time (seconds, UTC) up to which the rows tell everything.
    """

    def __init__(self, store: ReferralStore, through: Callable[[], float]) -> None:
        self._store = store
        self._through = through

    async def page(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/referrals`.

        Raises:
            InvalidError: the body or the query string is wrong.
            UnavailableError: Postgres does not answer.
        """
        asked = domain.read(read_body(raw), parameters)
        through = self._through()  # before the rows are read: they may be fresher, never staler
        found = await self._store.referrals(scope, asked.interval, asked.page)
        count = sum(total.count for total in found.totals)
        body = {
            "referrals": list(map(domain.shown_referral, found.referrals)),
            "totals": list(map(domain.shown_total, found.totals)),
            "paging": asked.page.echo(count),
        }
        return Answer(body, through)
