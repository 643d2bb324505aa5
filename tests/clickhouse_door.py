"""A ClickHouse server for tests: its HTTP interface over the embedded engine, in its own process.

    python -m tests.clickhouse_door FOLDER PORT

No registry has a ClickHouse server, and what `CLICKHOUSE_URL` does is another path through the
driver than the embedded one: values and settings travel in the URL, errors in a header, rows in
bodies. This speaks as much of https://clickhouse.com/docs/interfaces/http as the driver asks for;
it has no users, sessions, compression or progress.
"""

import asyncio
import email
import email.policy
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import chdb
import uvicorn

from shared.clickhouse import ENGINE

URI_BYTES_MAX = 1 << 20
"""As of a real server's `http_max_uri_size`."""
OF_TRANSPORT = {
    "query",
    "database",
    "query_id",
    "wait_end_of_query",
    "enable_http_compression",
    "client_protocol_version",
}
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)")
_CODE = re.compile(r"Code: (\d+)")


@dataclass(frozen=True)
class Answer:
    """What goes back: a status, headers and a body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Door:
    """One engine, and for each request a connection of its own."""

    def __init__(self, folder: Path) -> None:
        options = "&".join(f"{name}={value}" for name, value in ENGINE.items())
        self._where = f"{folder}?{options}"
        self._keeper = chdb.connect(self._where)

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        kind = dict(scope["headers"]).get(b"content-type", b"")
        if kind.startswith(b"multipart/"):
            asked, body = asked | _form(kind, body), b""
        answer = await asyncio.to_thread(self._answer, asked, body)
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": headers},
        )
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, asked: Mapping[str, str], body: bytes) -> Answer:
        connection = chdb.connect(self._where)
        try:
            return self._result(connection, asked, body)
        except RuntimeError as error:
            text = str(error)[str(error).find("Code: ") :]
            found = _CODE.match(text)
            headers = {"X-ClickHouse-Exception-Code": found.group(1) if found else "1"}
            return Answer(500, headers, text.encode())
        finally:
            connection.close()

    def _result(self, connection: Any, asked: Mapping[str, str], body: bytes) -> Answer:
        if database := asked.get("database"):
            connection.query(f"USE `{database}`")
        values = {}
        for name, value in asked.items():
            if name.startswith("param_"):
                values[name.removeprefix("param_")] = value
            elif name not in OF_TRANSPORT and not name.startswith("send_progress"):
                quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                connection.query(f"SET {name} = '{quoted}'")
        query = asked.get("query", "").encode()
        text = query + b"\n" + body if query else body
        result = connection.query(text.decode(), "TabSeparated", params=values)
        named = _FORMAT.search(text)
        summary = {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read())}
        headers = {
            "X-ClickHouse-Summary": json.dumps(summary),
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Format": named.group(1).decode() if named else "TabSeparated",
        }
        return Answer(200, headers, result.bytes() or b"")


def _form(kind: bytes, body: bytes) -> dict[str, str]:
    """The fields of a form, in which long queries and values come."""
    message = email.message_from_bytes(
        b"Content-Type: " + kind + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


def main(folder: Path, port: int) -> None:
    """Serve until stopped."""
    uvicorn.run(
        Door(folder),
        host="127.0.0.1",
        port=port,
        http="h11",
        h11_max_incomplete_event_size=URI_BYTES_MAX,
        log_level="warning",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
