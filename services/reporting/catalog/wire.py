"""The shapes of the catalog's answers: what is not named here, no partner sees.

They document the answers (OpenAPI) and list the fields that `domain` takes from an event. Money is
whole currency units; times are seconds, UTC; 0, "" and [] stand for what is not set.
"""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Closed: an answer has these members and no other."""

    model_config = ConfigDict(extra="forbid")


M = TypeVar("M", bound=Model)


class Paging(Model):
    """Which rows an answer holds."""

    page: int = Field(examples=[1])
    page_size: int = Field(examples=[50])
    total_count: int = Field(examples=[2])


class Collection(Model, Generic[M]):
    """Related things."""

    total: int
    entries: list[M]


class Category(Model):
    """What kind of offer it is."""

    network_category_id: int
    network_id: int
    name: str
    status: str
    time_created: int
    time_saved: int


class Channel(Model):
    """A way of promotion that the offer is for."""

    network_channel_id: int
    network_id: int
    name: str
    status: str
    time_created: int
    time_saved: int


class Creative(Model):
    """A banner or text to promote the offer with."""

    network_offer_creative_id: int
    network_offer_id: int
    network_id: int
    name: str
    creative_type: str
    creative_status: str
    resource_url: str
    html_code: str
    width: int
    height: int


class CreativeBundle(Model):
    """All creatives in one file."""

    url: str


class Payout(Model):
    """What one kind of conversion pays."""

    network_offer_payout_revenue_id: int = Field(examples=[701])
    entry_name: str = Field(examples=["Base"])
    is_default: bool
    payout_type: str = Field(examples=["cpa"])
    payout_amount: float = Field(examples=[25.996])
    payout_percentage: float = Field(examples=[0])


class CustomPayout(Payout):
    """What it pays this partner instead."""

    network_id: int
    network_offer_id: int
    custom_setting_status: str = Field(examples=["active"])
    is_custom_payout_enabled: bool
    currency_id: str = Field(examples=["USD"])


class Url(Model):
    """A further destination of the offer."""

    network_offer_url_id: int
    name: str
    preview_url: str


class Rule(Model):
    """Visitors the offer is for, or not for."""

    label: str
    targeting_type: Literal["include", "exclude"]


class Ruleset(Model):
    """Whom the offer is for; empty lists mean everybody."""

    countries: list[Rule]
    regions: list[Rule]
    cities: list[Rule]
    dmas: list[Rule]
    platforms: list[Rule]
    device_types: list[Rule]
    os_versions: list[Rule]
    browsers: list[Rule]
    languages: list[Rule]
    mobile_carriers: list[Rule]
    connection_types: list[Rule]


class OfferRelationship(Model):
    """What belongs to an offer."""

    offer_affiliate_status: Literal[
        "public", "require_approval", "pending", "approved", "rejected"
    ] = Field(description="How you stand with the offer.")
    blocked_variables_count: int
    category: Category
    channels: Collection[Channel]
    creatives: Collection[Creative]
    creative_bundle: CreativeBundle
    payouts: Collection[Payout]
    custom_payout_settings: Collection[CustomPayout] = Field(
        description="What the offer pays you instead of its payouts."
    )
    urls: Collection[Url]
    ruleset: Ruleset


class Offer(Model):
    """An offer that you may run."""

    network_offer_id: int = Field(examples=[70])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Spring Shoes"])
    offer_status: Literal["active", "paused", "pending", "deleted"]
    visibility: Literal["public", "require_approval", "private"]
    currency_id: str = Field(examples=["USD"])
    thumbnail_url: str
    preview_url: str
    html_description: str
    is_description_plain_text: bool
    tracking_url: str = Field(
        description="Your own link, as the network published it.",
        examples=["https://go.network.example/9W598/2CTPL/"],
    )
    redirect_tracking_url: str
    impression_tracking_url: str = Field(description="Empty when impressions are not in use.")
    network_tracking_domain_id: int
    is_caps_enabled: bool = Field(description="If false, no cap holds.")
    caps_timezone_id: int
    daily_conversion_cap: int = Field(description="0 for none, as with every cap.")
    weekly_conversion_cap: int
    monthly_conversion_cap: int
    global_conversion_cap: int
    daily_click_cap: int
    weekly_click_cap: int
    monthly_click_cap: int
    global_click_cap: int
    daily_payout_cap: float
    weekly_payout_cap: float
    monthly_payout_cap: float
    global_payout_cap: float
    is_using_explicit_terms_and_conditions: bool
    is_force_terms_and_conditions: bool
    terms_and_conditions: str
    is_use_direct_linking: bool
    is_using_suppression_list: bool
    suppression_list_id: int
    app_identifier: str
    date_live_until: str
    time_created: int
    time_saved: int
    network_category_id: int
    relationship: OfferRelationship


class OffersPage(Model):
    """Offers by ascending `network_offer_id`."""

    offers: list[Offer]
    paging: Paging


class Network(Model):
    """The network you work with."""

    network_id: int = Field(examples=[3])
    displayed_name: str = Field(examples=["Northwind Partners"])
    logo_image_url: str
    favicon_image_url: str
    language_id: int = Field(examples=[1])
    timezone_id: int = Field(examples=[67])
    currency_id: str = Field(examples=["USD"])


class Timezone(Model):
    """A time zone; match on `timezone`, since name and offset move with daylight saving."""

    timezone_id: int = Field(examples=[80])
    timezone_name: str = Field(examples=["Eastern Standard Time (America/New_York)"])
    timezone: str = Field(examples=["America/New_York"])
    utc_offset: str = Field(examples=["-05:00"])


class Timezones(Model):
    """All time zones by their id."""

    timezones: list[Timezone]
