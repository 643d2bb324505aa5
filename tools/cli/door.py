"""Calls through the gateway, as any client makes them; failures become our errors."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from shared.errors import PorticoError, RejectedError, TooManyError, UnavailableError
from tools.cli import issuer
from tools.cli.config import CliSettings

TIMEOUT_SECONDS: Final = 30.0
_FAULT: Final = 500


class Door:
    """The REST door for one caller."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """The decoded answer.

        Raises:
            RejectedError: the door or the service refused; the message has status and reason.
            TooManyError: a limit was met.
            UnavailableError: nobody answers, or not in time.
        """
        try:
            answer = httpx.request(
                method,
                self._base_url + path,
                json=body,
                params=params,
                headers=self._headers,
                timeout=TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(unreachable(self._base_url, error)) from error
        if answer.is_error:
            raise refusal(answer)
        return answer.json()


def as_staff(settings: CliSettings, network_id: int) -> Door:
    """The door for `PORTICO_TOKEN`, else for a local Super User of the network."""
    token = settings.token.get_secret_value()
    token = token or issuer.sign(settings.home, issuer.administrator(network_id))
    return Door(settings.gateway, {"Authorization": f"Bearer {token}"})


def unreachable(base_url: str, error: httpx.HTTPError) -> str:
    """What to tell somebody whose call got no answer."""
    reason = str(error) or type(error).__name__
    return f"{base_url} does not answer ({reason}): is the platform up (`portico run`)?"


def refusal(answer: httpx.Response) -> PorticoError:
    """The error for an answer that is one; its body must have been read."""
    try:
        text = answer.json().get("message") or answer.text
    except (ValueError, AttributeError):
        text = answer.text.strip() or answer.reason_phrase
    wait = answer.headers.get("retry-after")
    told = f"{answer.status_code} {text}" + (f" Try again in {wait} s." if wait else "")
    if answer.status_code >= _FAULT:
        return UnavailableError(told)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return TooManyError(told)
    return RejectedError(told)
