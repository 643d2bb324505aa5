"""The routes about partners and budgets, for a network's staff."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response

from services.keys import edge
from services.keys.access import wire
from services.keys.access.domain import Access
from services.keys.access.handlers import AccessHandlers
from services.keys.edge import Authenticate, PartnerId
from services.keys.staff import Staff
from shared.events import Budget, NetworkState
from shared.http import JsonResponse


def add_routes(app: FastAPI, handlers: AccessHandlers, authenticate: Authenticate) -> None:
    """Have `app` serve them."""
    _add_firehose(app, handlers, authenticate)
    _add_suspension(app, handlers, authenticate)
    _add_budgets(app, handlers, authenticate)


def _add_firehose(app: FastAPI, handlers: AccessHandlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/affiliates/{affiliate_id}/firehose",
        response_model=wire.Firehose,
        responses=edge.ERRORS | edge.NOT_FOUND | edge.accepted(wire.Firehose),
    )
    async def set_firehose(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        body: wire.SetFirehose,
    ) -> Response:
        """Let a partner open streams, or end them."""
        done = await handlers.set_firehose(
            staff, affiliate_id, enabled=body.enabled, reason=body.reason
        )
        return edge.changed(firehose_row(done.now), propagated=done.propagated)


def _add_suspension(app: FastAPI, handlers: AccessHandlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/affiliates/{affiliate_id}/suspension",
        response_model=wire.Suspension,
        responses=edge.ERRORS | edge.NOT_FOUND | edge.accepted(wire.Suspension),
    )
    async def set_suspension(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        body: wire.SetSuspension,
    ) -> Response:
        """Put all keys of a partner out of work, or lift what staff have placed on it."""
        done = await handlers.set_suspension(
            staff, affiliate_id, suspended=body.suspended, reason=body.reason
        )
        return edge.changed(suspension_row(done.now), propagated=done.propagated)


def _add_budgets(app: FastAPI, handlers: AccessHandlers, authenticate: Authenticate) -> None:
    @app.get("/v1/networks/budgets", response_model=wire.Budgets, responses=edge.ERRORS)
    async def get_budgets(staff: Annotated[Staff, Depends(authenticate)]) -> Response:
        """The budgets that all keys of the network share."""
        return JsonResponse(budgets_row(await handlers.budgets(staff)))

    @app.put(
        "/v1/networks/budgets",
        response_model=wire.ChangedBudgets,
        responses=edge.ERRORS | edge.accepted(wire.ChangedBudgets),
    )
    async def set_budgets(
        staff: Annotated[Staff, Depends(authenticate)], body: wire.SetBudgets
    ) -> Response:
        """Set the budgets of the network; only Super Users may."""
        wanted = NetworkState(
            network_id=staff.network_id,
            version=0,
            affiliate=Budget(rate=body.affiliate.rate, burst=body.affiliate.burst),
            granular_per_hour=body.granular_per_hour,
            shadow=body.shadow,
        )
        done = await handlers.set_budgets(staff, wanted, body.reason)
        return edge.changed(budgets_row(done.now), propagated=done.propagated)


def firehose_row(access: Access) -> dict[str, Any]:
    """What a partner may stream, as `wire.Firehose` without `propagated`."""
    return {
        "network_affiliate_id": access.network_affiliate_id,
        "enabled": access.firehose_enabled,
        "suspended": access.suspended,
    }


def suspension_row(access: Access) -> dict[str, Any]:
    """What keeps a partner out, as `wire.Suspension` without `propagated`."""
    return {
        "network_affiliate_id": access.network_affiliate_id,
        "suspended": access.suspended,
        "holds": access.holds,
    }


def budgets_row(state: NetworkState) -> dict[str, Any]:
    """Budgets as `wire.Budgets`."""
    return {
        "affiliate": {"rate": state.affiliate.rate, "burst": state.affiliate.burst},
        "granular_per_hour": state.granular_per_hour,
        "shadow": state.shadow,
    }
