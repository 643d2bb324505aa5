"""Every event of the platform: its schema, its CloudEvents envelope, and the check on entry.

Records are CloudEvents 1.0 in Kafka binary mode: attributes in headers, a JSON value. A value is
decoded against its Struct **once**, where it enters a projection, a replica or a tail; a record
that fails is refused there with the place and the reason. Unknown fields are refused too, since a
tracking record reaches partners as the bytes it came in: what no schema names, no partner may see.
(So a new field is added to its schema, and released, before anybody produces it.)

Units: `*_unix_timestamp` and `unix_timestamp` are whole seconds, UTC; `*_at` are seconds, UTC, with
fraction; money is a JSON number in whole currency units with at most six decimals.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from shared.clock import rfc3339
from shared.errors import InvalidError

Id = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
"""A number that names a thing of the network (network, partner, offer)."""
OptionalId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""As `Id`; 0 where there is none."""
HexId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
"""32 lower-case hexadecimal digits: transactions and conversions."""
Version = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
"""Grows with every change of the same thing; a lower one never replaces a higher one."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""Whole seconds since the epoch, UTC."""
Text = Annotated[str, msgspec.Meta(max_length=600)]
"""Free text of a partner or a browser; the public API allows 600 characters."""
LongText = Annotated[str, msgspec.Meta(max_length=4096)]
Document = Annotated[str, msgspec.Meta(max_length=262_144)]
"""HTML, terms, lists of lines."""
Money = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
"""Whole currency units. Doubles carry the 15 digits of ±10⁹ with six decimals exactly."""
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", max_length=3)]
"""ISO 4217."""
Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]
"""0 or 1 (clicks only; elsewhere booleans are booleans)."""
Small = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every value on the log."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A nested object of an event."""


# --- tracking -------------------------------------------------------------------------------------


class OfferReference(Part, frozen=True, kw_only=True):
    """The offer a record belongs to, as the public API shows it beside each row."""

    network_offer_id: Id
    network_id: Id
    name: Text
    offer_status: Text = "active"
    network_tracking_domain_id: OptionalId = 0


class Geolocation(Part, frozen=True, kw_only=True):
    """Where the visitor was."""

    country_code: Text = ""
    country_name: Text = ""
    region_code: Text = ""
    region_name: Text = ""
    city_name: Text = ""
    dma: Small = 0
    dma_name: Text = ""
    timezone: Text = ""
    carrier_name: Text = ""
    carrier_code: Small = 0
    isp_name: Text = ""
    organization: Text = ""
    postal_code: Text = ""
    is_mobile: bool = False
    is_proxy: bool = False


class DeviceInformation(Part, frozen=True, kw_only=True):
    """What the visitor used."""

    is_mobile: bool = False
    platform_name: Text = ""
    os_version: Text = ""
    brand: Text = ""
    model: Text = ""
    is_tablet: bool = False
    browser_name: Text = ""
    browser_version: Text = ""
    device_type: Text = ""
    language: Text = ""
    http_accept_language: Text = ""
    is_robot: bool = False
    is_filter: bool = False


class TrafficRelationship(Part, frozen=True, kw_only=True):
    """The related data of a click or an impression."""

    offer: OfferReference
    geolocation: Geolocation = Geolocation()
    device_information: DeviceInformation = DeviceInformation()
    query_parameters: dict[Text, LongText] = {}


class _Tracked(Event, frozen=True, kw_only=True):
    """What clicks, impressions and conversions have in common."""

    network_id: Id
    network_affiliate_id: Id
    transaction_id: HexId
    sub1: Text = ""
    sub2: Text = ""
    sub3: Text = ""
    sub4: Text = ""
    sub5: Text = ""
    source_id: Text = ""
    revenue_type: Text = ""
    revenue: Money = 0.0
    currency_id: Currency
    coupon_code: Text = ""
    idfa: Text = ""
    idfa_md5: Text = ""
    idfa_sha1: Text = ""
    google_ad_id: Text = ""
    google_ad_id_md5: Text = ""
    google_ad_id_sha1: Text = ""
    android_id: Text = ""
    android_id_md5: Text = ""
    android_id_sha1: Text = ""
    creative: Text = ""
    offer_url: Text = ""
    tracking_domain: Text = ""
    connection_type: Text = ""

    def __post_init__(self) -> None:
        """Refuse amounts finer than six decimals: a store would cut them silently."""
        if self.revenue:  # most have none, and this is asked of each
            _six_decimals("revenue", self.revenue)


