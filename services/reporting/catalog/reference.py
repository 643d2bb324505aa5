"""What the reference says of the query parameters, which `search` reads as deployed programs send.

They are described here rather than declared in the routes, since a declared number would refuse an
empty one.
"""

from typing import Any, Final

from services.reporting.catalog.search import NUMBERS, WORDS


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": description,
    }


_RELATIONSHIP: Final = _parameter(
    "relationship",
    {"type": "array", "items": {"type": "string"}},
    "Repeated, separated by commas, or `all`. An offer has all its related things in any case.",
)
OFFERS: Final[dict[str, Any]] = {
    "parameters": [
        _parameter("page", {"type": "integer"}, "1-based; 1 if absent or less."),
        _parameter(
            "page_size",
            {"type": "integer"},
            "50 if absent or 0; 2,000 if negative or more. The answer echoes it.",
        ),
        _parameter(
            "filter",
            {"type": "array", "items": {"type": "string"}, "examples": [["time_saved>1767225600"]]},
            "`<field><operator><value>`, repeated to combine, all must hold. "
            f"{', '.join(f'`{name}`' for name in NUMBERS)} take `=`, `>` and `<`, "
            f"{', '.join(f'`{name}`' for name in WORDS)} take `=`. Other fields are refused.",
        ),
        _parameter("search", {"type": "string"}, "Part of the name in any case, or the id."),
        _RELATIONSHIP,
    ]
}
RELATED: Final[dict[str, Any]] = {"parameters": [_RELATIONSHIP]}
AFFILIATE: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "relationship",
            {"type": "array", "items": {"type": "string"}},
            "`account_manager`, `encoded_value`, `reporting`: repeated, separated by commas, or "
            "`all`. What is not asked for is not in the answer.",
        )
    ]
}
