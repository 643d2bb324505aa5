"""The 99 time zones of the public API: their ids, their IANA names, how far each is off now.

Ids and zones are a contract with deployed programs and never change. Rules come from `zoneinfo`
(package `tzdata`), so that a new rule needs an update of that package only. Programs match on
the IANA name, since the display name and the offset move with daylight saving.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from shared.clock import utc
from shared.errors import InvalidError


@dataclass(frozen=True)
class Timezone:
    """One zone.

    Attributes:
        timezone_id: as in requests and profiles.
        name: the IANA name.
        standard: what people call its time.
        daylight: what they call it while daylight saving holds; empty if it has none.
    """

    timezone_id: int
    name: str
    standard: str
    daylight: str = ""

    @cached_property
    def info(self) -> ZoneInfo:
        """The zone's rules."""
        return ZoneInfo(self.name)

    def utc_offset(self, at: float) -> str:
        """How far local time is ahead of UTC at `at` (seconds, UTC), as `+HH:MM`."""
        minutes = round(self._offset(utc(at)) / timedelta(minutes=1))
        hours, minutes_left = divmod(abs(minutes), 60)
        return f"{'-' if minutes < 0 else '+'}{hours:02}:{minutes_left:02}"

    def display_name(self, at: float) -> str:
        """The zone's name for people at `at` (seconds, UTC)."""
        is_daylight = self.daylight and self._offset(utc(at)) > self._standard_offset(utc(at))
        return f"{self.daylight if is_daylight else self.standard} ({self.name})"

    def date(self, at: float) -> date:
        """The local day at `at` (seconds, UTC)."""
        return utc(at).astimezone(self.info).date()

    def seconds_ahead(self, at: int) -> int:
        """How far local time is ahead of UTC at `at` (seconds, UTC)."""
        return round(self._offset(utc(at)).total_seconds())

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.info).utcoffset() or timedelta()

    def _standard_offset(self, moment: datetime) -> timedelta:
        """The lesser of the year's two, since zones differ in which of them they call normal."""
        return min(self._offset(moment.replace(month=month, day=15)) for month in (1, 7))


def timezone_of(timezone_id: int) -> Timezone:
    """The zone with this id.

    Raises:
        InvalidError: there is none.
    """
    zone = TIMEZONES.get(timezone_id)
    if zone is None:
        raise InvalidError(
            f"timezone_id: {timezone_id} is unknown; GET /v1/meta/timezones lists the ids."
        )
    return zone