class _Traffic(_Tracked, frozen=True, kw_only=True):
    """What clicks and impressions have in common."""

    unix_timestamp: Seconds
    tracking_url: Text = ""
    referer: LongText = ""
    user_ip: Text = ""
    relationship: TrafficRelationship


class Click(_Traffic, frozen=True, kw_only=True):
    """One click on a partner's tracking link (topic `tracking.clicks.v1`)."""

    is_unique: Flag
    error_code: Small = 0
    error_message: Text = "N/A"
    is_redirect_traffic: bool = False


class Impression(_Traffic, frozen=True, kw_only=True):
    """One display of a partner's creative (topic `tracking.impressions.v1`)."""


ConversionStatus = Literal["approved", "pending", "rejected", "invalid", "on_hold"]


class Hold(Part, frozen=True, kw_only=True):
    """A conversion's time in the waiting room."""

    on_hold_conversion_id: HexId
    holding_period_end: Seconds
    status: Literal["on_hold", "approved", "rejected"]


class ConversionRelationship(Part, frozen=True, kw_only=True):
    """The related data of a conversion."""

    offer: OfferReference
    events_count: Small = 0


class Conversion(_Tracked, frozen=True, kw_only=True):
    """One conversion or event, as it is at `version` (topic `tracking.conversions.v1`).

    A change of status or amount is the conversion again with a higher `version`; the time of an id
    never changes. Place and device are copied from the click.
    """

    conversion_id: HexId
    version: Version
    status: ConversionStatus
    is_scrub: bool = False
    hold: Hold | None = None
    conversion_unix_timestamp: Seconds
    click_unix_timestamp: Seconds = 0
    sale_amount: Money = 0.0
    is_event: bool = False
    event: Text = "Base"
    is_view_through: bool = False
    is_redirect_traffic: bool = False
    order_id: Text = ""
    session_user_ip: Text = ""
    conversion_user_ip: Text = ""
    http_user_agent: LongText = ""
    referer: LongText = ""
    app_id: Text = ""
    adv1: Text = ""
    adv2: Text = ""
    adv3: Text = ""
    adv4: Text = ""
    adv5: Text = ""
    country: Text = ""
    country_code: Text = ""
    region: Text = ""
    city: Text = ""
    dma: Small = 0
    carrier: Text = ""
    isp: Text = ""
    platform: Text = ""
    os_version: Text = ""
    device_type: Text = ""
    device_model: Text = ""
    brand: Text = ""
    browser: Text = ""
    language: Text = ""
    relationship: ConversionRelationship

    def __post_init__(self) -> None:
        """Refuse amounts finer than six decimals."""
        _six_decimals("revenue", self.revenue)
        _six_decimals("sale_amount", self.sale_amount)


Tracked = Click | Impression | Conversion


def _six_decimals(name: str, amount: float) -> None:
    if round(amount, 6) != amount:
        raise ValueError(f"{name}: {amount!r} has more than six decimals")


# --- master data of the network -------------------------------------------------------------------


class NetworkProfile(Event, frozen=True, kw_only=True):
    """A network exists once this names it (topic `network.profile.v1`)."""

    network_id: Id
    version: Version
    displayed_name: Text
    timezone_id: Id = 67
    currency_id: Currency = "USD"
    language_id: OptionalId = 1
    logo_image_url: LongText = ""
    favicon_image_url: LongText = ""
    default_tracking_domain: Text = ""


class AccountManager(Part, frozen=True, kw_only=True):
    """Whom at the network a partner turns to."""

    first_name: Text = ""
    last_name: Text = ""
    email: Text = ""
    work_phone: Text = ""
    cell_phone: Text = ""
    instant_messaging_id: OptionalId = 0
    instant_messaging_identifier: Text = ""


class Rate(Event, frozen=True, kw_only=True):
    """What a unit of a currency is worth on a day (topic `network.rates.v1`).

    `rate` is a text, so that nothing reads it as a double: units of `base_currency_id`, the
    network's own, for one of `currency_id`. A day is one of UTC.
    """

    network_id: Id
    version: Version
    base_currency_id: Currency
    currency_id: Currency
    date: Annotated[str, msgspec.Meta(pattern=r"^20\d\d-[01]\d-[0-3]\d$", max_length=10)]
    rate: Annotated[str, msgspec.Meta(pattern=r"^\d{1,10}(\.\d{1,10})?$")]

    def __post_init__(self) -> None:
        """Refuse a day that is none, and a rate of nothing."""
        date.fromisoformat(self.date)
        if not Decimal(self.rate):
            raise ValueError("rate is 0")


