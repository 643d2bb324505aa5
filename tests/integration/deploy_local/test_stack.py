"""The whole platform starts, says what hinders it, and leaves no process however it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

import psutil
import pytest
from pydantic import SecretStr

from deploy.local.config import StackSettings
from deploy.local.process import Child, Command, until
from deploy.local.stack import Stack
from shared.errors import SetupError
from tests.backends import LIBS
from tests.integration.deploy_local import stand_in
from tests.integration.deploy_local.stack_process import STAND_IN

DEADLINE_SECONDS = 60.0
MODULE = "tests.integration.deploy_local.stack_process"


@pytest.fixture
def settings(tmp_path):
    """A platform of its own."""
    return StackSettings(home=tmp_path / "home", kafka_libs=LIBS, durable=False).with_free_ports()


@pytest.fixture
def stores(kafka_bootstrap, database_url):
    """A Kafka and a Postgres for platforms that need not start their own."""
    return {"kafka_bootstrap": kafka_bootstrap, "database_url": SecretStr(database_url)}


@pytest.fixture
def light(settings, stores):
    """A platform that uses a given Kafka and Postgres."""
    return settings.model_copy(update=stores)


@contextlib.asynccontextmanager
async def _platform(folder, env=None):
    """A platform in a process of its own, ready; its child and the ids of its processes."""
    command = Command(
        [sys.executable, "-m", MODULE, folder / "home"], {**os.environ, **(env or {})}
    )
    platform = Child("platform", command, folder / "platform.log")
    platform.start()
    try:
        assert await platform.wrote("}", DEADLINE_SECONDS), platform.output()
        yield platform, json.loads(platform.output().split("pids ", 1)[1].splitlines()[0])
    finally:
        await platform.kill()


def _alive(pids):
    return [name for name, pid in pids.items() if _is_running(pid)]


def _is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_killed_supervisor_leaves_no_process(tmp_path):
    """SIGKILL gives it no chance to clean up: the kernel does."""
    async with _platform(tmp_path) as (platform, pids):
        assert _alive(pids) == ["kafka", "postgres", "simulator"]

        platform.send(signal.SIGKILL)
        gone = await until(lambda: not _alive(pids), DEADLINE_SECONDS)

    assert gone, _alive(pids)


async def test_a_stop_leaves_no_process(tmp_path):
    """SIGTERM ends the run with status 0, Kafka and Postgres included."""
    async with _platform(tmp_path) as (platform, pids):
        platform.send(signal.SIGTERM)
        ended = await platform.exited(DEADLINE_SECONDS)

    assert ended
    assert platform.exit_status == 0, platform.output()
    assert _alive(pids) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
async def test_ctrl_c_and_a_closed_terminal_stop_it_in_order(tmp_path, stores, how):
    """Neither leaves a process or a stack trace."""
    given = {
        "KAFKA_BOOTSTRAP": stores["kafka_bootstrap"],
        "DATABASE_URL": stores["database_url"].get_secret_value(),
    }
    async with _platform(tmp_path, given) as (platform, pids):
        platform.send(how)
        ended = await platform.exited(DEADLINE_SECONDS)

    assert ended
    assert platform.exit_status == 0, platform.output()
    assert _alive(pids) == []
    assert "Traceback" not in platform.output()


async def test_it_restarts_what_dies_and_goes_on_with_its_data(settings):
    """A service, Kafka and Postgres each come back after a SIGKILL; the next run has the topics."""
    async with Stack(settings, table=(STAND_IN,)) as stack:
        assert stack.ready_seconds > 0
        assert set(stack.rss_mb()) == {"simulator", "supervisor"}
        before = {name: child.pid for name, child in stack.processes.items()}
        for child in stack.processes.values():
            child.send(signal.SIGKILL)
        back = await until(
            lambda: all(
                child.running and child.pid != before[name]
                for name, child in stack.processes.items()
            ),
            DEADLINE_SECONDS,
        )
        assert back
        assert await until(lambda: stack.restarts == 3, DEADLINE_SECONDS)

    said = []
    async with Stack(settings, say=said.append, table=(STAND_IN,)):
        pass

    assert [line for line in said if line.startswith("topics: 0 created")]


async def test_a_port_in_use_is_named_before_anything_starts(settings):
    """The message has the port, who holds it, and the setting to change; all of them at once."""
    taken = socket.create_server(("127.0.0.1", settings.gateway_port))
    with taken, pytest.raises(SetupError) as caught:
        async with Stack(settings):
            pass

    text = str(caught.value)
    assert f"Port {settings.gateway_port} (gateway) is in use" in text
    assert f"(pid {os.getpid()})" in text
    assert "set GATEWAY_PORT to another" in text
    assert not (settings.home / "postgres").exists()


async def test_a_second_run_in_the_same_home_is_refused(light):
    """One clear message, and the first goes on."""
    async with Stack(light, table=(STAND_IN,)) as first:
        with pytest.raises(SetupError, match="running already"):
            async with Stack(light, table=(STAND_IN,)):
                pass

        assert first.processes["simulator"].running


async def test_a_service_that_ends_at_start_is_shown_with_its_last_words(light, monkeypatch):
    """Nobody waits for the deadline, or searches for the log."""
    monkeypatch.setenv(stand_in.BROKEN_IF, str(LIBS))

    with pytest.raises(SetupError) as caught:
        async with Stack(light, table=(STAND_IN,)):
            pass

    text = str(caught.value)
    assert "simulator ended instead of getting ready (exit status 1)" in text
    assert "simulator | SIMULATOR_RATE: not a number" in text


async def test_a_service_that_never_gets_ready_says_what_is_missing(light, monkeypatch):
    """Past the deadline the message holds the answer of `/readyz`."""
    monkeypatch.setenv(stand_in.UNREADY, "1")
    monkeypatch.setattr("deploy.local.stack.READY_SECONDS", 1.0)

    with pytest.raises(SetupError, match=r"simulator is not ready after 1 s: .*still loading"):
        async with Stack(light, table=(STAND_IN,)):
            pass


@pytest.mark.logs_errors
async def test_a_kafka_that_was_given_and_does_not_answer_is_named(settings):
    """The advice is about that Kafka, not about ours."""
    nobody = settings.kafka_port
    given = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{nobody}"})

    with pytest.raises(SetupError, match=f"Kafka at 127.0.0.1:{nobody} does not answer"):
        async with Stack(given, table=()):
            pass


async def test_a_run_that_cannot_go_on_says_so(light, tmp_path, monkeypatch):
    """`failed` ends with the reason once a process is beyond help."""
    broken = tmp_path / "broken"
    monkeypatch.setenv(stand_in.BROKEN_IF, str(broken))

    async with Stack(light, table=(STAND_IN,)) as stack:
        broken.touch()
        stack.processes["simulator"].send(signal.SIGKILL)
        reason = await asyncio.wait_for(stack.failed(), DEADLINE_SECONDS)

    assert "simulator died 6 times within 60 s" in str(reason)
    assert "SIMULATOR_RATE: not a number" in str(reason)
