"""A program for `bench_gateway`: asks at fixed moments, whatever became of the requests before.

    python -m tests.benchmarks.pace_process PORT KEYS_FILE CONNECTIONS PER_SECOND SECONDS

Prints `answered`, `refused` and `p99_ms` as one line of JSON. A request's time runs from the moment
at which it was due, so it holds the wait for a free connection too. The first second is not
counted. The percentile is the median of the seconds' own, so that a machine which stands still for
a moment spoils one of them and not the figure. Plain sockets: `select` waits, since other timers are a millisecond coarse, for an `epoll`
that knows all connections, since handing them over each time would take more than the requests.
"""

import gc
import itertools
import json
import select
import socket
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.upstream_process import PATH

WARM_UP_SECONDS = 1


class Pace:
    """Connections, and the requests that are due.

    Args:
        port: whom to ask.
        requests: what to ask, in turn.
        connections: how many requests may be under way.
        per_second: how many are due.
    """

    def __init__(self, port: int, requests: list[bytes], connections: int, per_second: float):
        self.milliseconds: dict[int, list[float]] = defaultdict(list)
        """By the second of the run that a request was due in."""
        self.refused = 0
        self._requests = itertools.cycle(requests)
        self._step = 1 / per_second
        self._idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for each in self._idle:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets = {each.fileno(): each for each in self._idle}
        self._poll = select.epoll()
        for number in self._sockets:
            self._poll.register(number, select.EPOLLIN)
        self._due: dict[socket.socket, float] = {}
        self._read: dict[socket.socket, bytes] = {}

    def run(self, seconds: float) -> None:
        """Ask for so long, then wait for the last answers."""
        due = began = time.perf_counter()
        while due < began + seconds or self._due:
            now = time.perf_counter()
            while due <= now and due < began + seconds and self._idle:
                self._ask(self._idle.pop(), due)
                due += self._step
            asked = due < began + seconds and self._idle
            heard, _, _ = select.select([self._poll], [], [], max(0.0, due - now) if asked else 5)
            assert heard or asked, "no answer for 5 s"
            for number, _ in self._poll.poll(0) if heard else ():
                each = self._sockets[number]
                self._hear(each, second=int(self._due[each] - began))

    def _ask(self, connection: socket.socket, due: float) -> None:
        connection.sendall(next(self._requests))
        self._due[connection] = due
        self._read[connection] = b""

    def _hear(self, connection: socket.socket, *, second: int) -> None:
        data = connection.recv(65536)
        assert data, "the door closed a connection"
        read = self._read[connection] = self._read[connection] + data
        head, end, body = read.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return
        due = self._due.pop(connection)
        self._idle.append(connection)
        self.refused += not read.startswith(b"HTTP/1.1 200 ")
        if second >= WARM_UP_SECONDS:
            self.milliseconds[second].append((time.perf_counter() - due) * 1_000)


def main() -> None:
    """Ask, and print what was measured."""
    port, keys, connections, per_second, seconds = sys.argv[1:]
    head = f"GET {PATH} HTTP/1.1\r\nhost: api.example\r\nuser-agent: pace\r\naccept: */*\r\n"
    requests = [
        f"{head}x-eflow-api-key: {key}\r\n\r\n".encode() for key in Path(keys).read_text().split()
    ]
    pace = Pace(int(port), requests, int(connections), float(per_second))
    gc.freeze()
    gc.disable()
    pace.run(float(seconds) + WARM_UP_SECONDS)
    found = pace.milliseconds.values()
    p99_ms = statistics.median(sorted(each)[len(each) * 99 // 100] for each in found)
    answered = sum(map(len, found))
    print(json.dumps({"answered": answered, "refused": pace.refused, "p99_ms": p99_ms}))


if __name__ == "__main__":
    main()
