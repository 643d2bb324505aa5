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

    total: int = Field(examples=[1])
    entries: list[M]


class Category(Model):
    """What kind of offer it is."""

    network_category_id: int = Field(examples=[4])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Shoes"])
    status: str = Field(examples=["active"])
    time_created: int = Field(examples=[1_767_225_600])
    time_saved: int = Field(examples=[1_767_312_000])


class Channel(Model):
    """A way of promotion that the offer is for."""

    network_channel_id: int = Field(examples=[2])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Email"])
    status: str = Field(examples=["active"])
    time_created: int = Field(examples=[1_767_225_600])
    time_saved: int = Field(examples=[1_767_312_000])


class Creative(Model):
    """A banner or text to promote the offer with."""

    network_offer_creative_id: int = Field(examples=[61])
    network_offer_id: int = Field(examples=[70])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Banner 300x250"])
    creative_type: str = Field(examples=["image"])
    creative_status: str = Field(examples=["active"])
    resource_url: str = Field(examples=["https://shoes.example/banners/300x250.png"])
    html_code: str = Field(examples=[""])
    width: int = Field(examples=[300])
    height: int = Field(examples=[250])


class CreativeBundle(Model):
    """All creatives in one file."""

    url: str = Field(examples=["https://shoes.example/creatives.zip"])


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

    network_id: int = Field(examples=[3])
    network_offer_id: int = Field(examples=[70])
    custom_setting_status: str = Field(examples=["active"])
    is_custom_payout_enabled: bool
    currency_id: str = Field(examples=["USD"])


class Url(Model):
    """A further destination of the offer."""

    network_offer_url_id: int = Field(examples=[4])
    name: str = Field(examples=["Sandals"])
    preview_url: str = Field(examples=["https://shoes.example/sandals"])


class Rule(Model):
    """Visitors the offer is for, or not for."""

    label: str = Field(examples=["Chrome"])
    targeting_type: Literal["include", "exclude"]
    match_type: str = Field(examples=["exact"])


class CountryRule(Rule):
    """Countries the offer is for, or not for; ids as in `/v1/meta/countries`."""

    label: str = Field(examples=["United States"])
    country_id: int = Field(examples=[840])
    country_code: str = Field(examples=["US"])


class RegionRule(Rule):
    """Regions the offer is for, or not for."""

    label: str = Field(examples=["Texas"])
    region_code: str = Field(examples=["TX"])


class Ruleset(Model):
    """Whom the offer is for; empty lists mean everybody."""

    countries: list[CountryRule]
    regions: list[RegionRule]
    cities: list[Rule]
    dmas: list[Rule]
    platforms: list[Rule]
    device_types: list[Rule]
    os_versions: list[Rule]
    browsers: list[Rule]
    languages: list[Rule]
    mobile_carriers: list[Rule]
    connection_types: list[Rule]


class Email(Model):
    """What a mailing may say, one line each; empty where the network says nothing."""

    from_lines: str = Field(examples=["Spring Shoes\nThe Shoe People"])
    subject_lines: str = Field(examples=["New for spring\nFree returns"])


class EmailOptout(Model):
    """Who must not be mailed, and where readers opt out."""

    suppression_file_link: str = Field(examples=["https://optout.example/70.zip"])
    unsub_link: str = Field(examples=["https://optout.example/70"])


class OfferRelationship(Model):
    """What belongs to an offer."""

    offer_affiliate_status: Literal[
        "public", "require_approval", "pending", "approved", "rejected"
    ] = Field(description="How you stand with the offer.")
    blocked_variables_count: int = Field(examples=[0])
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
    email: Email
    email_optout: EmailOptout


