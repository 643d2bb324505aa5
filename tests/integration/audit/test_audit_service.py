"""Protects: the trail holds each event once, proves itself, is searched and followed, by its owners."""

import asyncio
import json
from collections import Counter

import asyncpg
import httpx
import pytest

from services.audit.checkpoints import Journal
from shared import events, topics
from shared.routes import of_service
from shared.tokens import SECURITY_READ
from tests.audit_parts import (
    DEADLINE_SECONDS,
    Platform,
    entries,
    expected_ids,
    issued,
    messages,
    network,
    reader,
    refused,
    running,
    send,
    session,
    until_entries,
)
from tests.projection_parts import read_all


async def test_each_event_is_one_entry_however_often_it_was_published(platform, monkeypatch):
    """Key events, refusals and sessions; a producer's repeat under the same id adds nothing."""
    ours = network()
    sent = [*(issued(ours, partner) for partner in range(2, 20)), refused(ours), session(ours)]
    await send(platform.bootstrap, sent, times=3)
    async with running(platform, monkeypatch):
        found = await until_entries(platform, reader(ours), len(sent))
        expected = await expected_ids(platform.bootstrap, ours)
        assert Counter(entry["event_id"] for entry in found) == expected
        assert [entry["sequence"] for entry in found] == list(range(len(sent), 0, -1))
        assert (await platform.get("/v1/audit/verify", reader(ours))).json()["ok"]


async def test_search_finds_by_kind_partner_key_and_time_newest_first(platform, monkeypatch):
    """And every page goes on exactly where the one before ended."""
    ours = network()
    sent = [issued(ours, partner) for partner in (2, 3) for _ in range(150)]
    await send(platform.bootstrap, [*sent, refused(ours, 3), session(ours, 2)])
    async with running(platform, monkeypatch):
        everything = await until_entries(platform, reader(ours), len(sent) + 2)
        assert Counter(entry["event_id"] for entry in everything).most_common(1)[0][1] == 1
        of_kind = await entries(platform, reader(ours), "&kind=AccessRefused")
        assert [entry["body"]["refused"][0]["status"] for entry in of_kind] == [429]
        of_partner = await entries(platform, reader(ours), "&partner=3")
        assert {entry["network_affiliate_id"] for entry in of_partner} == {3}
        assert len(of_partner) == 151
        of_key = await entries(platform, reader(ours), f"&key_id={sent[7].key_id}")
        assert [entry["body"]["key_id"] for entry in of_key] == [sent[7].key_id]
        start, end = sent[10].occurred_at, sent[20].occurred_at
        in_time = await entries(platform, reader(ours), f"&kind=KeyIssued&from={start}&to={end}")
        assert {entry["occurred_at"] for entry in in_time} == {
            event.occurred_at for event in sent[10:20]
        }


async def test_only_staff_with_a_permission_see_a_trail_and_only_their_networks(
    platform, monkeypatch
):
    """Beside each refusal stands who is let in."""
    ours = network()
    await send(platform.bootstrap, [issued(ours)])
    async with running(platform, monkeypatch):
        await until_entries(platform, reader(ours, SECURITY_READ), 1)
        assert await entries(platform, reader(network())) == []
        for route in of_service("audit"):
            url = route.template
            statuses = {
                "nobody": (await platform.get(url, None)).status_code,
                "no permission": (await platform.get(url, reader(ours, "x"))).status_code,
                "partner": (await platform.get(url, reader(ours, partner=2))).status_code,
            }
            assert statuses == {"nobody": 401, "no permission": 403, "partner": 403}, url
        async with httpx.AsyncClient(verify=False, base_url=platform.url) as client:
            bare = {"authorization": f"Bearer {platform.token(reader(ours))}"}
            past_the_door = await client.get("/v1/audit/entries", headers=bare)
        assert past_the_door.status_code == 401


async def test_bad_parameters_are_named(platform, monkeypatch):
    """A caller sees which one, never a stack trace."""
    async with running(platform, monkeypatch):
        for query, name in (("from=x", "from"), ("limit=0", "limit"), ("cursor=x", "cursor")):
            answer = await platform.get(f"/v1/audit/entries?{query}", reader(1))
            assert (answer.status_code, name in answer.json()["error"]) == (400, True), query
        answer = await platform.get("/v1/audit/stream", reader(1), **{"last-event-id": "x"})
        assert answer.status_code == 400


