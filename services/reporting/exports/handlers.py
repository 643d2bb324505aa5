"""What each endpoint of export jobs does: read the request, ask the store, shape the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from services.reporting.asking.answers import Through
from services.reporting.asking.members import is_hex_id, read_body
from services.reporting.exports import files
from services.reporting.exports.domain import (
    Job,
    checked,
    shown,
    wanted_range,
)
from services.reporting.exports.store import ExportStore
from services.reporting.facts import tables
from services.reporting.scope import Scope
from shared.clock import Clock
from shared.errors import ConflictError, GoneError, NotFoundError

_MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Download:
    """A file or a part of it.

    Attributes:
        status: 200 or 206.
        headers: of the answer.
        parts: the bytes.
        through: log time (seconds, UTC) up to which the file is complete.
    """

    status: int
    headers: dict[str, str]
    parts: AsyncIterator[bytes]
    through: float


@dataclass(frozen=True, slots=True)
class Exports:
    """The handlers, with what they need."""

    store: ExportStore
    folder: files.Folder
    wake: Callable[[], None]
    through: Through
    clock: Clock
    kept_seconds: float

    async def create(self, scope: Scope, raw: bytes) -> dict[str, Any]:
        """`POST /v1/affiliates/reporting/exports`.

        Raises:
            InvalidError: the body is wrong.
            TooManyError: too many of the partner's jobs are not done.
            ConflictError: the partner has too many.
            UnavailableError: Postgres does not answer in time.
        """
        now = self.clock.time()
        request = checked(read_body(raw), now=now)
        through = self.through(scope, (tables.CLICKS, tables.CONVERSIONS))
        job = await self.store.create(scope, uuid4().hex, request, now=now, through=through)
        self.wake()
        return self._shown(job)

    async def list(self, scope: Scope) -> dict[str, Any]:
        """`GET /v1/affiliates/reporting/exports`.

        Raises:
            UnavailableError: Postgres does not answer in time.
        """
        return {"exports": [self._shown(job) for job in await self.store.list(scope)]}

    async def get(self, scope: Scope, export_id: str) -> dict[str, Any]:
        """`GET /v1/affiliates/reporting/exports/{export_id}`.

        Raises:
            NotFoundError: the partner has no such job.
            UnavailableError: Postgres does not answer in time.
        """
        return self._shown(await self._job(scope, export_id))

    async def delete(self, scope: Scope, export_id: str) -> None:
        """`DELETE /v1/affiliates/reporting/exports/{export_id}`; stops it, if it is not done.

        Raises:
            NotFoundError: the partner has no such job.
            UnavailableError: Postgres does not answer in time.
        """
        job = await self._job(scope, export_id)
        await self.store.delete(scope, job.export_id)
        await self.folder.remove(job.export_id)

    async def download(self, scope: Scope, export_id: str, headers: Mapping[str, str]) -> Download:
        """`GET /v1/affiliates/reporting/exports/{export_id}/download`.

        Raises:
            NotFoundError: the partner has no such job.
            ConflictError: it is not done.
            GoneError: its file is not there.
            UnsatisfiableRangeError: a range behind the end.
            UnavailableError: Postgres does not answer in time.
        """
        job = await self._job(scope, export_id)
        if job.state != "done":
            raise ConflictError(f"the export is {job.state}; wait until its state is done")
        path = self.folder.whole(job.export_id)
        if not await asyncio.to_thread(path.exists):
            raise GoneError("the file of this export is not there any more; ask for it anew")
        etag = f'"{job.sha256}"'
        told = {
            "accept-ranges": "bytes",
            "etag": etag,
            "content-type": "application/gzip" if job.is_gzip else _MEDIA_TYPES[job.form],
            "content-disposition": f'attachment; filename="{job.file_name}"',
        }
        part = wanted_range(headers, size=job.bytes, etag=etag)
        since, until = part or (0, job.bytes)
        told["content-length"] = str(until - since)
        if part is not None:
            told["content-range"] = f"bytes {since}-{until - 1}/{job.bytes}"
        parts = files.read(path, since, until)
        return Download(200 if part is None else 206, told, parts, job.through)

    async def _job(self, scope: Scope, export_id: str) -> Job:
        if not is_hex_id(export_id.lower()):
            raise NotFoundError
        return await self.store.get(scope, export_id.lower())

    def _shown(self, job: Job) -> dict[str, Any]:
        return shown(job, kept_seconds=self.kept_seconds)
