"""What the bytes of HTTP/1.1 mean: heads, framing, chunks. Pure.

The promise: whatever is accepted here has one meaning only. A head whose length could be read in
two ways (both `Content-Length` and `Transfer-Encoding`, either of them twice, a length that is not
all digits, a bare CR or LF, a folded line, a blank before a colon) is refused, so that no message
can hide in another's body. A head is looked at as a whole once its last line has arrived; until
then its reader bounds it by `head_fault`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, Protocol, TypeVar

Headers = list[tuple[bytes, bytes]]

HEAD_END: Final = b"\r\n\r\n"
HEADERS_MAX: Final = 100
"""Fields of one head."""
_LENGTH_DIGITS_MAX: Final = 15
_CHUNK_DIGITS_MAX: Final = 8
"""A chunk of up to 4 GiB: what it brings is bounded by the body's limit."""
_CHUNK_LINE_MAX: Final = 256
_EXTENSIONS_MAX: Final = 4_096
"""Bytes of chunk extensions in one body: they mean nothing here, and cost."""
_TRAILERS_MAX: Final = 4_096
_METHOD_MAX: Final = 24
_NAMES_MAX: Final = 1_024
MEMORY_MAX: Final = 4_096
"""Entries in each memory of what was read before."""
FIELD_REMEMBERED_MAX: Final = 128
LINE_REMEMBERED_MAX: Final = 256
FIELDS_REMEMBERED_MAX: Final = 1_024
"""Bytes of what is remembered; with what is worked out of it, heads take 25 MB at most."""

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_METHOD_LETTERS: Final = b"-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_LETTERS: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_TEXT: Final = b"\r\n" + _LETTERS
_AUTHORITY: Final = (
    b"-._~%!$&'()*+,;=:[]0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_HEX: Final = b"0123456789abcdefABCDEF"
_METHODS: Final = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}
_FRAMING: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"host", b"connection", b"expect")
)
_BODILESS: Final = (204, 304)
_FIRST_FINAL: Final = 200
"""Plain numbers here: comparing with an `HTTPStatus` takes ten times as long."""

CHUNKED: Final = -1
"""The length of a body that tells it by coming."""
UNTIL_CLOSE: Final = -2
"""The length of an answer that ends with its connection."""


class WireError(Exception):
    """A message that is not accepted; its connection can carry no other one.

    Attributes:
        status: what its sender is told, if it is a request.
        text: why.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _malformed(what: str) -> WireError:
    return WireError(HTTPStatus.BAD_REQUEST, f"Malformed request: {what}")


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How long a request's head may be; all in bytes."""

    target_max: int
    headers_max: int

    @property
    def head_max(self) -> int:
        """Everything up to the empty line: target and fields with their colons and line ends."""
        return self.target_max + self.headers_max + 4 * HEADERS_MAX + _METHOD_MAX + 16


class RequestLine:
    """The first line of a request.

    Attributes:
        method: as sent.
        target: as sent, less the host of an absolute one.
        path: as sent, percent-encoding and all, without the query.
        query: as sent, without the question mark.
        notes: whatever a reader worked out of the line alone; it is shared by all requests that
            begin with the same bytes.
    """

    __slots__ = ("method", "notes", "path", "query", "target")

    def __init__(self, method: str, target: bytes) -> None:
        path, _, self.query = target.partition(b"?")
        self.method = method
        self.target = target
        self.path = path.decode("ascii")
        self.notes: object = None


class Fields:
    """The header fields of a request, and what they say about its body and its connection.

    Attributes:
        headers: in their order; names are lower case.
        length: of the body in bytes, or `CHUNKED`.
        keeps_alive: whether another request may follow.
        expects: whether the sender waits for `100 Continue`.
        notes: as of `RequestLine`.
    """

    __slots__ = ("expects", "headers", "keeps_alive", "length", "notes")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.length = 0
        self.keeps_alive = True
        self.expects = False
        self.notes: object = None


class RequestHead:
    """A request's head.

    Attributes:
        line: its first line.
        fields: the others.
        is_old: whether it is HTTP/1.0.
    """

    __slots__ = ("fields", "is_old", "line")

    def __init__(self, line: RequestLine, fields: Fields, *, is_old: bool = False) -> None:
        self.line = line
        self.fields = fields
        self.is_old = is_old