async def test_checkpoints_are_signed_to_the_folder_and_the_topic_and_cover_the_trail(
    platform, monkeypatch
):
    """Outside the database, within the set time."""
    ours = network()
    await send(platform.bootstrap, [issued(ours) for _ in range(3)])
    async with running(platform, monkeypatch):
        report = await _covered(platform, ours, 3)
        assert (report["ok"], report["entries"], report["problem"]) == (True, 3, None)
        signed = Journal(platform.checkpoints).read(ours)
        published = [
            events.decode(events.Checkpoint, record.value)
            for record in await read_all(platform.bootstrap, topics.AUDIT_CHECKPOINTS.name)
        ]
        assert [item for item in published if item.network_id == ours] == signed
    assert (await platform.verify()).ok, "also offline, without the service"


async def _covered(platform: Platform, network_id: int, sequence: int) -> dict:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer = await platform.get("/v1/audit/verify", reader(network_id))
            if answer.status_code == 200 and answer.json()["covered_sequence"] >= sequence:
                return answer.json()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE entries SET content = replace(content, 'Ada', 'Eve') WHERE {where}", "edited"),
        ("DELETE FROM entries WHERE {where}", "deleted"),
    ],
)
async def test_a_row_changed_by_sql_is_found_and_healed_by_putting_it_back(
    platform, monkeypatch, statement: str, kind: str
):
    """By the service and offline, with the place."""
    ours = network()
    await send(platform.bootstrap, [issued(ours) for _ in range(4)])
    where = f"network_id = {ours} AND sequence = 2"
    async with running(platform, monkeypatch):
        assert (await _covered(platform, ours, 4))["ok"]
        connection = await asyncpg.connect(platform.database_url)
        await connection.execute(f"SET search_path = {platform.schema}")
        saved = await connection.fetchrow(f"SELECT content, hash FROM entries WHERE {where}")
        await connection.execute(statement.format(where=where))
        tampered = (await platform.get("/v1/audit/verify", reader(ours))).json()
        offline = await platform.verify()
        await connection.execute(f"DELETE FROM entries WHERE {where}")
        await connection.execute("INSERT INTO entries (content, hash) VALUES ($1, $2)", *saved)
        await connection.close()
        healed = (await platform.get("/v1/audit/verify", reader(ours))).json()
    assert (tampered["ok"], tampered["problem"]["kind"], tampered["problem"]["sequence"]) == (
        False,
        kind,
        2,
    )
    assert offline.first_problem is not None
    assert (offline.first_problem[0], offline.first_problem[1].kind) == (ours, kind)
    assert healed["ok"]


@pytest.mark.logs_errors
async def test_a_rewritten_trail_is_found_and_gets_no_signature(platform, monkeypatch):
    """Somebody writes every table and recomputes every hash, before more entries come."""
    ours = network()
    await send(platform.bootstrap, [issued(ours) for _ in range(3)])
    async with running(platform, monkeypatch):
        await _covered(platform, ours, 3)
        await _rewrite(platform, ours)
        signed = len(Journal(platform.checkpoints).read(ours))
        await send(platform.bootstrap, [issued(ours)])
        await until_entries(platform, reader(ours), 4)
        await _broken(platform)
        assert len(Journal(platform.checkpoints).read(ours)) == signed
        report = (await platform.get("/v1/audit/verify", reader(ours))).json()
    assert (report["ok"], report["problem"]["kind"]) == (False, "rewritten")


async def _rewrite(platform: Platform, network_id: int) -> None:
    """Change the first entry and make every hash agree with it again."""
    from services.audit import chain

    connection = await asyncpg.connect(platform.database_url)
    await connection.execute(f"SET search_path = {platform.schema}")
    async with connection.transaction():
        rows = await connection.fetch(
            "DELETE FROM entries WHERE network_id = $1 RETURNING content, sequence", network_id
        )
        contents = [json.loads(row["content"]) for row in sorted(rows, key=lambda row: row[1])]
        contents[0]["actor"] = "somebody else"
        found, head = chain.extend(chain.genesis(network_id), network_id, contents)
        for entry in found:
            await connection.execute(
                "INSERT INTO entries (content, hash) VALUES ($1, $2)", entry.content, entry.hash
            )
        await connection.execute(
            "UPDATE heads SET hash = $2 WHERE network_id = $1", network_id, head.hash
        )
    await connection.close()


async def _broken(platform: Platform) -> None:
    """Wait until the signer says that it found a broken trail."""
    async with httpx.AsyncClient(verify=False, base_url=platform.url) as client:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "audit_broken_trails 1.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.05)


