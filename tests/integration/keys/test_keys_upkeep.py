"""Protects the doors' topics: whatever was lost, changed or put there by hand, the owner's word returns."""

import json
import uuid
from collections.abc import Iterator

import pytest

from deploy.local.kafka import Kafka
from shared import events, topics
from shared.clock import SystemClock, rfc3339
from tests.keys_parts import (
    Platform,
    network,
    partner,
    running,
    staff,
    until,
    until_published,
)
from tests.projection_parts import create

pytestmark = pytest.mark.slow

OFTEN = {"KEYS_RECONCILE_SECONDS": "0.2"}


async def state_of(platform: Platform, key_id: str) -> dict | None:
    return (await platform.states(topics.KEYS_STATE)).get(key_id)


async def put_state(platform: Platform, state: dict) -> None:
    key = state["key_id"].encode()
    await platform.put(topics.KEYS_STATE, key, json.dumps(state).encode())


@pytest.fixture(scope="module")
def often(applied_topics, database_url, tmp_path_factory) -> Iterator[Platform]:
    """A running service that compares often."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    platform = Platform(applied_topics, database_url, schema, tmp_path_factory.mktemp("often"))
    with running(platform, **OFTEN):
        yield platform


async def test_a_state_that_was_changed_or_lost_returns(often):
    """In a version that replaces the wrong one; a revoked key that was revived is revoked again."""
    ours = network()
    await often.tell(partner(ours))
    keys = [await often.issue(staff(ours), 7, f"app-{number}") for number in range(3)]
    revived, changed, lost = [key["key_id"] for key in keys]
    await often.call("POST", f"/v1/networks/apikeys/{revived}/revoke", staff(ours))
    right = await often.states(topics.KEYS_STATE)
    wrong = right[revived] | {"status": "active", "version": 77}
    await put_state(often, wrong)
    await put_state(often, right[changed] | {"allowlist": ["203.0.113.0/24"]})
    await often.put(topics.KEYS_STATE, lost.encode(), None)

    async def repaired() -> bool:
        seen = await often.states(topics.KEYS_STATE)
        return all(
            isinstance(seen[name], dict)
            and seen[name] | {"version": 0} == right[name] | {"version": 0}
            for name in (revived, changed, lost)
        )

    await until(repaired)
    states = await often.states(topics.KEYS_STATE)
    assert states[revived]["version"] > 77
    assert states[changed]["version"] > right[changed]["version"]
    assert [type(event).__name__ for event in await often.told(ours)] == ["KeyIssued"] * 3 + [
        "KeyRevoked"
    ]


async def test_partners_and_budgets_return_too(often):
    """The same for the other two topics."""
    ours = network()
    await often.tell(partner(ours))
    await often.call("PUT", "/v1/networks/affiliates/7/firehose", staff(ours), {"enabled": True})
    budget = {"affiliate": {"rate": 9, "burst": 9}, "granular_per_hour": 9, "shadow": False}
    boss = staff(ours, super_user=True)
    await often.call("PUT", "/v1/networks/budgets", boss, budget)
    other = events.PartnerAccess(network_id=ours, network_affiliate_id=7, version=5)
    await often.put(topics.PARTNERS_ACCESS, b"%d:7" % ours, events.encode(other))
    await often.put(topics.NETWORKS_STATE, b"%d" % ours, None)

    async def repaired() -> bool:
        access = (await often.states(topics.PARTNERS_ACCESS))[f"{ours}:7"]
        network_state = (await often.states(topics.NETWORKS_STATE))[str(ours)]
        return access["firehose_enabled"] and access["version"] == 6 and network_state is not None

    await until(repaired)
    assert (await often.states(topics.NETWORKS_STATE))[str(ours)]["version"] == 2


async def test_a_restored_database_revives_no_key_and_lets_no_partner_in(platform):
    """What the log knows as ended or held is so again, each with an event that says why."""
    ours = network()
    ada = staff(ours)
    path = "/v1/networks/affiliates/7/suspension"
    with running(platform):
        await platform.tell(partner(ours))
        revoked, shortened = [(await platform.issue(ada, 7, name))["key_id"] for name in "ab"]
        await platform.call("POST", f"/v1/networks/apikeys/{revoked}/revoke", ada)
        ends = rfc3339(SystemClock().time() + 3600)
        expiry = f"/v1/networks/apikeys/{shortened}/expiry"
        await platform.call("PUT", expiry, ada, {"expires_at": ends})
        firehose = "/v1/networks/affiliates/7/firehose"
        await platform.call("PUT", firehose, ada, {"enabled": True})
        await platform.call("PUT", path, ada, {"suspended": True})
    await platform.execute(
        "UPDATE keys SET status = 'active', version = 1, ended_at = NULL, expires_at = NULL"
    )
    await platform.execute("UPDATE partner_access SET held_by_staff = false, version = 1")
    with running(platform, **OFTEN):

        async def told() -> bool:
            return len(await platform.told(ours)) == 9

        await until(told)
        rows = (await platform.call("GET", "/v1/networks/apikeys", ada)).json()["apikeys"]
        assert {row["key_id"]: row["status"] for row in rows} == {
            revoked: "revoked",
            shortened: "active",
        }
        lifted = await platform.call("PUT", path, ada, {"suspended": False})
        assert (lifted.json()["suspended"], lifted.json()["holds"]) == (False, [])
    again = (await platform.told(ours))[6:9]
    assert {event.actor.kind for event in again} == {"system"}
    assert {(type(event), event.reason) for event in again} == {
        (events.KeyRevoked, "the log knew it as revoked"),
        (events.ExpiryChanged, "the log knew it as ended by then"),
        (events.PartnerSuspended, "the log knew it as suspended"),
    }
    assert (await state_of(platform, revoked))["status"] == "revoked"
    assert rfc3339((await state_of(platform, shortened))["expires_at"]) == ends


async def test_what_is_right_is_left_alone_and_what_is_unknown_too(platform):
    """Many turns amid changes publish nothing again; a state without owner is only counted."""
    ours = network()
    stranger = {
        "key_id": f"key_{ours:020x}",
        "version": 1,
        "digest": f"{ours:064x}",
        "network_id": ours,
        "network_affiliate_id": 7,
        "integration": "?",
    }
    await put_state(platform, stranger)
    with running(platform, KEYS_RECONCILE_SECONDS="0.01"):
        await platform.tell(partner(ours))
        for number in range(20):
            key = await platform.issue(staff(ours), 7, f"app-{number}")
            await platform.call("POST", f"/v1/networks/apikeys/{key['key_id']}/revoke", staff(ours))

        async def unknown_counted() -> bool:
            return (await platform.metric('keys_unknown_states{topic="keys.state.v1"}')) >= 1

        await until(unknown_counted)
        turns = await platform.metric("keys_reconciled_timestamp_seconds")

        async def turned() -> bool:
            return await platform.metric("keys_reconciled_timestamp_seconds") > turns

        await until(turned)
        states = await platform.states(topics.KEYS_STATE)
    assert states[stranger["key_id"]] == stranger
    ours_only = [state for state in states.values() if state and state["network_id"] == ours]
    assert sorted(state["status"] for state in ours_only if "status" in state) == ["revoked"] * 20


async def test_doors_forget_a_key_some_time_after_its_end(platform):
    """Its state becomes a tombstone; the table keeps it, and nothing brings it back."""
    ours = network()
    with running(platform, KEYS_ENDED_KEEP_SECONDS="0.5", **OFTEN):
        await platform.tell(partner(ours))
        ended, active = [await platform.issue(staff(ours), 7, name) for name in ("a", "b")]
        path = f"/v1/networks/apikeys/{ended['key_id']}/revoke"
        await platform.call("POST", path, staff(ours))

        async def forgotten() -> bool:
            return await state_of(platform, ended["key_id"]) is None

        await until(forgotten)
        assert (await platform.call("POST", path, staff(ours))).json()["status"] == "revoked"
        assert (await state_of(platform, active["key_id"]))["status"] == "active"


async def test_a_lapsed_key_is_noted_without_being_asked(often):
    """An event tells of its end, and the doors' state says expired."""
    ours = network()
    await often.tell(partner(ours))
    key = await often.issue(staff(ours), 7)
    await often.execute("UPDATE keys SET expires_at = 1.0 WHERE key_id = $1", key["key_id"])

    async def noted() -> bool:
        state = await state_of(often, key["key_id"])
        return state is not None and state["status"] == "expired"

    await until(noted)
    assert [type(event).__name__ for event in await often.told(ours)] == [
        "KeyIssued",
        "KeyExpired",
    ]


