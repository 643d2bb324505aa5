"""The one table of REST routes: the gateway routes by it, and each service serves exactly its rows.

A template names variable segments in braces: `/v1/affiliates/reporting/clicks/{transaction_id}`.
Authentication is `key` (a partner key of the row's realm), `jwt` (the owning service verifies a
token) or `none`. A `granular` row's body is read by the gateway to see whether it draws on the
hourly budget, unless it always does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

Authentication = Literal["key", "jwt", "none"]
ServiceName = Literal["keys", "reporting", "audit", "firehose"]


@dataclass(frozen=True)
class Route:
    """One row.

    Attributes:
        method: HTTP method.
        template: path with variable segments in braces.
        service: which service owns it.
        authentication: who may call it.
        realm: the key realm it needs; `any` takes a key of every realm.
        granular: whether its body decides if it draws on the hourly budget, or it always does.
    """

    method: str
    template: str
    service: ServiceName
    authentication: Authentication = "key"
    realm: Literal["affiliate", "any", "none"] = "affiliate"
    granular: bool | Literal["always"] = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a path of this row, with or without the trailing slash that some clients send."""
        parts = re.split(r"\{(\w+)\}", self.template)
        text = "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
        return re.compile(text + "/?")


def _staff(method: str, template: str) -> Route:
    return Route(method, template, "keys", authentication="jwt", realm="none")


def _visitor(method: str, template: str) -> Route:
    return Route(method, template, "keys", authentication="none", realm="none")


def _operator(method: str, template: str) -> Route:
    return Route(method, template, "audit", authentication="jwt", realm="none")


ROUTES: Final[tuple[Route, ...]] = (
    *(
        Route("POST", f"/v1/affiliates/reporting/{report}", "reporting", granular=True)
        for report in ("entity/table", "entity", "entity/table/export", "entity/stream", "daily")
    ),
    Route("POST", "/v1/affiliates/reporting/offer", "reporting"),
    Route("POST", "/v1/affiliates/reporting/referrals", "reporting"),
    *(
        Route("POST", f"/v1/affiliates/dashboard/{card}", "reporting")
        for card in (
            "summary",
            "performance",
            "trending/offers",
            "trending/offers/{offer_id}",
        )
    ),
    Route("POST", "/v1/affiliates/reporting/sub/{sub_id}", "reporting", granular="always"),
    Route("POST", "/v1/affiliates/reporting/conversions", "reporting", granular=True),
    Route("POST", "/v1/affiliates/reporting/conversions/export", "reporting", granular=True),
    Route("GET", "/v1/affiliates/reporting/conversions/{conversion_id}", "reporting"),
    Route("POST", "/v1/affiliates/reporting/postconversions", "reporting", granular=True),
    Route("POST", "/v1/affiliates/reporting/onhold", "reporting", granular=True),
    Route("GET", "/v1/affiliates/reporting/onhold/{hold_id}", "reporting"),
    Route("POST", "/v1/affiliates/reporting/clicks", "reporting", granular=True),
    Route("POST", "/v1/affiliates/reporting/clicks/stream", "reporting", granular=True),
    Route("GET", "/v1/affiliates/reporting/clicks/{transaction_id}", "reporting"),
    Route("GET", "/v1/affiliates/reporting/changes", "reporting"),
    Route("POST", "/v1/affiliates/reporting/exports", "reporting", granular=True),
    Route("GET", "/v1/affiliates/reporting/exports", "reporting"),
    Route("GET", "/v1/affiliates/reporting/exports/{export_id}", "reporting"),
    Route("DELETE", "/v1/affiliates/reporting/exports/{export_id}", "reporting"),
    Route("GET", "/v1/affiliates/reporting/exports/{export_id}/download", "reporting"),
    Route("GET", "/v1/affiliates/offersrunnable", "reporting"),
    Route("GET", "/v1/affiliates/alloffers", "reporting"),
    Route("GET", "/v1/affiliates/offers", "reporting"),
    Route("GET", "/v1/affiliates/offers/{offer_id}", "reporting"),
    Route("GET", "/v1/affiliates/offers/{offer_id}/url/{url_id}", "reporting"),
    Route("GET", "/v1/affiliates/offers/{offer_id}/impressionurl/{url_id}", "reporting"),
    Route("GET", "/v1/affiliates/affiliate", "reporting"),
    Route("GET", "/v1/affiliates/network", "reporting"),
    Route("GET", "/v1/affiliates/settings", "reporting"),
    *(
        Route("GET", f"/v1/meta/{plural}", "reporting", realm="any")
        for plural in (
            "timezones",
            "countries",
            "regions",
            "cities",
            "dmas",
            "mobilecarriers",
            "browsers",
            "platforms",
            "osversions",
            "devices",
            "connectiontypes",
            "currencies",
            "browserlanguages",
        )
    ),
    Route("GET", "/v1/firehose/stream", "firehose"),
    _staff("POST", "/v1/networks/affiliates/{affiliate_id}/apikeys"),
    _staff("GET", "/v1/networks/affiliates/{affiliate_id}/apikeys"),
    _staff("GET", "/v1/networks/apikeys"),
    _staff("GET", "/v1/networks/apikeys/export"),
    _staff("GET", "/v1/networks/apikeys/{key_id}"),
    _staff("POST", "/v1/networks/apikey"),
    _staff("POST", "/v1/networks/apikeys/{key_id}/reveal"),
    _staff("POST", "/v1/networks/apikeys/{key_id}/rotate"),
    _staff("POST", "/v1/networks/apikeys/{key_id}/revoke"),
    _staff("PUT", "/v1/networks/apikeys/{key_id}/allowlist"),
    _staff("PUT", "/v1/networks/apikeys/{key_id}/expiry"),
    _staff("PUT", "/v1/networks/affiliates/{affiliate_id}/firehose"),
    _staff("PUT", "/v1/networks/affiliates/{affiliate_id}/suspension"),
    _staff("POST", "/v1/networks/apikeys/{key_id}/shares"),
    _staff("GET", "/v1/networks/apikeys/{key_id}/shares"),
    _staff("DELETE", "/v1/networks/apikeys/{key_id}/shares/{share_id}"),
    _visitor("GET", "/v1/shares/{token}"),
    _visitor("POST", "/v1/shares/{token}"),
    _staff("GET", "/v1/partner/apikeys"),
    _staff("GET", "/v1/networks/budgets"),
    _staff("PUT", "/v1/networks/budgets"),
    _operator("GET", "/v1/audit/entries"),
    _operator("GET", "/v1/audit/stream"),
    _operator("GET", "/v1/audit/verify"),
    _operator("GET", "/v1/audit/anomalies"),
)


class RouteTable:
    """Finds the row of a request: literal templates by one look-up, the others by pattern."""

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        routes = tuple(routes)
        self._literal = {
            (route.method, route.template): route for route in routes if "{" not in route.template
        }
        self._variable = [route for route in routes if "{" in route.template]

    def find(self, method: str, path: str) -> Route | None:
        """The row that serves `method` on `path`, or None."""
        trimmed = path[:-1] if len(path) > 1 and path.endswith("/") else path
        literal = self._literal.get((method, trimmed))
        if literal is not None:
            return literal
        for route in self._variable:
            if route.method == method and route.pattern.fullmatch(trimmed):
                return route
        return None

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods that some row serves on `path`, sorted; empty for an unknown path."""
        return tuple(
            sorted(
                method
                for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
                if self.find(method, path) is not None
            )
        )


def of_service(service: ServiceName) -> tuple[Route, ...]:
    """The rows that `service` serves."""
    return tuple(route for route in ROUTES if route.service == service)