async def test_the_feed_shows_new_entries_and_resumes_after_a_cut(platform, monkeypatch):
    """Nothing lost, nothing repeated, in order, whatever happened while nobody listened."""
    ours = network()
    url = "/v1/audit/stream"
    await send(platform.bootstrap, [issued(ours)])
    async with running(platform, monkeypatch), _client(platform) as client:
        await until_entries(platform, reader(ours), 1)
        headers = platform.headers(url, reader(ours))
        async with client.stream("GET", url, headers=headers) as answer:
            feed = messages(answer)
            assert await anext(feed) == ("start", "1", {"sequence": 1})
            await send(platform.bootstrap, [issued(ours)])
            kind, last, entry = await anext(feed)
        assert (kind, last, entry["sequence"]) == ("entry", "2", 2)
        await send(platform.bootstrap, [issued(ours) for _ in range(600)])
        async with client.stream("GET", url, headers=headers | {"last-event-id": last}) as answer:
            feed = messages(answer)
            await anext(feed)
            seen = [int((await anext(feed))[1]) for _ in range(600)]
    assert seen == list(range(3, 603))


async def test_an_open_feed_ends_with_a_reason_when_the_service_drains(platform, monkeypatch):
    """So that a stop does not wait for its readers."""
    ours = network()
    url = "/v1/audit/stream"
    async with _client(platform) as client:
        async with running(platform, monkeypatch):
            request = client.build_request("GET", url, headers=platform.headers(url, reader(ours)))
            answer = await client.send(request, stream=True)
            feed = messages(answer)
            assert (await anext(feed))[0] == "start"
        assert await anext(feed) == ("end", "0", {"reason": "reconnect"})
        await answer.aclose()


async def test_a_process_serves_no_more_feeds_than_it_may(platform, monkeypatch):
    """The next one is told when to come again."""
    url = "/v1/audit/stream"
    headers = platform.headers(url, reader(1))
    async with (
        running(platform, monkeypatch, AUDIT_STREAMS_MAX="1"),
        _client(platform) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        await anext(messages(answer))
        refusal = await client.get(url, headers=headers)
    assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "5")


def _client(platform: Platform) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=False, base_url=platform.url, timeout=30)


async def test_anomalies_are_one_row_an_incident_and_paged(platform, monkeypatch):
    """However often opening and closing were published, and in whichever order they came."""
    ours = network()
    found = [_anomaly(ours, number) for number in range(5)]
    closed = [_closed(anomaly) for anomaly in found[:2]]
    await _publish(platform.bootstrap, [*found, closed[0], *found, *closed, *closed])
    async with running(platform, monkeypatch):
        url = "/v1/audit/anomalies"
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (
                len(rows := await _anomalies(platform, url, ours)) < 5
                or sum(row["closed_at"] is not None for row in rows) < 2
            ):
                await asyncio.sleep(0.05)
        assert [row["anomaly_id"] for row in rows] == [item.anomaly_id for item in found[::-1]]
        assert rows[-1]["detail"] == {"hits": 99}
        still_open = await _anomalies(platform, f"{url}?status=open", ours)
        assert [row["anomaly_id"] for row in still_open] == [
            item.anomaly_id for item in found[:1:-1]
        ]
        first = (await platform.get(f"{url}?limit=2", reader(ours))).json()
        cursor = first["paging"]["next_cursor"]
        second = await _anomalies(platform, f"{url}?limit=9&cursor={cursor}", ours)
        assert first["anomalies"] + second == rows
        assert await _anomalies(platform, url, network()) == []


async def _anomalies(platform: Platform, url: str, network_id: int) -> list[dict]:
    return (await platform.get(url, reader(network_id))).json()["anomalies"]


def _anomaly(network_id: int, number: int) -> events.AnomalyOpened:
    return events.AnomalyOpened(
        anomaly_id=f"{network_id}-{number}",
        network_id=network_id,
        network_affiliate_id=2,
        rule="rate_limit_hits",
        window_start=60 * number,
        occurred_at=60.0 * number,
        detail={"hits": 10},
    )


def _closed(anomaly: events.AnomalyOpened) -> events.AnomalyClosed:
    return events.AnomalyClosed(
        anomaly_id=anomaly.anomaly_id,
        network_id=anomaly.network_id,
        network_affiliate_id=anomaly.network_affiliate_id,
        rule=anomaly.rule,
        window_start=anomaly.window_start,
        occurred_at=anomaly.occurred_at + 70,
        detail={"hits": 99},
    )


async def _publish(
    bootstrap: str, found: list[events.AnomalyOpened | events.AnomalyClosed]
) -> None:
    from services.audit.anomalies_worker import publisher
    from shared.kafka import open_producer

    async with open_producer(bootstrap, client_id="test") as producer:
        for anomaly in found:
            await publisher(producer)(anomaly)
