"""Ten million clicks in minutes: made by ClickHouse itself, and the same rows for the baselines.

Everything about a click follows from its number by a hash, so that each run measures the same rows.
Network 1 holds thirty days up to today: half of the clicks are partner 1's, 5,000 are the small
partner's, the rest 200 others'; and a fiftieth as many conversions. Network 2 holds as many clicks
of one partner over a year.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.reporting.facts import tables

BIG, SMALL, OTHERS, YEARLY = 1, 999, 200, 1
SMALL_CLICKS: Final = 5_000
NETWORK, YEAR_NETWORK = 1, 2
DAY: Final = 86_400
BLOCK: Final = 500_000

_COUNTRIES = (
    "['Germany','United States','Brazil','France','United Kingdom','India','Japan','Spain']"
)
_CODES = "['DE','US','BR','FR','GB','IN','JP','ES']"
_RANDOM = ", ".join(f"cityHash64(number, {{network}}, {i}) AS h{i}" for i in range(1, 7))
_OFFER = "tuple(1 + h4 % 50, {network}, concat('Offer number ', toString(1 + h4 % 50)), '', 0)"

_CLICKS = f"""
INSERT INTO clicks (_offset, network_id, network_affiliate_id, transaction_id, unix_timestamp, sub1,
    sub2, sub3, source_id, revenue_type, currency_id, tracking_url, referer, user_ip, is_unique,
    error_code, relationship)
SELECT number, {{network}}, {{partner}}, lower(hex(sipHash128(number, {{network}}))),
    toUInt32({{end}} - 1 - intDiv(number * {{seconds}}, {{rows}})),
    concat('campaign-', toString(h2 % 240)), concat('placement-', toString(h3 % 400)),
    lower(hex(h4)), concat('source-', toString(h5 % 30)), 'cpa', 'USD', 'track.example.test',
    concat('https://blog-', toString(h5 % 50), '.example.test/'),
    concat('203.0.', toString(h5 % 256), '.', toString(h4 % 256)), h3 % 10 < 8, h6 % 100 = 0,
    tuple({_OFFER},
        tuple({_CODES}[1 + h5 % 8], {_COUNTRIES}[1 + h5 % 8], '', '', concat('City ',
            toString(h2 % 200)), 0, '', 'Europe/Berlin', '', 0, concat('Carrier ',
            toString(h3 % 20)), '', '', h3 % 2, 0),
        tuple(0, ['Desktop','iOS','Android'][1 + h2 % 3], concat(toString(9 + h2 % 9), '.',
            toString(h3 % 5)), '', '', 0, ['Firefox','Chrome','Safari'][1 + h3 % 3], '',
            ['PC','Mobile','Tablet'][1 + h2 % 3], 'en-US', '', 0, 0),
        map('gclid', lower(hex(h5))))
FROM (SELECT number, {_RANDOM} FROM numbers({{first}}, {{count}}))
"""
_CONVERSIONS = f"""
INSERT INTO conversions (_offset, network_id, network_affiliate_id, transaction_id, conversion_id,
    version, status, conversion_unix_timestamp, click_unix_timestamp, sub1, sub3, revenue_type,
    revenue, currency_id, event, country, country_code, device_type, relationship)
SELECT number, {{network}}, {{partner}}, lower(hex(sipHash128(number * 50, {{network}}))),
    lower(hex(sipHash128(number, 77))), 1, ['approved','pending','rejected'][1 + h6 % 3],
    toUInt32({{end}} - 1 - intDiv(number * {{seconds}}, {{rows}})), toUInt32({{end}} - 1
        - intDiv(number * {{seconds}}, {{rows}})), concat('campaign-', toString(h2 % 240)),
    lower(hex(h4)), 'cpa', toDecimal64(h3 % 5000, 6) / 100, 'USD', 'Base',
    {_COUNTRIES}[1 + h5 % 8], {_CODES}[1 + h5 % 8], ['PC','Mobile','Tablet'][1 + h2 % 3],
    tuple({_OFFER}, 1)
