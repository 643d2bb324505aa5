"""Reading server-sent events, as far as the platform's streams use them."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One event; `id` is the last one that the stream named."""

    id: str
    event: str
    data: str


async def messages(lines: AsyncIterable[str]) -> AsyncIterator[Message]:
    """The events in a stream of lines without their ends; comments are passed over.

    An event that the stream's end cuts off is dropped, as the standard says.
    """
    last_id, event, data = "", "", []
    async for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                last_id = value
            case "event":
                event = value
            case "data":
                data.append(value)
            case "" if not line and (data or event):
                yield Message(last_id, event or "message", "\n".join(data))
                event, data = "", []
            case _:
                pass
