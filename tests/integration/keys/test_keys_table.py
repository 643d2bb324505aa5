"""Protects the table of keys as staff meet it: lists, one key, files; theirs alone, never a secret."""

import csv
import io
import json
import re
import zlib
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import httpx
import pytest

from services.keys.table.api import COLUMNS
from services.keys.table.domain import Filters, Listing
from shared.clock import SystemClock, rfc3339
from shared.tokens import ACCOUNTS_HISTORY_READ, SECURITY_READ
from tests.keys_parts import Platform, clerk, network, partner, running, staff
from tests.keys_table_parts import Stored, key_id, put

TABLE = "/v1/networks/apikeys"
OF_PARTNER = "/v1/networks/affiliates/7/apikeys"
EXPORT = f"{TABLE}/export"
NOW = SystemClock().time()
DAY = 86_400.0


async def stored(platform: Platform, *rows: Stored) -> None:
    """Put keys into the tables by hand."""
    connection = await asyncpg.connect(
        platform.database_url, server_settings={"search_path": platform.schema}
    )
    try:
        await put(connection, rows)
        await connection.execute("ANALYZE")  # as autovacuum does within a minute
    finally:
        await connection.close()


async def ids(platform: Platform, path: str, caller) -> list[str]:
    """The keys of a whole list, page by page."""
    found, more = [], ""
    while more is not None:
        mark = "&" if "?" in path else "?"
        answer = await platform.call("GET", f"{path}{mark}limit=3{more}", caller)
        assert answer.status_code == 200, answer.text
        found += [row["key_id"] for row in answer.json()["apikeys"]]
        cursor = answer.json()["paging"]["next_cursor"]
        more = None if cursor is None else f"&cursor={cursor}"
    return found


def cells(answer: httpx.Response) -> list[dict[str, str]]:
    """The rows of a CSV, as a spreadsheet reads them."""
    text = answer.content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


