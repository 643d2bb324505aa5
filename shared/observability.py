"""Logs as JSON lines and metrics for Prometheus.

A log line is an event name plus fields, one per change of state and none per record; what may be
secret is masked by its type before it gets here. Metrics go into one registry per service, built in
its `metrics.py`, so that two services in one test process do not meet.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.gc_collector import GCCollector

from shared.clock import rfc3339
from shared.partner_key import masked_in

_RESERVED: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {
    "message",
    "asctime",
    "taskName",
}
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


KINDS_MAX: Final = 1_000


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the fields given as `extra`.

    A partner's key that got into one, whatever library wrote it there, shows as its mask.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _RESERVED}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked_in(_ENCODER.encode(line).decode())


def _only(name: str, inner: logging.Filter) -> Callable[[logging.LogRecord], bool]:
    """`inner` for the loggers below `name`; all others pass."""

    def passes(record: logging.LogRecord) -> bool:
        ours = record.name != name and not record.name.startswith(f"{name}.")
        return ours or bool(inner.filter(record))

    return passes


class OncePerWhile(logging.Filter):
    """Passes each message of a logger once in `seconds`: a client that retries repeats itself.

    While Kafka is away aiokafka tells of every failed connection, some ten times a second.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is the first of its kind for a while; kinds go by their template."""
        kind = (record.name, str(record.msg))
        if record.created < self._passed.get(kind, -self._seconds) + self._seconds:
            return False
        if len(self._passed) >= KINDS_MAX:
            self._passed.clear()
        self._passed[kind] = record.created
        return True


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send every log line of the process to standard error as JSON.

    At `DEBUG` the libraries are heard too, which are else kept to warnings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    handler.addFilter(_only("aiokafka", OncePerWhile()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("aiokafka", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(level if level == "DEBUG" else "WARNING")


def new_registry() -> CollectorRegistry:
    """A registry that already tells the process's memory, CPU, descriptors and collections."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
