"""`portico run` as somebody meets it: start, paste the lines, stop, start again."""

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
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local.config import StackSettings

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
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

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
        environment = {**os.environ, **ports, "PORTICO_HOME": home}
        with running(environment) as first:
            first.until_printed("Ctrl-C stops everything")
            with httpx.Client(timeout=30) as client:
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
            listed = subprocess.run(
                [sys.executable, "-m", "tools.cli", "keys", "list", "--network", "201", "--json"],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert "first-steps" in listed.stdout
            assert first.key not in listed.stdout
            assert first.stop() < STOP_SECONDS
        with running(environment) as second:
            second.until_printed("Ctrl-C stops everything")
            assert second.key == first.key
            assert httpx.Client(timeout=30).send(second.curl("entity/table")).json()["table"]
            assert second.stop() < STOP_SECONDS
