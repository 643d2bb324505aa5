"""TCP ports of this machine: which are free, and who holds one that is not."""

import socket
from contextlib import closing
from itertools import islice
from random import SystemRandom
from typing import Final

import psutil

from shared.errors import SetupError

HOST = "127.0.0.1"


_OF_SERVERS: Final = range(20_000, 32_000)
"""Below those that systems give to connections (Linux from 32,768, others from 49,152): a port that
is chosen here is not a client's by the time that its server starts."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listened on a moment ago.

    Raises:
        SetupError: there are not so many.
    """
    order = SystemRandom().sample(_OF_SERVERS, len(_OF_SERVERS))
    found = list(islice(filter(is_free, order), count))
    if len(found) < count:
        raise SetupError(f"No {count} TCP ports are free; stop programs that listen, or set ports.")
    return found


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str | None:
    """The process that listens on `port`, as `name (pid N)`, if the system tells us."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, PermissionError):
        return None
    for each in connections:
        if (
            each.laddr
            and each.laddr.port == port
            and each.status == psutil.CONN_LISTEN
            and each.pid
        ):
            return _describe(each.pid)
    return None


def _describe(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
