"""Protects the life of a process: it drains, nothing dies quietly, and its status says why."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

PREAMBLE = """
import asyncio
from contextlib import asynccontextmanager
from shared.config import ServiceSettings, load
from shared.errors import FencedError, SetupError
from shared.http import new_app
from shared.runtime import Service, run

def report(text):
    print(text, flush=True)

def build():
    @asynccontextmanager
    async def opened(lifecycle):
        app = new_app("t", "d")
        release = asyncio.Event()

        @app.get("/slow")
        async def slow():
            report("in flight")
            await release.wait()
            return {"finished": True}

        async def drain():
            report("draining")
            asyncio.get_running_loop().call_later(0.2, release.set)

        lifecycle.on_drain(drain)
        WORK
        try:
            yield app
        finally:
            report("closed")
    return Service("example", load(ServiceSettings), opened, lambda: b"")

run(build)
"""


class _Process:
    def __init__(self, work: str, port: int, tmp_path) -> None:
        script = tmp_path / "service.py"
        script.write_text(
            PREAMBLE.replace("WORK", textwrap.indent(work, " " * 8).strip() or "pass")
        )
        environment = os.environ | {"PORT": str(port), "PYTHONPATH": str(Path.cwd())}
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def line(self) -> str:
        async with asyncio.timeout(30):
            return (await asyncio.to_thread(self.process.stdout.readline)).strip()

    async def ended(self) -> tuple[int, str, str]:
        async with asyncio.timeout(30):
            out, error = await asyncio.to_thread(self.process.communicate)
        return self.process.returncode, out, error

    async def get(self, path: str) -> httpx.Response:
        """Ask until the server listens."""
        async with asyncio.timeout(30), httpx.AsyncClient(verify=False, timeout=30) as client:
            while True:
                try:
                    return await client.get(self.url + path)
                except httpx.ConnectError:
                    await asyncio.sleep(0.02)


@pytest.fixture
def start(tmp_path, unused_tcp_port):
    started: list[_Process] = []

    def _start(work: str) -> _Process:
        process = _Process(work, unused_tcp_port, tmp_path)
        started.append(process)
        return process

    yield _start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()
        one.process.stderr.close()


async def test_a_stop_finishes_the_request_in_flight_and_closes(start):
    """SIGTERM: not ready, drain hooks, the answer arrives, resources close, status 0."""
    process = start("")
    assert (await process.get("/readyz")).status_code == 200
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(process.get("/slow"))
        assert await process.line() == "in flight"
        process.process.send_signal(signal.SIGTERM)
        assert await process.line() == "draining"
    assert answer.result().json() == {"finished": True}
    status, out, error = await process.ended()
    assert (status, out.strip()) == (0, "closed")
    assert '"event":"stopped"' in error


@pytest.mark.parametrize(
    ("raises", "status", "says"),
    [
        ("RuntimeError('broken')", 1, "broken"),
        ("FencedError('a successor publishes')", 3, "a successor publishes"),
        ("SetupError('KAFKA_BOOTSTRAP: no answer')", 2, "KAFKA_BOOTSTRAP: no answer"),
    ],
)
async def test_a_failing_task_ends_the_process_with_its_status(start, raises, status, says):
    """A supervisor sees the death, and an operator reads why."""
    process = start(f"async def work():\n    raise {raises}\nlifecycle.run_task('work', work)")
    found, out, error = await process.ended()
    assert found == status
    assert says in error
    assert out.strip().endswith("closed")


async def test_a_task_that_just_ends_is_a_failure_too(start):
    """Background work is for ever; its quiet end would go unnoticed."""
    process = start("async def work():\n    pass\nlifecycle.run_task('work', work)")
    status, _, error = await process.ended()
    assert status == 1
    assert "task work ended" in error


async def test_a_task_that_lets_out_a_foreign_cancellation_is_a_failure_too(start):
    """The client of Kafka does so at times; a task group alone would not notice."""
    work = "async def work():\n    raise asyncio.CancelledError\nlifecycle.run_task('work', work)"
    status, _, error = await start(work).ended()
    assert status == 1
    assert "task work ended" in error


async def test_readiness_names_what_is_missing(start):
    """An operator reads the reason from the probe."""
    process = start("lifecycle.ready_when('replica', lambda: 'loading keys')")
    answer = await process.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, {"replica": "loading keys"})
    assert (await process.get("/healthz")).status_code == 200
    process.process.send_signal(signal.SIGINT)
    assert (await process.ended())[0] == 0


async def test_a_wrong_setting_is_one_line_and_status_2(start, monkeypatch):
    """No traceback for an operator's typing error."""
    monkeypatch.setenv("DRAIN_SECONDS", "soon")
    status, _, error = await start("").ended()
    assert status == 2
    assert error.startswith("Settings: DRAIN_SECONDS:")
    assert len(error.splitlines()) == 1


async def test_a_taken_port_is_one_line_naming_the_setting(start, unused_tcp_port):
    """Found before anything is opened."""
    first = start("")
    assert (await first.get("/healthz")).status_code == 200
    status, out, error = await start("").ended()
    assert (status, out) == (2, "")
    assert f"127.0.0.1:{unused_tcp_port}" in error
    assert "set PORT" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("hard", "wanted"), [(3_000, 3_000), (100_000, 65_536)])
def test_a_process_may_open_as_many_files_as_the_system_grants(hard, wanted):
    """A shell's usual soft limit lies below the connections that a service is to hold."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard = hard if ours == resource.RLIM_INFINITY else min(hard, ours)
    program = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
        from shared.runtime import allow_open_files
        print(allow_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    granted = min(wanted, hard)
    assert found.stdout.split() == [str(granted), str(granted), str(hard)]
    assert ("few open files" in found.stderr) == (granted < 4_096)