class PartnerProfile(Event, frozen=True, kw_only=True):
    """A partner, with what decides whether a key may be issued (topic `network.partners.v1`).

    `link_code` is the partner's part of a tracking link, `https://<domain>/<partner>/<offer>/`.
    """

    network_id: Id
    network_affiliate_id: Id
    version: Version
    name: Text
    account_status: Literal["active", "inactive", "pending", "suspended"] = "active"
    manager: Text = ""
    in_onboarding: bool = False
    has_technical_capacity: bool = True
    has_fraud_flag: bool = False
    has_quality_flag: bool = False
    timezone_id: Id = 67
    currency_id: Currency = "USD"
    time_created: Seconds = 0
    time_saved: Seconds = 0
    link_code: Text = ""
    account_manager: AccountManager = AccountManager()


class OfferCategory(Part, frozen=True, kw_only=True):
    """The category of an offer."""

    network_category_id: OptionalId = 0
    network_id: OptionalId = 0
    name: Text = ""
    status: Text = "active"
    time_created: Seconds = 0
    time_saved: Seconds = 0


class OfferPayout(Part, frozen=True, kw_only=True):
    """What a partner earns for one kind of conversion of an offer."""

    network_offer_payout_revenue_id: Id
    entry_name: Text = "Base"
    is_default: bool = True
    payout_type: Text = "cpa"
    payout_amount: Money = 0.0
    payout_percentage: Money = 0.0


class OfferUrl(Part, frozen=True, kw_only=True):
    """One further destination of an offer; `landing_page_url` as with the offer."""

    network_offer_url_id: Id
    name: Text
    preview_url: LongText = ""
    landing_page_url: LongText = ""


class OfferChannel(Part, frozen=True, kw_only=True):
    """A way of promotion that an offer is for."""

    network_channel_id: Id
    name: Text
    status: Text = "active"
    time_created: Seconds = 0
    time_saved: Seconds = 0


class OfferCreative(Part, frozen=True, kw_only=True):
    """A banner or text to promote an offer with; sizes are pixels."""

    network_offer_creative_id: Id
    name: Text
    creative_type: Text = "image"
    creative_status: Text = "active"
    resource_url: LongText = ""
    html_code: Document = ""
    width: Small = 0
    height: Small = 0


class TargetingRule(Part, frozen=True, kw_only=True):
    """Visitors an offer is for, or not for; `code` is ISO 3166's for countries and regions."""

    label: Text
    code: Text = ""
    targeting_type: Literal["include", "exclude"] = "include"
    match_type: Text = "exact"


class OfferRuleset(Part, frozen=True, kw_only=True):
    """Whom an offer is for; empty lists mean everybody."""

    countries: tuple[TargetingRule, ...] = ()
    regions: tuple[TargetingRule, ...] = ()
    cities: tuple[TargetingRule, ...] = ()
    dmas: tuple[TargetingRule, ...] = ()
    platforms: tuple[TargetingRule, ...] = ()
    device_types: tuple[TargetingRule, ...] = ()
    os_versions: tuple[TargetingRule, ...] = ()
    browsers: tuple[TargetingRule, ...] = ()
    languages: tuple[TargetingRule, ...] = ()
    mobile_carriers: tuple[TargetingRule, ...] = ()
    connection_types: tuple[TargetingRule, ...] = ()


class OfferEmail(Part, frozen=True, kw_only=True):
    """What a mailing for an offer may say; one line each."""

    from_lines: Document = ""
    subject_lines: Document = ""


class OfferEmailOptout(Part, frozen=True, kw_only=True):
    """Who must not be mailed, and where readers opt out."""

    suppression_file_link: LongText = ""
    unsub_link: LongText = ""


