"""Programs as partners run them today, each in the manner of some deployed client of the public API.

They are written for the original, by people who read its pages, guessed, or looked at answers:
header names in any case, pages asked for in the query, the body or not at all, loops that end at
the first page that is not full, errors read by one key or another, columns found by their type.
Nothing here knows this platform: each takes a base URL and a key. They block, as scripts do.
"""

import csv
import io
import json
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx


@dataclass(frozen=True)
class Account:
    """What a partner puts into their program's configuration.

    Attributes:
        base: such as `https://api.example/v1`.
        key: the partner's.
        since: first day, `YYYY-MM-DD`.
        until: last day.
    """

    base: str
    key: str
    since: str
    until: str


def exactly(text: str | bytes) -> Any:
    """JSON with exact numbers, as bookkeeping programs read it."""
    return json.loads(text, parse_float=Decimal, parse_int=int)


class RevenueSheet:
    """A nightly script for a spreadsheet: one row a day, and a check against the offers' rows.

    Header in lower case, every known column member sent again and again, a `query` that is empty
    or missing, dates without a time. Finds a column by its type, reads `id`, else `label`.
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def rows(self, *columns: str, **more: Any) -> list[dict[str, Any]]:
        """Rows as the sheet has them: columns by name, then the metrics."""
        body = {
            "from": self._account.since,
            "to": self._account.until,
            "timezone_id": 67,
            "currency_id": "USD",
            "columns": [{"column": name} for name in columns],
            "autoRun": True,
        } | more
        request = urllib.request.Request(
            f"{self._account.base}/affiliates/reporting/entity/table",
            data=json.dumps(body).encode(),
            headers={"x-eflow-api-key": self._account.key, "content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            table = exactly(answer.read())["table"]
        return [
            {name: self._read(row, name) for name in columns} | row["reporting"] for row in table
        ]

    @staticmethod
    def _read(row: dict[str, Any], name: str) -> str:
        column = next(one for one in row["columns"] if one["column_type"] == name)
        return str(column.get("id") or column["label"])

    def revenue_by_day(self) -> dict[str, Decimal]:
        """Revenue by ISO date."""
        return {
            f"{datetime.fromtimestamp(int(row['date']), tz=UTC):%Y-%m-%d}": Decimal(row["revenue"])
            for row in self.rows("date", query={})
        }

    def totals_agree(self) -> tuple[Decimal, Decimal]:
        """Revenue added up over two different reports, which the script compares for equality."""
        return (
            sum((Decimal(row["revenue"]) for row in self.rows("sub1", "sub5", "sub5")), Decimal()),
            sum((Decimal(row["revenue"]) for row in self.rows("offer")), Decimal()),
        )

    def clicks_by_hour(self) -> dict[int, int]:
        """Clicks by the hour of the day, however the hour is told."""
        return {self._hour(row["hour"]): row["total_click"] for row in self.rows("hour")}

    @staticmethod
    def _hour(text: str) -> int:
        if text.endswith(":00"):
            return int(text[:2])
        number = int(text)
        return number if number < 24 else datetime.fromtimestamp(number, tz=UTC).hour


class CsvImport:
    """Loads the exported report into a spreadsheet; knows columns by their headings alone."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def revenue(self, sub1: str | None = None) -> dict[str, Decimal]:
        """Revenue by offer id, of one tag if it is given; a report without rows may be empty."""
        query = (
            {}
            if sub1 is None
            else {"filters": [{"resource_type": "sub1", "filter_id_value": sub1}]}
        )
        answer = httpx.post(
            f"{self._account.base}/affiliates/reporting/entity/table/export",
            headers={"X-Eflow-API-Key": self._account.key},
            json={
                "from": self._account.since,
                "to": self._account.until,
                "timezone_id": 67,
                "currency_id": "USD",
                "columns": [{"column": "offer"}, {"column": "sub1"}],
                "query": query,
                "format": "csv",
            },
        )
        answer.raise_for_status()
        if not answer.text.strip():
            return {}
        found: dict[str, Decimal] = defaultdict(Decimal)
        for row in csv.DictReader(io.StringIO(answer.text)):
            found[f"{row['network_offer_id']} {row['offer_name']}"] += Decimal(row["revenue"])
        return dict(found)


