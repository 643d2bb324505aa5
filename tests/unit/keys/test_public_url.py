"""Protects links on their way: they begin with an address that nobody in between can read."""

import pytest
from pydantic import ValidationError

from services.keys.config import KeysSettings

OTHERS = {"identity_secrets": "x" * 16, "jwt_jwks": "jwks.json", "master_key": "k"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/partners/", "https://api.example.com/partners"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_kept_without_its_last_slash(given, kept):
    """Https anywhere; http for the machine itself."""
    assert KeysSettings(public_url=given, **OTHERS).public_url == kept


@pytest.mark.parametrize(
    "given",
    [
        "http://api.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "https://",
        "api.example.com",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        "https://user:password@api.example.com",
        "javascript:alert(1)",
        "",
    ],
)
def test_another_address_ends_the_start_and_says_what_it_needs(given):
    """Before any link could be made with it."""
    with pytest.raises(ValidationError, match="needs https:// and a host"):
        KeysSettings(public_url=given, **OTHERS)
