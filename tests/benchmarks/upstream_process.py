"""A program for `bench_gateway`: the service behind the doors, as fast as Python allows.

    python -m tests.benchmarks.upstream_process PORT

Answers every request, which has no body, with the same kilobyte of JSON, until it is terminated.
"""

import asyncio
import json
import sys

import uvloop

PATH = "/v1/affiliates/network"
_ROW = {"network_affiliate_id": 7, "name": "Example Partner", "currency_id": "USD", "active": True}
_BODY = json.dumps({"rows": [_ROW] * 10}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)


class Behind(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        if self._tail or not data.endswith(b"\r\n\r\n"):
            data = self._tail + data
            self._tail = data.rpartition(b"\r\n\r\n")[2]
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Behind, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