class Widget:
    """A phone's widget: three figures of a period, from the summary beside a report."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def figures(self) -> tuple[Decimal, int, int]:
        """Revenue, clicks, conversions."""
        answer = httpx.post(
            f"{self._account.base}/affiliates/reporting/entity",
            headers={"X-Eflow-API-Key": self._account.key, "accept": "application/json"},
            json={
                "from": self._account.since,
                "to": self._account.until,
                "timezone_id": 67,
                "currency_id": "USD",
                "columns": [{"column": "offer"}],
                "query": {"filters": [], "exclusions": [], "metric_filters": [], "settings": {}},
            },
        )
        summary = exactly(answer.content)["summary"]
        return Decimal(summary["revenue"]), summary["total_click"], summary["cv"]


class ConversionLoader:
    """Copies conversions into a warehouse, page by page, until a page is not full.

    Args:
        account: whose.
        paging: makes query string and members of the body for a page and its size.
    """

    def __init__(
        self,
        account: Account,
        paging: Callable[[int, int], tuple[dict[str, Any], dict[str, Any]]],
        size: int,
    ) -> None:
        self._account = account
        self._paging = paging
        self._size = size

    def load(self) -> list[dict[str, Any]]:
        """Every conversion and event."""
        with httpx.Client(
            headers={
                "X-Eflow-Api-Key": self._account.key,
                "Accept": "application/json",
                "Cache-Control": "no-cache",
            }
        ) as client:
            return [row for page in self._pages(client) for row in page]

    def _pages(self, client: httpx.Client) -> Iterator[list[dict[str, Any]]]:
        number = 1
        while True:
            query, members = self._paging(number, self._size)
            answer = client.post(
                f"{self._account.base}/affiliates/reporting/conversions",
                params=query,
                json={
                    "from": f"{self._account.since} 00:00:00",
                    "to": f"{self._account.until} 23:59:59",
                    "timezone_id": "67",
                    "show_conversions": True,
                    "show_events": True,
                    "query": {"filters": [], "user_metrics": [], "search_terms": []},
                }
                | members,
            )
            answer.raise_for_status()
            rows: list[dict[str, Any]] = exactly(answer.content)["conversions"]
            yield rows
            if len(rows) < self._size:
                return
            number += 1


PAGINGS: dict[str, Callable[[int, int], tuple[dict[str, Any], dict[str, Any]]]] = {
    "query": lambda page, size: ({"page": page, "page_size": size}, {}),
    "body": lambda page, size: ({}, {"page": page, "page_size": size}),
    "paging": lambda page, size: ({}, {"paging": {"page": page, "page_size": size}}),
    "pagination": lambda page, size: (
        {},
        {"pagination": {"page": str(page), "page_size": str(size)}},
    ),
    "limit": lambda page, size: ({}, {"page": page, "limit": size}),
    "both": lambda page, size: ({"page": page, "page_size": size}, {"page": 1, "page_size": 7}),
}
"""Where deployed programs put page and size."""


class OfferFeed:
    """A site that lists offers with their links and payouts, refreshed by a timer."""

    def __init__(self, account: Account) -> None:
        self._client = httpx.Client(
            base_url=account.base,
            headers={"X-EFLOW-API-KEY": account.key, "Content-Type": "application/json"},
        )

    def everything(self) -> dict[int, str]:
        """Standing by offer: one call with a slash at its end, for all there is."""
        answer = self._client.get("/affiliates/alloffers/?page_size=-1&relationship=")
        offers = answer.json()["offers"]
        return {
            offer["network_offer_id"]: offer["relationship"]["offer_affiliate_status"]
            for offer in offers
        }

    def runnable(self, size: int) -> list[dict[str, Any]]:
        """What the site shows of each offer, in pages of `size`."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            query = {"page": page, "page_size": size, "relationship": "all"}
            answer = self._client.get("/affiliates/offersrunnable", params=query).json()
            found += [self._shown(offer) for offer in answer["offers"]]
            if len(found) >= answer["paging"]["total_count"]:
                return found
            page += 1

    @staticmethod
    def _shown(offer: dict[str, Any]) -> dict[str, Any]:
        entries = offer["relationship"]["payouts"]["entries"]
        payout = next((entry for entry in entries if entry["is_default"]), entries[0])
        return {
            "id": offer["network_offer_id"],
            "name": offer["name"],
            "link": offer["tracking_url"],
            "pays": f"{payout['payout_type'].upper()} {payout['payout_amount']}",
            "countries": [
                rule["country_code"]
                for rule in offer["relationship"]["ruleset"]["countries"]
                if rule["targeting_type"] == "include"
            ],
            "subjects": offer["relationship"]["email"]["subject_lines"].splitlines(),
        }

    def deep_links(self, offer_id: int) -> list[str]:
        """The link of an offer's own page and of each further destination."""
        offer = self._client.get(f"/affiliates/offers/{offer_id}", params={"relationship": "all"})
        ids = [
            0,
            *(e["network_offer_url_id"] for e in offer.json()["relationship"]["urls"]["entries"]),
        ]
        return [
            self._client.get(f"/affiliates/offers/{offer_id}/url/{i}").json()["url"] for i in ids
        ]

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()


