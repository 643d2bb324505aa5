"""Protects export jobs: files with exactly the rows of the lists, whole or not at all."""

import csv
import gzip
import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.reporting.exports import domain
from services.reporting.exports.files import Folder
from services.reporting.exports.handlers import Download, Exports
from services.reporting.exports.store import ExportStore, WorkStore
from services.reporting.exports.worker import Bounds, Worker
from services.reporting.rows.bulk import Bulk, Piece
from services.reporting.rows.handlers import Rows
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.clock import ManualClock
from shared.errors import (
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    TooCostlyError,
    TooManyError,
    UnavailableError,
)
from shared.postgres import Pool, migrate, open_pool
from tests.reporting_parts import NOW, WIDE, click, conversion, exact, search, store
from tests.soak import SOAK

ME = Scope(1, 10)
KEPT = 7 * 86_400.0
CONVERSIONS = WIDE | {"kind": "conversions", "show_events": True}
CLICKS = WIDE | {"kind": "clicks"}


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.reporting.migrations")
        yield pool


@dataclass
class Made:
    """Export jobs over the test's facts, with a worker that works when told to."""

    exports: Exports
    worker: Worker
    folder: Path
    clock: ManualClock

    async def create(self, body: dict[str, Any], scope: Scope = ME) -> str:
        job = await self.exports.create(scope, msgspec.json.encode(body))
        assert job["state"] == "queued"
        return str(job["export_id"])

    async def file(self, export_id: str, **headers: str) -> tuple[Download, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        found = await self.exports.download(ME, export_id, named)
        return found, b"".join([part async for part in found.parts])

    async def rows(self, export_id: str) -> list[dict[str, Any]]:
        _, raw = await self.file(export_id)
        return [exact(line) for line in gzip.decompress(raw).splitlines()]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of many pieces."""
    monkeypatch.setattr("services.reporting.rows.bulk.PIECE_ROWS", 4)


@pytest.fixture
def made(facts: ClickHouse, pool: Pool, tmp_path: Path) -> Made:
    clock = ManualClock(NOW)
    bounds = Bounds(file_bytes_max=10**9, total_bytes_max=10**9, kept_seconds=KEPT)
    folder = Folder(tmp_path / "exports")
    worker = Worker(WorkStore(pool), folder, Bulk(facts), bounds, clock)
    exports = Exports(
        ExportStore(pool),
        folder,
        wake=worker.wake,
        through=lambda _scope, _tables: 1.25,
        clock=clock,
        kept_seconds=KEPT,
    )
    return Made(exports, worker, tmp_path / "exports", clock)


@pytest.fixture
async def some_facts(facts: ClickHouse) -> None:
    """30 conversions and 25 clicks on several days, of which some may not be shown."""
    log = [
        conversion(
            i,
            sub1=f'a,"{i}"\n☃',
            revenue=25.996,
            is_event=i % 5 == 0,
            status="rejected" if i % 7 == 0 else "approved",
            conversion_unix_timestamp=1_774_000_000 + 9_000 * i,
        )
        for i in range(30)
    ]
    log += [click(i, unix_timestamp=1_774_000_000 - 40_000 * i) for i in range(25)]
    log += [click(90, unix_timestamp=1_764_000_000), conversion(91, network_affiliate_id=11)]
    await store(facts, log, 0)


@pytest.mark.usefixtures("some_facts")
async def test_an_export_has_the_rows_of_the_lists(made: Made, rows: Rows) -> None:
    """Conversions as their pages have them, clicks as their stream and look-up do."""
    first, second = await made.create(CONVERSIONS), await made.create(CLICKS)
    while await made.worker.work_once():
        pass
    page = (await search(rows, {"page_size": "-1"}, show_events=True))["conversions"]
    listed = await made.rows(first)
    assert sorted(listed, key=lambda row: row["conversion_id"]) == page
    clicks = await made.rows(second)
    assert sorted(int(row["transaction_id"], 16) for row in clicks) == list(range(25))
    for row in clicks[:3]:
        assert exact((await rows.click(ME, row["transaction_id"])).row) == row
    job = await made.exports.get(ME, first)
    assert (job["state"], job["progress"]) == ("done", {"percent": 100, "rows": len(page)})
    _, raw = await made.file(first)
    assert (job["size"], job["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert job["expires_unix_timestamp"] == job["finished_unix_timestamp"] + KEPT


@pytest.mark.usefixtures("some_facts")
async def test_a_csv_has_one_header_and_counts_rows_with_line_ends_in_them(made: Made) -> None:
    """Not compressed if so asked; nothing but the header where there is no row."""
    wanted = CONVERSIONS | {"format": "csv", "gzip": False}
    export_id = await made.create(wanted)
    never = {"from": "2026-01-01", "to": "2026-01-02"}
    empty = await made.create(wanted | never)
    compressed = await made.create(CONVERSIONS | never)
    while await made.worker.work_once():
        pass
    _, raw = await made.file(export_id)
    lines = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    assert len(lines) == (await made.exports.get(ME, export_id))["progress"]["rows"] == 25
    assert {line["revenue"] for line in lines} == {"25.996"}
    assert {line["sub1"] for line in lines} == {f'a,"{i}"\n☃' for i in range(30) if i % 7 != 0}
    _, nothing = await made.file(empty)
    assert nothing == raw.split(b"\n", 1)[0] + b"\n"
    _, member = await made.file(compressed)
    assert member.startswith(b"\x1f\x8b")
    assert gzip.decompress(member) == b""


class _DyingBulk:
    """Reads some pieces, then dies as a process does or as a store that is away."""

    def __init__(self, bulk: Bulk, pieces: int, death: BaseException) -> None:
        self._bulk = bulk
        self._left = pieces
        self._death = death

    async def pieces(self, *arguments: Any, **options: Any) -> AsyncIterator[Piece]:
        async for piece in self._bulk.pieces(*arguments, **options):
            if self._left == 0:
                raise self._death
            self._left -= 1
            yield piece


class _Killed(BaseException):
    """Nothing but `finally` runs."""


def deaths() -> Iterator[tuple[int, BaseException]]:
    for pieces in (0, 3) if not SOAK else range(10):
        yield pieces, _Killed()
    yield 2, UnavailableError("ClickHouse is away")


@pytest.mark.usefixtures("some_facts")
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_a_job_that_dies_at_any_piece_is_gone_on_with(made: Made, form: str) -> None:
    """By whoever takes it next: nothing twice, nothing lost, and never half a file as whole."""
    wanted = CONVERSIONS | {"format": form, "gzip": form == "ndjson"}
    undisturbed = await made.create(wanted)
    assert await made.worker.work_once()
    _, expected = await made.file(undisturbed)
    for pieces, death in deaths():
        export_id = await made.create(wanted)
        dying = replace(made.worker, bulk=_DyingBulk(made.worker.bulk, pieces, death))
        with pytest.raises(type(death)):
            await dying.work_once()
        with pytest.raises(ConflictError, match="the export is running"):
            await made.file(export_id)
        for part in made.folder.glob(f"{export_id}.*.part"):
            with part.open("ab") as file:
                file.write(b"half a piece")
        assert await made.worker.work_once()
        _, found = await made.file(export_id)
        is_gzip = form == "ndjson"
        assert (gzip.decompress(found) if is_gzip else found) == (
            gzip.decompress(expected) if is_gzip else expected
        )
        job = await made.exports.get(ME, export_id)
        assert job["progress"]["rows"] == 25
        assert [path.name for path in made.folder.glob(f"{export_id}.*")] == [f"{export_id}.whole"]


@pytest.mark.usefixtures("some_facts")
async def test_a_lost_file_or_a_death_before_the_last_note_begins_anew(made: Made) -> None:
    """What the job has noted counts for nothing without the bytes."""
    export_id = await made.create(CONVERSIONS)
    dying = replace(made.worker, bulk=_DyingBulk(made.worker.bulk, 3, _Killed()))
    with pytest.raises(_Killed):
        await dying.work_once()
    for part in made.folder.glob(f"{export_id}.*"):
        part.write_bytes(part.read_bytes()[:5])
    assert await made.worker.work_once()
    assert len(await made.rows(export_id)) == 25


@pytest.mark.usefixtures("some_facts")
async def test_a_job_in_hand_is_taken_by_nobody_else_and_a_deleted_one_stops(made: Made) -> None:
    """One worker a job, however many processes there are."""
    first = await made.create(CONVERSIONS)
    async with made.worker.store.taken() as job:
        assert job is not None
        assert job.export_id == first
        async with made.worker.store.taken() as other:
            assert other is None
        await made.exports.delete(ME, first)
    assert not await made.worker.work_once()
    with pytest.raises(NotFoundError):
        await made.exports.get(ME, first)


@pytest.mark.usefixtures("some_facts")
async def test_a_job_without_room_fails_and_says_so(made: Made) -> None:
    """Also one that kills its process each time; the file is removed, the partner may go on."""
    small = replace(made.worker, bounds=replace(made.worker.bounds, file_bytes_max=200))
    full = replace(made.worker, bounds=replace(made.worker.bounds, total_bytes_max=200))
    for worker, reason in ((small, "larger than 200 bytes"), (full, "no room for it now")):
        export_id = await made.create(CONVERSIONS)
        assert await worker.work_once()
        job = await made.exports.get(ME, export_id)
        assert job["state"] == "failed"
        assert reason in job["reason"]
        assert not list(made.folder.glob(f"{export_id}.*"))
    export_id = await made.create(CONVERSIONS)
    for _ in range(domain.FAILURES_MAX):
        with pytest.raises(_Killed):
            await replace(made.worker, bulk=_DyingBulk(made.worker.bulk, 0, _Killed())).work_once()
    assert await made.worker.work_once()
    assert "begun too often" in (await made.exports.get(ME, export_id))["reason"]


@pytest.mark.usefixtures("some_facts")
async def test_a_job_that_costs_too_much_holds_up_no_other(made: Made) -> None:
    """It is tried some times, since a busy store costs more, and then fails with the reason."""
    costly = await made.create(CONVERSIONS)
    made.clock.advance(1)
    other = await made.create(CONVERSIONS)
    reason = TooCostlyError("The answer takes more memory than one request may")
    getting_on = replace(made.worker, bulk=_DyingBulk(made.worker.bulk, 1, reason))
    for _ in range(domain.FAILURES_MAX - 1):
        stuck = replace(made.worker, bulk=_DyingBulk(made.worker.bulk, 0, reason))
        assert not await stuck.work_once(), "it is not gone on with at once"
    assert not await getting_on.work_once()
    for _ in range(domain.FAILURES_MAX - 1):
        stuck = replace(made.worker, bulk=_DyingBulk(made.worker.bulk, 0, reason))
        assert not await stuck.work_once()
    assert (await made.exports.get(ME, costly))["state"] == "running"
    assert await stuck.work_once()
    job = await made.exports.get(ME, costly)
    assert (job["state"], job["reason"]) == ("failed", reason.message)
    assert await made.worker.work_once()
    assert (await made.exports.get(ME, other))["state"] == "done"


@pytest.mark.usefixtures("some_facts")
async def test_a_broken_download_goes_on_where_it_stopped(made: Made) -> None:
    """By range, if the file is still the one that it was."""
    export_id = await made.create(CONVERSIONS)
    await made.worker.work_once()
    whole, raw = await made.file(export_id)
    etag = whole.headers["etag"]
    assert (whole.status, whole.headers["content-length"]) == (200, str(len(raw)))
    rest, tail = await made.file(export_id, range=f"bytes={len(raw) - 9}-", if_range=etag)
    assert (rest.status, tail) == (206, raw[-9:])
    assert rest.headers["content-range"] == f"bytes {len(raw) - 9}-{len(raw) - 1}/{len(raw)}"
    assert (await made.file(export_id, range="bytes=3-5"))[1] == raw[3:6]
    assert (await made.file(export_id, range="bytes=-4"))[1] == raw[-4:]
    assert (await made.file(export_id, range="bytes=3-5", if_range='"other"'))[1] == raw
    with pytest.raises(domain.UnsatisfiableRangeError, match=f"{len(raw)} bytes"):
        await made.file(export_id, range=f"bytes={len(raw)}-")
    made.folder.joinpath(f"{export_id}.whole").unlink()
    with pytest.raises(GoneError):
        await made.file(export_id)


@pytest.mark.usefixtures("some_facts")
async def test_nobody_sees_the_exports_of_another_partner(made: Made) -> None:
    """Neither the job nor the file, nor may they remove it; nor does a file have others' rows."""
    export_id = await made.create(CONVERSIONS)
    theirs = await made.create(CONVERSIONS, Scope(1, 11))
    while await made.worker.work_once():
        pass
    assert (await made.exports.get(Scope(1, 11), theirs))["progress"]["rows"] == 1
    for stranger in (Scope(1, 11), Scope(2, 10)):
        for attempt in (
            made.exports.get(stranger, export_id),
            made.exports.delete(stranger, export_id),
            made.exports.download(stranger, export_id, {}),
        ):
            with pytest.raises(NotFoundError):
                await attempt
    listed = (await made.exports.list(ME))["exports"]
    assert [job["export_id"] for job in listed] == [export_id]


@pytest.mark.usefixtures("some_facts")
async def test_jobs_are_limited_and_end_after_their_days(made: Made) -> None:
    """Per partner; an expired one is gone with its file, as is a file that no job has."""
    ids = [await made.create(CONVERSIONS) for _ in range(domain.OPEN_MAX)]
    with pytest.raises(TooManyError):
        await made.create(CONVERSIONS)
    assert await made.create(CONVERSIONS, Scope(1, 11))
    while await made.worker.work_once():
        pass
    stray = made.folder / f"{'e' * 32}.1.part"
    stray.write_bytes(b"left")
    made.clock.advance(KEPT - 1)
    await made.worker.tidy()
    assert not stray.exists()
    assert (await made.exports.get(ME, ids[0]))["state"] == "done"
    made.clock.advance(1_000)
    await made.worker.tidy()
    assert (await made.exports.list(ME))["exports"] == []
    assert list(made.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "offers"}, "kind: use clicks or conversions"),
        ({"format": "xml"}, "format: use ndjson or csv"),
        ({"timezone_id": None}, "timezone_id: required"),
        ({"from": "2024-01-01", "to": "2024-02-01"}, "365 days"),
    ],
)
async def test_what_cannot_be_exported_is_refused_at_once(
    made: Made, change: dict[str, Any], named: str
) -> None:
    """By name, before anything waits."""
    with pytest.raises(InvalidError, match=named):
        await made.create(CONVERSIONS | change)
    assert (await made.exports.list(ME))["exports"] == []
