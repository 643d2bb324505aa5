"""A partner's links of an offer; pure.

What the network published for the pair stands. What it did not is made of the codes of partner and
offer, `https://<domain>/<partner>/<offer>/`. With direct linking the partner links straight to the
advertiser's page, which records the click itself and needs to know of which offer and partner.
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from shared.events import NetworkProfile, Offer, OfferPartner, PartnerProfile


@dataclass(frozen=True, slots=True)
class Linker:
    """Whose links are made.

    Attributes:
        network_affiliate_id: the partner.
        network: theirs, None while the log has not told of it.
        partner: what the log tells of them, if anything.
    """

    network_affiliate_id: int
    network: NetworkProfile | None = None
    partner: PartnerProfile | None = None

    def links(self, offer: Offer, terms: OfferPartner | None) -> dict[str, str]:
        """The three links as members of an offer that the partner may run; empty where unknown."""
        ordinary = (terms.tracking_url if terms else "") or self._made(offer)
        direct = self._direct(offer, offer.landing_page_url)
        return {
            "tracking_url": direct or ordinary,
            "redirect_tracking_url": (terms.redirect_tracking_url if terms else "") or ordinary,
            "impression_tracking_url": terms.impression_tracking_url if terms else "",
        }

    def to_url(self, offer: Offer, terms: OfferPartner | None, url_id: int) -> str:
        """The tracking link to the offer's destination `url_id`, 0 being its own; or empty."""
        ordinary = self.links(offer, terms)["tracking_url"]
        if not url_id:
            return ordinary
        pages = {url.network_offer_url_id: url.landing_page_url for url in offer.urls}
        page = pages.get(url_id) or offer.landing_page_url
        return self._direct(offer, page, url_id) or with_query(ordinary, {"uid": url_id})

    def _made(self, offer: Offer) -> str:
        domain = offer.tracking_domain
        if not domain and self.network is not None:
            domain = self.network.default_tracking_domain
        code = self.partner.link_code if self.partner is not None else ""
        if not (domain and code and offer.link_code):
            return ""
        return f"https://{domain}/{code}/{offer.link_code}/"

    def _direct(self, offer: Offer, page: str, url_id: int = 0) -> str:
        if not (offer.is_use_direct_linking and page):
            return ""
        ids = {"oid": offer.network_offer_id, "affid": self.network_affiliate_id}
        named = {"uid": url_id} if url_id else {}
        return with_query(page, {"_ef_transaction_id": "", **named, **ids})


def with_query(url: str, parameters: dict[str, object]) -> str:
    """`url` with `parameters` behind those that it has; an empty one stays empty."""
    if not url:
        return ""
    base, mark, fragment = url.partition("#")
    between = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return f"{base}{between}{urlencode(parameters)}{mark}{fragment}"