class Offer(Event, frozen=True, kw_only=True):
    """An offer as far as partners may see it (topic `network.offers.v1`).

    `landing_page_url` is the advertiser's page, told with direct linking alone. `link_code` is the
    offer's part of a tracking link, `https://<domain>/<partner>/<offer>/`, whose domain is
    `tracking_domain` or, if empty, the network's default.
    """

    network_id: Id
    network_offer_id: Id
    version: Version
    name: Text
    offer_status: Literal["active", "paused", "pending", "deleted"] = "active"
    visibility: Literal["public", "require_approval", "private"] = "public"
    currency_id: Currency = "USD"
    thumbnail_url: LongText = ""
    preview_url: LongText = ""
    html_description: Document = ""
    is_description_plain_text: bool = False
    network_tracking_domain_id: OptionalId = 0
    is_caps_enabled: bool = False
    caps_timezone_id: OptionalId = 0
    daily_conversion_cap: Small = 0
    weekly_conversion_cap: Small = 0
    monthly_conversion_cap: Small = 0
    global_conversion_cap: Small = 0
    daily_click_cap: Small = 0
    weekly_click_cap: Small = 0
    monthly_click_cap: Small = 0
    global_click_cap: Small = 0
    daily_payout_cap: Money = 0.0
    weekly_payout_cap: Money = 0.0
    monthly_payout_cap: Money = 0.0
    global_payout_cap: Money = 0.0
    is_using_explicit_terms_and_conditions: bool = False
    is_force_terms_and_conditions: bool = False
    terms_and_conditions: Document = ""
    is_use_direct_linking: bool = False
    is_using_suppression_list: bool = False
    suppression_list_id: OptionalId = 0
    app_identifier: Text = ""
    date_live_until: Text = ""
    time_created: Seconds = 0
    time_saved: Seconds = 0
    category: OfferCategory = OfferCategory()
    payouts: tuple[OfferPayout, ...] = ()
    urls: tuple[OfferUrl, ...] = ()
    landing_page_url: LongText = ""
    link_code: Text = ""
    tracking_domain: Text = ""
    channels: tuple[OfferChannel, ...] = ()
    creatives: tuple[OfferCreative, ...] = ()
    creative_bundle_url: LongText = ""
    ruleset: OfferRuleset = OfferRuleset()
    email: OfferEmail = OfferEmail()
    email_optout: OfferEmailOptout = OfferEmailOptout()


class OfferPartner(Event, frozen=True, kw_only=True):
    """What one partner has of one offer (topic `network.offer_partners.v1`).

    Links that are empty are made of the codes of partner and offer, if the network tells them.
    """

    network_id: Id
    network_offer_id: Id
    network_affiliate_id: Id
    version: Version
    visibility: Literal["visible", "hidden", "rejected", ""] = ""
    application_status: Literal["", "pending", "approved", "rejected"] = ""
    tracking_url: LongText = ""
    redirect_tracking_url: LongText = ""
    impression_tracking_url: LongText = ""
    custom_payouts: tuple[OfferPayout, ...] = ()
    blocked_variables_count: Small = 0


class Referral(Event, frozen=True, kw_only=True):
    """What a partner earned once by having referred another (topic `network.referrals.v1`).

    One record is one amount, told when it was earned, rather than a referral and its terms: amounts
    are what is reported and invoiced (an invoice's lines name them by `referral_history_id`), terms
    change while amounts stay, and a record does not grow with time. What the amount is a commission
    on is the referred partner's own, so no member tells it; their name is empty where the network
    does not tell it to the referrer.

    Attributes:
        network_affiliate_id: the referrer, who earned it.
        amount: commission, in `currency_id`; negative where one is taken back.
        commission_percentage: by which it was reckoned; 0 of a flat one.
        unix_timestamp: when it was earned.
    """

    network_id: Id
    referral_history_id: Id
    network_affiliate_id: Id
    version: Version
    referred_network_affiliate_id: Id
    referred_affiliate_name: Text = ""
    status: Literal["pending", "approved", "rejected"] = "approved"
    commission_type: Literal["percentage", "flat"] = "percentage"
    commission_percentage: Money = 0.0
    amount: Money
    currency_id: Currency
    unix_timestamp: Seconds
    time_created: Seconds = 0
    time_saved: Seconds = 0

    def __post_init__(self) -> None:
        """Refuse amounts finer than six decimals, as of conversions."""
        _six_decimals("amount", self.amount)


# --- keys -----------------------------------------------------------------------------------------


