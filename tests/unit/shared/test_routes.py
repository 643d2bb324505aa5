"""Protects the order of checks: a path is known or unknown before anybody is authenticated."""

import pytest

from shared.routes import ROUTES, Route, RouteTable, of_service

TABLE = RouteTable()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_every_row_is_found_by_its_own_path(route: Route):
    """Each row can be reached, with and without a trailing slash."""
    path = route.template.replace("{", "").replace("}", "")
    assert TABLE.find(route.method, path) == route
    assert TABLE.find(route.method, path + "/") == route


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/v1",
        "/v1/affiliates/reporting/clicks/",
        "/v1/affiliates/reporting/clicks/a/b",
        "/v1/affiliates/offersrunnable//",
        "/v1/affiliates/Network",
        "/v1/affiliates/../networks/budgets",
    ],
)
def test_other_paths_are_unknown(path):
    """Nothing is guessed from a path that no row has."""
    assert TABLE.find("GET", path) is None


def test_another_method_is_not_the_same_row():
    """A known path says which methods it takes."""
    assert TABLE.find("GET", "/v1/affiliates/reporting/conversions") is None
    assert TABLE.methods("/v1/affiliates/reporting/conversions") == ("POST",)
    assert TABLE.methods("/v1/networks/budgets") == ("GET", "PUT")
    assert TABLE.methods("/v1/unknown") == ()


def test_rows_are_unique():
    """Two rows for one request would make the owner a matter of order."""
    assert len({(route.method, route.template) for route in ROUTES}) == len(ROUTES)


def test_staff_and_operator_rows_need_a_token():
    """A partner key opens nothing outside the partner realm."""
    for route in ROUTES:
        inside = route.template.startswith(("/v1/networks/", "/v1/partner/", "/v1/audit/"))
        assert (route.authentication == "jwt") == inside, route
        is_link = route.template == "/v1/shares/{token}"
        assert (route.authentication == "none") == is_link, route
    assert {route.service for route in ROUTES} == {"keys", "reporting", "audit", "firehose"}
    assert all(route.service == "keys" for route in of_service("keys"))
