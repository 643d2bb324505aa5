"""Calls through the gateway, as any client makes them; failures become our errors."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

from shared.errors import (
    PorticoError,
    RejectedError,
    SetupError,
    TooManyError,
    UnavailableError,
)
from tools.cli import issuer
from tools.cli.config import CliSettings
from tools.cli.output import cell, remarks

TIMEOUT_SECONDS: Final = 30.0
REPEAT_PAUSES_SECONDS: Final = (0.5, 2.0)
"""Before a call that may be repeated is made once more."""
_MORE: Final = {
    "Forbidden": "the token lacks the permission for this. The attempt is in the audit trail.",
    "Not Found": "the network of the token has nothing of that id.",
}
"""What the bare texts of the API mean to staff."""
_HERE: Final = ("127.0.0.1", "::1", "localhost")
_TEXT_LENGTH_MAX: Final = 500
_FAULT: Final = 500

Params = Mapping[str, str | int]


class Door:
    """The REST door for one caller."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers)

    def call(
        self, method: str, path: str, *, body: object = None, params: Params | None = None
    ) -> Any:
        """The decoded answer.

        Raises:
            RejectedError: the door or the service refused; the message has status and reason.
            TooManyError: a limit was met.
            UnavailableError: nobody answers, or not in time.
            SetupError: what answers is no gateway.
        """
        return self._answered(method, path, self._headers, body, params)

    def post_once(self, path: str, body: object, retry_key: str) -> Any:
        """As `call` by POST, repeated while nobody answers: for one `retry_key` it happens once.

        Raises:
            UnavailableError: nobody answered to the end, or Ctrl-C was pressed; the message says
                how to go on.
        """
        go_on = (
            "Whether it was done is not known. The same command with "
            f"--retry-key {retry_key} does it once, within 24 hours."
        )
        try:
            return self._repeated(path, body, retry_key)
        except UnavailableError as error:
            raise UnavailableError(f"{error}\n{go_on}") from error
        except KeyboardInterrupt as error:
            raise UnavailableError(f"Interrupted.\n{go_on}") from error

    def _repeated(self, path: str, body: object, retry_key: str) -> Any:
        headers = self._headers | {"Idempotency-Key": retry_key}
        for pause in REPEAT_PAUSES_SECONDS:
            try:
                return self._answered("POST", path, headers, body, None)
            except UnavailableError:
                time.sleep(pause)
        return self._answered("POST", path, headers, body, None)

    @contextmanager
    def download(self, path: str, params: Params) -> Iterator[Iterator[bytes]]:
        """The pieces of an answer as they come; an answer that is cut off raises.

        Raises:
            RejectedError, TooManyError, UnavailableError: as for `call`.
        """
        url = self._base_url + path
        try:
            with httpx.stream(
                "GET", url, params=params, headers=self._headers, timeout=TIMEOUT_SECONDS
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._not_ours(answer)
                yield answer.iter_bytes()
        except httpx.HTTPError as error:
            raise UnavailableError(unreachable(self._base_url, error)) from error

    def _answered(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: object,
        params: Params | None,
    ) -> Any:
        try:
            answer = httpx.request(
                method,
                self._base_url + path,
                json=body,
                params=params,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(unreachable(self._base_url, error)) from error
        if not answer.is_success:
            raise self._not_ours(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise self._not_ours(answer) from error

    def _not_ours(self, answer: httpx.Response) -> PorticoError:
        """The error for an answer that is one, or that no gateway gives."""
        if answer.is_error:
            return refusal(answer)
        return SetupError(
            f"{self._base_url} answers {answer.status_code} like no gateway of ours: is that the "
            "address (PORTICO_GATEWAY)?"
        )


def as_staff(settings: CliSettings, network_id: int) -> Door:
    """The door for `PORTICO_TOKEN`, else for a local Super User of the network.

    Raises:
        SetupError: the token or the address cannot be one.
    """
    token = settings.token.get_secret_value().strip()
    token = token or issuer.sign(settings.home, issuer.administrator(network_id))
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SetupError("PORTICO_TOKEN holds something that is no token.")
    _check_address(settings.gateway)
    return Door(settings.gateway, {"Authorization": f"Bearer {token}"})


def _check_address(base_url: str) -> None:
    """Refuse what is no URL, and warn of one on whose way tokens and secrets can be read."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise SetupError(f"PORTICO_GATEWAY: {base_url!r} is no URL.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise SetupError(f"PORTICO_GATEWAY: {base_url!r} is no URL; https://… is one.")
    if url.scheme == "http" and url.host not in _HERE:
        remarks.print(
            f"{base_url} is not HTTPS: whoever is on the way can read the token and the keys.",
            style="yellow",
        )


def unreachable(base_url: str, error: httpx.HTTPError) -> str:
    """What to tell somebody whose call got no answer."""
    reason = str(error) or type(error).__name__
    return (
        f"{base_url} does not answer ({reason}): is the platform up (`make run`, or `portico run`)?"
    )


def refusal(answer: httpx.Response) -> PorticoError:
    """The error for an answer that is one; its body must have been read."""
    try:
        text = answer.json().get("message") or answer.text
    except (ValueError, AttributeError):
        text = answer.text.strip() or answer.reason_phrase
    text = " ".join(cell(text).split())[:_TEXT_LENGTH_MAX]
    if text in _MORE:
        text = f"{text}: {_MORE[text]}"
    wait = answer.headers.get("retry-after")
    told = f"{answer.status_code} {text}" + (f" Try again in {wait} s." if wait else "")
    if answer.status_code >= _FAULT:
        return UnavailableError(told)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return TooManyError(told)
    return RejectedError(told)
