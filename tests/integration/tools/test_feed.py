"""`portico feed` loads a network's file once, however often it is run, and names every bad line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import topics
from shared.events import Tracked, check_tracked, encode
from shared.kafka import open_consumer, partition_for, partitions_of
from tools.simulator import cast, traffic
from tools.tracking import EVENTS, Kind

BORN_AT = 1_767_225_600


@pytest.fixture
async def fed_topics(kafka_bootstrap: str) -> str:
    await topics.apply(kafka_bootstrap, table=tuple(topics.TRACKING.values()))
    return kafka_bootstrap


def portico(bootstrap: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *words],
        env={**os.environ, "KAFKA_BOOTSTRAP": bootstrap, "PORTICO_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def written(seed: str) -> list[Tracked]:
    """Events whose ids no other test has."""
    told = traffic.Traffic(cast.make(1, BORN_AT), hash(seed), BORN_AT)
    return [item.event for n in range(150) for item in told.story(n, BORN_AT + n)]


async def on_the_log(bootstrap: str) -> dict[Kind, list[bytes]]:
    """Every value, each checked and on its key's partition."""
    found: dict[Kind, list[bytes]] = {kind: [] for kind in EVENTS}
    names = {topic.name: kind for kind, topic in topics.TRACKING.items()}
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, names)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for one, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    check_tracked(EVENTS[names[one.topic]], record.key, record.value)
                    assert partition_for(record.key, topics.PARTNER_PARTITIONS) == one.partition
                    found[names[one.topic]].append(record.value)
    return found


def identity(value: bytes) -> tuple[str, int]:
    fields = json.loads(value)
    return fields.get("conversion_id") or fields["transaction_id"], fields.get("version", 1)


async def test_a_file_fed_twice_adds_no_new_identity(
    fed_topics: str, tmp_path: Path, unique
) -> None:
    """The second run puts the same ids, versions and bytes on the log: readers count them once."""
    file, home = tmp_path / "week.ndjson", tmp_path
    events = written(unique("feed"))
    file.write_bytes(b"\n".join(encode(one) for one in events))
    for _ in range(2):
        done = portico(fed_topics, home, "feed", str(file))
        assert done.returncode == 0, done.stderr
        assert "0 lines rejected" in done.stdout
    assert not (tmp_path / "week.ndjson.rejected.ndjson").exists()
    values = await on_the_log(fed_topics)
    mine = {encode(one) for one in events}
    loaded = [value for kind in values.values() for value in kind if value in mine]
    assert len(loaded) == 2 * len(events)
    assert {identity(value) for value in loaded} == {identity(value) for value in mine}


async def test_bad_lines_are_set_aside_and_good_ones_load(
    fed_topics: str, tmp_path: Path, unique
) -> None:
    """Exit status 1, the numbers on the screen, and the originals in the file beside it."""
    file = tmp_path / "mixed.ndjson"
    events = written(unique("mixed"))[:10]
    lines = [encode(one).decode() for one in events]
    lines[3:3] = ["{nonsense", lines[0].replace("network_id", "network", 1)]
    file.write_text("\n".join(lines))
    done = portico(fed_topics, tmp_path, "feed", str(file))
    assert done.returncode == 1
    assert "line 4:" in done.stderr
    assert "line 5:" in done.stderr
    assert "2 lines rejected" in done.stdout
    aside = [
        json.loads(line)
        for line in (tmp_path / "mixed.ndjson.rejected.ndjson").read_text().splitlines()
    ]
    assert [one["line"] for one in aside] == [4, 5]
    assert [one["original"] for one in aside] == lines[3:5]
    values = await on_the_log(fed_topics)
    everything = {value for kind in values.values() for value in kind}
    assert {encode(one) for one in events} <= everything


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("feed", "/nowhere/at-all.csv"), "No such file"),
        (("audit", "verify", "--network", "201"), "no local token issuer"),
        (("firehose", "tail"), "PORTICO_KEY"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_two(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    """No stack trace for a missing file, a missing platform or a missing key."""
    done = portico("127.0.0.1:9", tmp_path, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kafka_that_does_not_answer_is_said(tmp_path: Path) -> None:
    """The message says that running it again is safe."""
    file = tmp_path / "one.ndjson"
    file.write_bytes(encode(written("one")[0]))
    done = portico("127.0.0.1:9", tmp_path, "feed", str(file))
    assert done.returncode == 2
    assert "Kafka does not answer" in done.stderr
    assert "Traceback" not in done.stderr
