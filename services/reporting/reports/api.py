"""The routes of reports: each is parse, handler, render.

Bodies are read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse

from services.reporting.asking.answers import Answer
from services.reporting.asking.schemas import answer
from services.reporting.freshness import fresh
from services.reporting.reports import reference
from services.reporting.reports.handlers import File, Reports
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity

CUT_HEADER: Final = "x-incomplete-results"
"""On a streamed answer: whether rows beyond the first 10,000 were left out."""
OfferId = Annotated[str, Path(description="A `network_offer_id`.", examples=["70"])]
SubNumber = Annotated[str, Path(description="1 to 5.", examples=["1"])]


def router(reports: Reports, identity: IdentityCheck) -> APIRouter:
    """The routes over reports."""
    routes = APIRouter(prefix="/v1/affiliates", tags=["reporting"])
    _add_entity(routes, reports, identity)
    _add_files(routes, reports, identity)
    _add_fixed(routes, reports, identity)
    _add_dashboard(routes, reports, identity)
    return routes


def _add_entity(routes: APIRouter, reports: Reports, identity: IdentityCheck) -> None:
    @routes.post(
        "/reporting/entity/table",
        responses=answer(reference.TABLE, reference.TABLE_EXAMPLE),
        openapi_extra=reference.TABLE_BODY,
    )
    async def table(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """A report of any columns: one row a combination, with all metrics."""
        return _rendered(await reports.table(Scope.of(caller), await request.body()))

    @routes.post(
        "/reporting/entity",
        responses=answer(reference.ENTITY, reference.ENTITY_EXAMPLE),
        openapi_extra=reference.TABLE_BODY,
    )
    async def entity(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """The same with the metrics of all rows, those beyond 10,000 too, and a time series.

        The series is by the hour for up to two days, else by the day, with zeros where nothing was.
        """
        return _rendered(await reports.entity(Scope.of(caller), await request.body()))


def _add_files(routes: APIRouter, reports: Reports, identity: IdentityCheck) -> None:
    @routes.post(
        "/reporting/entity/table/export",
        responses=reference.EXPORT,
        openapi_extra=reference.EXPORT_BODY,
    )
    async def export(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """A report as a file, `format` being `csv` or `json`.

        CSV is UTF-8 without a byte order mark, a header row first; `offer` becomes the two fields
        `network_offer_id` and `offer_name`, other columns have their names and hold labels.
        """
        return _streamed(await reports.export(Scope.of(caller), await request.body()))

    @routes.post(
        "/reporting/entity/stream",
        responses=reference.STREAM,
        openapi_extra=reference.TABLE_BODY,
    )
    async def stream(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """A report whose rows are sent while they are written, as JSON unless `format` is `csv`."""
        return _streamed(await reports.stream(Scope.of(caller), await request.body()))


def _add_fixed(routes: APIRouter, reports: Reports, identity: IdentityCheck) -> None:
    @routes.post(
        "/reporting/daily",
        responses=answer(reference.DAILY, reference.DAILY_EXAMPLE),
        openapi_extra=reference.FIXED_BODY,
    )
    async def daily(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """One row a day of the interval, with zeros where nothing was, and their summary."""
        return _rendered(await reports.daily(Scope.of(caller), await request.body()))

    @routes.post(
        "/reporting/offer",
        responses=answer(reference.OFFER_TABLE, reference.TABLE_EXAMPLE),
        openapi_extra=reference.FIXED_BODY,
    )
    async def by_offer(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """A report by offer; `columns` and `filters` are ignored, pages given on request."""
        body = await request.body()
        return _rendered(await reports.by_offer(Scope.of(caller), body, request.query_params))

    @routes.post(
        "/reporting/sub/{sub_id}",
        responses=answer(reference.TABLE, reference.TABLE_EXAMPLE),
        openapi_extra=reference.FIXED_BODY,
    )
    async def by_sub(
        request: Request, sub_id: SubNumber, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """A report by one of the five subs; `columns` are ignored."""
        return _rendered(await reports.by_sub(Scope.of(caller), await request.body(), sub_id))


def _add_dashboard(routes: APIRouter, reports: Reports, identity: IdentityCheck) -> None:
    @routes.post(
        "/dashboard/summary",
        responses=answer(reference.CARDS, reference.CARDS_EXAMPLE),
        openapi_extra=reference.DASHBOARD_BODY,
    )
    async def summary(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """Today, yesterday, this month and the last; today against yesterday up to this time."""
        return _rendered(await reports.summary(Scope.of(caller), await request.body()))

    @routes.post(
        "/dashboard/performance",
        responses=answer(reference.PERFORMANCE, reference.PERFORMANCE_EXAMPLE),
        openapi_extra=reference.CHART_BODY,
    )
    async def performance(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """A time series, of the last seven days unless `from` and `to` say otherwise."""
        return _rendered(await reports.performance(Scope.of(caller), await request.body()))

    @routes.post(
        "/dashboard/trending/offers",
        responses=answer(reference.TRENDING, reference.TRENDING_EXAMPLE),
        openapi_extra=reference.DASHBOARD_BODY,
    )
    async def trending(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """The ten offers with most clicks today, beside yesterday up to this time of day."""
        return _rendered(await reports.trending(Scope.of(caller), await request.body()))

    @routes.post(
        "/dashboard/trending/offers/{offer_id}",
        responses=answer(reference.TRENDING_OFFER, reference.TRENDING_OFFER_EXAMPLE),
        openapi_extra=reference.DASHBOARD_BODY,
    )
    async def trending_offer(
        request: Request, offer_id: OfferId, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """One offer today and yesterday, and by the hour."""
        found = await reports.trending_offer(Scope.of(caller), await request.body(), offer_id)
        return _rendered(found)


def _rendered(found: Answer) -> Response:
    return JsonResponse(found.body, headers=fresh(found.through))


def _streamed(file: File) -> Response:
    headers = fresh(file.through) | {CUT_HEADER: str(file.is_cut).lower()}
    return StreamingResponse(_sent(file.chunks), media_type=file.media_type, headers=headers)


async def _sent(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
