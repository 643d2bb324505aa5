"""What belongs to an offer beside its payouts: links, destinations, creatives, rules, mailings."""

from typing import Any, Final

from shared.events import (
    OfferChannel,
    OfferCreative,
    OfferEmail,
    OfferEmailOptout,
    OfferRuleset,
    OfferUrl,
    TargetingRule,
)

_CODE: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that nobody mistakes for one another."""
_CODE_LENGTH: Final = 5
_SPREAD: Final = 11_400_729
"""Odd, so that no two ids below 2²⁵ share a code, and neighbours look apart."""
_CHANNELS: Final = ("Content", "Email", "Search", "Social", "Coupons")
_SIZES: Final = ((300, 250), (728, 90), (160, 600))
_RULES: Final = (
    OfferRuleset(),
    OfferRuleset(countries=(TargetingRule(label="United States", code="US"),)),
    OfferRuleset(
        countries=(TargetingRule(label="Germany", code="DE"),),
        regions=(TargetingRule(label="Bavaria", code="BY", targeting_type="exclude"),),
    ),
    OfferRuleset(
        platforms=(TargetingRule(label="iOS"), TargetingRule(label="Android")),
        device_types=(TargetingRule(label="PC", targeting_type="exclude"),),
    ),
)
_DIRECT: Final = 8
"""Every eighth offer is linked directly."""
_CAPPED: Final = 5
_MAILED: Final = 3


def link_code(identifier: int) -> str:
    """The code that stands for an id in tracking links, such as `7HQ2M`."""
    number = identifier * _SPREAD % len(_CODE) ** _CODE_LENGTH
    code = ""
    for _ in range(_CODE_LENGTH):
        number, place = divmod(number, len(_CODE))
        code += _CODE[place]
    return code


def of_offer(offer_id: int, rank: int, name: str, created: int) -> dict[str, Any]:
    """Members of the offer with this id, which is the `rank`th of its network."""
    site = f"https://{name.lower().replace(' ', '-')}.example/"
    return {
        "preview_url": site,
        "thumbnail_url": f"{site}thumbnail.png",
        "link_code": link_code(offer_id),
        "is_use_direct_linking": rank % _DIRECT == 0,
        "landing_page_url": site if rank % _DIRECT == 0 else "",
        "urls": _urls(offer_id, site),
        "channels": _channels(rank, created),
        "creatives": _creatives(offer_id, name, site),
        "creative_bundle_url": f"{site}creatives.zip",
        "ruleset": _RULES[rank % len(_RULES)],
        "terms_and_conditions": "No bidding on the brand's name.",
        **_caps(rank),
        **_mailing(offer_id, rank, name, site),
    }


def _urls(offer_id: int, site: str) -> tuple[OfferUrl, ...]:
    return tuple(
        OfferUrl(network_offer_url_id=offer_id * 10 + i, name=name, preview_url=f"{site}{path}")
        for i, (name, path) in enumerate((("Sale", "sale"), ("Gift guide", "gifts")), start=1)
    )


def _channels(rank: int, created: int) -> tuple[OfferChannel, ...]:
    chosen = sorted({rank % len(_CHANNELS), (rank * 2 + 1) % len(_CHANNELS)})
    return tuple(
        OfferChannel(
            network_channel_id=i + 1, name=_CHANNELS[i], time_created=created, time_saved=created
        )
        for i in chosen
    )


def _creatives(offer_id: int, name: str, site: str) -> tuple[OfferCreative, ...]:
    return tuple(
        OfferCreative(
            network_offer_creative_id=offer_id * 10 + i,
            name=f"{name} {width}x{height}",
            resource_url=f"{site}banners/{width}x{height}.png",
            width=width,
            height=height,
        )
        for i, (width, height) in enumerate(_SIZES, start=1)
    )


def _caps(rank: int) -> dict[str, Any]:
    if rank % _CAPPED:
        return {}
    return {"is_caps_enabled": True, "daily_conversion_cap": 500, "monthly_payout_cap": 25_000.5}


def _mailing(offer_id: int, rank: int, name: str, site: str) -> dict[str, Any]:
    if rank % _MAILED:
        return {}
    return {
        "email": OfferEmail(from_lines=name, subject_lines=f"New at {name}\nToday only"),
        "email_optout": OfferEmailOptout(
            suppression_file_link=f"{site}suppressed.zip", unsub_link=f"{site}unsubscribe"
        ),
        "is_using_suppression_list": True,
        "suppression_list_id": offer_id,
    }
