"""Protects the look of a partner key, and that it never shows by accident."""

import logging
import re

from hypothesis import given
from hypothesis import strategies as st

from shared.partner_key import (
    ALPHABET,
    LENGTH,
    PartnerKey,
    generate,
    is_well_formed,
    mask_of,
    masked_in,
)

PUBLISHED_PATTERN = re.compile(r"aff_[0-9A-Za-z]{33}")


def test_generated_keys_have_the_published_look():
    """A secret scanner finds every key by the published pattern, and no two are the same."""
    keys = {generate().reveal() for _ in range(500)}
    assert len(keys) == 500
    assert all(PUBLISHED_PATTERN.fullmatch(key) and is_well_formed(key) for key in keys)


@given(st.integers(4, LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_typing_error_is_found_without_a_look_up(position, letter):
    """The check digits catch every single wrong letter."""
    key = generate().reveal()
    wrong = key[:position] + letter + key[position + 1 :]
    assert is_well_formed(wrong) == (wrong == key)


@given(st.text(max_size=60))
def test_any_other_text_is_no_key(text):
    """Malformed input is an answer, not an error."""
    assert not is_well_formed(text)


def test_printing_and_logging_a_key_shows_its_mask(caplog):
    """The secret leaves the type by `reveal` alone."""
    key = generate()
    with caplog.at_level(logging.INFO):
        logging.getLogger("x").info("issued %s %r", key, key, extra={"key": key})
    shown = f"{key} {key!r} {[key]} {caplog.text} {vars(caplog.records[0])}"
    assert key.reveal() not in shown
    assert key.masked in shown
    assert mask_of(key.reveal()) == key.masked == f"aff_…{key.reveal()[-4:]}"


def test_a_key_pasted_among_words_is_masked():
    """Wherever it stands; whatever is no key stays as it was written."""
    key, other = generate(), generate()
    text = f"was posted:{key.reveal()}, then {other.reveal()}x aff_short"
    assert masked_in(text) == f"was posted:{key.masked}, then {other.masked}x aff_short"


def test_equal_keys_are_equal():
    """By value, without telling by timing."""
    key = generate()
    assert key == PartnerKey(key.reveal())
    assert key != generate()
    assert key.digest == PartnerKey(key.reveal()).digest
