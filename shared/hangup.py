"""A caller who hangs up ends the work for them: nobody computes answers that nobody reads."""

import asyncio
from typing import Any

from shared.http import AsgiApp, Receive, Scope, Send

_GONE = {"type": "http.disconnect"}


class HangUp:
    """Cancels an application's work for a request when its caller leaves before the answer is out.

    What the work holds is released by its own clean-up: a query is killed, a connection given back.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = _Caller(receive, await receive())
        work = asyncio.ensure_future(self._app(scope, caller.receive, send))
        watch = asyncio.ensure_future(caller.left())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
            if not work.cancelled():
                await work
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.wait((work, watch))


class _Caller:
    """Hands on the request's body, and watches for the hang-up from its end on.

    Args:
        receive: the server's.
        first: the message that it gave first; a request without a body has one too.
    """

    def __init__(self, receive: Receive, first: Any) -> None:
        self._receive = receive
        self._first: Any = first
        self._has_body = asyncio.Event()
        self._is_gone = asyncio.Event()
        self._note(first)

    async def receive(self) -> Any:
        """What the application is told: the body's parts, then the hang-up once it happens."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._has_body.is_set():
            await self._is_gone.wait()
            return _GONE
        message = await self._receive()
        self._note(message)
        return message

    async def left(self) -> None:
        """Returns once the caller has hung up."""
        await self._has_body.wait()
        while not self._is_gone.is_set():
            self._note(await self._receive())

    def _note(self, message: Any) -> None:
        if message["type"] == "http.disconnect":
            self._is_gone.set()
        if not message.get("more_body"):
            self._has_body.set()
