"""Protects the lists that standards decide: their ids never change with a release of the source."""

from services.reporting.meta import world

# A few of each, with the numbers and names that programs have stored.
COUNTRIES = {
    "US": (840, "United States"),
    "DE": (276, "Germany"),
    "GB": (826, "United Kingdom"),
    "BR": (76, "Brazil"),
    "AF": (4, "Afghanistan"),
    "XK": (983, "Kosovo"),
}
CURRENCIES = {"USD": "US Dollar", "EUR": "Euro", "JPY": "Japanese Yen"}
LANGUAGES = {"en": (118, "English"), "de": (83, "German"), "aa": (1, "Afar"), "zu": (671, "Zulu")}


def test_countries_have_their_numbers_and_names() -> None:
    """Around 250, each once; unions and test regions are none."""
    found = {code: (number, name) for number, code, name in world.countries()}
    assert {code: found[code] for code in COUNTRIES} == COUNTRIES
    assert len({number for number, _ in found.values()}) == len(found)
    assert 245 <= len(found) <= 260
    assert not {"EU", "UN", "ZZ", "XA"} & set(found)


def test_countries_are_found_by_code() -> None:
    """0 for a code that is none, as every unset id."""
    assert (world.country_id("US"), world.country_id(""), world.country_id("ZZ")) == (840, 0, 0)


def test_currencies_are_those_in_use() -> None:
    """No Deutsche Mark, no gold."""
    found = dict(world.currencies())
    assert {code: found[code] for code in CURRENCIES} == CURRENCIES
    assert not {"DEM", "XAU", "XTS"} & set(found)
    assert list(found) == sorted(found)
    assert 145 <= len(found) <= 165


def test_languages_have_ids_of_their_letters() -> None:
    """So that they stay the same whatever languages are added."""
    found = {code: (number, name) for number, code, name in world.languages()}
    assert {code: found[code] for code in LANGUAGES} == LANGUAGES
    assert len({number for number, _ in found.values()}) == len(found)
