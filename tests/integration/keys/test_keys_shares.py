"""Protects single-use links through a running service: shown once, told each time, burnt by no look."""

import asyncio
import signal
from collections import Counter
from dataclasses import replace
from datetime import datetime

import httpx
import pytest

from deploy.local.ports import free_ports
from services.keys.shares.domain import OPEN_MAX, WRONG_PASSPHRASES_MAX
from services.keys.shares.purge import Purge
from services.keys.shares.store import ShareStore
from shared import events, topics
from shared.clock import SystemClock
from shared.events import NetworkProfile
from shared.identity import HEADER
from shared.kafka import open_producer
from shared.postgres import open_pool
from shared.tokens import SECURITY_READ
from tests.keys_parts import (
    CLIENT_IP,
    KeysProcess,
    clerk,
    network,
    partner,
    staff,
    until,
    until_published,
)
from tests.shares_parts import path_of, secrets_in, visit
from tests.soak import count

pytestmark = pytest.mark.slow

ROUNDS = count(3, 100)
PASSPHRASE = "correct horse battery"


async def shared(service, ours, **body):
    """A key, its links' path, and a link to it."""
    await service.tell(partner(ours))
    key = await service.issue(staff(ours), 7)
    shares = f"/v1/networks/apikeys/{key['key_id']}/shares"
    return key, shares, await made(service, shares, ours, **body)


