"""The way to the services behind the door: pooled, streaming both ways, bounded in time.

`open_answer` is the whole surface. Leaving it before the answer was read to its end closes the
connection, by which the upstream learns that nobody waits any more; read to the end, the connection
goes back to the pool.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from services.gateway.domain import RawHeaders, passed_back

_KEEP_ALIVE_SECONDS: Final = 3.0
"""Below the 5 s after which our services close idle connections: else a request may meet the end
of one, and only those that may be repeated are."""
_ADDED_BY_CLIENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class UpstreamError(Exception):
    """An upstream did not answer as it should; `status` is what the client is told."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an upstream.

    Attributes:
        method: HTTP method.
        url: whole, as it goes over the wire.
        headers: as they go, beside `Host` and the framing of the body.
        has_body: whether a body goes with it.
    """

    method: str
    url: str
    headers: Iterable[tuple[str, str]]
    has_body: bool


class Answer:
    """An upstream's answer whose body is still on its way."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: RawHeaders = passed_back(response.raw_headers)

    @property
    def is_stream(self) -> bool:
        """Whether the answer has no end of its own."""
        return self._response.content_type == "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it arrives.

        Raises:
            UpstreamError: it broke off, or fell silent for too long.
        """
        with _translated():
            async for chunk in self._response.content.iter_any():
                yield chunk


class Upstream:
    """Sends requests on."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @asynccontextmanager
    async def open_answer(self, call: Call, body: AsyncIterator[bytes]) -> AsyncIterator[Answer]:
        """The answer to `call` once its head has arrived.

        Raises:
            UpstreamError: 503 not reached, 504 silent for too long, 502 anything else.
        """
        with _translated():
            response = await self._session.request(
                call.method,
                URL(call.url, encoded=True),
                headers=CIMultiDict(call.headers),
                data=body if call.has_body else None,
                allow_redirects=False,
            )
        async with response:
            yield Answer(response)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise aiohttp's errors as ours."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, "unreachable") from error
    except aiohttp.ServerTimeoutError as error:
        raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "silent") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UpstreamError(HTTPStatus.BAD_GATEWAY, "broken") from error


@asynccontextmanager
async def open_upstream(
    *, connect_seconds: float, silence_seconds: float, connections_max: int
) -> AsyncIterator[Upstream]:
    """An upstream client with its pool of connections."""
    timeout = aiohttp.ClientTimeout(
        total=None, connect=connect_seconds, sock_connect=connect_seconds, sock_read=silence_seconds
    )
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=connections_max, keepalive_timeout=_KEEP_ALIVE_SECONDS
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_ADDED_BY_CLIENT,
        trust_env=False,
    ) as session:
        yield Upstream(session)