class Actor(Part, frozen=True, kw_only=True):
    """Who did it; `behind` is the person behind an impersonation, else empty."""

    subject: str
    name: str = ""
    behind: str = ""
    kind: Literal["staff", "partner", "system", "visitor"] = "staff"


class _KeyEvent(Event, frozen=True, kw_only=True):
    """What every event of `keys.events.v1` tells; never a secret."""

    network_id: Id
    network_affiliate_id: OptionalId
    occurred_at: float
    actor: Actor
    reason: str = ""
    request_id: str = ""
    client_ip: str = ""


class _OneKeyEvent(_KeyEvent, frozen=True, kw_only=True):
    """An event about one key, named by id and mask."""

    key_id: str
    masked: str
    integration: str


class KeyIssued(_OneKeyEvent, frozen=True, kw_only=True):
    """A key came into being; `override_reasons` were set aside by a Super User.

    `predecessor_key_id` is the key that it follows in a rotation, else empty.
    """

    allowlist: tuple[str, ...] = ()
    not_before: float = 0.0
    expires_at: float | None = None
    override_reasons: tuple[str, ...] = ()
    predecessor_key_id: str = ""


class KeyReshared(_OneKeyEvent, frozen=True, kw_only=True):
    """A key's secret was shown to staff or to its partner, or a link to it was made.

    `retry` is an answer with a secret that was given again to a repeated request. `share_id` names
    the link, and `share_expires_at` is when it ends; they are empty and 0 for other channels.
    """

    channel: Literal["reveal", "link", "partner", "retry"] = "reveal"
    share_id: str = ""
    share_expires_at: float = 0.0


class ShareOpened(_OneKeyEvent, frozen=True, kw_only=True):
    """A single-use link was opened; `outcome` says what its visitor saw.

    `refused` is a wrong passphrase, `ended` a key that was no longer active.
    """

    outcome: Literal["shown", "used", "expired", "refused", "withdrawn", "ended"] = "shown"
    share_id: str = ""


class ShareWithdrawn(_OneKeyEvent, frozen=True, kw_only=True):
    """A single-use link that nobody had used was taken back."""

    share_id: str


class KeyRotated(_OneKeyEvent, frozen=True, kw_only=True):
    """A successor was issued; the old key lives until `overlap_ends_at`."""

    successor_key_id: str
    overlap_ends_at: float


class KeyRevoked(_OneKeyEvent, frozen=True, kw_only=True):
    """A key ended for good."""


class KeyExpired(_OneKeyEvent, frozen=True, kw_only=True):
    """A key's time ended."""


class ExpiryChanged(_OneKeyEvent, frozen=True, kw_only=True):
    """The moment from which on a key does not work any more changed; null is never."""

    before: float | None
    after: float | None


class AllowlistChanged(_OneKeyEvent, frozen=True, kw_only=True):
    """The addresses a key may be used from changed; empty means any."""

    before: tuple[str, ...]
    after: tuple[str, ...]


class FirehoseEnabled(_KeyEvent, frozen=True, kw_only=True):
    """A partner may open streams."""


class FirehoseDisabled(_KeyEvent, frozen=True, kw_only=True):
    """A partner may not open streams any more; open ones end."""


SuspensionHold = Literal["staff", "account_status"]
"""What keeps a partner suspended: the network's staff, or the status of the partner's account."""


class PartnerSuspended(_KeyEvent, frozen=True, kw_only=True):
    """A hold was placed on a partner: none of its keys works while any hold stands."""

    hold: SuspensionHold = "account_status"


class PartnerResumed(_KeyEvent, frozen=True, kw_only=True):
    """A hold on a partner was lifted; its keys work again unless `remaining` holds stand."""

    hold: SuspensionHold = "account_status"
    remaining: tuple[SuspensionHold, ...] = ()


class BudgetChanged(_KeyEvent, frozen=True, kw_only=True):
    """A network's rate budget changed."""

    realm: str
    before: str
    after: str


class SecretsRewrapped(_KeyEvent, frozen=True, kw_only=True):
    """A network's data key was wrapped under another master key; both named by fingerprint."""

    before: str
    after: str


class AccessDenied(_KeyEvent, frozen=True, kw_only=True):
    """A member of staff lacked the permission for what they tried."""

    action: str
    permission: str


