"""The shapes of the lists of reference."""

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Closed: an answer has these members and no other."""

    model_config = ConfigDict(extra="forbid")


class Timezone(Model):
    """A time zone; match on `timezone`, since name and offset move with daylight saving."""

    timezone_id: int = Field(examples=[80])
    timezone_name: str = Field(examples=["Eastern Standard Time (America/New_York)"])
    timezone: str = Field(examples=["America/New_York"])
    utc_offset: str = Field(examples=["-05:00"])


class Timezones(Model):
    """All time zones by their id."""

    timezones: list[Timezone]


class Country(Model):
    """A country; the id is its number in ISO 3166."""

    country_id: int = Field(examples=[840])
    country_code: str = Field(examples=["US"])
    label: str = Field(examples=["United States"])


class Countries(Model):
    """All countries by name."""

    countries: list[Country]


class Currency(Model):
    """A currency that is tender somewhere; the id is its code in ISO 4217."""

    currency_id: str = Field(examples=["USD"])
    label: str = Field(examples=["US Dollar"])


class Currencies(Model):
    """All currencies by id."""

    currencies: list[Currency]


class Language(Model):
    """A language that browsers ask for."""

    browser_language_id: int = Field(examples=[118])
    language_code: str = Field(examples=["en"])
    label: str = Field(examples=["English"])


class Languages(Model):
    """All languages by name."""

    browser_languages: list[Language]


class Region(Model):
    """A region, as your traffic's tracker calls it."""

    label: str = Field(examples=["Texas"])
    country_code: str = Field(examples=["US"])
    country_id: int = Field(examples=[840])


class Regions(Model):
    """Regions of your traffic."""

    regions: list[Region]


class City(Model):
    """A city, as your traffic's tracker calls it."""

    label: str = Field(examples=["Austin"])
    region: str = Field(examples=["Texas"])
    country_code: str = Field(examples=["US"])
    country_id: int = Field(examples=[840])


class Cities(Model):
    """Cities of your traffic."""

    cities: list[City]


class Dma(Model):
    """A market area of the United States."""

    dma_id: int = Field(examples=[635])
    label: str = Field(examples=["Austin"])


class Dmas(Model):
    """Market areas of your traffic."""

    dmas: list[Dma]


class Carrier(Model):
    """A mobile carrier, as your traffic's tracker calls it."""

    label: str = Field(examples=["Sierra Wireless"])
    country_code: str = Field(examples=["US"])
    country_id: int = Field(examples=[840])


class Carriers(Model):
    """Mobile carriers of your traffic."""

    mobile_carriers: list[Carrier]


class Named(Model):
    """A thing by its name alone."""

    label: str = Field(examples=["Chrome"])


class Browsers(Model):
    """Browsers of your traffic."""

    browsers: list[Named]


class Platforms(Model):
    """Operating systems of your traffic."""

    platforms: list[Named]


class ConnectionTypes(Model):
    """Kinds of connection of your traffic."""

    connection_types: list[Named]


class OsVersion(Model):
    """A version of an operating system."""

    label: str = Field(examples=["18.6"])
    platform: str = Field(examples=["iOS"])


class OsVersions(Model):
    """Versions of operating systems of your traffic."""

    os_versions: list[OsVersion]


class Device(Model):
    """A device; the label is its model."""

    label: str = Field(examples=["iPhone"])
    brand: str = Field(examples=["Apple"])
    device_type: str = Field(examples=["Mobile"])


class Devices(Model):
    """Devices of your traffic."""

    devices: list[Device]