class Offer(Model):
    """An offer as you see it."""

    network_offer_id: int = Field(examples=[70])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Spring Shoes"])
    offer_status: Literal["active", "paused", "pending", "deleted"]
    visibility: Literal["public", "require_approval", "private"]
    currency_id: str = Field(examples=["USD"])
    thumbnail_url: str = Field(examples=["https://shoes.example/thumbnail.png"])
    preview_url: str = Field(examples=["https://shoes.example/"])
    html_description: str = Field(examples=["<p>Shoes for spring.</p>"])
    is_description_plain_text: bool
    tracking_url: str = Field(
        description=(
            "Your own link; empty while you may not run the offer. With direct linking it is the "
            "advertiser's page itself, with `_ef_transaction_id`, `oid` and `affid`."
        ),
        examples=["https://go.network.example/9W598/2CTPL/"],
    )
    redirect_tracking_url: str = Field(
        description="The link through the network's redirect, also with direct linking.",
        examples=["https://go.network.example/9W598/2CTPL/"],
    )
    impression_tracking_url: str = Field(
        description="Empty when impressions are not in use.",
        examples=["https://go.network.example/i/9W598/2CTPL/"],
    )
    network_tracking_domain_id: int = Field(examples=[1])
    is_caps_enabled: bool = Field(description="If false, no cap holds.")
    caps_timezone_id: int = Field(examples=[80])
    daily_conversion_cap: int = Field(examples=[500], description="0 for none, as with every cap.")
    weekly_conversion_cap: int = Field(examples=[0])
    monthly_conversion_cap: int = Field(examples=[0])
    global_conversion_cap: int = Field(examples=[0])
    daily_click_cap: int = Field(examples=[0])
    weekly_click_cap: int = Field(examples=[0])
    monthly_click_cap: int = Field(examples=[0])
    global_click_cap: int = Field(examples=[0])
    daily_payout_cap: float = Field(examples=[0])
    weekly_payout_cap: float = Field(examples=[0])
    monthly_payout_cap: float = Field(examples=[25000.5])
    global_payout_cap: float = Field(examples=[0])
    is_using_explicit_terms_and_conditions: bool
    is_force_terms_and_conditions: bool
    terms_and_conditions: str = Field(examples=["No bidding on the brand's name."])
    is_use_direct_linking: bool
    is_using_suppression_list: bool
    suppression_list_id: int = Field(examples=[0])
    app_identifier: str = Field(examples=[""])
    date_live_until: str = Field(examples=[""])
    time_created: int = Field(examples=[1_767_225_600])
    time_saved: int = Field(examples=[1_767_312_000])
    network_category_id: int = Field(examples=[4])
    relationship: OfferRelationship


class OffersPage(Model):
    """Offers by ascending `network_offer_id`."""

    offers: list[Offer]
    paging: Paging


class Network(Model):
    """The network you work with."""

    network_id: int = Field(examples=[3])
    displayed_name: str = Field(examples=["Northwind Partners"])
    logo_image_url: str = Field(examples=["https://network.example/logo.png"])
    favicon_image_url: str = Field(examples=["https://network.example/favicon.png"])
    language_id: int = Field(examples=[1])
    timezone_id: int = Field(examples=[67])
    currency_id: str = Field(examples=["USD"])


class AccountManager(Model):
    """Whom at the network you turn to."""

    first_name: str = Field(examples=["Noor"])
    last_name: str = Field(examples=["Haddad"])
    email: str = Field(examples=["noor.haddad@network.example"])
    work_phone: str = Field(examples=["+1 555 0100"])
    cell_phone: str = Field(examples=[""])
    instant_messaging_id: int = Field(examples=[0])
    instant_messaging_identifier: str = Field(examples=[""])


class AffiliateRelationship(BaseModel):
    """What was asked for by `relationship`, and nothing else."""

    account_manager: AccountManager | None = None
    encoded_value: str | None = Field(None, examples=["9W598"], description="Your link code.")
    reporting: dict[str, float] | None = Field(
        None,
        description=(
            "Every metric of reports, of today so far: your own time zone's day, amounts in your "
            "currency."
        ),
        examples=[{"total_click": 46, "cv": 5, "cvr": 10.87, "revenue": 31.25}],
    )


class Affiliate(Model):
    """You, as the network knows you."""

    network_affiliate_id: int = Field(examples=[9])
    network_id: int = Field(examples=[3])
    name: str = Field(examples=["Cedar Coupons"])
    account_status: Literal["active", "inactive", "pending", "suspended"]
    default_currency_id: str = Field(examples=["USD"])
    timezone_id: int = Field(examples=[80])
    time_created: int = Field(examples=[1_767_225_600])
    time_saved: int = Field(examples=[1_767_225_600])
    relationship: AffiliateRelationship


class Settings(Model):
    """What your answers and your network's days go by."""

    network_affiliate_id: int = Field(examples=[9])
    network_id: int = Field(examples=[3])
    timezone_id: int = Field(examples=[80])
    currency_id: str = Field(examples=["USD"])
    language_id: int = Field(examples=[1])
    reporting_timezone_id: int = Field(examples=[67], description="The network's own.")
    network_currency_id: str = Field(examples=["USD"])


class Link(Model):
    """A link to give to visitors."""

    url: str = Field(examples=["https://go.network.example/9W598/2CTPL/?uid=4"])
