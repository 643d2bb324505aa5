"""What the route of referrals takes and answers, for the generated OpenAPI document."""

from typing import Any, Final

import msgspec

from services.reporting.asking.schemas import INTERVAL, NUMBER, TEXT, Schema, body, object_schema
from services.reporting.referrals.domain import SHOWN
from shared import events

_COUNT: Final[Schema] = {"type": "integer"}
_PAGE: Final[Schema] = {
    "page": _COUNT | {"description": "From 1; the query string's wins."},
    "page_size": _COUNT | {"description": "50 unless given, at most 2,000; likewise."},
}
_MEANINGS: Final = {
    "referral_history_id": "Names this amount, also in your invoices' lines.",
    "referred_affiliate_name": "Empty where the network does not tell it.",
    "commission_percentage": "By which the amount was reckoned; 0 of a flat one.",
    "amount": "In `currency_id`; negative where one was taken back.",
    "unix_timestamp": "When it was earned.",
}


def _row() -> Schema:
    _, components = msgspec.json.schema_components([events.Referral], ref_template="{name}")
    types = components[events.Referral.__name__]["properties"]
    described = {name: {"description": text} for name, text in _MEANINGS.items()}
    kept = ("type", "enum")
    return object_schema(
        {
            name: {key: types[name][key] for key in kept if key in types[name]}
            | described.get(name, {})
            for name in SHOWN
        },
        *SHOWN,
    )


_TOTAL: Final[Schema] = {"currency_id": TEXT, "status": TEXT, "count": _COUNT, "amount": NUMBER}
_PAGING: Final[Schema] = {"page": _COUNT, "page_size": _COUNT, "total_count": _COUNT}
REFERRALS: Final = object_schema(
    {
        "referrals": {"type": "array", "items": _row()},
        "totals": {"type": "array", "items": object_schema(_TOTAL, *_TOTAL)},
        "paging": object_schema(_PAGING, *_PAGING),
    },
    "referrals",
    "totals",
    "paging",
)
_IGNORED: Final[Schema] = {
    "currency_id": TEXT | {"description": "Ignored: each amount has its own currency."}
}
BODY: Final[dict[str, Any]] = body(
    object_schema(INTERVAL | _IGNORED | _PAGE, "from", "to", "timezone_id"),
    {"from": "2026-11-01", "to": "2026-11-07", "timezone_id": 67},
) | {
    "parameters": [
        {"name": name, "in": "query", "schema": _COUNT, "description": "Wins over the body's."}
        for name in _PAGE
    ]
}
EXAMPLE: Final[dict[str, Any]] = {
    "referrals": [
        {
            "referral_history_id": 8801,
            "network_id": 3,
            "referred_network_affiliate_id": 12,
            "referred_affiliate_name": "Bright Search",
            "status": "approved",
            "commission_type": "percentage",
            "commission_percentage": 5,
            "amount": 12.35,
            "currency_id": "USD",
            "unix_timestamp": 1_793_620_800,
            "time_created": 1_793_707_200,
            "time_saved": 1_793_707_200,
        }
    ],
    "totals": [{"currency_id": "USD", "status": "approved", "count": 1, "amount": 12.35}],
    "paging": {"page": 1, "page_size": 50, "total_count": 1},
}
