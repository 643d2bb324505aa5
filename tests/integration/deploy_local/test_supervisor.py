"""Processes die and are started again, a hopeless one ends the run, and all stop in order."""

import asyncio
import signal
import sys
from pathlib import Path

from deploy.local.process import Child, Command, until
from deploy.local.supervisor import Supervisor, Worker

DEADLINE_SECONDS = 30.0

OBEDIENT = """
import signal, sys, time
def stop(*_):
    print("stopped", time.monotonic_ns(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
while True:
    time.sleep(60)
"""
STUBBORN = OBEDIENT.replace("sys.exit(0)", "pass")
HOPELESS = "raise SystemExit('no key')"


def _worker(name: str, script: str, folder: Path) -> Worker:
    command = Command([sys.executable, "-I", "-c", script])
    return Worker(Child(name, command, folder / f"{name}.log"))


async def _started(supervisor: Supervisor, *workers: Worker) -> None:
    for worker in workers:
        supervisor.add(worker)
        await worker.start()
        assert await worker.child.wrote("started", DEADLINE_SECONDS)


def _stopped_at(worker: Worker) -> int:
    return int(worker.child.output().split("stopped ")[1].split()[0])


async def test_one_that_dies_is_started_again(tmp_path):
    """A crash of one service costs its own moments, and is told."""
    said: list[str] = []
    supervisor = Supervisor(said.append)
    worker = _worker("keys", OBEDIENT, tmp_path)
    await _started(supervisor, worker)
    first = worker.child.pid

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(supervisor.watch())
        worker.child.send(signal.SIGKILL)
        again = await until(
            lambda: worker.child.running and worker.child.pid != first, DEADLINE_SECONDS
        )
        watching.cancel()
    await supervisor.stop([(("keys",), DEADLINE_SECONDS)])

    assert again
    assert supervisor.restarts == 1
    assert said == ["keys died (exit status -9): started again"]


async def test_one_that_keeps_dying_ends_the_run_with_its_last_words(tmp_path):
    """Five restarts within the window, then one clear message."""
    supervisor = Supervisor(lambda _: None)
    worker = _worker("keys", HOPELESS, tmp_path)
    supervisor.add(worker)
    await worker.start()

    reason = await asyncio.wait_for(supervisor.watch(), DEADLINE_SECONDS)

    assert supervisor.restarts == 5
    assert "keys died 6 times within 60 s (exit status 1)" in str(reason)
    assert "keys | no key" in str(reason)
    assert "Whole log: " in str(reason)


async def test_deaths_far_apart_do_not_end_the_run(tmp_path):
    """The bound counts within its window only."""
    supervisor = Supervisor(lambda _: None, restarts_max=2, seconds=0.0)
    worker = _worker("keys", HOPELESS, tmp_path)
    supervisor.add(worker)
    await worker.start()

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(supervisor.watch())
        went_on = await until(lambda: supervisor.restarts > 4, DEADLINE_SECONDS)
        watching.cancel()
    await supervisor.stop([])

    assert went_on


async def test_a_step_ends_before_the_next_begins(tmp_path):
    """Doors close while the services behind them still answer."""
    supervisor = Supervisor(lambda _: None)
    workers = {name: _worker(name, OBEDIENT, tmp_path) for name in ("keys", "gateway", "simulator")}
    await _started(supervisor, *workers.values())

    await supervisor.stop(
        [(("simulator",), DEADLINE_SECONDS), (("gateway",), DEADLINE_SECONDS), (("keys",), 9.0)]
    )

    order = sorted(workers, key=lambda name: _stopped_at(workers[name]))
    assert order == ["simulator", "gateway", "keys"]


async def test_one_that_does_not_stop_is_killed_and_holds_up_nobody(tmp_path):
    """Its time runs out, its neighbour stops in order, and the run ends."""
    supervisor = Supervisor(lambda _: None)
    stubborn = _worker("gateway", STUBBORN, tmp_path)
    obedient = _worker("firehose", OBEDIENT, tmp_path)
    await _started(supervisor, stubborn, obedient)

    await supervisor.stop([(("gateway", "firehose"), 1.0)])

    assert stubborn.child.exit_status == -signal.SIGKILL
    assert obedient.child.exit_status == 0


async def test_a_log_that_grew_too_large_makes_room(tmp_path, monkeypatch):
    """Old output is kept once, new output goes on; the disk does not fill."""
    monkeypatch.setattr("deploy.local.process.LOG_BYTES_MAX", 10)
    worker = _worker("keys", OBEDIENT, tmp_path)
    (tmp_path / "keys.log").write_text("x" * 11)

    await _started(Supervisor(lambda _: None), worker)
    await worker.stop(DEADLINE_SECONDS)

    assert (tmp_path / "keys.log.1").read_text() == "x" * 11
    assert worker.child.output().startswith("started")
