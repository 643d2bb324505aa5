"""Protects what a service copies from the outbox: its tables must be those the relay works on."""

from pathlib import Path

from shared.outbox import SCHEMA_SQL

SERVICES = Path(__file__).parents[3] / "services"


def test_a_migration_that_makes_an_outbox_makes_it_word_for_word():
    """A column left out of one service's copy would stop its relay on the day of release."""
    made = [
        text
        for file in SERVICES.glob("*/migrations/*.sql")
        if "CREATE TABLE outbox " in (text := file.read_text())
    ]
    assert made
    assert all(SCHEMA_SQL in text for text in made)
