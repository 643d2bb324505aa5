"""Names of requests: 128 random bits each, told to nobody beforehand.

They come from the system's generator as everywhere, but a few hundred at a time: asking it for each
request costs as much as judging one.
"""

import os
from collections.abc import Iterator
from typing import Final

ID_BYTES: Final = 16
AT_ONCE: Final = 256


def request_ids() -> Iterator[str]:
    """Ids without end, 32 hexadecimal digits each."""
    while True:
        digits = os.urandom(ID_BYTES * AT_ONCE).hex()
        for start in range(0, len(digits), 2 * ID_BYTES):
            yield digits[start : start + 2 * ID_BYTES]
