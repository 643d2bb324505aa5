"""The routes of export jobs: each is parse, handler, render."""

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from services.reporting.exports import reference
from services.reporting.exports.domain import UnsatisfiableRangeError
from services.reporting.exports.handlers import Exports
from services.reporting.freshness import fresh
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse, error_response, request_id

ACCEPTED: Final = 202
NO_CONTENT: Final = 204


def router(exports: Exports, identity: IdentityCheck) -> APIRouter:
    """The routes of `exports`; a caller is who `identity` says."""
    routes = APIRouter(prefix="/v1/affiliates/reporting/exports", tags=["exports"])

    @routes.post(
        "",
        status_code=ACCEPTED,
        responses=reference.created(ACCEPTED),
        openapi_extra=reference.BODY,
    )
    async def create(request: Request) -> Response:
        """Have all clicks or conversions of up to a year written to a file.

        What is asked for is what the lists show: clicks of three months and those that converted,
        conversions by the same flags and filters. Look at the job until its `state` is `done`.
        """
        scope = Scope.of(identity(request))
        job = await exports.create(scope, await request.body())
        place = f"/v1/affiliates/reporting/exports/{job['export_id']}"
        return JsonResponse(job, ACCEPTED, {"location": place})

    @routes.get("", responses=reference.LIST)
    async def jobs(request: Request) -> Response:
        """Your exports, newest first."""
        return JsonResponse(await exports.list(Scope.of(identity(request))))

    @routes.get("/{export_id}", responses=reference.ONE)
    async def job(request: Request, export_id: str) -> Response:
        """How far an export is."""
        return JsonResponse(await exports.get(Scope.of(identity(request)), export_id))

    @routes.delete("/{export_id}", status_code=NO_CONTENT)
    async def delete(request: Request, export_id: str) -> Response:
        """Forget an export; one that is not done is stopped."""
        await exports.delete(Scope.of(identity(request)), export_id)
        return Response(status_code=NO_CONTENT)

    @routes.get("/{export_id}/download", responses=reference.DOWNLOAD)
    async def download(request: Request, export_id: str) -> Response:
        """The file, or a part of it: with `Range` and `If-Range` a broken transfer goes on."""
        scope = Scope.of(identity(request))
        try:
            found = await exports.download(scope, export_id, request.headers)
        except UnsatisfiableRangeError as error:
            refusal = error_response(error, request_id(request))
            refusal.headers["content-range"] = f"bytes */{error.size}"
            return refusal
        headers = found.headers | fresh(found.through)
        return StreamingResponse(found.parts, found.status, headers)

    return routes