KeysEvent = (
    KeyIssued
    | KeyReshared
    | ShareOpened
    | ShareWithdrawn
    | KeyRotated
    | KeyRevoked
    | KeyExpired
    | ExpiryChanged
    | AllowlistChanged
    | FirehoseEnabled
    | FirehoseDisabled
    | PartnerSuspended
    | PartnerResumed
    | BudgetChanged
    | SecretsRewrapped
    | AccessDenied
)


class KeyState(Event, frozen=True, kw_only=True):
    """A key as the doors see it (topic `keys.state.v1`, compacted by `key_id`).

    `digest` is the SHA-256 of the secret, lower-case hex; times are seconds, UTC; `not_before` 0
    and `expires_at` null mean unbounded.
    """

    key_id: str
    version: Version
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    network_id: Id
    network_affiliate_id: Id
    realm: Literal["affiliate", "network", "advertiser"] = "affiliate"
    integration: str
    status: Literal["active", "revoked", "expired"] = "active"
    allowlist: tuple[str, ...] = ()
    not_before: float = 0.0
    expires_at: float | None = None


class PartnerAccess(Event, frozen=True, kw_only=True):
    """What a partner may do (topic `partners.access.v1`, compacted by `network:partner`)."""

    network_id: Id
    network_affiliate_id: Id
    version: Version
    firehose_enabled: bool = False
    suspended: bool = False


class Budget(Part, frozen=True, kw_only=True):
    """A token bucket: `rate` tokens a second up to `burst`."""

    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class NetworkState(Event, frozen=True, kw_only=True):
    """A network's rate budgets (topic `networks.state.v1`, compacted by network)."""

    network_id: Id
    version: Version
    affiliate: Budget = Budget(rate=5, burst=20)
    granular_per_hour: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 1000
    shadow: bool = False


# --- gateway, firehose, audit ---------------------------------------------------------------------


class AccessCount(Part, frozen=True, kw_only=True):
    """How often one combination was seen within the second; `key_id` and `masked` may be empty."""

    key_id: str
    masked: str
    method: str
    endpoint: str
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    client_ip: str
    count: Annotated[int, msgspec.Meta(ge=1)]
    refusal: str = ""


class AccessSummary(Event, frozen=True, kw_only=True):
    """What one gateway saw of one partner within one second (topic `gateway.access.v1`).

    Refusals of unknown keys have network and partner 0 (Kafka key `-:-`).
    """

    gateway: str
    second: Seconds
    network_id: OptionalId
    network_affiliate_id: OptionalId
    counts: tuple[AccessCount, ...]


class UsageBucket(Part, frozen=True, kw_only=True):
    """A token bucket as a replica sees it: `level` tokens, below 0 in debt."""

    level: float
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class UsageTotal(Part, frozen=True, kw_only=True):
    """Running total of what one replica admitted from one budget; hourly counts have no bucket."""

    network_id: Id
    realm: str
    total: Annotated[int, msgspec.Meta(ge=0)]
    bucket: UsageBucket | None = None


class Usage(Event, frozen=True, kw_only=True):
    """Running totals of one gateway replica (topic `gateway.usage.v1`).

    `at`: when they were what they say, in seconds by the clock with which Kafka stamps the topic.
    """

    replica: str
    incarnation: str
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    at: float
    totals: tuple[UsageTotal, ...]


class SessionOpened(Event, frozen=True, kw_only=True):
    """A partner opened a stream (topic `firehose.sessions.v1`)."""

    session_id: str
    network_id: Id
    network_affiliate_id: Id
    key_id: str
    masked: str
    client_ip: str
    occurred_at: float
    types: tuple[str, ...]
    start: str