class KeyCheck:
    """The settings page of an integration: is the key good, whose is it, and if not, why not?

    Three readers of the same error: one by each of the keys that programs look under.
    """

    READERS: dict[str, Callable[[dict[str, Any]], str]] = {  # noqa: RUF012 - a table
        "php": lambda body: body["Error"],
        "java": lambda body: body["error"],
        "script": lambda body: body.get("message") or "unknown",
    }

    def __init__(self, account: Account) -> None:
        self._account = account

    def who(self) -> dict[str, Any]:
        """The ids that an integration stores beside the key."""
        found: dict[str, Any] = {}
        for path in ("network", "affiliate", "settings"):
            body = self._get(f"/affiliates/{path}", {"X-Eflow-API-Key": self._account.key})[1]
            found |= {
                name: body[name]
                for name in ("network_id", "network_affiliate_id", "displayed_name", "name")
                if name in body
            }
        return found

    def complaint(self, path: str, headers: dict[str, str]) -> tuple[int, set[str]]:
        """Status, and what the three readers understand."""
        status, body = self._get(path, headers)
        return status, {read(body) for read in self.READERS.values()}

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(f"{self._account.base}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())


class Poller:
    """A dashboard that asks without restraint, and waits longer each time it is told to slow down."""

    def __init__(self, account: Account, waits: tuple[float, ...]) -> None:
        self._account = account
        self._waits = waits
        self.refused = 0

    def poll(self, times: int) -> int:
        """How many of `times` calls succeeded in the end."""
        headers = {"X-Eflow-API-Key": self._account.key}
        with httpx.Client(base_url=self._account.base, headers=headers) as client:
            return sum(self._one(client) for _ in range(times))

    def _one(self, client: httpx.Client) -> bool:
        for wait in (*self._waits, 0.0):
            answer = client.get("/affiliates/network")
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return answer.is_success
            assert int(answer.headers["X-RateLimit-Remaining"]) == 0
            self.refused += 1
            time.sleep(wait)
        return False


class Attribution:
    """Follows single clicks: by id, and by a filter on conversions with ids as text or numbers."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = httpx.Client(base_url=account.base, headers={"X-Eflow-API-Key": account.key})

    def source_of(self, transaction_id: str) -> str | None:
        """The first tag of a click; None where the platform has no such click."""
        answer = self._client.get(f"/affiliates/reporting/clicks/{transaction_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return str(answer.json()["sub1"])

    def earned(self, resource: str, value: str | int) -> Decimal:
        """Revenue of the conversions that a filter lets through."""
        answer = self._client.post(
            "/affiliates/reporting/conversions?page=1&page_size=2000",
            json={
                "from": self._account.since,
                "to": self._account.until,
                "timezone_id": self.timezone("UTC"),
                "show_conversions": True,
                "show_events": True,
                "query": {"filters": [{"resource_type": resource, "filter_id_value": value}]},
            },
        )
        rows = exactly(answer.content)["conversions"]
        return sum((Decimal(row["revenue"]) for row in rows), Decimal())

    def timezone(self, name: str) -> int:
        """The id of a time zone, looked up by its IANA name as the pages advise."""
        zones = self._client.get("/meta/timezones").json()["timezones"]
        return next(int(zone["timezone_id"]) for zone in zones if zone["timezone"] == name)

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()
