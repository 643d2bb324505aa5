"""The files of export jobs, in one folder: grown by a worker, whole under their final name.

A file that grows is called `<id>.<fence>.part`. Each worker that takes a job writes one of its own,
beginning with what the one before it had noted, so that a worker which is dead to the others cannot
spoil it. Every piece is a gzip member by itself, which together are one gzip file.
"""

import asyncio
import contextlib
import gzip
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from services.reporting.exports.domain import Job

GZIP_LEVEL: Final = 4
CHUNK_BYTES: Final = 256 * 1024
_NAME: Final = re.compile(r"[0-9a-f]{32}\.(\d+\.part|whole)")


class Folder:
    """Where the files are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def whole(self, export_id: str) -> Path:
        """The file of a job that is done."""
        return self._path / f"{export_id}.whole"

    async def begin(self, job: Job) -> bool:
        """A growing file for `job` with the bytes that it has noted.

        Returns:
            Whether it has them; else it is empty, and the job begins anew.
        """
        return await asyncio.to_thread(self._begin, job)

    def _begin(self, job: Job) -> bool:
        part = self._part(job)
        before = sorted(self._path.glob(f"{job.export_id}.*.part"), key=_fence)
        usable = [path for path in before if job.bytes and path.stat().st_size >= job.bytes]
        with part.open("wb") as target:
            if usable:
                with usable[-1].open("rb") as source:
                    _copy(source, target, job.bytes)
        for path in before:
            if path != part:
                path.unlink(missing_ok=True)
        return bool(usable)

    async def append(self, job: Job, piece: bytes) -> int:
        """Add a piece durably; how large the file is then."""
        return await asyncio.to_thread(self._append, job, piece)

    def _append(self, job: Job, piece: bytes) -> int:
        written = gzip.compress(piece, GZIP_LEVEL, mtime=0) if job.is_gzip else piece
        with self._part(job).open("ab") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    async def complete(self, job: Job) -> str:
        """Give the file its final name; the SHA-256 of it, in hex."""
        return await asyncio.to_thread(self._complete, job)

    def _complete(self, job: Job) -> str:
        part = self._part(job)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.replace(self.whole(job.export_id))
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    async def drop(self, job: Job) -> None:
        """Remove the growing file that this taking of the job has made."""
        await asyncio.to_thread(self._part(job).unlink, missing_ok=True)

    async def remove(self, export_id: str) -> None:
        """Remove all files of a job."""
        await asyncio.to_thread(self._remove, export_id)

    def _remove(self, export_id: str) -> None:
        for path in self._path.glob(f"{export_id}.*"):
            path.unlink(missing_ok=True)

    async def ids(self) -> set[str]:
        """The ids of all jobs that have files; other files in the folder are none of ours."""
        found = await asyncio.to_thread(lambda: list(self._path.iterdir()))
        return {path.name.partition(".")[0] for path in found if _NAME.fullmatch(path.name)}

    def _part(self, job: Job) -> Path:
        return self._path / f"{job.export_id}.{job.fence}.part"


async def read(path: Path, since: int, until: int) -> AsyncIterator[bytes]:
    """The bytes of a file in chunks, to the end though it be removed meanwhile."""
    with contextlib.closing(await asyncio.to_thread(path.open, "rb")) as file:
        await asyncio.to_thread(file.seek, since)
        left = until - since
        while left and (chunk := await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


def _fence(path: Path) -> int:
    return int(path.name.split(".")[1])


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    left = size
    while left and (chunk := source.read(min(left, CHUNK_BYTES))):
        target.write(chunk)
        left -= len(chunk)