_ALL: Final = (
    Timezone(1, "Pacific/Kiritimati", "Line Islands Time"),
    Timezone(2, "Pacific/Enderbury", "Phoenix Islands Time"),
    Timezone(3, "Pacific/Tongatapu", "Tonga Standard Time"),
    Timezone(4, "Pacific/Chatham", "Chatham Standard Time", "Chatham Daylight Time"),
    Timezone(5, "Pacific/Auckland", "New Zealand Standard Time", "New Zealand Daylight Time"),
    Timezone(6, "Pacific/Fiji", "Fiji Standard Time"),
    Timezone(7, "Asia/Kamchatka", "Petropavlovsk-Kamchatski Standard Time"),
    Timezone(8, "Pacific/Norfolk", "Norfolk Island Standard Time", "Norfolk Island Daylight Time"),
    Timezone(9, "Australia/Lord_Howe", "Lord Howe Standard Time", "Lord Howe Daylight Time"),
    Timezone(10, "Pacific/Guadalcanal", "Solomon Islands Time"),
    Timezone(
        11,
        "Australia/Adelaide",
        "Australian Central Standard Time",
        "Australian Central Daylight Time",
    ),
    Timezone(
        12,
        "Australia/Sydney",
        "Australian Eastern Standard Time",
        "Australian Eastern Daylight Time",
    ),
    Timezone(13, "Australia/Brisbane", "Australian Eastern Standard Time"),
    Timezone(14, "Australia/Darwin", "Australian Central Standard Time"),
    Timezone(15, "Asia/Seoul", "Korean Standard Time"),
    Timezone(16, "Asia/Tokyo", "Japan Standard Time"),
    Timezone(17, "Asia/Hong_Kong", "Hong Kong Standard Time"),
    Timezone(18, "Asia/Kuala_Lumpur", "Malaysia Time"),
    Timezone(19, "Asia/Manila", "Philippine Standard Time"),
    Timezone(20, "Asia/Shanghai", "China Standard Time"),
    Timezone(21, "Asia/Singapore", "Singapore Standard Time"),
    Timezone(22, "Asia/Taipei", "Taipei Standard Time"),
    Timezone(23, "Australia/Perth", "Australian Western Standard Time"),
    Timezone(24, "Asia/Bangkok", "Indochina Time"),
    Timezone(25, "Asia/Ho_Chi_Minh", "Indochina Time"),
    Timezone(26, "Asia/Jakarta", "Western Indonesia Time"),
    Timezone(27, "Asia/Rangoon", "Myanmar Time"),
    Timezone(28, "Asia/Dhaka", "Bangladesh Standard Time"),
    Timezone(29, "Asia/Kathmandu", "Nepal Time"),
    Timezone(30, "Asia/Colombo", "India Standard Time"),
    Timezone(31, "Asia/Kolkata", "India Standard Time"),
    Timezone(32, "Asia/Karachi", "Pakistan Standard Time"),
    Timezone(33, "Asia/Tashkent", "Uzbekistan Standard Time"),
    Timezone(34, "Asia/Yekaterinburg", "Yekaterinburg Standard Time"),
    Timezone(35, "Asia/Kabul", "Afghanistan Time"),
    Timezone(36, "Asia/Baku", "Azerbaijan Standard Time"),
    Timezone(37, "Asia/Dubai", "Gulf Standard Time"),
    Timezone(38, "Asia/Tbilisi", "Georgia Standard Time"),
    Timezone(39, "Asia/Yerevan", "Armenia Standard Time"),
    Timezone(40, "Asia/Tehran", "Iran Standard Time"),
    Timezone(41, "Africa/Nairobi", "East Africa Time"),
    Timezone(42, "Asia/Baghdad", "Arabian Standard Time"),
    Timezone(43, "Asia/Kuwait", "Arabian Standard Time"),
    Timezone(44, "Asia/Riyadh", "Arabian Standard Time"),
    Timezone(45, "Europe/Minsk", "Moscow Standard Time"),
    Timezone(46, "Europe/Moscow", "Moscow Standard Time"),
    Timezone(47, "Africa/Cairo", "Eastern European Standard Time", "Eastern European Summer Time"),
    Timezone(48, "Asia/Beirut", "Eastern European Standard Time", "Eastern European Summer Time"),
    Timezone(49, "Asia/Jerusalem", "Israel Standard Time", "Israel Daylight Time"),
    Timezone(50, "Europe/Athens", "Eastern European Standard Time", "Eastern European Summer Time"),
    Timezone(
        51, "Europe/Bucharest", "Eastern European Standard Time", "Eastern European Summer Time"
    ),
    Timezone(
        52, "Europe/Helsinki", "Eastern European Standard Time", "Eastern European Summer Time"
    ),
    Timezone(53, "Europe/Istanbul", "Turkey Time"),
    Timezone(54, "Africa/Johannesburg", "South Africa Standard Time"),
    Timezone(
        55, "Europe/Amsterdam", "Central European Standard Time", "Central European Summer Time"
    ),
    Timezone(56, "Europe/Berlin", "Central European Standard Time", "Central European Summer Time"),
    Timezone(
        57, "Europe/Brussels", "Central European Standard Time", "Central European Summer Time"
    ),
    Timezone(58, "Europe/Paris", "Central European Standard Time", "Central European Summer Time"),
    Timezone(59, "Europe/Prague", "Central European Standard Time", "Central European Summer Time"),
    Timezone(60, "Europe/Rome", "Central European Standard Time", "Central European Summer Time"),
    Timezone(61, "Europe/Lisbon", "Western European Standard Time", "Western European Summer Time"),
    Timezone(62, "Africa/Algiers", "Central European Standard Time"),
    Timezone(63, "Europe/London", "Greenwich Mean Time", "British Summer Time"),
    Timezone(64, "Atlantic/Cape_Verde", "Cape Verde Standard Time"),
    Timezone(65, "Africa/Casablanca", "Morocco Time"),
    Timezone(66, "Europe/Dublin", "Greenwich Mean Time", "Irish Standard Time"),
    Timezone(67, "UTC", "Coordinated Universal Time"),
    Timezone(
        68, "America/Scoresbysund", "East Greenland Standard Time", "East Greenland Summer Time"
    ),
    Timezone(69, "Atlantic/Azores", "Azores Standard Time", "Azores Summer Time"),
    Timezone(70, "Atlantic/South_Georgia", "South Georgia Time"),
    Timezone(71, "America/St_Johns", "Newfoundland Standard Time", "Newfoundland Daylight Time"),
    Timezone(72, "America/Sao_Paulo", "Brasilia Standard Time"),
    Timezone(73, "America/Argentina/Buenos_Aires", "Argentina Standard Time"),
    Timezone(74, "America/Santiago", "Chile Standard Time", "Chile Summer Time"),
    Timezone(75, "America/Halifax", "Atlantic Standard Time", "Atlantic Daylight Time"),
    Timezone(76, "America/Puerto_Rico", "Atlantic Standard Time"),
    Timezone(77, "Atlantic/Bermuda", "Atlantic Standard Time", "Atlantic Daylight Time"),
    Timezone(78, "America/Caracas", "Venezuela Time"),
    Timezone(79, "America/Indiana/Indianapolis", "Eastern Standard Time", "Eastern Daylight Time"),
    Timezone(80, "America/New_York", "Eastern Standard Time", "Eastern Daylight Time"),
    Timezone(81, "America/Bogota", "Colombia Standard Time"),
    Timezone(82, "America/Lima", "Peru Standard Time"),
    Timezone(83, "America/Panama", "Eastern Standard Time"),
    Timezone(84, "America/Mexico_City", "Central Standard Time"),
    Timezone(85, "America/Chicago", "Central Standard Time", "Central Daylight Time"),
    Timezone(86, "America/El_Salvador", "Central Standard Time"),
    Timezone(87, "America/Denver", "Mountain Standard Time", "Mountain Daylight Time"),
    Timezone(88, "America/Mazatlan", "Mexican Pacific Standard Time"),
    Timezone(89, "America/Phoenix", "Mountain Standard Time"),
    Timezone(90, "America/Los_Angeles", "Pacific Standard Time", "Pacific Daylight Time"),
    Timezone(91, "America/Tijuana", "Pacific Standard Time", "Pacific Daylight Time"),
    Timezone(92, "Pacific/Pitcairn", "Pitcairn Time"),
    Timezone(93, "America/Anchorage", "Alaska Standard Time", "Alaska Daylight Time"),
    Timezone(94, "Pacific/Gambier", "Gambier Time"),
    Timezone(95, "America/Adak", "Hawaii-Aleutian Standard Time", "Hawaii-Aleutian Daylight Time"),
    Timezone(96, "Pacific/Marquesas", "Marquesas Time"),
    Timezone(97, "Pacific/Honolulu", "Hawaii-Aleutian Standard Time"),
    Timezone(98, "Pacific/Niue", "Niue Time"),
    Timezone(99, "Pacific/Pago_Pago", "Samoa Standard Time"),
)

TIMEZONES: Final[Mapping[int, Timezone]] = MappingProxyType(
    {zone.timezone_id: zone for zone in _ALL}
)
"""Every zone by its id, ascending."""