async def test_a_damaged_state_is_replaced(kafka_broker: Kafka, database_url, schema, tmp_path):
    """Doors withhold a key whose record they cannot read, until this newer one comes."""
    await create(kafka_broker.bootstrap, *topics.SOURCES)
    platform = Platform(kafka_broker.bootstrap, database_url, schema, tmp_path)
    ours = network()
    with running(platform, **OFTEN):
        await platform.tell(partner(ours))
        key_id = (await platform.issue(staff(ours), 7))["key_id"]
        right = await state_of(platform, key_id)
        await platform.put(topics.KEYS_STATE, key_id.encode(), b"{")

        async def replaced() -> bool:
            return await state_of(platform, key_id) == right | {"version": 2}

        await until(replaced)


async def test_while_kafka_is_away_changes_stand_and_say_so(
    kafka_broker: Kafka, database_url, schema, tmp_path
):
    """202 and not propagated; the same call tells 200 once Kafka is back and has it."""
    await create(kafka_broker.bootstrap, *topics.SOURCES)
    platform = Platform(kafka_broker.bootstrap, database_url, schema, tmp_path)
    ours = network()
    with running(platform, KEYS_CONFIRM_SECONDS="0.5"):
        await platform.tell(partner(ours))
        key = await platform.issue(staff(ours), 7)
        path = f"/v1/networks/apikeys/{key['key_id']}/revoke"
        await kafka_broker.stop()
        late = await platform.call("POST", path, staff(ours))
        assert (late.status_code, late.json()["propagated"]) == (202, False)
        listed = await platform.call("GET", "/v1/networks/apikeys", staff(ours))
        assert listed.json()["apikeys"][0]["status"] == "revoked"
        other = await platform.call(
            "POST",
            "/v1/networks/affiliates/7/apikeys",
            staff(ours),
            {"integration": "while-away"},
        )
        assert (other.status_code, other.json()["propagated"]) == (201, False)
        await kafka_broker.start()

        async def confirmed() -> bool:
            answer = await platform.call("POST", path, staff(ours))
            return (answer.status_code, answer.json()["propagated"]) == (200, True)

        await until(confirmed)
        await until_published(platform)
        states = await platform.states(topics.KEYS_STATE)
    assert states[key["key_id"]]["status"] == "revoked"
    assert states[other.json()["key_id"]]["status"] == "active"
