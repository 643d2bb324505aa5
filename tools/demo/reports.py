"""Acts about numbers: what a partner is shown equals the ledger of what was sent."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import httpx

from shared.clock import utc
from tools.demo.record import check, until
from tools.demo.stage import Key, Stage, exact

TABLE: Final = "/v1/affiliates/reporting/entity/table"
CONVERSIONS: Final = "/v1/affiliates/reporting/conversions"
UTC_ZONE: Final = 67
DAY: Final = 86_400
HISTORY_DAYS: Final = 9
"""The history's week, with room for time zones and a run over midnight."""
PAGE: Final = 40
EARNING: Final = "approved"
METRICS: Final = (
    ("imp", "impressions"),
    ("total_click", "clicks"),
    ("unique_click", "unique_clicks"),
    ("duplicate_click", "duplicate_clicks"),
    ("invalid_click", "invalid_clicks"),
    ("revenue", "revenue"),
)
CLASSES: Final = (("cv", "base"), ("event", "event"), ("view_through_cv", "view_through"))
HELD: Final = ("on_hold_conversion_count", "on_hold_potential_revenue")


def period(stage: Stage) -> dict[str, Any]:
    """Bounds that hold everything the simulator sends, as a report's body has them."""
    now = stage.clock.time()
    return {
        "from": f"{utc(now - HISTORY_DAYS * DAY):%Y-%m-%d}",
        "to": f"{utc(now + DAY):%Y-%m-%d}",
        "timezone_id": UTC_ZONE,
    }


async def report_equals_ledger(stage: Stage) -> str:
    """Every metric of every offer, and the sums over tags and days, agree to the last digit."""
    paused = await stage.simulator.post("/pause")
    through = paused.json()["now"]
    told = [await _compared(stage, stage.key(name), through) for name in ("first", "second")]
    stage.record.figures.report_equals_ledger = True
    return "; ".join(told)


async def _compared(stage: Stage, key: Key, through: float) -> str:
    truth = await stage.truth("totals", **key.owner)
    by_offer = await _table(stage, key, "offer", through)
    for offer in truth["offers"]:
        row = by_offer.pop(str(offer["network_offer_id"]), None)
        check(row is not None, f"offer {offer['network_offer_id']} is missing in the report")
        _same(row or {}, offer, f"offer {offer['network_offer_id']}")
    check(not by_offer, f"the report shows offers that the ledger lacks: {list(by_offer)}")
    for column in ("sub1", "date"):
        rows = (await _table(stage, key, column, through)).values()
        names = [name for name, _ in (*METRICS, *CLASSES)] + list(HELD)
        _same({name: sum(row[name] for row in rows) for name in names}, truth, f"by {column}")
    return (
        f"partner {key.partner_id}: {truth['clicks']} clicks, {truth['impressions']} impressions, "
        f"{_currency(key)} {truth['revenue']} earned over {len(truth['offers'])} offers"
    )


async def _table(stage: Stage, key: Key, column: str, through: float) -> dict[str, dict[str, Any]]:
    """The report's metrics by the column's id, once it holds everything up to `through`."""
    body = period(stage) | {"currency_id": _currency(key), "columns": [{"column": column}]}

    async def complete() -> httpx.Response | None:
        answer = await stage.gateway.post(TABLE, json=body, headers=key.headers)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # rates are being read
            return None
        check(answer.is_success, f"report by {column}: {answer.status_code} {answer.text}")
        return answer if _data_through(answer) >= through else None

    found = exact(await until(stage.clock, "the report to hold what was sent", complete))
    check(not found["incomplete_results"], "the report was cut")
    return {row["columns"][0]["id"]: row["reporting"] for row in found["table"]}


def _currency(key: Key) -> str:
    return {201: "USD", 202: "EUR"}[key.network_id]


def _data_through(answer: httpx.Response) -> float:
    return datetime.fromisoformat(answer.headers["x-data-through"]).timestamp()


def _same(shown: dict[str, Any], truth: dict[str, Any], about: str) -> None:
    """One row of a report against what the ledger says of the same records."""
    earning = truth["conversions"].get(EARNING, {})
    wanted = {name: Decimal(truth[field]) for name, field in METRICS}
    wanted |= {name: Decimal(earning.get(field, 0)) for name, field in CLASSES}
    held = sum(truth["conversions"].get("on_hold", {}).values())
    amount = truth["revenue_by_status"].get("on_hold", 0)
    wanted |= dict(zip(HELD, (Decimal(held), Decimal(amount)), strict=True))
    differing = {
        name: f"shown {shown.get(name)}, sent {amount}"
        for name, amount in wanted.items()
        if shown.get(name) != amount
    }
    check(not differing, f"{about}: {differing}")


async def conversions_equal_ledger(stage: Stage) -> str:
    """Page by page, by number and by cursor: the approved conversions, each once, to the cent."""
    key = stage.key("first")
    rows = (await stage.truth("events", **key.owner, rows_max=50_000))["events"]
    wanted = {row["id"]: Decimal(row["revenue"]) for row in _current(rows)}
    for way in (_by_number, _by_cursor):
        found = await way(stage, key)
        check(len(found) == len({row["conversion_id"] for row in found}), "a row came twice")
        shown = {row["conversion_id"]: Decimal(row["revenue"]) for row in found}
        missing, surplus = wanted.keys() - shown.keys(), shown.keys() - wanted.keys()
        told = f"{len(missing)} missing, {len(surplus)} too many ({way.__name__})"
        check(not missing and not surplus, told)
        check(shown == wanted, "amounts differ")
        check(not {"status", "payout"} & found[0].keys(), "a row shows what partners may not see")
    return f"{len(wanted)} conversions in pages of {PAGE}, each with the amount that was sent"


def _current(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversions that stand approved at their highest version."""
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["kind"] == "conversions":
            held = newest.get(row["id"])
            if held is None or row["version"] > held["version"]:
                newest[row["id"]] = row
    return [row for row in newest.values() if row["status"] == EARNING]


async def _by_number(stage: Stage, key: Key) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        answer = await _page(stage, key, {"page": page, "page_size": PAGE})
        found += answer["conversions"]
        if len(answer["conversions"]) < PAGE:
            check(answer["paging"]["total_count"] == len(found), "total_count differs from rows")
            return found
        page += 1


async def _by_cursor(stage: Stage, key: Key) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    where: dict[str, str | int] = {"page_size": PAGE}
    while True:
        answer = await _page(stage, key, where)
        found += answer["conversions"]
        cursor = answer["paging"].get("next_cursor")
        if not cursor:
            return found
        where = {"page_size": PAGE, "cursor": cursor}


async def _page(stage: Stage, key: Key, where: dict[str, str | int]) -> dict[str, Any]:
    body = period(stage) | {"show_conversions": True, "show_events": True}
    answer = await stage.gateway.post(CONVERSIONS, json=body, params=where, headers=key.headers)
    check(answer.is_success, f"conversions {where}: {answer.status_code} {answer.text}")
    page: dict[str, Any] = exact(answer)
    return page
