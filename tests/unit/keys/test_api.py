"""Protects the contract of the API: its routes, its documented shapes, and its schema's borrowings."""

import importlib.resources
from typing import Any

import pytest

from services.keys import api, edge, wire
from services.keys.access import api as access_api
from services.keys.access import wire as access_wire
from services.keys.access.domain import Access
from shared import outbox, routes, sinks
from shared.errors import NotFoundError
from shared.events import NetworkState
from tests.keys_parts import KEY, NOW


def document() -> dict[str, Any]:
    return api.described().openapi()


def test_the_service_serves_its_rows_of_the_route_table():
    """No more, no less; without a database, a Kafka or a token issuer."""
    served = {
        (method.upper(), path)
        for path, methods in document()["paths"].items()
        for method in methods
    }
    assert served == {(row.method, row.template) for row in routes.of_service("keys")}


def test_every_route_documents_its_success_and_its_refusals():
    """Each with a schema; all may be forbidden. Visitors of links get pages, and send no JSON."""
    for path, methods in document()["paths"].items():
        is_page = path.startswith("/v1/shares/")
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            usual = {"401", "403", "404", "503"} if is_page else {"400", "401", "403", "503"}
            assert usual <= statuses, (method, path)
            assert statuses & {"200", "201"}, (method, path)
            for status in statuses - {"422"}:
                kind = "text/html" if is_page and status != "401" else "application/json"
                assert operation["responses"][status]["content"][kind]["schema"], (path, status)


def test_answers_have_the_documented_shape():
    """Closed models: a member too many or too few fails."""
    row = edge.key_row(KEY, NOW)
    wire.KeyRow(**row)
    wire.ShownKey(**row, key="aff_x", propagated=True)
    access = Access(network_id=1, network_affiliate_id=7, held_by_staff=True)
    access_wire.Firehose(**access_api.firehose_row(access), propagated=False)
    access_wire.Suspension(**access_api.suspension_row(access), propagated=False)
    access_wire.ChangedBudgets(
        **access_api.budgets_row(NetworkState(network_id=1, version=1)), propagated=True
    )


def test_a_row_shows_no_secret():
    """Neither sealed nor as digest."""
    shown = repr(edge.key_row(KEY, NOW))
    assert KEY.digest not in shown
    assert "sealed" not in shown


@pytest.mark.parametrize(
    "text", ["nope", "key_", "key_0123456789ABCDEF0123", "key_" + "0" * 21, "key_\x00"]
)
def test_an_id_that_cannot_exist_finds_nothing(text: str):
    """It is answered like any unknown one, and never reaches the database."""
    with pytest.raises(NotFoundError):
        edge.key_id_of(text)
    assert edge.key_id_of(wire.KEY_ID) == wire.KEY_ID


def test_the_migration_holds_what_the_patterns_ask_for():
    """Word for word, so that a change of theirs is noticed here."""
    sql = (
        importlib.resources.files("services.keys.migrations").joinpath("0001_keys.sql").read_text()
    )
    assert outbox.SCHEMA_SQL in sql
    assert sinks.OFFSETS_DDL.strip() in sql
