"""What `portico run` tells somebody to try: a key, and lines to copy and paste. Pure."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.clock import utc
from tools.cli.keyfile import KnownKey

DAY: Final = 86_400
UTC_ZONE: Final = 67
JSON_HEADER: Final = ("Content-Type", "application/json")


@dataclass(frozen=True, slots=True)
class Chapter:
    """A heading with the lines below it."""

    heading: str
    lines: Sequence[str]


def chapters(urls: Mapping[str, str], known: KnownKey, now: float, portico: str) -> list[Chapter]:
    """The guide to a running platform.

    Args:
        urls: base URL by process.
        known: a key that works.
        now: seconds, UTC; the reports are about the week before.
        portico: how to call our command.
    """
    api = f"{urls['gateway']}/v1/affiliates/reporting"
    stream = f"{urls['firehose']}/v1/firehose/stream?types=clicks,conversions"
    key = ("X-Eflow-API-Key", known.key)
    return [
        Chapter(
            f"Key of partner {known.network_affiliate_id} of network {known.network_id}",
            [known.key],
        ),
        Chapter(
            "A report by offer over seven days",
            [_curl(f"{api}/entity/table", key, JSON_HEADER, body=_report(now))],
        ),
        Chapter(
            "A search of conversions, five a page",
            [
                _curl(
                    f"{api}/conversions?page=1&page_size=5",
                    key,
                    JSON_HEADER,
                    body=_period(now) | {"show_conversions": True, "show_events": True},
                )
            ],
        ),
        Chapter("A live stream", [_curl(stream, key, flags="-sN")]),
        Chapter(
            "As staff: issue a key, list, revoke", _staff_lines(urls["gateway"], known, portico)
        ),
        Chapter("The same by command", _command_lines(known, portico)),
        Chapter(
            "Documents",
            [
                f"{urls['gateway']}/docs  (for partners)",
                "docs/operator-guide.md",
                "docs/using-your-api-key.md",
                "docs/openapi.yaml",
                "docs/asyncapi.yaml",
            ],
        ),
        Chapter("Metrics", [f"{url}/metrics  ({name})" for name, url in urls.items()]),
    ]


def _period(now: float) -> dict[str, Any]:
    return {"from": _day(now - 6 * DAY), "to": _day(now), "timezone_id": UTC_ZONE}


def _report(now: float) -> dict[str, Any]:
    return _period(now) | {"currency_id": "USD", "columns": [{"column": "offer"}]}


def _staff_lines(gateway: str, known: KnownKey, portico: str) -> list[str]:
    keys = f"{gateway}/v1/networks/affiliates/{known.network_affiliate_id}/apikeys"
    revoke = f"{gateway}/v1/networks/apikeys/KEY_ID/revoke"
    token = f"{portico} token --network {known.network_id} --permission security:full"
    bearer = '-H "Authorization: Bearer $TOKEN"'
    return [
        f"TOKEN=$({token})",
        f"{_curl(keys, JSON_HEADER, body={'integration': 'my-first'})} {bearer}",
        f"{_curl(keys)} {bearer}",
        f"{_curl(revoke, JSON_HEADER, body={'reason': 'a try'})} {bearer}",
    ]


def _command_lines(known: KnownKey, portico: str) -> list[str]:
    return [
        f"{portico} keys list --network {known.network_id}",
        f"{portico} keys reshare {known.key_id} --network {known.network_id}",
        f"{portico} firehose tail --types clicks",
        f"{portico} audit verify --network {known.network_id}",
    ]


def _curl(
    url: str, *headers: tuple[str, str], body: Mapping[str, Any] | None = None, flags: str = "-s"
) -> str:
    words = ["curl", flags, url]
    for name, value in headers:
        words += ["-H", f"{name}: {value}"]
    if body is not None:
        words += ["-d", json.dumps(body)]
    return shlex.join(words)


def _day(seconds: float) -> str:
    return f"{utc(seconds):%Y-%m-%d}"