FROM (SELECT number, {_RANDOM} FROM numbers({{first}}, {{count}}))
"""
_MIXED = (
    f"multiIf(number % intDiv({{rows}}, {SMALL_CLICKS}) = 0, {SMALL},"
    f" h1 % 2 = 0, {BIG}, 2 + h1 % {OTHERS})"
)

FLAT: Final = {
    "clicks": "SELECT network_id, network_affiliate_id AS partner_id, unix_timestamp AS ts,"
    " relationship.offer.network_offer_id AS offer_id, relationship.offer.name AS offer_name,"
    " relationship.geolocation.country_name AS country,"
    " relationship.device_information.device_type AS device, sub1, sub3,"
    " is_unique, error_code FROM clicks WHERE network_id = 1",
    "conversions": "SELECT network_id, network_affiliate_id AS partner_id,"
    " conversion_unix_timestamp AS ts, relationship.offer.network_offer_id AS offer_id,"
    " relationship.offer.name AS offer_name, country, device_type AS device, sub1, sub3,"
    " toString(status) AS status, revenue FROM conversions WHERE network_id = 1",
}
"""What the reports that are compared need of a row: the baselines carry no more than that."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to make.

    Attributes:
        rows: clicks of each network.
        end: the second behind the last one, a midnight UTC.
    """

    rows: int
    end: int

    @property
    def conversions(self) -> int:
        """Conversions of network 1."""
        return self.rows // 50

    @property
    def begin(self) -> int:
        """The first second of network 1."""
        return self.end - 30 * DAY


def make(client: Any, load: Load) -> None:
    """Make tables and rows in the database of `client`, and merge them."""
    for statement in tables.statements():
        client.command(statement)
    month = {"network": NETWORK, "partner": _MIXED, "seconds": 30 * DAY, "end": load.end}
    year = {"network": YEAR_NETWORK, "partner": YEARLY, "seconds": 364 * DAY, "end": load.end}
    _fill(client, _CLICKS, load.rows, month)
    _fill(client, _CLICKS, load.rows, year)
    _fill(client, _CONVERSIONS, load.conversions, month | {"partner": f"if(h1 % 2 = 0, {BIG}, 2)"})
    for table in (tables.CLICKS, tables.CONVERSIONS):
        client.command(f"OPTIMIZE TABLE {table} FINAL")


def _fill(client: Any, statement: str, rows: int, values: dict[str, Any]) -> None:
    sizes = {"max_insert_block_size": BLOCK, "min_insert_block_size_rows": BLOCK}
    for first in range(0, rows, BLOCK):
        part = values | {"rows": rows, "first": first, "count": min(BLOCK, rows - first)}
        part["partner"] = str(part["partner"]).format(rows=rows)
        client.command(statement.format(**part), settings=sizes | {"max_threads": 2})


def bytes_per_click(client: Any) -> float:
    """What a click takes on disk, once merged, with its index."""
    [(found,)] = client.query(
        "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts"
        " WHERE active AND table = 'clicks' AND database = currentDatabase()"
    ).result_rows
    return float(found)


def some_click_ids(client: Any) -> list[str]:
    """A hundred of the big partner's clicks, from anywhere in the month."""
    found = client.query(
        "SELECT toString(transaction_id) FROM clicks WHERE network_id = 1"
        f" AND network_affiliate_id = {BIG} ORDER BY cityHash64(transaction_id) LIMIT 100"
    )
    return [row[0] for row in found.result_rows]


def export(client: Any, folder: Path) -> None:
    """Write the rows that the baselines read, in the order of the fact tables."""
    for table, select in FLAT.items():
        target = folder / f"{table}.parquet"
        client.command(f"INSERT INTO FUNCTION file('{target}', 'Parquet') {select}")
