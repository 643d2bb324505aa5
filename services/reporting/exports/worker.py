"""The worker: makes one export after another, slowly enough that reports are not starved.

It works on one piece at a time, with one thread of ClickHouse at low priority, and rests after each
as long as it took. What it has noted is durable: the piece is on disk before the row says so.
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Final

from services.reporting.exports.domain import FAILURES_MAX, Job
from services.reporting.exports.files import Folder
from services.reporting.exports.store import WorkStore
from services.reporting.rows.bulk import Bulk, Piece
from shared.clock import Clock
from shared.errors import (
    InvalidError,
    LostOwnershipError,
    RejectedError,
    TooCostlyError,
    UnavailableError,
)
from shared.faultpoint import point

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 5.0
"""How soon a worker sees a job that another process has taken in."""
TIDY_SECONDS: Final = 600.0
REST_SECONDS_MAX: Final = 2.0
LOW_PRIORITY: Final = {"max_threads": 1, "priority": 10}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What exports may take.

    Attributes:
        file_bytes_max: of one file.
        total_bytes_max: of all files.
        kept_seconds: how long a file is kept once it is whole.
    """

    file_bytes_max: int
    total_bytes_max: int
    kept_seconds: float


@dataclass(slots=True)
class Worker:
    """Makes the exports of all partners."""

    store: WorkStore
    folder: Folder
    bulk: Bulk
    bounds: Bounds
    clock: Clock
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _is_stopping: bool = False
    _tidy_at: float = 0.0

    def wake(self) -> None:
        """A job waits."""
        self._woken.set()

    async def drain(self) -> None:
        """Take no further piece; what is noted is gone on with at the next start."""
        self._is_stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Work until `drain`; a store that is away is waited for."""
        while not self._is_stopping:
            self._woken.clear()
            try:
                if self.clock.monotonic() >= self._tidy_at:
                    self._tidy_at = self.clock.monotonic() + TIDY_SECONDS
                    await self.tidy()
                if await self.work_once():
                    continue
            except UnavailableError as error:
                log.warning("exports_wait", extra={"reason": error.message})
            await self._idle()

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return

    async def work_once(self) -> bool:
        """Make the oldest job that waits; False if there is none to go on with at once.

        Raises:
            UnavailableError: a store is away; the job is gone on with later.
        """
        async with self.store.taken() as job:
            if job is None:
                return False
            try:
                await self._finish(job, await self._made(job))
            except LostOwnershipError:
                await self.folder.drop(job)
            except TooCostlyError as error:  # a busy store finds more too costly: try later
                log.warning("export_waits", extra={"reason": error.message})
                return False
            except UnavailableError:
                await self._excuse(job)
                raise
            except RejectedError as error:
                await self._give_up(job, error.message)
            except OSError as error:
                log.exception("export_failed", extra={"export_id": job.export_id})
                await self._give_up(job, f"the file could not be written ({error.strerror})")
            return True

    async def _made(self, job: Job) -> Job | None:
        """The job with all rows in its file; None if there was no time to end it."""
        if job.failures > FAILURES_MAX:
            raise InvalidError("it was begun too often without getting on; ask for less of it")
        selection = job.selection
        if not await self.folder.begin(job):
            job = replace(job, day=0, after_id="", rows=0, bytes=0)
            if selection.header or job.is_gzip:  # nothing compressed is still a member
                job = replace(job, bytes=await self.folder.append(job, selection.header))
        others = await self.store.used_by_others(job)
        began = self.clock.monotonic()
        pieces = self.bulk.pieces(job.scope, selection, day=job.day, after=job.after_id)
        is_getting_on = False
        try:
            async for piece in pieces:
                job = await self._with(job, piece)
                self._check_room(job, others)
                await self.store.progress(job)
                is_getting_on = True
                point("exports.after_piece")
                if self._is_stopping:
                    return None
                took = self.clock.monotonic() - began
                await self.clock.sleep(min(took, REST_SECONDS_MAX))
                began = self.clock.monotonic()
        except TooCostlyError as error:
            if job.failures >= FAILURES_MAX and not is_getting_on:
                raise InvalidError(error.message) from error
            raise
        return job

    async def _with(self, job: Job, piece: Piece) -> Job:
        """The job with a piece more in its file."""
        size = job.bytes
        if piece.lines:
            size = await self.folder.append(job, piece.lines)
        is_day_over = not piece.last_id
        return replace(
            job,
            day=piece.day + is_day_over,
            days=piece.days,
            after_id=piece.last_id,
            rows=job.rows + piece.rows,
            bytes=size,
        )

    def _check_room(self, job: Job, others: int) -> None:
        if job.bytes > self.bounds.file_bytes_max:
            raise InvalidError(
                f"it is larger than {self.bounds.file_bytes_max} bytes; ask for a shorter interval"
            )
        if job.bytes + others > self.bounds.total_bytes_max:
            raise InvalidError("there is no room for it now; try again later, or ask for less")

    async def _finish(self, job: Job, made: Job | None) -> None:
        if made is None:
            return
        digest = await self.folder.complete(made)
        point("exports.after_rename")
        await self.store.finish(replace(made, state="done", sha256=digest), self.clock.time())
        log.info("export_done", extra={"export_id": job.export_id, "rows": made.rows})

    async def _give_up(self, job: Job, reason: str) -> None:
        try:
            await self.store.finish(replace(job, state="failed", reason=reason), self.clock.time())
        except LostOwnershipError:
            await self.folder.drop(job)
            return
        await self.folder.remove(job.export_id)
        log.warning("export_failed", extra={"export_id": job.export_id, "reason": reason})

    async def _excuse(self, job: Job) -> None:
        """A job is not to blame for a store that is away."""
        try:
            await self.store.excuse(job)
        except (LostOwnershipError, UnavailableError) as error:
            log.warning("export_not_excused", extra={"reason": error.message})

    async def tidy(self) -> None:
        """Forget what is kept long enough, and remove files that no job has."""
        there = await self.folder.ids()
        expired = await self.store.forget_expired(self.clock.time() - self.bounds.kept_seconds)
        for export_id in expired:
            await self.folder.remove(export_id)
        for export_id in there - await self.store.ids():
            await self.folder.remove(export_id)