class SessionClosed(Event, frozen=True, kw_only=True):
    """A stream ended; `reason` is a word of the public list, `cursor` where it may go on."""

    session_id: str
    network_id: Id
    network_affiliate_id: Id
    key_id: str
    masked: str
    client_ip: str
    occurred_at: float
    reason: str
    events: Annotated[int, msgspec.Meta(ge=0)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    cursor: str


class AnomalyOpened(Event, frozen=True, kw_only=True):
    """Something unusual began (topic `audit.anomalies.v1`)."""

    anomaly_id: str
    network_id: OptionalId
    network_affiliate_id: OptionalId
    rule: str
    window_start: Seconds
    occurred_at: float
    detail: dict[str, Any] = {}


class AnomalyClosed(Event, frozen=True, kw_only=True):
    """What `AnomalyOpened` with the same id told has ended."""

    anomaly_id: str
    network_id: OptionalId
    network_affiliate_id: OptionalId
    rule: str
    window_start: Seconds
    occurred_at: float
    detail: dict[str, Any] = {}


class Checkpoint(Event, frozen=True, kw_only=True):
    """The head of a network's audit chain, signed (topic `audit.checkpoints.v1`).

    `hash` is the head entry's, lower-case hex; `signature` is Ed25519 over the canonical JSON of
    the other fields, base64.
    """

    network_id: OptionalId
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    hash: str
    occurred_at: float
    key: str
    signature: str


# --- the envelope ---------------------------------------------------------------------------------

E = TypeVar("E", bound=Event)

Headers = Sequence[tuple[str, bytes]]
SPEC_VERSION: Final = b"1.0"
CONTENT_TYPE: Final = b"application/json"


def type_name(event: type[Event] | Event) -> str:
    """The `ce_type` of an event or event class: `portico.KeyIssued`."""
    cls = event if isinstance(event, type) else type(event)
    return f"portico.{cls.__name__}"


def headers(
    event: type[Event] | Event,
    *,
    source: str,
    occurred_at: float,
    event_id: str | None = None,
    traceparent: str | None = None,
) -> list[tuple[str, bytes]]:
    """The record headers of an event by CloudEvents 1.0, Kafka binary mode.

    Args:
        event: the event or its class.
        source: `ce_source`: the producing service, `portico/keys`.
        occurred_at: `ce_time`, seconds UTC.
        event_id: `ce_id`; a random UUID if none is given.
        traceparent: the W3C trace context to pass on.
    """
    result = [
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", (event_id or uuid.uuid4().hex).encode()),
        ("ce_type", type_name(event).encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(occurred_at).encode()),
        ("content-type", CONTENT_TYPE),
    ]
    if traceparent:
        result.append(("traceparent", traceparent.encode()))
    return result


@dataclass(frozen=True, slots=True)
class Envelope:
    """The CloudEvents attributes of one record."""

    id: str
    type: str
    source: str
    time: str


def envelope(record_headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """The attributes among a record's headers.

    Raises:
        InvalidError: an attribute that CloudEvents requires is missing.
    """
    found = {name: value for name, value in record_headers if name.startswith("ce_")}
    try:
        return Envelope(
            id=found["ce_id"].decode(),
            type=found["ce_type"].decode(),
            source=found["ce_source"].decode(),
            time=found.get("ce_time", b"").decode(),
        )
    except KeyError as error:
        raise InvalidError(f"header {error.args[0]}: missing; CloudEvents 1.0 needs it") from error
    except UnicodeDecodeError as error:
        raise InvalidError(f"a ce_ header is not UTF-8: {error}") from error


_ENCODER: Final = msgspec.json.Encoder()
_decoders: dict[type[Event], msgspec.json.Decoder[Any]] = {}


def encode(event: Event) -> bytes:
    """The JSON value of an event."""
    return _ENCODER.encode(event)


def decode(event: type[E], value: bytes | None) -> E:
    """The event in `value`, checked against its schema.

    Raises:
        InvalidError: not JSON, a field missing, unknown, of another type or out of range; the
            message names the place.
    """
    if value is None:
        raise InvalidError(f"{event.__name__}: a tombstone where a value is needed")
    decoder = _decoders.get(event)
    if decoder is None:
        decoder = _decoders[event] = msgspec.json.Decoder(event)
    try:
        return decoder.decode(value)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(f"{event.__name__}: {error}") from error


def partner_key(network_id: int, network_affiliate_id: int) -> str:
    """The Kafka key of everything that belongs to one partner."""
    return f"{network_id}:{network_affiliate_id}"


T = TypeVar("T", bound=Tracked)


def check_tracked(event: type[T], key: bytes | None, value: bytes | None) -> T:
    """The tracking event in `value`, proved to belong to the partner of its Kafka key.

    Raises:
        InvalidError: as `decode`, or the body's network and partner are not the key's.
    """
    decoded = decode(event, value)
    if key != b"%d:%d" % (decoded.network_id, decoded.network_affiliate_id):
        raise InvalidError(
            f"{event.__name__}: key {key!r} is not of network {decoded.network_id}, "
            f"partner {decoded.network_affiliate_id}"
        )
    return decoded
