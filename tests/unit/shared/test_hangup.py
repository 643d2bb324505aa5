"""Protects the service from work that nobody waits for."""

import asyncio

from shared.hangup import HangUp

SCOPE = {"type": "http"}
WHOLE = {"type": "http.request", "body": b"{}", "more_body": False}
GONE = {"type": "http.disconnect"}


class _Caller:
    """Sends messages as a server would tell them, and keeps what it is answered."""

    def __init__(self, *messages: dict) -> None:
        self.messages: asyncio.Queue[dict] = asyncio.Queue()
        self.answers: list[dict] = []
        for message in messages:
            self.messages.put_nowait(message)

    async def send(self, message: dict) -> None:
        self.answers.append(message)

    async def call(self, app) -> None:
        await HangUp(app)(SCOPE, self.messages.get, self.send)


async def test_a_caller_who_leaves_ends_the_work():
    """At once, however long it would have taken, and what it held is released."""
    begun, released = asyncio.Event(), []

    async def app(_, receive, *_more) -> None:
        assert await receive() == WHOLE
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            released.append(True)

    caller = _Caller(WHOLE)
    calling = asyncio.ensure_future(caller.call(app))
    await begun.wait()
    assert not calling.done()
    caller.messages.put_nowait(GONE)
    await asyncio.wait_for(calling, 10)
    assert (released, caller.answers) == ([True], [])


async def test_a_caller_who_waits_is_answered():
    """The positive control, with a body in two parts."""
    parts = [
        {"type": "http.request", "body": each, "more_body": each == b"a"} for each in (b"a", b"b")
    ]

    async def app(_, receive, send) -> None:
        got = [await receive(), await receive()]
        await send({"type": "http.response.start", "parts": got})

    caller = _Caller(*parts)
    await caller.call(app)
    assert caller.answers == [{"type": "http.response.start", "parts": parts}]


async def test_an_application_that_waits_for_the_hang_up_is_told():
    """A stream ends itself; its own end is no cancellation."""

    async def app(_, receive, send) -> None:
        await receive()
        await send(await receive())

    caller = _Caller(WHOLE)
    calling = asyncio.ensure_future(caller.call(app))
    caller.messages.put_nowait(GONE)
    await asyncio.wait_for(calling, 10)
    assert caller.answers in ([GONE], [])


async def test_a_bug_goes_on_to_whoever_handles_it():
    """The edge answers 500 and logs it."""

    async def app(*_) -> None:
        raise ZeroDivisionError

    try:
        await _Caller(WHOLE).call(app)
    except ZeroDivisionError:
        return
    raise AssertionError("the bug was swallowed")
