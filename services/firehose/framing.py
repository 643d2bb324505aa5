"""How events look on the wire: server-sent events or NDJSON, plain, gzip or zstd. Pure.

The bytes of an event go out as they came in. Only a raw line end inside them, which JSON allows
between its tokens alone, is written so that it cannot end the frame.
"""

import zlib
from typing import Final, Protocol

import cramjam
import msgspec

from services.firehose.domain import EVENT_NAMES, Coding, Format, Reason

CONTENT_TYPES: Final[dict[Format, str]] = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
}
_EVENT_NAMES: Final = {name: event.encode() for name, event in EVENT_NAMES.items()}
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")
_GZIP_LEVEL: Final = 1
_GZIP_WINDOW: Final = 31  # the largest window, with gzip's own head


class Framing(Protocol):
    """Writes one event, heartbeat or end."""

    def event(self, type_name: str, cursor: str, value: bytes) -> bytes:
        """An event with the cursor behind it."""
        ...

    def note(self, name: str, cursor: str, data: object) -> bytes:
        """A heartbeat or an end with the cursor at which it stands."""
        ...


class SseFraming:
    """`id`, `event` and `data` lines, an empty line behind each event."""

    def event(self, type_name: str, cursor: str, value: bytes) -> bytes:
        """See `Framing`."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            cursor.encode(),
            _EVENT_NAMES[type_name],
            _one_line(value),
        )

    def note(self, name: str, cursor: str, data: object) -> bytes:
        """See `Framing`."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            cursor.encode(),
            name.encode(),
            msgspec.json.encode(data),
        )


class NdjsonFraming:
    """One object a line: `{"id": cursor, "type": event, "data": {…}}`."""

    def event(self, type_name: str, cursor: str, value: bytes) -> bytes:
        """See `Framing`."""
        return b'{"id":"%b","type":"%b","data":%b}\n' % (
            cursor.encode(),
            _EVENT_NAMES[type_name],
            _one_line(value),
        )

    def note(self, name: str, cursor: str, data: object) -> bytes:
        """See `Framing`."""
        return b'{"id":"%b","type":"%b","data":%b}\n' % (
            cursor.encode(),
            name.encode(),
            msgspec.json.encode(data),
        )


def _one_line(value: bytes) -> bytes:
    return value.translate(_LINE_ENDS) if b"\n" in value or b"\r" in value else value


def framing_of(name: Format) -> Framing:
    """The framing of a format."""
    return NdjsonFraming() if name == "ndjson" else SseFraming()


def heartbeat(framing: Framing, cursor: str) -> bytes:
    """Says that the stream is alive, and how far it is although nothing was sent."""
    return framing.note("heartbeat", cursor, {"cursor": cursor})


def end(framing: Framing, cursor: str, reason: Reason) -> bytes:
    """The last event of a stream: why it ends, and where the next one may go on."""
    return framing.note("end", cursor, {"reason": reason, "cursor": cursor})


class Compression(Protocol):
    """Compresses a stream piece by piece; each piece can be read when it arrives."""

    def piece(self, data: bytes) -> bytes:
        """`data` compressed, and everything flushed."""
        ...

    def finish(self) -> bytes:
        """What closes the stream."""
        ...


class Identity:
    """No compression."""

    def piece(self, data: bytes) -> bytes:
        """See `Compression`."""
        return data

    def finish(self) -> bytes:
        """See `Compression`."""
        return b""


class Gzip:
    """gzip, flushed behind each piece."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def piece(self, data: bytes) -> bytes:
        """See `Compression`."""
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """See `Compression`."""
        return self._compressor.flush(zlib.Z_FINISH)


class Zstd:
    """Zstandard, one frame, flushed behind each piece."""

    def __init__(self) -> None:
        self._compressor = cramjam.zstd.Compressor()

    def piece(self, data: bytes) -> bytes:
        """See `Compression`."""
        self._compressor.compress(data)
        return bytes(self._compressor.flush())

    def finish(self) -> bytes:
        """See `Compression`."""
        return bytes(self._compressor.finish())


def compression_of(coding: Coding) -> Compression:
    """A new compression."""
    match coding:
        case "gzip":
            return Gzip()
        case "zstd":
            return Zstd()
        case "identity":
            return Identity()
