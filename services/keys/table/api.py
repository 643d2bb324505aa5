"""The routes of the table of keys, for a network's staff."""

from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Query, Response
from fastapi.responses import StreamingResponse

from services.keys import edge
from services.keys.edge import Authenticate, KeyId, PartnerId
from services.keys.staff import Staff
from services.keys.table import wire
from services.keys.table.domain import Filters, Row, plain
from services.keys.table.export import CsvWriter, JsonWriter, Writer
from services.keys.table.handlers import Export, OneKey, Page, TableHandlers
from services.keys.usage.domain import MINUTE_SECONDS, Source, Usage
from shared.clock import rfc3339, utc
from shared.http import JsonResponse

COLUMNS: Final = (
    "key_id",
    "network_affiliate_id",
    "partner_name",
    "integration",
    "masked",
    "status",
    "suspended",
    "allowlist",
    "created_at",
    "created_by",
    "created_by_name",
    "not_before",
    "expires_at",
    "ended_at",
    "predecessor_key_id",
    "successor_key_id",
    "overlap_ends_at",
    "last_used_at",
    "last_used_ip",
    "last_used_endpoint",
    "used_today",
    "warnings",
)
"""Of a file, in this order."""

_FILE: Final[edge.Responses] = {
    200: {
        "content": {"text/csv": {"schema": {"type": "string"}}},
        "description": "The file, as long as it takes. One that was not sent whole ends with a "
        "broken connection. In CSV (RFC 4180, UTF-8 with byte order mark) a cell that a "
        "spreadsheet would run as a formula begins with an apostrophe.",
        "headers": {
            "Content-Disposition": {
                "description": "The file's name, with the day.",
                "schema": {"type": "string"},
            }
        },
    }
}


def add_routes(app: FastAPI, handlers: TableHandlers, authenticate: Authenticate) -> None:
    """Have `app` serve them."""
    _add_lists(app, handlers, authenticate)
    _add_export(app, handlers, authenticate)
    _add_one(app, handlers, authenticate)  # behind the export, whose name might be a key's


def _add_lists(app: FastAPI, handlers: TableHandlers, authenticate: Authenticate) -> None:
    @app.get(
        "/v1/networks/affiliates/{affiliate_id}/apikeys",
        response_model=wire.KeysPage,
        responses=edge.ERRORS | edge.NOT_FOUND,
    )
    async def list_keys_of_partner(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        wanted: Annotated[wire.PartnerPage, Query()],
    ) -> Response:
        """The keys of a partner, newest first unless sorted otherwise."""
        filters = _filters(wanted, affiliate_id)
        page = await handlers.page_of_partner(
            staff, filters, wanted.sort, wanted.cursor, wanted.limit
        )
        return _page(page, wanted.limit)

    @app.get("/v1/networks/apikeys", response_model=wire.KeysPage, responses=edge.ERRORS)
    async def list_keys(
        staff: Annotated[Staff, Depends(authenticate)],
        wanted: Annotated[wire.NetworkPage, Query()],
    ) -> Response:
        """The keys of the network, newest first unless sorted otherwise."""
        filters = _filters(wanted, wanted.partner)
        page = await handlers.page(staff, filters, wanted.sort, wanted.cursor, wanted.limit)
        return _page(page, wanted.limit)


def _add_export(app: FastAPI, handlers: TableHandlers, authenticate: Authenticate) -> None:
    @app.get(
        "/v1/networks/apikeys/export",
        response_model=wire.ExportedKeys,
        responses=edge.ERRORS | _FILE,
    )
    async def export_keys(
        staff: Annotated[Staff, Depends(authenticate)], wanted: Annotated[wire.Export, Query()]
    ) -> Response:
        """The keys of the network as a file; those issued after it began are not in it."""
        export = await handlers.export(staff, _filters(wanted, wanted.partner), wanted.sort)
        writer: Writer = CsvWriter(COLUMNS) if wanted.format == "csv" else JsonWriter()
        name = f"apikeys-{staff.network_id}-{utc(export.at):%Y-%m-%d}.{writer.extension}"
        return StreamingResponse(
            _written(export, writer),
            media_type=writer.media_type,
            headers=edge.NO_STORE
            | {
                "content-disposition": f'attachment; filename="{name}"',
                "x-content-type-options": "nosniff",
            },
        )


def _add_one(app: FastAPI, handlers: TableHandlers, authenticate: Authenticate) -> None:
    @app.get(
        "/v1/networks/apikeys/{key_id}",
        response_model=wire.OneKey,
        responses=edge.ERRORS | edge.NOT_FOUND,
    )
    async def show_key(staff: Annotated[Staff, Depends(authenticate)], key_id: KeyId) -> Response:
        """A key without its secret, and who uses it."""
        return JsonResponse(one_row(await handlers.one(staff, edge.key_id_of(key_id))))


def _filters(wanted: wire.Wanted, partner: int | None) -> Filters:
    return Filters(
        network_affiliate_id=partner,
        status=wanted.status,
        integration=plain(wanted.integration, "NFKC"),
        warning=wanted.warning,
        search=plain(wanted.search),
    )


# --- rendering ------------------------------------------------------------------------------------


def table_row(row: Row, now: float) -> dict[str, Any]:
    """A row as `wire.TableRow`."""
    is_used = row.last.at > 0
    return edge.key_row(row, now) | {
        "partner_name": row.partner_name,
        "suspended": row.is_suspended,
        "last_used_at": rfc3339(row.last.minute) if is_used else None,
        "last_used_ip": row.last.ip if is_used else None,
        "last_used_endpoint": row.last.endpoint if is_used else None,
        "used_today": row.used_today(now),
        "warnings": row.warnings(now),
    }


def one_row(one: OneKey) -> dict[str, Any]:
    """A key as `wire.OneKey`."""
    return table_row(one.row, one.at) | {"usage": _usage(one.usage, one.sources)}


def _usage(usage: Usage, sources: Iterable[Source]) -> dict[str, Any]:
    is_refused = usage.refused.at > 0
    return {
        "sources": [_source(source) for source in sources],
        "refused_at": _to_minute(usage.refused.at) if is_refused else None,
        "refused_ip": usage.refused.ip if is_refused else None,
        "refused_reason": usage.refused.reason if is_refused else None,
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "source": source.network,
        "last_used_at": rfc3339(source.last.minute),
        "last_used_ip": source.last.ip,
        "last_used_endpoint": source.last.endpoint,
        "count": source.count_on_day,
    }


def _page(page: Page, limit: int) -> Response:
    return JsonResponse(
        {
            "apikeys": [table_row(row, page.at) for row in page.rows],
            "paging": {"limit": limit, "next_cursor": page.next_cursor},
        }
    )


async def _written(export: Export, writer: Writer) -> AsyncIterator[bytes]:
    """The file piece by piece; what fails on the way breaks the connection."""
    yield writer.head()
    async for rows in export.batches:
        yield writer.rows([table_row(row, export.at) for row in rows])
    yield writer.foot()


def _to_minute(at: float) -> str:
    return rfc3339(at // MINUTE_SECONDS * MINUTE_SECONDS)
