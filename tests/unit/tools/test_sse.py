"""The reader of server-sent events keeps what it got and drops what a cut left half."""

from collections.abc import AsyncIterator

from tools.sse import Message, messages


async def lines(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


async def test_events_comments_and_ids_are_told_apart() -> None:
    """An id holds for later events too; a comment is nothing."""
    text = ": hello\n\nid: 1\nevent: click\ndata: {}\n\n: beat\n\ndata: a\ndata: b\n\n"
    assert [one async for one in messages(lines(text))] == [
        Message("1", "click", "{}"),
        Message("1", "message", "a\nb"),
    ]


async def test_an_event_without_its_blank_line_is_dropped() -> None:
    """A cut in the middle of an event must not move the cursor past it."""
    found = [one async for one in messages(lines("id: 1\nevent: click\ndata: {"))]
    assert found == []