async def made(service, shares, ours, **body):
    answer = await service.call("POST", shares, staff(ours), body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(service, shares, ours):
    answer = await service.call("GET", shares, staff(ours))
    assert answer.status_code == 200, answer.text
    return answer.json()["shares"]


async def told(service, ours, kind=events.ShareOpened):
    await until_published(service)
    return [event for event in await service.told(ours) if isinstance(event, kind)]


async def test_a_link_shows_the_key_once_and_each_step_is_told(service):
    """Made, looked at, opened, opened again: pages, rows, and events with address and actor."""
    ours = network()
    key, shares, link = await shared(service, ours, reason="onboarding")
    assert link["state"] == "open"
    lifetime = datetime.fromisoformat(link["expires_at"]) - datetime.fromisoformat(
        link["created_at"]
    )
    assert lifetime.total_seconds() == 86_400
    path = path_of(link)

    for _ in range(3):
        looked = await visit(service, "GET", path)
        assert (looked.status_code, secrets_in(looked)) == (200, [])
        assert f"Network {ours}" in looked.text
    assert [row["state"] for row in await listed(service, shares, ours)] == ["open"]

    shown = await visit(service, "POST", path)
    assert (shown.status_code, secrets_in(shown)) == (200, [key["key"]])
    again = await visit(service, "POST", path)
    assert (again.status_code, secrets_in(again)) == (410, [])
    (row,) = await listed(service, shares, ours)
    assert (row["state"], row["opened_ip"]) == ("used", CLIENT_IP)
    when = datetime.fromisoformat(row["opened_at"])
    assert f"{when.day} {when:%B %Y, %H:%M:%S} UTC" in again.text
    assert "key" not in row
    assert "url" not in row

    (link_made,) = await told(service, ours, events.KeyReshared)
    assert (link_made.channel, link_made.share_id, link_made.reason) == (
        "link",
        link["share_id"],
        "onboarding",
    )
    opened = await told(service, ours)
    assert [event.outcome for event in opened] == ["shown", "used"]
    assert {event.share_id for event in opened} == {link["share_id"]}
    assert {(event.actor.kind, event.client_ip) for event in opened} == {("visitor", CLIENT_IP)}


async def test_of_many_who_press_at_once_one_sees_the_key(service):
    """Twenty presses together on each of some links: one key each, one event `shown`."""
    ours = network()
    key, shares, link = await shared(service, ours)
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(visit(service, "POST", path_of(link)) for _ in range(20)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 19}
        assert [found for answer in answers for found in secrets_in(answer)] == [key["key"]]
        assert all("has been used" in one.text for one in answers if one.status_code == 410)
        link = await made(service, shares, ours)
    outcomes = Counter(event.outcome for event in await told(service, ours))
    assert outcomes == {"shown": ROUNDS, "used": ROUNDS}


async def test_a_used_link_that_is_opened_again_and_again_is_told_once_a_minute(service):
    """Nobody can flood the trail; after a minute it is told anew."""
    ours = network()
    _, _, link = await shared(service, ours)
    for _ in range(6):
        await visit(service, "POST", path_of(link))
    assert [event.outcome for event in await told(service, ours)] == ["shown", "used"]
    await service.execute(
        "UPDATE shares SET told_at = told_at - 61 WHERE share_id = $1", link["share_id"]
    )
    for _ in range(3):
        await visit(service, "POST", path_of(link))
    assert [event.outcome for event in await told(service, ours)] == ["shown", "used", "used"]


async def test_only_the_passphrase_opens_and_five_wrong_ones_close(service):
    """Right after four wrong ones it opens; after five not even the right one does."""
    ours = network()
    key, shares, link = await shared(service, ours, passphrase=PASSPHRASE)
    doomed = await made(service, shares, ours, passphrase=PASSPHRASE)
    assert (link["has_passphrase"], link["attempts_left"]) == (True, 5)
    assert 'name="passphrase"' in (await visit(service, "GET", path_of(link))).text
    for left in range(WRONG_PASSPHRASES_MAX - 1, 0, -1):
        refused = await visit(service, "POST", path_of(link), "wrong horse battery")
        assert (refused.status_code, secrets_in(refused)) == (403, [])
        assert f"{left} more wrong" in refused.text
    shown = await visit(service, "POST", path_of(link), f"  {PASSPHRASE} ")
    assert (shown.status_code, secrets_in(shown)) == (200, [key["key"]])

    guesses = [visit(service, "POST", path_of(doomed), f"guess number {n}") for n in range(12)]
    answers = await asyncio.gather(*guesses)
    assert Counter(answer.status_code for answer in answers) == {403: 4, 410: 8}
    late = await visit(service, "POST", path_of(doomed), PASSPHRASE)
    assert (late.status_code, secrets_in(late)) == (410, [])
    states = {row["share_id"]: row["state"] for row in await listed(service, shares, ours)}
    assert states == {link["share_id"]: "used", doomed["share_id"]: "locked"}
    outcomes = Counter(event.outcome for event in await told(service, ours))
    assert outcomes == {"refused": 4 + 5 + 1, "shown": 1}
    kept = await service.execute("SELECT passphrase FROM shares WHERE network_id = $1", ours)
    assert {row["passphrase"] for row in kept} == {b""}


async def test_a_link_that_is_over_says_so_and_says_when(service):
    """Withdrawn, expired, of a revoked key, of a suspended partner; an event for each press."""
    ours = network()
    key, shares, withdrawn = await shared(service, ours)
    expired, ended = [await made(service, shares, ours) for _ in range(2)]
    gone = f"{shares}/{withdrawn['share_id']}?reason=wrong+partner"
    for _ in range(2):
        answer = await service.call("DELETE", gone, staff(ours))
        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    await service.execute(
        "UPDATE shares SET expires_at = created_at WHERE share_id = $1", expired["share_id"]
    )
    late = await service.call("DELETE", f"{shares}/{expired['share_id']}", staff(ours))
    assert (late.status_code, "expired" in late.json()["error"]) == (409, True)

    await service.tell(partner(ours, version=2, account_status="suspended"))

    async def suspended() -> bool:
        return (await visit(service, "GET", path_of(ended))).status_code == 403

    await until(suspended)
    paused = await visit(service, "POST", path_of(ended))
    assert (paused.status_code, secrets_in(paused)) == (403, [])
    await service.send(partner(ours, version=3))

    async def resumed() -> bool:
        return (await visit(service, "GET", path_of(ended))).status_code == 200

    await until(resumed)
    await service.call("POST", f"/v1/networks/apikeys/{key['key_id']}/revoke", staff(ours))
    for link, words in ((withdrawn, "withdrew"), (expired, "worked until"), (ended, "ended on")):
        for method in ("GET", "POST"):
            page = await visit(service, method, path_of(link))
            assert (page.status_code, secrets_in(page)) == (410, [])
            assert words in page.text
            assert " UTC" in page.text
    assert [row["state"] for row in await listed(service, shares, ours)] == [
        "ended",
        "expired",
        "withdrawn",
    ]
    outcomes = Counter(event.outcome for event in await told(service, ours))
    assert outcomes == {"ended": 1, "withdrawn": 1, "expired": 1}
    (taken_back,) = await told(service, ours, events.ShareWithdrawn)
    assert (taken_back.share_id, taken_back.reason, taken_back.actor.subject) == (
        withdrawn["share_id"],
        "wrong partner",
        "user-7",
    )
    refused = await service.call("POST", shares, staff(ours), {})
    assert (refused.status_code, "revoked" in refused.json()["error"]) == (409, True)


async def test_only_staff_who_may_change_keys_make_and_withdraw_links(service):
    """Readers list; others get `Forbidden`, an event each; another network finds nothing."""
    ours = network()
    _, shares, link = await shared(service, ours)
    one = f"{shares}/{link['share_id']}"
    calls = (("POST", shares), ("GET", shares), ("DELETE", one))
    reader = [await service.call(*call, staff(ours, SECURITY_READ)) for call in calls]
    assert [answer.status_code for answer in reader] == [403, 200, 403]
    partner_user = staff(ours, network_affiliate_id=7)
    for caller in (clerk(ours), partner_user):
        assert [(await service.call(*call, caller)).status_code for call in calls] == [403] * 3
    foreign = [await service.call(*call, staff(network())) for call in calls]
    assert [answer.status_code for answer in foreign] == [404] * 3
    assert [row["state"] for row in await listed(service, shares, ours)] == ["open"]
    denied = Counter(
        event.action.partition(" key_")[0]
        for event in await told(service, ours, events.AccessDenied)
    )
    assert denied == {"share": 3, "list links of": 2, "withdraw a link of": 3}


async def test_a_key_has_ten_open_links_at_most(service):
    """Also when many are made at once; one that is withdrawn makes room."""
    ours = network()
    _, shares, link = await shared(service, ours)
    answers = await asyncio.gather(
        *(service.call("POST", shares, staff(ours), {}) for _ in range(OPEN_MAX + 2))
    )
    assert Counter(answer.status_code for answer in answers) == {201: OPEN_MAX - 1, 409: 3}
    await service.call("DELETE", f"{shares}/{link['share_id']}", staff(ours))
    await made(service, shares, ours)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"expires_in_seconds": 59}, "expires_in_seconds"),
        ({"expires_in_seconds": 604_801}, "expires_in_seconds"),
        ({"passphrase": "short"}, "passphrase"),
        ({"passphrase": "x" * 201}, "passphrase"),
        ({"pass": "word"}, "pass"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_named(service, body, place):
    """And repeats no passphrase."""
    ours = network()
    _, shares, _ = await shared(service, ours)
    answer = await service.call("POST", shares, staff(ours), body)
    assert (answer.status_code, place in answer.json()["error"]) == (400, True)
    assert "x" * 201 not in answer.text


async def test_what_is_no_link_or_no_form_of_ours_gets_a_page_and_changes_nothing(service):
    """Unknown tokens, other bodies, other methods; without the door's signature nothing at all."""
    ours = network()
    _, shares, link = await shared(service, ours, passphrase=PASSPHRASE)
    for token in ("a" * 43, "short", "ü" * 3, "%00" * 43):
        for method in ("GET", "POST"):
            headers = service.headers(
                method, f"/v1/shares/{httpx.URL(token).raw_path.decode()}", None
            )
            async with httpx.AsyncClient(verify=False, base_url=service.url) as client:
                page = await client.request(method, f"/v1/shares/{token}", headers=headers)
            assert (page.status_code, "no such link" in page.text) == (404, True), token
    path = path_of(link)
    kinds = {"content-type": "application/x-www-form-urlencoded"}
    for content, headers in (
        (b"passphrase=" + b"x" * 5_000, kinds),
        (b"passphrase=a&b=c&d=e", kinds),
        (b"passphrase=\xff\xfe", kinds),
        (b"passphrase=%ff%fe", kinds),
        (b'{"passphrase": "correct horse battery"}', {"content-type": "application/json"}),
    ):
        page = await visit(service, "POST", path, content=content, headers=headers)
        assert (page.status_code, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert (await visit(service, "HEAD", path)).status_code == 405
    async with httpx.AsyncClient(verify=False, base_url=service.url) as client:
        for method in ("GET", "POST"):
            assert (await client.request(method, path)).status_code == 401
            stolen = {HEADER: service.headers(method, "/v1/shares/" + "a" * 43, None)[HEADER]}
            assert (await client.request(method, path, headers=stolen)).status_code == 401
    (row,) = await listed(service, shares, ours)
    assert (row["state"], row["attempts_left"]) == ("open", 5)
    assert await told(service, ours) == []


async def test_the_page_names_the_network_as_its_profile_does(service):
    """Once the profile is known; until then by its number."""
    ours = network()
    _, _, link = await shared(service, ours)
    profile = NetworkProfile(network_id=ours, version=1, displayed_name="Cedar & Sons <Media>")
    async with open_producer(service.bootstrap, client_id="test") as producer:
        await producer.send_and_wait(
            topics.NETWORK_PROFILE.name, events.encode(profile), str(ours).encode()
        )

    async def named() -> bool:
        page = (await visit(service, "GET", path_of(link))).text
        return "Cedar &amp; Sons &lt;Media&gt;" in page

    await until(named)


async def test_a_link_is_forgotten_after_400_days(service):
    """Row and page; a younger one of the same key stays."""
    ours = network()
    _, shares, old = await shared(service, ours)
    young = await made(service, shares, ours)
    for link, days in ((old, 401), (young, 399)):
        await service.execute(
            "UPDATE shares SET created_at = created_at - 86400 * $2::float WHERE share_id = $1",
            link["share_id"],
            float(days),
        )
    async with open_pool(service.database_url, schema=service.schema, application="test") as pool:
        await Purge(ShareStore(pool), SystemClock()).turn()
    assert [row["share_id"] for row in await listed(service, shares, ours)] == [young["share_id"]]
    assert (await visit(service, "GET", path_of(old))).status_code == 404
    assert (await visit(service, "GET", path_of(young))).status_code == 200


async def test_a_token_and_a_passphrase_stand_nowhere(service):
    """Made, looked at, guessed, opened: no table, topic, metric or log holds token or passphrase."""
    ours = network()
    _, _, link = await shared(service, ours, passphrase=PASSPHRASE)
    path = path_of(link)
    await visit(service, "GET", path)
    await visit(service, "POST", path, "another horse battery")
    assert (await visit(service, "POST", path, PASSPHRASE)).status_code == 200
    await until_published(service)
    async with httpx.AsyncClient(verify=False, base_url=service.url) as client:
        metrics = (await client.get("/metrics")).text
    records = repr([events.encode(event) for event in await service.told(ours)])
    rows = await service.execute(
        "SELECT s::text FROM shares AS s UNION ALL SELECT o::text FROM outbox AS o"
    )
    tables = "\n".join(row[0] for row in rows)
    token = path.rpartition("/")[2]
    assert link["share_id"] in tables
    assert link["share_id"] in records
    for place in (tables, records, metrics, service.log.read_text()):
        for clear in (token, token.encode().hex(), PASSPHRASE, PASSPHRASE.encode().hex()):
            assert clear not in place


async def test_a_service_that_dies_before_it_answers_has_used_the_link(service):
    """The safe side: what was told as shown is never shown again; staff make a new link."""
    ours = network()
    key, shares, link = await shared(service, ours)
    beside = replace(service, port=free_ports(1)[0])
    dying = KeysProcess(beside, {"PORTICO_CRASH_AT": "shares.after_commit"})
    dying.wait_ready()
    with pytest.raises(httpx.TransportError):
        await visit(beside, "POST", path_of(link))
    assert dying.wait_exit() == -signal.SIGKILL
    page = await visit(service, "POST", path_of(link))
    assert (page.status_code, secrets_in(page)) == (410, [])
    outcomes = [event.outcome for event in await told(service, ours)]
    assert outcomes == ["shown", "used"]
    fresh = await made(service, shares, ours)
    assert secrets_in(await visit(service, "POST", path_of(fresh))) == [key["key"]]
