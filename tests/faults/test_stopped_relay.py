"""Protects a revocation against a publisher that was stopped, passed over, and goes on later.

The whole path as processes: two key services over one database, and a gateway that restarts.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local.ports import free_ports
from shared import topics
from shared.runtime import EXIT_FENCED
from tests.backends import ROOT
from tests.keys_parts import KeysProcess, Platform, network, partner, staff, until
from tests.projection_parts import create

PARTNER_KEY = "X-Eflow-API-Key"


@pytest.fixture
async def old(kafka_broker, database_url, schema, tmp_path) -> Platform:
    """Where the service whose relay will be stopped finds what it needs.

    Kafka is its own: partners of other tests would have it publish what nobody here counts.
    """
    await create(kafka_broker.bootstrap, *topics.SOURCES)
    return Platform(kafka_broker.bootstrap, database_url, schema, tmp_path)


class Gateway:
    """A gateway process; what lies behind it is not there, so a request let in fails later."""

    def __init__(self, platform: Platform, port: int, log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}"
        variables = platform.environment(
            GATEWAY_PORT=str(port), GATEWAY_UPSTREAM_REPORTING=_NOWHERE
        )
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                cwd=ROOT,
                env=variables,
                stdout=out,
                stderr=out,
            )

    async def status(self, key: str) -> int:
        """What a partner with `key` is answered; 0 while the gateway is not ready."""
        headers = {PARTNER_KEY: key}
        async with httpx.AsyncClient(base_url=self._url, timeout=10, verify=False) as client:
            try:
                if (await client.get("/readyz")).status_code != 200:
                    return 0
                answer = await client.get("/v1/affiliates/network", headers=headers)
            except httpx.TransportError:
                return 0
        return answer.status_code


_NOWHERE = "http://127.0.0.1:9"


@contextmanager
def gateway(platform: Platform, log: Path) -> Iterator[Gateway]:
    """A gateway, ended by its pid."""
    running = Gateway(platform, free_ports(1)[0], log)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)


@contextmanager
def keys_process(platform: Platform, **variables: str) -> Iterator[KeysProcess]:
    """A key service, killed in the end whatever state it is in."""
    process = KeysProcess(platform, variables)
    try:
        process.wait_ready()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process._child.pid, signal.SIGCONT)
        process.close()


@pytest.mark.slow
async def test_a_stopped_publisher_that_goes_on_cannot_reopen_a_revoked_key(old, tmp_path):
    """Stopped with an older state of the key in flight, it appends nothing once continued.

    The key is refused by the running gateway, and by one that starts afterwards and reads the topic
    from its beginning.
    """
    caller = staff(network())
    successor = replace(old, port=free_ports(1)[0])
    log = tmp_path / "gateway.log"
    with keys_process(old, PORTICO_STOP_AT="outbox.before_commit:2") as stopped:
        await old.tell(partner(caller.network_id))
        issued = await old.issue(caller, 7)
        with gateway(old, log) as door, keys_process(successor):

            async def is_let_in() -> bool:
                return await door.status(issued["key"]) not in (0, 401)

            async def is_refused() -> bool:
                return await door.status(issued["key"]) == 401

            await until(is_let_in)
            path = f"/v1/networks/apikeys/{issued['key_id']}"
            change = asyncio.create_task(
                old.call("PUT", f"{path}/allowlist", caller, {"allowlist": ["127.0.0.0/8"]})
            )

            async def is_stopped() -> bool:
                return psutil.Process(stopped._child.pid).status() == psutil.STATUS_STOPPED

            await until(is_stopped)
            revoked = await successor.call("POST", f"{path}/revoke", caller, {"reason": "leaked"})
            assert revoked.status_code in (200, 202)
            await until(is_refused)
            os.kill(stopped._child.pid, signal.SIGCONT)
            assert await asyncio.to_thread(stopped.wait_exit) == EXIT_FENCED
            await asyncio.wait([change])
            change.exception()
            with gateway(old, log) as restarted:

                async def knows() -> bool:
                    return await restarted.status(issued["key"]) != 0

                await until(knows)
                assert await restarted.status(issued["key"]) == 401
            assert await door.status(issued["key"]) == 401
            state = (await old.states(topics.KEYS_STATE))[issued["key_id"]]
            assert state is not None
            assert (state["status"], state["version"]) == ("revoked", 3)
