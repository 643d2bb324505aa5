"""The page behind a link: what its visitor sees, in HTML that needs no script and loads nothing.

The headers of every page, also of those that show no key, keep it out of caches, of search engines,
of frames and of `Referer`; its policy allows the one style that the page itself holds.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.keys.domain import Key
from services.keys.shares.credentials import PASSPHRASE_LENGTH_MAX
from services.keys.shares.domain import Outcome, Share
from shared.clock import utc
from shared.partner_key import PartnerKey

_STATUSES: Final[dict[Outcome, HTTPStatus]] = {
    "open": HTTPStatus.OK,
    "shown": HTTPStatus.OK,
    "refused": HTTPStatus.FORBIDDEN,
    "suspended": HTTPStatus.FORBIDDEN,
    "used": HTTPStatus.GONE,
    "expired": HTTPStatus.GONE,
    "withdrawn": HTTPStatus.GONE,
    "locked": HTTPStatus.GONE,
    "ended": HTTPStatus.GONE,
}
_HEADINGS: Final[dict[Outcome, str]] = {
    "used": "This link has been used",
    "expired": "This link has expired",
    "withdrawn": "This link was withdrawn",
    "locked": "This link is closed",
    "ended": "The key of this link is not active any more",
    "suspended": "The key cannot be shown at the moment",
}


@dataclass(frozen=True, slots=True)
class View:
    """What a visitor sees of a link.

    Attributes:
        share: the link, after what was done.
        key: what it leads to.
        network: the name of the network.
        outcome: what it stands at, or what the visitor's press came to.
        secret: of the key, if this is the one time that it is shown.
    """

    share: Share
    key: Key
    network: str
    outcome: Outcome
    secret: PartnerKey | None = None


class Pages:
    """Renders pages; the templates are read once, when this is made."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("services.keys.shares"),
            autoescape=True,
            undefined=StrictUndefined,
        )
        css = environment.get_template("page.css").render()
        self._page = environment.get_template("page.html")
        self._css = Markup(css)  # noqa: S704 - our own file
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        self._headers: Mapping[str, str] = {
            "cache-control": "no-store",
            "content-security-policy": policy,
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "x-robots-tag": "noindex, nofollow",
        }

    def of(self, view: View) -> Response:
        """The page of a link that exists."""
        status = _STATUSES[view.outcome]
        if view.outcome == "shown":
            return self._rendered(status, _shown(view))
        if view.outcome in ("open", "refused"):
            return self._rendered(status, _form(view))
        return self._rendered(status, _closed(view))

    def unknown(self) -> Response:
        """The page of a link that nobody made."""
        line = "Check that you opened the whole link, and ask whoever sent it for a new one."
        return self._message(HTTPStatus.NOT_FOUND, "There is no such link", line)

    def malformed(self) -> Response:
        """The page after a press that no form of ours sends."""
        line = "Nothing was shown, and the link is as it was. Open it again and use its button."
        return self._message(HTTPStatus.BAD_REQUEST, "That was not sent by this page", line)

    def unavailable(self, retry_after_seconds: int) -> Response:
        """The page while what the link needs is away."""
        line = "Nothing was shown. Open the link again in a minute; it says how it stands."
        page = self._message(HTTPStatus.SERVICE_UNAVAILABLE, "Temporarily unavailable", line)
        page.headers["retry-after"] = str(retry_after_seconds)
        return page

    def _message(self, status: HTTPStatus, heading: str, line: str) -> Response:
        return self._rendered(status, {"heading": heading, "lines": [line]})

    def _rendered(self, status: HTTPStatus, parts: dict[str, Any]) -> Response:
        blank = {"problem": "", "secret": "", "form": None, "network": "", "css": self._css}
        return Response(
            self._page.render(blank | parts),
            status_code=status,
            headers=self._headers,
            media_type="text/html",
        )


def _shown(view: View) -> dict[str, Any]:
    return {
        "heading": f"API key for {view.key.integration}",
        "lines": [f"From {view.network}. It is shown this once.", *_conditions(view.key)],
        "secret": view.secret.reveal() if view.secret else "",
        "network": view.network,
    }


def _conditions(key: Key) -> list[str]:
    """From when, until when and from where a key works, where that is limited."""
    found = []
    if key.not_before:
        found.append(f"The key works from {moment(key.not_before)}.")
    if key.expires_at is not None:
        found.append(f"The key works until {moment(key.expires_at)}.")
    if key.allowlist:
        found.append(f"It may be used from {', '.join(key.allowlist)}.")
    return found


def _form(view: View) -> dict[str, Any]:
    share = view.share
    lines = [
        f"{view.network} has issued you an API key for {view.key.integration}.",
        f"The button shows it, once. Until then the link works until {moment(share.expires_at)}.",
    ]
    problem = ""
    if view.outcome == "refused":
        problem = f"That is not the passphrase. {_attempts(share.attempts_left)}"
    elif share.wrong_passphrases:
        lines.append(_attempts(share.attempts_left))
    return {
        "heading": f"API key for {view.key.integration}",
        "lines": lines,
        "problem": problem,
        "form": {"has_passphrase": share.has_passphrase, "length_max": PASSPHRASE_LENGTH_MAX},
        "network": view.network,
    }


def _attempts(left: int) -> str:
    return f"{left} more wrong {'one closes' if left == 1 else 'ones close'} the link for good."


def _closed(view: View) -> dict[str, Any]:
    return {
        "heading": _HEADINGS[view.outcome],
        "lines": _closed_lines(view),
        "network": view.network,
    }


def _closed_lines(view: View) -> list[str]:
    share, again = view.share, f"Ask {view.network} for a new link if you need one."
    ended_at = moment(share.ended_at or share.expires_at)
    match view.outcome:
        case "used":
            return [
                f"It showed the key on {ended_at}, and shows it once only.",
                f"If that was not you, tell {view.network} at once: the key has to be revoked.",
                again,
            ]
        case "expired":
            return [f"It worked until {moment(share.expires_at)}.", again]
        case "withdrawn":
            return [f"{view.network} withdrew it on {ended_at}.", again]
        case "locked":
            return [f"Wrong passphrases closed it on {ended_at}.", again]
        case "ended":
            return [f"The key ended on {moment(_end_of(view.key))}.", again]
        case _:
            return ["Your access is suspended. The link is as it was.", f"Ask {view.network} why."]


def _end_of(key: Key) -> float:
    """When a key that is not active ended."""
    return key.ended_at or key.expires_at or 0.0


def moment(seconds: float) -> str:
    """A moment as people read it: `31 January 2026, 12:00:05 UTC`."""
    when = utc(seconds)
    return f"{when.day} {when:%B %Y, %H:%M:%S} UTC"
