"""Cursor: a place in several topics of one partner as short text, valid at every replica.

It names the partner, and for each type of record the topic by its id and the offset of the next
record. Whoever holds it goes on exactly there, on any process. It is not signed: a forged one can
only re-read the records of the partner who presents it. A checksum finds damage.

The text is base64url without padding of

    version 1 | types, 1 | network, 8 | partner, 8 | per type: tag 2, topic id 8
    | per type: offset 8 | CRC-32 of all before, 4                     (numbers big-endian)

Cursors of other kinds have a version of their own, and the same text form (`sealed`, `unsealed`).

A type's tag is 16 bits of the CRC-32 of its name; of a topic's id the first 8 of its 16 random
bytes are kept. Zero bytes after the names fill up to a multiple of three, so that the text of all
records of a stream begins alike and only the offsets and the checksum are encoded anew.
"""

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.errors import InvalidError

VERSION: Final = 1
TOPIC_ID_BYTES: Final = 8
TEXT_LENGTH_MAX: Final = 400
TYPES_MAX: Final = 8

_HEAD: Final = struct.Struct(">BBQQ")
_NAME: Final = struct.Struct(f">H{TOPIC_ID_BYTES}s")
_OFFSET: Final = struct.Struct(">Q")
_SUM: Final = struct.Struct(">I")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Place(NamedTuple):
    """The next record of one type: `topic_id` is 8 bytes, `offset` is Kafka's."""

    topic_id: bytes
    offset: int


def tag_of(type_name: str) -> int:
    """The 16 bits that stand for a type's name."""
    return zlib.crc32(type_name.encode()) & 0xFFFF


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader goes on.

    Attributes:
        network_id: the network of the partner whose records are read.
        network_affiliate_id: the partner.
        places: the next record by tag of its type.
    """

    network_id: int
    network_affiliate_id: int
    places: Mapping[int, Place]

    def encode(self) -> str:
        """The text, which `decode` reads back."""
        ids = {tag: place.topic_id for tag, place in self.places.items()}
        stamp = CursorStamp(self.network_id, self.network_affiliate_id, ids)
        return stamp.text([place.offset for place in self.places.values()])

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """The cursor in `text`.

        Raises:
            InvalidError: it is no cursor, or was damaged on the way.
        """
        raw = unsealed(text, VERSION)
        if len(raw) < _HEAD.size + _SUM.size:
            raise InvalidError("cursor: cut short or damaged; send it exactly as received")
        _, types, network_id, partner_id = _HEAD.unpack_from(raw)
        names = _HEAD.size
        offsets = _names_end(types)
        if types > TYPES_MAX or len(raw) != offsets + types * _OFFSET.size + _SUM.size:
            raise InvalidError("cursor: cut short or damaged; send it exactly as received")
        places: dict[int, Place] = {}
        for index in range(types):
            tag, topic_id = _NAME.unpack_from(raw, names + index * _NAME.size)
            (offset,) = _OFFSET.unpack_from(raw, offsets + index * _OFFSET.size)
            places[tag] = Place(topic_id, offset)
        return cls(network_id, partner_id, places)


class CursorStamp:
    """Makes the cursors of one stream: all but the offsets is encoded once.

    Args:
        network_id: the network.
        network_affiliate_id: the partner.
        topic_ids: the first 8 bytes of each topic's id by tag of its type, in the order in which
            `text` is given the offsets.
    """

    def __init__(
        self, network_id: int, network_affiliate_id: int, topic_ids: Mapping[int, bytes]
    ) -> None:
        head = _HEAD.pack(VERSION, len(topic_ids), network_id, network_affiliate_id)
        names = b"".join(_NAME.pack(tag, topic_id) for tag, topic_id in topic_ids.items())
        prefix = (head + names).ljust(_names_end(len(topic_ids)), b"\0")
        self._prefix = base64.urlsafe_b64encode(prefix).decode()
        self._sum = zlib.crc32(prefix)
        self._offsets = struct.Struct(f">{len(topic_ids)}Q")

    def text(self, offsets: Sequence[int]) -> str:
        """The cursor of these offsets."""
        packed = self._offsets.pack(*offsets)
        checked = packed + _SUM.pack(zlib.crc32(packed, self._sum))
        tail = binascii.b2a_base64(checked, newline=False)
        return self._prefix + tail.translate(_URL_SAFE, b"=").decode()


def _names_end(types: int) -> int:
    return -(-(_HEAD.size + types * _NAME.size) // 3) * 3


def sealed(raw: bytes) -> str:
    """A cursor's bytes, the first of which is its version, as text with a checksum."""
    whole = raw + _SUM.pack(zlib.crc32(raw))
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def unsealed(text: str, version: int) -> bytes:
    """The bytes of a cursor and their checksum, which proves them whole.

    Raises:
        InvalidError: it is no cursor of this version, or was damaged on the way.
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise InvalidError("cursor: too long to be one of ours")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("cursor: not base64url; send it exactly as received") from error
    is_canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text
    if not is_canonical or len(raw) <= _SUM.size:
        raise InvalidError("cursor: cut short or damaged; send it exactly as received")
    if zlib.crc32(raw[: -_SUM.size]) != _SUM.unpack(raw[-_SUM.size :])[0]:
        raise InvalidError("cursor: damaged (checksum); send it exactly as received")
    if raw[0] != version:
        raise InvalidError(f"cursor: version {raw[0]} is unknown here; start anew")
    return raw