async def test_lists_are_paged_and_searched(service):
    """No row twice or missing while others are issued; by name, id and last four; of a partner."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours), partner(ours, 8, name="50% Off_Ltd"))
    keys = [await service.issue(ada, 7 + number % 2, f"app-{number}") for number in range(7)]
    newest = [key["key_id"] for key in reversed(keys)]
    page = (await service.call("GET", f"{TABLE}?limit=3", ada)).json()
    late = await service.issue(ada, 7, "late")
    cursor = page["paging"]["next_cursor"]
    rest = (await service.call("GET", f"{TABLE}?cursor={cursor}", ada)).json()
    assert [row["key_id"] for row in page["apikeys"] + rest["apikeys"]] == newest
    assert rest["paging"] == {"limit": 100, "next_cursor": None}
    assert await ids(service, f"{TABLE}?sort=integration", ada) == [*newest[::-1], late["key_id"]]
    assert await ids(service, f"{OF_PARTNER}?sort=created_at", ada) == [
        *newest[::-1][::2],
        late["key_id"],
    ]
    for text in ("PP-3", newest[3], keys[3]["key"][-4:]):
        assert await ids(service, f"{TABLE}?search={text}", ada) == [newest[3]], text
    for question in ("search=%25", "search=f_l", "partner=8", "search=50%25+off"):
        assert await ids(service, f"{TABLE}?{question}", ada) == newest[1::2], question
    assert await ids(service, f"{TABLE}?integration=LATE", ada) == [late["key_id"]]
    assert await ids(service, f"{TABLE}?search=Ada", ada) == [late["key_id"], *newest]


async def test_a_row_tells_the_life_of_a_key(service):
    """Alone and in the list; who uses it, how, and what is worth a look."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours))
    made = NOW - 100 * DAY
    old, new = key_id(), key_id()
    used = Stored(
        network_id=ours,
        key_id=old,
        integration="used",
        created_at=made,
        used_at=NOW - 60,
        successor_key_id=new,
        rotated_at=NOW - 120,
        expires_at=NOW + DAY,
    )
    fresh = Stored(
        network_id=ours, key_id=new, integration="used", created_at=made, predecessor_key_id=old
    )
    waiting = Stored(
        network_id=ours, key_id=key_id(), integration="soon", created_at=NOW, not_before=NOW + DAY
    )
    await stored(service, used, fresh, waiting)
    rows = {row["key_id"]: row for row in (await service.call("GET", TABLE, ada)).json()["apikeys"]}
    row = rows[old]
    assert sorted(row) == sorted(COLUMNS)
    assert row["partner_name"] == "Cedar Coupons"
    assert row["last_used_at"] == rfc3339((NOW - 60) // 60 * 60)
    assert (row["last_used_ip"], row["used_today"]) == ("192.0.2.7", 3)
    assert (row["overlap_ends_at"], row["successor_key_id"]) == (rfc3339(NOW + DAY), new)
    assert row["warnings"] == ["predecessor_in_use"]
    assert rows[new]["warnings"] == ["unused_90_days", "predecessor_in_use"]
    assert rows[new]["last_used_at"] is None
    assert rows[waiting.key_id]["status"] == "scheduled"
    assert rows[waiting.key_id]["not_before"] == rfc3339(NOW + DAY)
    alone = (await service.call("GET", f"{TABLE}/{old}", ada)).json()
    assert alone.pop("usage") == {
        "sources": [],
        "refused_at": None,
        "refused_ip": None,
        "refused_reason": None,
    }
    assert alone == row
    for question, expected in {
        "warning=predecessor_in_use": {old, new},
        "warning=unused_90_days": {new},
        "status=scheduled": {waiting.key_id},
        "sort=-last_used_at&limit=1": {old},
    }.items():
        answer = await service.call("GET", f"{TABLE}?{question}", ada)
        assert {row["key_id"] for row in answer.json()["apikeys"]} == expected, question


async def test_one_key_tells_who_uses_it(service):
    """Networks by their last use; and a refusal after its end."""
    ours = network()
    await service.tell(partner(ours))
    key = (await service.issue(staff(ours), 7))["key_id"]
    await service.execute(
        "INSERT INTO key_sources (key_id, source, used_at, last_ip, last_endpoint, count_on_day)"
        " VALUES ($1, '192.0.2.0/24', $2, '192.0.2.7', 'GET /a', 5),"
        " ($1, '2001:db8::/48', $2 + 60, '2001:db8::1', 'GET /b', 1)",
        key,
        1_767_225_599.0,
    )
    await service.execute(
        "UPDATE key_usage SET refused_at = 1767225601, refused_ip = '192.0.2.9',"
        " refused_reason = 'revoked' WHERE key_id = $1",
        key,
    )
    usage = (await service.call("GET", f"{TABLE}/{key}", staff(ours))).json()["usage"]
    assert usage == {
        "sources": [
            {
                "source": "2001:db8::/48",
                "last_used_at": "2026-01-01T00:00:00.000Z",
                "last_used_ip": "2001:db8::1",
                "last_used_endpoint": "GET /b",
                "count": 1,
            },
            {
                "source": "192.0.2.0/24",
                "last_used_at": "2025-12-31T23:59:00.000Z",
                "last_used_ip": "192.0.2.7",
                "last_used_endpoint": "GET /a",
                "count": 5,
            },
        ],
        "refused_at": "2026-01-01T00:00:00.000Z",
        "refused_ip": "192.0.2.9",
        "refused_reason": "revoked",
    }


async def test_no_route_shows_the_keys_of_another_network(service):
    """Whatever the filter or the cursor; the owner's staff see them by the same calls."""
    ours, theirs = network(), network()
    await service.tell(partner(ours), partner(theirs))
    key = await service.issue(staff(ours), 7)
    name, last = key["key_id"], key["key"][-4:]
    same = Listing(ours).cursor((2e12, "key_" + "f" * 20))
    paths = [
        *(TABLE, OF_PARTNER, f"{TABLE}/{name}", EXPORT, f"{EXPORT}?format=json"),
        *(f"{TABLE}?search={text}" for text in (name, last, "crm", "Cedar", "Ada")),
        *(f"{TABLE}?sort={sort}" for sort in ("status", "-last_used_at", "expires_at", "partner")),
        *(f"{TABLE}?{more}" for more in ("partner=7", "integration=crm", "status=active")),
        f"{TABLE}?cursor={same}",
    ]
    for path in paths:
        shown = await service.call("GET", path, staff(ours))
        assert (shown.status_code, name in shown.text) == (200, True), path
        hidden = await service.call("GET", path, staff(theirs, super_user=True))
        assert hidden.status_code in (200, 400, 404), path
        assert not {name, key["masked"]} & set(re.findall(r"key_\w+|aff_…\w+", hidden.text)), path


@pytest.mark.parametrize("path", [TABLE, OF_PARTNER, f"{TABLE}/{{key}}", EXPORT])
async def test_reading_takes_a_permission(service, path):
    """Read access is enough; without it `Forbidden`, which the trail tells."""
    ours = network()
    await service.tell(partner(ours))
    key = (await service.issue(staff(ours), 7))["key_id"]
    path = path.format(key=key)
    denied = await service.call("GET", path, clerk(ours))
    assert (denied.status_code, denied.json()["error"]) == (403, "Forbidden")
    assert key not in denied.text
    for permission in (SECURITY_READ, ACCOUNTS_HISTORY_READ):
        assert (await service.call("GET", path, staff(ours, permission))).status_code == 200
    told = [event for event in await service.told(ours) if type(event).__name__ == "AccessDenied"]
    assert [event.action for event in told] == [
        {TABLE: "list keys", OF_PARTNER: "list keys", EXPORT: "export keys"}.get(
            path, f"look at {key}"
        )
    ]


def forged(listing: Listing, place: str) -> str:
    """A cursor whose checksum was computed anew."""
    body = f'["{listing._digest()}",{place}]'.encode()
    return urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode().rstrip("=")


async def test_a_wrong_question_is_refused(service):
    """400 with a text that says what is wrong; nothing reaches the database that it cannot take."""
    ours = network()
    listing = Listing(ours, sort="status")
    cursor = listing.cursor(("active", 1.0, key_id()))
    questions = {
        "stauts=active": "stauts",
        "status=lost": "status",
        "warning=none": "warning",
        "sort=secret": "sort",
        "sort=--status": "sort",
        "limit=0": "limit",
        "limit=1001": "limit",
        "partner=0": "partner",
        "search=%00": "search",
        f"search={'x' * 101}": "search",
        "cursor=nonsense": "damaged",
        f"sort=status&cursor={cursor[:-3]}": "damaged",
        f"cursor={cursor}": "another sort",
        f"sort=-status&cursor={cursor}": "another sort",
        f"sort=status&partner=7&cursor={cursor}": "other filters",
        f"sort=status&cursor={forged(listing, '[1,2,3]')}": "damaged",
    }
    for question, text in questions.items():
        answer = await service.call("GET", f"{TABLE}?{question}", staff(ours))
        assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text
    for question in ("format=xml", "limit=5", "cursor=x"):
        answer = await service.call("GET", f"{EXPORT}?{question}", staff(ours))
        assert answer.status_code == 400, question
    assert (await service.call("GET", f"{OF_PARTNER}?partner=7", staff(ours))).status_code == 400
    only = replace(listing, filters=Filters(status="active"))
    beyond = only.cursor(("revoked", 1.0, key_id()))  # a place that its list cannot have
    answer = await service.call(
        "GET", f"{TABLE}?status=active&sort=status&cursor={beyond}", staff(ours)
    )
    assert (answer.status_code, answer.json()["apikeys"]) == (200, [])


async def test_an_unknown_partner_or_key_is_not_found(service):
    """As a path; as a filter it leaves nothing."""
    ada = staff(network())
    for path in (OF_PARTNER, f"{TABLE}/{key_id()}", f"{TABLE}/nonsense"):
        assert (await service.call("GET", path, ada)).status_code == 404, path
    listed = await service.call("GET", f"{TABLE}?partner=7", ada)
    assert (listed.status_code, listed.json()["apikeys"]) == (200, [])
    exported = await service.call("GET", f"{EXPORT}?partner=7&format=json", ada)
    assert exported.json() == {"apikeys": []}


async def test_a_file_holds_what_the_table_shows(service):
    """Row by row, through many batches, in any order and behind any filter; and no secret."""
    ours = network()
    ada = staff(ours)
    await service.tell(partner(ours, name='=HYPERLINK("//evil.test";"x")'))
    secret = (await service.issue(ada, 7, "Café, reports"))["key"]
    await stored(
        service,
        *(
            Stored(
                network_id=ours,
                key_id=key_id(),
                integration=f"app {number}",
                created_at=1_000.0 + number % 9,
                status="revoked" if number % 3 else "active",
                ended_at=2_000.0 if number % 3 else None,
            )
            for number in range(2_300)
        ),
    )
    for question in ("", "&sort=integration", "&status=revoked&sort=-status", "&search=app+77"):
        exported = (await service.call("GET", f"{EXPORT}?format=json{question}", ada)).json()
        first = await service.call("GET", f"{TABLE}?limit=1000{question}", ada)
        assert exported["apikeys"][:1000] == first.json()["apikeys"]
        answer = await service.call("GET", f"{EXPORT}?format=csv{question}", ada)
        rows = cells(answer)
        assert [row["key_id"] for row in rows] == [row["key_id"] for row in exported["apikeys"]]
        assert len({row["key_id"] for row in rows}) == len(rows)
    exported = await service.call("GET", f"{EXPORT}?format=json", ada)
    whole = await service.call("GET", EXPORT, ada)
    assert len(cells(whole)) == len(exported.json()["apikeys"]) == 2_301
    row = cells(whole)[0]
    assert (row["integration"], row["masked"][:5]) == ("Café, reports", "aff_…")
    assert row["partner_name"].startswith("'=HYPERLINK(")
    assert (row["allowlist"], row["suspended"], row["expires_at"]) == ("", "false", "")
    for answer in (whole, exported):
        assert secret not in answer.text
        assert "aff_" + secret[4:8] not in answer.text
    (kept,) = await service.execute("SELECT digest FROM keys WHERE key_id = $1", row["key_id"])
    assert kept["digest"] not in whole.text + exported.text
    assert whole.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert re.fullmatch(
        rf'attachment; filename="apikeys-{ours}-\d{{4}}-\d\d-\d\d\.csv"',
        whole.headers["content-disposition"],
    )
    assert exported.headers["content-disposition"].endswith('.json"')
    for answer in (whole, exported):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


@asynccontextmanager
async def downloading(platform: Platform, caller, question: str):
    """The answer to an export, whose body is still on its way."""
    headers = platform.headers("GET", EXPORT, caller)
    async with (
        httpx.AsyncClient(verify=False, base_url=platform.url, timeout=60) as client,
        client.stream("GET", f"{EXPORT}?{question}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        yield answer


async def test_a_file_that_breaks_off_is_no_whole_one(platform):
    """The connection breaks; and while a reader takes its time nothing is held, nothing blocked.

    What is issued after the beginning is not in it.
    """
    ours = network()
    ada = staff(ours)
    with running(platform):
        await platform.tell(partner(ours))
        row = Stored(ours, "", created_at=NOW - DAY, status="revoked", ended_at=NOW)
        row = replace(row, created_by_name="Ada " * 500)  # more than sockets hold
        await stored(platform, *(replace(row, key_id=key_id()) for _ in range(6_000)))
        async with downloading(platform, ada, "format=json&sort=created_at") as answer:
            pieces = answer.aiter_bytes()
            data = await anext(pieces)
            late = (await platform.issue(ada, 7, "late"))["key_id"]
            held = await platform.execute(
                "SELECT FROM pg_stat_activity WHERE application_name = 'portico-keys'"
                " AND state = 'idle in transaction'"
            )
            assert held == []
            async for piece in pieces:
                data += piece
        rows = json.loads(data)["apikeys"]
        assert (len(rows), late in {row["key_id"] for row in rows}) == (6_000, False)
    for form in ("csv", "json"):  # each by a service of its own: uses of keys may come in meanwhile
        with running(platform):
            async with downloading(platform, ada, f"format={form}") as answer:
                pieces = answer.aiter_bytes()
                await anext(pieces)
                await platform.execute("ALTER TABLE key_usage RENAME TO hidden")
                with pytest.raises(httpx.TransportError):
                    async for _ in pieces:
                        pass
            await platform.execute("ALTER TABLE hidden RENAME TO key_usage")
    with running(platform):
        assert len(cells(await platform.call("GET", EXPORT, ada))) == 6_001
