"""Export jobs: what may be asked of one, and which bytes of its file a request means; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

from services.reporting.asking.members import Body, flag
from services.reporting.rows import bulk
from services.reporting.rows.domain import read_click_search, read_conversions
from services.reporting.scope import Scope
from shared.errors import InvalidError

KINDS: Final = ("clicks", "conversions")
FORMATS: Final = ("ndjson", "csv")
OPEN_MAX: Final = 3
"""Jobs of one partner that wait or run."""
HELD_MAX: Final = 20
"""Jobs of one partner altogether, with those that are done."""
FAILURES_MAX: Final = 5
"""A job that was taken so often without any progress is given up."""
REQUEST_BYTES_MAX: Final = 65_536

State = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Job:
    """One export.

    Attributes:
        export_id: its id.
        scope: whose rows.
        request: the body that asked for it.
        state: `queued`, `running`, `done` or `failed`.
        reason: why it failed.
        created_at: when it was asked for (seconds); its filters are read as of then.
        through: log time (seconds) up to which it is complete in any case.
        finished_at: when it was done or given up.
        fence: how often it was taken.
        failures: how often without progress since the last.
        day: where it goes on: the day of its interval, counted from 0,
        days: of so many,
        after_id: and the id in it.
        rows: rows written.
        bytes: size of the file up to there.
        sha256: of the whole file, once it is done.
    """

    export_id: str
    scope: Scope
    request: Body
    state: State
    reason: str
    created_at: float
    through: float
    finished_at: float | None
    fence: int
    failures: int
    day: int
    days: int
    after_id: str
    rows: int
    bytes: int
    sha256: str

    @property
    def kind(self) -> str:
        """`clicks` or `conversions`."""
        return str(self.request["kind"])

    @property
    def form(self) -> str:
        """`ndjson` or `csv`."""
        return str(self.request.get("format") or FORMATS[0])

    @property
    def is_gzip(self) -> bool:
        """Whether the file is compressed."""
        return flag(self.request, "gzip", default=True)

    @property
    def percent(self) -> int:
        """How much of the interval is written."""
        if self.state == "done":
            return 100
        return 100 * self.day // self.days if self.days else 0

    @property
    def file_name(self) -> str:
        """As a browser saves it."""
        return f"{self.kind}-{self.export_id[:8]}.{self.form}{'.gz' if self.is_gzip else ''}"

    @property
    def selection(self) -> bulk.Selection:
        """The rows it wants."""
        return selection_of(self.request, now=self.created_at)


def selection_of(request: Body, *, now: float) -> bulk.Selection:
    """The rows that a request for an export wants.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    kind, form = request.get("kind"), request.get("format") or FORMATS[0]
    if kind not in KINDS:
        raise InvalidError(f"kind: use {' or '.join(KINDS)}")
    if form not in FORMATS:
        raise InvalidError(f"format: use {' or '.join(FORMATS)}")
    if kind == "clicks":
        return bulk.clicks(read_click_search(request, now=now), str(form))
    return bulk.conversions(read_conversions(request, now=now), str(form))


def checked(request: Body, *, now: float) -> bytes:
    """A request for an export that can be carried out, as it is kept.

    Raises:
        InvalidError: as of `selection_of`, or it is too large.
    """
    selection_of(request, now=now)
    text = msgspec.json.encode(request)
    if len(text) > REQUEST_BYTES_MAX:
        raise InvalidError(f"the request is larger than {REQUEST_BYTES_MAX} bytes; filter by less")
    return text


def shown(job: Job, *, kept_seconds: float) -> dict[str, Any]:
    """A job as partners see it."""
    is_done = job.state == "done"
    expires = None if job.finished_at is None else int(job.finished_at + kept_seconds)
    asked = {name: job.request.get(name) for name in ("from", "to", "timezone_id")}
    return asked | {
        "export_id": job.export_id,
        "kind": job.kind,
        "format": job.form,
        "gzip": job.is_gzip,
        "state": job.state,
        "reason": job.reason,
        "progress": {"percent": job.percent, "rows": job.rows},
        "size": job.bytes if is_done else 0,
        "sha256": job.sha256,
        "created_unix_timestamp": int(job.created_at),
        "finished_unix_timestamp": None if job.finished_at is None else int(job.finished_at),
        "expires_unix_timestamp": expires,
        "download": f"/v1/affiliates/reporting/exports/{job.export_id}/download" if is_done else "",
    }


# --- ranges ---------------------------------------------------------------------------------------

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class UnsatisfiableRangeError(InvalidError):
    """Nothing of the file is in the range.

    Attributes:
        size: of the file.
    """

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    def __init__(self, size: int) -> None:
        super().__init__(f"Range: none of the file's {size} bytes is in it")
        self.size = size


def wanted_range(headers: Mapping[str, str], *, size: int, etag: str) -> tuple[int, int] | None:
    """First byte and the one behind the last that a request asks for; None for the whole file.

    A range under an `If-Range` that names another file, several ranges, and what is no range at
    all mean the whole, as RFC 9110 has it.

    Raises:
        UnsatisfiableRangeError: nothing of the file is in the range.
    """
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or found[0] == "bytes=-" or headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        since, until = max(0, size - int(last)), size
    else:
        since, until = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < since:
            return None
    if since >= until:
        raise UnsatisfiableRangeError(size)
    return since, until
