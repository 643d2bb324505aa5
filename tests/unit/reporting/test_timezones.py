"""Protects the table of time zones: deployed programs hold its ids and match on its names."""

from datetime import UTC, datetime

import pytest

from services.reporting.timezones import TIMEZONES, timezone_of
from shared.errors import InvalidError

JANUARY = datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()
JULY = datetime(2026, 7, 15, 12, tzinfo=UTC).timestamp()


def test_the_table_has_the_99_ids_in_order_and_each_zone_once() -> None:
    """A hole or a repeated zone would make a deployed program read another zone's days."""
    assert list(TIMEZONES) == list(range(1, 100))
    assert len({zone.name for zone in TIMEZONES.values()}) == 99


@pytest.mark.parametrize("zone", TIMEZONES.values(), ids=lambda zone: zone.name)
def test_zoneinfo_knows_each_zone_and_agrees_on_its_offset(zone) -> None:
    """The text of the offset says what the zone's own rules say, in winter and in summer."""
    for moment in (JANUARY, JULY):
        local = datetime.fromtimestamp(moment, UTC).astimezone(zone.info)
        text = local.isoformat()[-6:]
        assert zone.utc_offset(moment) == text


@pytest.mark.parametrize("zone", TIMEZONES.values(), ids=lambda zone: zone.name)
def test_a_zone_has_a_daylight_name_exactly_if_its_clocks_change(zone) -> None:
    """The display name may move with the offset, and only then."""
    changes = zone.utc_offset(JANUARY) != zone.utc_offset(JULY)
    assert bool(zone.daylight) == changes
    assert (zone.display_name(JANUARY) != zone.display_name(JULY)) == changes


@pytest.mark.parametrize(
    ("timezone_id", "name", "january", "july"),
    [
        (1, "Pacific/Kiritimati", "+14:00", "+14:00"),
        (4, "Pacific/Chatham", "+13:45", "+12:45"),
        (29, "Asia/Kathmandu", "+05:45", "+05:45"),
        (63, "Europe/London", "+00:00", "+01:00"),
        (66, "Europe/Dublin", "+00:00", "+01:00"),
        (67, "UTC", "+00:00", "+00:00"),
        (71, "America/St_Johns", "-03:30", "-02:30"),
        (80, "America/New_York", "-05:00", "-04:00"),
        (96, "Pacific/Marquesas", "-09:30", "-09:30"),
        (99, "Pacific/Pago_Pago", "-11:00", "-11:00"),
    ],
)
def test_well_known_zones_have_their_ids_and_offsets(timezone_id, name, january, july) -> None:
    """Spot checks against what everybody knows, half hours and the southern summer included."""
    zone = timezone_of(timezone_id)
    assert (zone.name, zone.utc_offset(JANUARY), zone.utc_offset(JULY)) == (name, january, july)


@pytest.mark.parametrize(
    ("timezone_id", "january", "july"),
    [
        (12, "Australian Eastern Daylight Time", "Australian Eastern Standard Time"),
        (66, "Greenwich Mean Time", "Irish Standard Time"),
        (80, "Eastern Standard Time", "Eastern Daylight Time"),
    ],
)
def test_the_display_name_follows_daylight_saving(timezone_id, january, july) -> None:
    """Whichever half of the year is summer, and whichever time the country calls standard."""
    zone = timezone_of(timezone_id)
    assert zone.display_name(JANUARY) == f"{january} ({zone.name})"
    assert zone.display_name(JULY) == f"{july} ({zone.name})"


def test_the_offset_changes_in_the_very_second_the_clocks_do() -> None:
    """New York left daylight saving on 1 November 2026 at 06:00 UTC."""
    change = datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp()
    zone = timezone_of(80)
    assert zone.utc_offset(change - 1) == "-04:00"
    assert zone.utc_offset(change) == "-05:00"


@pytest.mark.parametrize("timezone_id", [-1, 0, 100, 2**63])
def test_an_unknown_id_is_refused_with_where_to_look(timezone_id) -> None:
    """The message names the id and the list of ids."""
    with pytest.raises(InvalidError, match=rf"{timezone_id} is unknown.*/v1/meta/timezones"):
        timezone_of(timezone_id)