class AnswerHead:
    """An answer's head; header names are lower case.

    Attributes:
        status: HTTP status.
        headers: in their order.
        length: of the body in bytes, `CHUNKED` or `UNTIL_CLOSE`.
        keeps_alive: whether the connection may carry another request.
        is_interim: whether the answer itself is still to come.
    """

    __slots__ = ("headers", "is_interim", "keeps_alive", "length", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.length = UNTIL_CLOSE
        self.keeps_alive = True
        self.is_interim = status < _FIRST_FINAL


def head_fault(start: bytes, limits: HeadLimits) -> WireError | None:
    """What is wrong with a request whose head has not come to its end; None: wait for the rest."""
    if b"\r\n" not in start and len(start) > limits.target_max + _METHOD_MAX:
        return WireError(HTTPStatus.REQUEST_URI_TOO_LONG, "Target too long")
    if len(start) > limits.head_max:
        return WireError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers too large")
    lines = start.count(b"\r\n")
    if start.count(b"\n") != lines or start[:-1].count(b"\r") > lines:
        return _malformed("a line ends with CR and LF, and neither stands alone")
    if start.translate(None, _TEXT):
        return _malformed("a control character")
    return None


def parse_request(block: bytes, limits: HeadLimits) -> RequestHead:
    """The request whose head is `block`, without the empty line that ends it.

    Raises:
        WireError: 400, 414, 417 or 431.
    """
    line, headers, special = _fields(block)
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise _malformed("the first line is method, target and version") from None
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise _bad_version(version)
    if len(target) > limits.target_max:
        raise WireError(HTTPStatus.REQUEST_URI_TOO_LONG, "Target too long")
    if len(headers) > HEADERS_MAX:
        text = f"More than {HEADERS_MAX} headers"
        raise WireError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    host = _only(special, b"host")
    is_old = version == b"HTTP/1.0"
    if (host is None and not is_old) or (host and host.translate(None, _AUTHORITY)):
        raise _malformed("needs one valid Host")
    name = _METHODS.get(method) or _method(method)
    found = RequestLine(name, _origin_form(name, target, host))
    return RequestHead(found, _framed(headers, special, is_old=is_old), is_old=is_old)


class HeadReader:
    """Reads the heads of requests, and remembers them: clients repeat themselves.

    First lines and fields are remembered apart, so that a program which asks for other things with
    the same fields is known by half. Each half was accepted by `parse_request` beside some other
    one, and whether it is depends on nothing but itself: only HTTP/1.1 is remembered, and no target
    that names a host. What is longer than usual is read anew each time, and so is everything once
    the memory is full and was emptied: at most `MEMORY_MAX` of each.

    Args:
        limits: how long a head may be.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._lines: dict[bytes, RequestLine] = {}
        self._fields: dict[bytes, Fields] = {}

    def read(self, block: bytes) -> RequestHead:
        """As `parse_request`.

        Raises:
            WireError: 400, 414, 417 or 431.
        """
        first, _, rest = block.partition(b"\r\n")
        line, fields = self._lines.get(first), self._fields.get(rest)
        if line is not None and fields is not None:
            return RequestHead(line, fields)
        head = parse_request(block, self._limits)
        if head.is_old or not first.endswith(b" " + head.line.target + b" HTTP/1.1"):
            return head
        return RequestHead(
            line or _remembered(self._lines, first, head.line, LINE_REMEMBERED_MAX),
            fields or _remembered(self._fields, rest, head.fields, FIELDS_REMEMBERED_MAX),
        )

    def __len__(self) -> int:
        return len(self._lines) + len(self._fields)


_R = TypeVar("_R")


def _remembered(memory: dict[bytes, _R], key: bytes, value: _R, length_max: int) -> _R:
    if len(key) <= length_max:
        if len(memory) >= MEMORY_MAX:
            memory.clear()
        memory[key] = value
    return value


def parse_answer(block: bytes, method: str) -> AnswerHead:
    """The answer to a `method` request whose head is `block`, without its empty line.

    Raises:
        WireError: it is not one, or has two meanings.
    """
    line, headers, special = _fields(block)
    version, status = line[:9], line[9:12]
    is_old = version == b"HTTP/1.0 "
    if (version != b"HTTP/1.1 " and not is_old) or len(status) != 3 or not status.isdigit():  # noqa: PLR2004
        raise _malformed("no status line")
    if line[12:13] not in (b"", b" ") or not b"1" <= status[:1] <= b"5":
        raise _malformed("no status line")
    head = AnswerHead(int(status), headers)
    head.length = _length(special, UNTIL_CLOSE, is_old=is_old)
    head.keeps_alive = _keeps_alive(special, is_old=is_old) and head.length != UNTIL_CLOSE
    if head.is_interim or head.status in _BODILESS or method == "HEAD":
        head.length = 0
        head.keeps_alive = _keeps_alive(special, is_old=is_old)
    return head


_Special = list[tuple[bytes, bytes]]


def _fields(block: bytes) -> tuple[bytes, Headers, _Special]:
    """The first line, all fields, and those of them that decide about framing."""
    line, *rest = block.split(b"\r\n")
    if block.translate(None, _LETTERS) != b"\r\n" * len(rest):
        raise _malformed("a control character, or a line that ends otherwise than with CR and LF")
    headers: Headers = []
    special: _Special = []
    known = _pairs.get
    for field in rest:
        pair = known(field) or _pair(field)
        headers.append(pair)
        if pair[0] in _FRAMING:
            special.append(pair)
    return line, headers, special


_pairs: dict[bytes, tuple[bytes, bytes]] = {}
"""Fields that were read before: `MEMORY_MAX` at most, and none that is longer than usual."""


def _pair(field: bytes) -> tuple[bytes, bytes]:
    raw, colon, value = field.partition(b":")
    if not colon:
        raise _malformed("a header without a colon")
    pair = (_names.get(raw) or _name(raw), value.strip(b" \t"))
    return _remembered(_pairs, field, pair, FIELD_REMEMBERED_MAX)


_USUAL: Final = (
    *(b"Accept", b"Accept-Encoding", b"Accept-Language", b"Authorization", b"Cache-Control"),
    *(b"Connection", b"Content-Length", b"Content-Type", b"Date", b"Host", b"Idempotency-Key"),
    *(b"Server", b"Traceparent", b"Transfer-Encoding", b"User-Agent", b"X-Data-Through"),
    *(b"X-Eflow-API-Key", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Request-Id"),
)
_names: dict[bytes, bytes] = {
    spelling: name.lower() for name in _USUAL for spelling in (name, name.lower())
}
"""Lower-case forms of names that were checked before: clients repeat themselves."""


def _name(raw: bytes) -> bytes:
    if not raw or raw.translate(None, _TOKEN):
        raise _malformed("a header name has a blank or another character that none may have")
    name = raw.lower()
    if len(_names) < _NAMES_MAX and len(raw) <= 40:  # noqa: PLR2004
        _names[raw] = name
    return name


def _bad_version(version: bytes) -> WireError:
    if version.startswith(b"HTTP/") and len(version) == len(b"HTTP/1.1"):
        return _malformed("HTTP/1.1 and HTTP/1.0 are spoken here")
    return _malformed("the first line is method, target and version")


def _method(method: bytes) -> str:
    if not method or len(method) > _METHOD_MAX or method.translate(None, _METHOD_LETTERS):
        raise _malformed("the method is a word in capitals")
    return method.decode("ascii")


def _origin_form(method: str, target: bytes, host: bytes | None) -> bytes:
    """The target as path and query.

    An absolute one is accepted if it names the same host as `Host` does. What has no path
    (`*`, the authority of a CONNECT) stays as it is, and is no route.
    """
    if target.translate(None, _VISIBLE) or b"#" in target:
        raise _malformed("the target has a character that none may have")
    if target.startswith(b"/"):
        return target
    if (method, target) == ("OPTIONS", b"*"):
        return target
    if method == "CONNECT" and target and not target.translate(None, _AUTHORITY):
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise _malformed("the target begins with a slash")
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    if not authority or (host is not None and authority.lower() != host.lower()):
        raise _malformed("the target names another host than Host does")
    if authority.translate(None, _AUTHORITY):
        raise _malformed("the target names no valid host")
    path = rest[len(authority) :]
    return path if path.startswith(b"/") else b"/" + path


def _only(special: _Special, name: bytes) -> bytes | None:
    """The value of a field that may stand once."""
    found: bytes | None = None
    for key, value in special:
        if key == name:
            if found is not None:
                raise _malformed(f"{name.decode()} stands twice")
            found = value
    return found


def _framed(headers: Headers, special: _Special, *, is_old: bool) -> Fields:
    fields = Fields(headers)
    if len(special) == 1 and not is_old:  # Host alone
        return fields
    fields.length = _length(special, 0, is_old=is_old)
    fields.keeps_alive = _keeps_alive(special, is_old=is_old)
    expected = _only(special, b"expect")
    if expected is not None and not is_old:
        if expected.lower() != b"100-continue":
            raise WireError(HTTPStatus.EXPECTATION_FAILED, "Expect: only 100-continue is known")
        fields.expects = fields.length != 0
    return fields


def _length(special: _Special, default: int, *, is_old: bool) -> int:
    declared = _only(special, b"content-length")
    coding = _only(special, b"transfer-encoding")
    if coding is not None:
        if declared is not None:
            raise _malformed("both Content-Length and Transfer-Encoding")
        if is_old:
            raise _malformed("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise _malformed("the only Transfer-Encoding known here is chunked")
        return CHUNKED
    if declared is None:
        return default
    if not declared.isdigit() or len(declared) > _LENGTH_DIGITS_MAX:
        raise _malformed("Content-Length is a number of bytes")
    return int(declared)


def _keeps_alive(special: _Special, *, is_old: bool) -> bool:
    for name, _ in special:
        if name == b"connection":
            break
    else:
        return not is_old
    options = {
        part.strip(b" \t").lower()
        for name, value in special
        if name == b"connection"
        for part in value.split(b",")
    }
    return b"close" not in options and (not is_old or b"keep-alive" in options)


class Body(Protocol):
    """A body that is arriving.

    Attributes:
        is_done: whether it came to its end.
        rest: what came after its end.
    """

    is_done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body.

        Raises:
            WireError: it breaks the framing.
        """
        ...

    def may_be_discarded(self, most: int) -> bool:
        """Whether what is still to come may be at most `most` bytes."""
        ...


def body_of(length: int) -> Body:
    """The reader of a body of `length`, which is not 0."""
    if length == CHUNKED:
        return Chunked()
    return UntilClose() if length == UNTIL_CLOSE else Counted(length)


class Counted:
    """A body of a declared length."""

    __slots__ = ("_left", "is_done", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body."""
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self.is_done = True
        self.rest = data[self._left :]
        return data[: self._left] if self.rest else data

    def may_be_discarded(self, most: int) -> bool:
        """Whether what is still to come is at most `most` bytes."""
        return self._left <= most


class UntilClose:
    """A body that ends with its connection."""

    __slots__ = ("is_done", "rest")

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data

    def may_be_discarded(self, most: int) -> bool:
        """It has no end to wait for."""
        return False


_Part = Literal["size", "data", "end", "trailers"]


class Chunked:
    """A body in chunks. Extensions and trailers are checked, bounded and dropped."""

    __slots__ = ("_extensions", "_held", "_left", "_part", "_trailers", "is_done", "rest")

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""
        self._part: _Part = "size"
        self._held = b""
        self._left = 0
        self._extensions = 0
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body; several chunks as one piece.

        Raises:
            WireError: 400, the framing is broken or beyond its bounds.
        """
        data = self._held + data if self._held else data
        self._held = b""
        pieces: list[bytes] = []
        at = 0
        while not self.is_done:
            if self._part == "data":
                at = self._take(data, at, pieces)
                if self._left:
                    break
            line = self._line(data, at)
            if line is None:
                self._held = data[at:]
                break
            at += len(line) + 2
            self._on_line(line)
        if self.is_done:
            self.rest = data[at:]
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def may_be_discarded(self, most: int) -> bool:
        """Only its coming will tell."""
        return True

    def _take(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        if piece:
            pieces.append(piece)
            self._left -= len(piece)
        if not self._left:
            self._part = "end"
        return at + len(piece)

    def _line(self, data: bytes, at: int) -> bytes | None:
        """The line that begins at `at`; None if it has not come to its end."""
        longest = _TRAILERS_MAX if self._part == "trailers" else _CHUNK_LINE_MAX
        end = data.find(b"\n", at, at + longest + 2)
        if end < 0:
            if len(data) - at > longest:
                raise _malformed("a chunk's line is too long")
            if self._part == "end" and data[at : at + 1] not in (b"", b"\r"):
                raise _malformed("a chunk is longer than it says")
            return None
        if end == at or data[end - 1 : end] != b"\r":
            raise _malformed("a line ends with CR and LF, and neither stands alone")
        return data[at : end - 1]

    def _on_line(self, line: bytes) -> None:
        if self._part == "size":
            self._left = self._size(line)
            self._part = "data" if self._left else "trailers"
        elif self._part == "end":
            if line:
                raise _malformed("a chunk is longer than it says")
            self._part = "size"
        elif line:
            self._on_trailer(line)
        else:
            self.is_done = True

    def _size(self, line: bytes) -> int:
        digits, semicolon, extension = line.partition(b";")
        if not digits or len(digits) > _CHUNK_DIGITS_MAX or digits.translate(None, _HEX):
            raise _malformed("a chunk's size is a hexadecimal number below 4 GiB")
        self._extensions += len(semicolon) + len(extension)
        if self._extensions > _EXTENSIONS_MAX or b"\r" in extension or _has_control(extension):
            raise _malformed("chunk extensions too long, or with a control character")
        return int(digits, 16)

    def _on_trailer(self, line: bytes) -> None:
        self._trailers += len(line) + 2
        raw, colon, value = line.partition(b":")
        if not colon or not raw or raw.translate(None, _TOKEN) or _has_control(value):
            raise _malformed("a trailer is no header")
        if b"\r" in value or self._trailers > _TRAILERS_MAX:
            raise _malformed("trailers too long, or with a control character")


def _has_control(text: bytes) -> bool:
    return bool(text.translate(None, _TEXT))


def chunk(piece: bytes) -> bytes:
    """`piece`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK: Final = b"0\r\n\r\n"


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header fields as they go over the wire."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 1_000)}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
