"""The simulator's face for people and for the demo: who takes part, what was sent, stop and go.

For the local platform only, without authentication: it listens on the loopback address.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Query

from shared.clock import Clock
from shared.http import new_app
from tools.simulator.cast import Cast, currencies, placements
from tools.simulator.ledger import Ledger, Line
from tools.simulator.rates import worth
from tools.simulator.show import Show

BURST_VISITS_MAX: Final = 20_000
FAR_AHEAD: Final = float(2**40)
EARNING: Final = "approved"
EPOCH: Final = date(1970, 1, 1)

Worth = Callable[[Line], Decimal]
"""What a unit of a line's amount is worth in the currency of its network."""

Id = Annotated[int, Query(ge=1)]
From = Annotated[float, Query(alias="from", ge=0)]
To = Annotated[float, Query(alias="to", ge=0)]


def create_app(show: Show, ledger: Ledger, cast: Cast, clock: Clock) -> FastAPI:
    """The application over one running simulation."""
    app = new_app("Simulator", "What a network's own platform would send, and the book of it.")

    @app.get("/cast")
    async def read_cast() -> dict[str, Any]:
        """Networks, partners (with what each runs), offers."""
        return _cast(cast)

    app.include_router(_book(ledger, _worth(cast)))
    app.include_router(_controls(show, lambda: _state(show, ledger, clock)))
    return app


def _worth(cast: Cast) -> Worth:
    known = currencies(cast)

    def worth_of(line: Line) -> Decimal:
        return worth(*known[line.network_offer_id], EPOCH + timedelta(days=line.day))

    return worth_of


def _book(ledger: Ledger, worth_of: Worth) -> APIRouter:
    """Reading the ledger."""
    router = APIRouter(prefix="/ledger")

    @router.get("/totals")
    async def read_totals(
        network_id: Id, network_affiliate_id: Id, start: From = 0, end: To = FAR_AHEAD
    ) -> dict[str, Any]:
        """What a partner's reports in their network's currency should add up to, and by offer."""
        lines = ledger.totals(network_id, network_affiliate_id, start, end)
        by_offer = defaultdict(list)
        for line in lines:
            by_offer[line.network_offer_id].append(line)
        offers = [
            {"network_offer_id": offer} | _sum(some, worth_of) for offer, some in by_offer.items()
        ]
        return _sum(lines, worth_of) | {"offers": offers}

    @router.get("/events")
    async def read_events(
        *,
        network_id: Id,
        network_affiliate_id: Id,
        after: Annotated[int, Query(ge=0)] = 0,
        start: From = 0,
        end: To = FAR_AHEAD,
        rows_max: Annotated[int, Query(ge=1, le=50_000)] = 10_000,
    ) -> dict[str, Any]:
        """A partner's records in the order of sending, repeats included."""
        entries = ledger.entries(
            network_id,
            network_affiliate_id,
            after=after,
            start=start,
            end=end,
            rows_max=rows_max,
        )
        return {"events": [_entry(asdict(entry)) for entry in entries]}

    return router


def _controls(show: Show, state: Callable[[], dict[str, Any]]) -> APIRouter:
    """Stop and go; each answer is the state after it."""
    router = APIRouter()

    @router.get("/ledger/state")
    async def read_state() -> dict[str, Any]:
        """How much was sent, is queued, is planned."""
        return state()

    @router.post("/pause")
    async def pause() -> dict[str, Any]:
        """Stop traffic; answers once the broker has every record of the ledger."""
        await show.pause()
        return state()

    @router.post("/resume")
    async def resume() -> dict[str, Any]:
        """Go on with traffic."""
        await show.resume()
        return state()

    @router.post("/burst")
    async def burst(
        network_affiliate_id: Id, visits: Annotated[int, Query(ge=1, le=BURST_VISITS_MAX)]
    ) -> dict[str, Any]:
        """Let visitors of one partner come at once; answers once the broker has the records."""
        await show.burst(network_affiliate_id, visits)
        return state()

    return router


def _state(show: Show, ledger: Ledger, clock: Clock) -> dict[str, Any]:
    return {
        "paused": show.is_paused,
        "sent": ledger.sent(),
        "queued": ledger.waiting(),
        "planned": ledger.planned(),
        "now": clock.time(),
    }


def _cast(cast: Cast) -> dict[str, Any]:
    runs = defaultdict(list)
    for placement in placements(cast):
        runs[placement.partner.network_affiliate_id].append(placement.offer.network_offer_id)
    partners = [
        {
            "network_id": partner.network_id,
            "network_affiliate_id": partner.network_affiliate_id,
            "name": partner.name,
            "account_status": partner.account_status,
            "may_have_key": not _obstacles(partner),
            "obstacles": _obstacles(partner),
            "runs": runs.get(partner.network_affiliate_id, []),
        }
        for partner in cast.partners
    ]
    return {
        "networks": msgspec.to_builtins(cast.networks),
        "partners": partners,
        "offers": msgspec.to_builtins(cast.offers),
    }


def _obstacles(partner: Any) -> list[str]:
    """Why a key would be refused, by the fields of the partner's profile."""
    found = [
        name
        for name in ("in_onboarding", "has_fraud_flag", "has_quality_flag")
        if getattr(partner, name)
    ]
    if not partner.has_technical_capacity:
        found.append("has_technical_capacity")
    if partner.account_status != "active":
        found.append("account_status")
    return found


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"revenue": _decimal(row.pop("revenue_micros"))}


def _sum(lines: Iterable[Line], worth_of: Worth) -> dict[str, Any]:
    """Counts, and amounts by the rates of their days, as exact decimal text."""
    counts = dict.fromkeys(
        ("impressions", "unique_clicks", "duplicate_clicks", "invalid_clicks"), 0
    )
    statuses: dict[str, dict[str, int]] = {}
    earned: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        if line.kind == "conversions":
            found = statuses.setdefault(line.status, {"base": 0, "event": 0, "view_through": 0})
            found[_class_of(line)] += line.records
            earned[line.status] += line.revenue_micros * worth_of(line)
        else:
            counts[_counted_as(line)] += line.records
            earned[EARNING] += line.revenue_micros * worth_of(line)
    return {
        **counts,
        "clicks": counts["unique_clicks"] + counts["duplicate_clicks"],
        "conversions": statuses,
        "revenue": _decimal(earned[EARNING]),
        "revenue_by_status": {status: _decimal(amount) for status, amount in earned.items()},
    }


def _counted_as(line: Line) -> str:
    if line.kind == "impressions":
        return "impressions"
    if line.is_refused:
        return "invalid_clicks"
    return "unique_clicks" if line.is_unique else "duplicate_clicks"


def _class_of(line: Line) -> str:
    """An event of a view-through conversion counts as an event."""
    if line.is_event:
        return "event"
    return "view_through" if line.is_view_through else "base"


def _decimal(micros: int | Decimal) -> str:
    return f"{Decimal(micros).scaleb(-6).normalize():f}"
