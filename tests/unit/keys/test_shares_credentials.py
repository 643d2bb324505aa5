"""Protects what opens a link: it cannot be guessed, and is kept nowhere in clear."""

import hashlib
import logging

import pytest
from pydantic import SecretStr, ValidationError

from services.keys.shares import wire
from services.keys.shares.credentials import Passphrases, ShareToken


def test_a_token_has_256_random_bits_and_is_found_by_its_digest():
    """43 characters of base64url; no two alike."""
    tokens = [ShareToken.generate() for _ in range(100)]
    assert len({token.reveal() for token in tokens}) == 100
    for token in tokens:
        assert token.is_well_formed
        assert len(token.reveal()) == 43
        assert token.digest == hashlib.sha256(token.reveal().encode()).hexdigest()


@pytest.mark.parametrize("text", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "\x00"])
def test_what_is_no_token_is_seen_without_a_look_up(text):
    """Wrong length or alphabet."""
    assert not ShareToken(text).is_well_formed


def test_printing_or_logging_a_token_shows_nothing_of_it(caplog):
    """By its type, wherever it ends up."""
    token = ShareToken.generate()
    logging.getLogger("test").warning("%s %r %s", token, token, [token], extra={"token": token})
    seen = caplog.text + repr(vars(caplog.records[0]))
    assert "ShareToken(…)" in seen
    assert token.reveal()[:8] not in seen


async def test_a_passphrase_is_kept_salted_and_only_it_fits():
    """Two keeps of one differ; composed otherwise or with white space around, it is the same."""
    async with Passphrases().turn() as hashing:
        first = await hashing.sealed(SecretStr("crème brûlée"))
        second = await hashing.sealed(SecretStr("crème brûlée"))
        assert first != second
        assert "crème".encode() not in first
        assert await hashing.fits(first, SecretStr(" cre\u0300me bru\u0302le\u0301e\n"))
        assert await hashing.fits(second, SecretStr("crème brûlée"))
        assert not await hashing.fits(first, SecretStr("creme brulee"))
        assert not await hashing.fits(first, SecretStr(""))


@pytest.mark.parametrize("text", ["short", " " * 20, "short   \t ", "x" * 201])
def test_a_passphrase_has_8_to_200_characters(text):
    """White space around does not count; the message does not repeat it."""
    with pytest.raises(ValidationError) as refused:
        wire.MakeShare(passphrase=text)
    assert "passphrase" in str(refused.value)
    assert wire.MakeShare(passphrase="eight ch").passphrase.get_secret_value() == "eight ch"


@pytest.mark.parametrize("seconds", [59, 604_801, -1, 0])
def test_a_link_lives_a_minute_to_seven_days(seconds):
    """A day unless said otherwise."""
    with pytest.raises(ValidationError, match="expires_in_seconds"):
        wire.MakeShare(expires_in_seconds=seconds)
    assert wire.MakeShare().expires_in_seconds == 86_400
    assert wire.MakeShare(expires_in_seconds=60).expires_in_seconds == 60
