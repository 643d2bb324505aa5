"""Who clicks: places, devices and pages, in the proportions of a middling campaign.

Addresses are of the ranges kept for documentation; hosts end in `.example`.
"""

from dataclasses import dataclass
from typing import Final

from shared.events import DeviceInformation, Geolocation


@dataclass(frozen=True, slots=True)
class Device:
    """What a visitor uses, as a click shows it and as a browser says it."""

    information: DeviceInformation
    user_agent: str


def _place(
    country: tuple[str, str],
    region: tuple[str, str],
    city: tuple[str, str],
    zone: str,
    provider: str,
    *,
    dma: tuple[int, str] = (0, ""),
) -> Geolocation:
    return Geolocation(
        country_code=country[0],
        country_name=country[1],
        region_code=region[0],
        region_name=region[1],
        city_name=city[0],
        dma=dma[0],
        dma_name=dma[1],
        timezone=zone,
        carrier_name="",
        isp_name=provider,
        organization=provider,
        postal_code=city[1],
    )


def _mobile_place(place: Geolocation, carrier: str, code: int) -> Geolocation:
    names = {name: getattr(place, name) for name in place.__struct_fields__}
    return Geolocation(**names | {"carrier_name": carrier, "carrier_code": code, "is_mobile": True})


_US: Final = ("US", "United States")
_DE: Final = ("DE", "Germany")
_GB: Final = ("GB", "United Kingdom")
_BOSTON: Final = _place(
    _US,
    ("MA", "Massachusetts"),
    ("Boston", "02110"),
    "America/New_York",
    "Bay Cable",
    dma=(506, "Boston"),
)
_AUSTIN: Final = _place(
    _US,
    ("TX", "Texas"),
    ("Austin", "73301"),
    "America/Chicago",
    "Lone Star Fiber",
    dma=(635, "Austin"),
)
_FRESNO: Final = _place(
    _US,
    ("CA", "California"),
    ("Fresno", "93650"),
    "America/Los_Angeles",
    "Valley Net",
    dma=(866, "Fresno"),
)
_BERLIN: Final = _place(
    _DE, ("BE", "Berlin"), ("Berlin", "10115"), "Europe/Berlin", "Spree Telekom"
)
_MUNICH: Final = _place(_DE, ("BY", "Bavaria"), ("Munich", "80331"), "Europe/Berlin", "Isarnetz")
_LEEDS: Final = _place(_GB, ("ENG", "England"), ("Leeds", "LS1"), "Europe/London", "Aire Broadband")
_LYON: Final = _place(
    ("FR", "France"),
    ("ARA", "Auvergne-Rhône-Alpes"),
    ("Lyon", "69001"),
    "Europe/Paris",
    "Rhône Net",
)
_RECIFE: Final = _place(
    ("BR", "Brazil"), ("PE", "Pernambuco"), ("Recife", "50000"), "America/Recife", "Capibaribe"
)

PLACES: Final = {
    _BOSTON: 14,
    _AUSTIN: 11,
    _FRESNO: 10,
    _mobile_place(_BOSTON, "Harbor Mobile", 310_410): 12,
    _mobile_place(_FRESNO, "Sierra Wireless", 310_260): 8,
    _BERLIN: 9,
    _MUNICH: 6,
    _mobile_place(_BERLIN, "Spree Mobil", 262_010): 7,
    _LEEDS: 8,
    _mobile_place(_LEEDS, "Pennine", 234_100): 4,
    _LYON: 6,
    _RECIFE: 5,
}
"""Places with their weights."""


def _device(
    kind: str, system: tuple[str, str], make: tuple[str, str], browser: tuple[str, str]
) -> Device:
    mobile = kind == "Mobile"
    return Device(
        DeviceInformation(
            is_mobile=mobile,
            is_tablet=kind == "Tablet",
            platform_name=system[0],
            os_version=system[1],
            brand=make[0],
            model=make[1],
            browser_name=browser[0],
            browser_version=browser[1],
            device_type=kind,
            language="English",
            http_accept_language="en-US,en;q=0.8",
        ),
        f"Mozilla/5.0 ({system[0]} {system[1]}; {make[0]} {make[1]}) {browser[0]}/{browser[1]}",
    )


DEVICES: Final = {
    _device("PC", ("Windows", "11"), ("Desktop", "Emulator"), ("Chrome", "141.0")): 26,
    _device("PC", ("Windows", "10"), ("Desktop", "Emulator"), ("Edge", "140.0")): 12,
    _device("PC", ("macOS", "15.6"), ("Apple", "Macintosh"), ("Safari", "18.6")): 11,
    _device("PC", ("Linux", "6.12"), ("Desktop", "Emulator"), ("Firefox", "143.0")): 4,
    _device("Mobile", ("iOS", "18.6"), ("Apple", "iPhone"), ("Mobile Safari", "18.6")): 22,
    _device("Mobile", ("Android", "16"), ("Google", "Pixel 9"), ("Chrome Mobile", "141.0")): 10,
    _device("Mobile", ("Android", "15"), ("Samsung", "SM-S921"), ("Chrome Mobile", "140.0")): 11,
    _device("Tablet", ("iPadOS", "18.6"), ("Apple", "iPad"), ("Mobile Safari", "18.6")): 4,
}
"""Devices with their weights."""

PAGES: Final = {
    "": 30,
    "deals.weekly.example": 22,
    "blog.thrift.example": 16,
    "search.finder.example": 20,
    "video.clips.example": 12,
}
"""Where visitors come from, with weights; empty: no referrer."""

CHANNELS: Final = {
    "newsletter": 10,
    "search-brand": 18,
    "search-generic": 22,
    "social-video": 20,
    "display": 12,
    "": 8,
    "coupon-page": 10,
}
"""What partners put into their first tag, with weights."""

REFUSALS: Final = {
    (4, "INVALID_PLATFORM"): 10,
    (9, "INVALID_COUNTRY"): 45,
    (14, "BLOCKED_TRAFFIC"): 10,
    (23, "PROXY_BLOCK"): 35,
}
"""Why a click may be refused, with weights."""
