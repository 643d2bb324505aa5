"""`portico run` as somebody meets it: start, paste the lines, stop, start again."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from deploy.local.config import StackSettings
from shared.events import Click, encode
from tests.backends import ROOT
from tests.soak import count
from tools.simulator import cast, traffic

KEY = re.compile(r"aff_[0-9A-Za-z]{33}")
STOP_SECONDS = 15
READY_SECONDS = 150


class Run:
    """One `portico run` and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(line.rstrip() for line in lines)

    def until_printed(self, part: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not any(part in line for line in self.lines):
            assert self.process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.1)

    def stop(self) -> float:
        """Press Ctrl-C; seconds until it was gone, and nothing of it left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, "\n".join(self.lines[-20:])
        seconds = time.monotonic() - began
        self._reader.join(10)
        _, alive = psutil.wait_procs(family, timeout=1)
        assert alive == []
        return seconds

    @property
    def key(self) -> str:
        return next(line.strip() for line in self.lines if KEY.fullmatch(line.strip()))

    def curl(self, part: str) -> httpx.Request:
        """The printed line whose address has `part`, as the request that it makes."""
        line = next(one for one in self.lines if "curl" in one and part in one)
        words = shlex.split(line)
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        body = words[words.index("-d") + 1] if "-d" in words else None
        return httpx.Request("POST" if body else "GET", words[2], headers=headers, content=body)


@contextmanager
def running(environment: dict[str, str]) -> Iterator[Run]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "run"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Run(process)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def portico(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands_do_what_they_say(
    run: Run, environment: dict[str, str], home: Path, postgres_port: int
) -> None:
    """Every group of the operators' command, against the running platform."""
    listed = portico(environment, "keys", "list", "--network", "201", "--json")
    assert "first-steps" in listed
    assert run.key not in listed
    network = ("--network", "201")
    issued = json.loads(
        portico(environment, "keys", "issue", "1003", *network, "--integration", "a", "--json")
    )
    revealed = portico(environment, "keys", "reshare", issued["key_id"], "--reveal", *network)
    assert revealed.strip() == issued["key"]
    allowed = portico(environment, "keys", "allow", issued["key_id"], "192.0.2.1", *network)
    assert "192.0.2.1" in allowed
    revoked = portico(environment, "keys", "revoke", issued["key_id"], *network, "--json")
    assert json.loads(revoked)["status"] == "revoked"
    assert "30 at once" in portico(environment, "keys", "budget", *network, "--burst", "30")
    assert "intact" in portico(environment, "audit", "verify", *network)
    direct = portico(
        environment,
        *("audit", "verify-direct"),
        *("--database-url", f"postgresql://postgres@127.0.0.1:{postgres_port}/postgres"),
        *("--checkpoints", str(home / "checkpoints")),
        *("--signing-key", str(home / "secrets" / "audit.pem")),
    )
    assert "network 201" in direct
    assert "0 created" in portico(environment, "topics", "apply")
    refused = subprocess.run(
        [sys.executable, "-m", "tools.cli", "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert "running already" in refused.stderr
    assert "Traceback" not in refused.stderr


def a_tail_goes_on_from_any_of_its_lines(environment: dict[str, str]) -> None:
    """The id of a printed line is a cursor: what came after it comes again, nothing before."""
    since = ("--since", "2020-01-01T00:00:00Z")
    whole = first_lines(environment, 40, "--types", "clicks", *since)
    assert len({line["id"] for line in whole}) == 40
    rest = first_lines(environment, 20, "--types", "clicks", "--cursor", whole[19]["id"])
    assert rest == whole[20:]


def first_lines(environment: dict[str, str], count: int, *words: str) -> list[dict[str, Any]]:
    tail = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "firehose", "tail", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with tail:
        assert tail.stdout is not None
        lines = [json.loads(tail.stdout.readline()) for _ in range(count)]
        tail.terminate()  # a shell's background job would not hear an interrupt
        tail.stdout.read()  # to its end: a line that finds nobody would be its failure
        assert tail.wait(30) in (0, -signal.SIGTERM)
    return lines


def fed_counts(run: Run, after: float) -> list[int]:
    """Clicks and conversions of the fed file, in a report that holds all that came before."""
    request = run.curl("entity/table")
    body = json.loads(request.content)
    body["query"] = {"filters": [{"resource_type": "sub1", "filter_id_value": "fed"}]}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = httpx.post(
            request.url, headers={"X-Eflow-API-Key": run.key}, json=body, verify=False
        )
        through = datetime.fromisoformat(answer.headers["x-data-through"]).timestamp()
        if through > after:
            rows = [row["reporting"] for row in answer.json()["table"]]
            return [sum(row[name] for row in rows) for name in ("unique_click", "cv", "event")]
        time.sleep(0.1)
    raise AssertionError(answer.headers)


def feed_twice_counts_once(run: Run, environment: dict[str, str], folder: Path) -> None:
    told = traffic.Traffic(cast.make(1, 1), 99, 1)
    partner = int(
        next(re.search(r"partner (\d+)", line)[1] for line in run.lines if "Key of" in line)
    )
    items = [
        item for n in range(400) for item in told.story(n, time.time() - 7_200, partner=partner)
    ]
    events = [msgspec.structs.replace(item.event, sub1="fed") for item in items]
    file = folder / "own.ndjson"
    file.write_bytes(b"\n".join(map(encode, events)))
    wanted = len({e.transaction_id for e in events if isinstance(e, Click) and e.is_unique})
    counts = []
    for _ in range(2):
        assert "0 lines rejected" in portico(environment, "feed", str(file))
        counts.append(fed_counts(run, time.time()))
    assert counts[0] == counts[1]
    assert counts[0][0] == wanted
    assert counts[0][1] > 0


def the_partners_guide_runs_as_it_stands(run: Run) -> None:
    """Its examples in Python, pasted below one another, for the week that the run has."""
    guide = (ROOT / "docs" / "using-your-api-key.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    today = datetime.now(UTC).date()
    program = "\n".join((*examples, "print(len(patiently('/v1/meta/timezones')))"))
    for day, ours in (("01", today - timedelta(days=6)), ("07", today)):
        program = program.replace(f"2026-11-{day}", str(ours))
    gateway = run.curl("entity/table").url
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"API_URL": f"http://{gateway.netloc.decode()}", "API_KEY": run.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, *rows, _ = done.stdout.splitlines()
    assert name == "Harbor Lane Network"
    assert len(rows) > 5
    assert len({row.split()[0] for row in rows}) == len(rows)
    assert sum(float(row.split()[1]) for row in rows) > 0


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_it_starts_shows_what_to_try_stops_and_goes_on() -> None:
    """The printed lines work as they stand, and the second run has the first one's data and key."""
    with tempfile.TemporaryDirectory(prefix="portico-run-") as home:
        chosen = StackSettings(home=Path(home)).with_free_ports()
        ports = {
            name.upper(): str(getattr(chosen, name))
            for name in StackSettings.model_fields
            if name.endswith("_port")
        }
        environment = {
            **os.environ,
            **ports,
            "PORTICO_HOME": home,
            "SIMULATOR_HISTORY_CLICKS": str(count(2_500, 8_000)),
        }
        with running(environment) as first:
            first.until_printed("Ctrl-C stops everything")
            with httpx.Client(verify=False, timeout=30) as client:
                report = client.send(first.curl("entity/table"))
                assert report.status_code == 200, report.text
                assert report.json()["table"]
                found = client.send(first.curl("/conversions?"))
                assert 0 < len(found.json()["conversions"]) <= 5
                with client.stream(
                    "GET", first.curl("firehose/stream").url, headers={"X-Eflow-API-Key": first.key}
                ) as stream:
                    assert stream.status_code == 200
                    assert any(line.startswith("event:") for line in stream.iter_lines())
            commands_do_what_they_say(first, environment, Path(home), chosen.postgres_port)
            the_partners_guide_runs_as_it_stands(first)
            a_tail_goes_on_from_any_of_its_lines(environment)
            feed_twice_counts_once(first, environment, Path(home))
            assert first.stop() < STOP_SECONDS
        with running(environment) as second:
            second.until_printed("Ctrl-C stops everything")
            assert second.key == first.key
            with httpx.Client(verify=False, timeout=30) as client:
                assert client.send(second.curl("entity/table")).json()["table"]
            assert second.stop() < STOP_SECONDS
