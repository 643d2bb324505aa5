"""The local token issuer: signs with the key that `portico run` made in its home."""

from pathlib import Path

from deploy.local.programs import JWT_AUDIENCE, JWT_ISSUER
from deploy.local.secrets import TOKEN_KEY_ID
from shared.clock import SystemClock
from shared.errors import SetupError
from shared.tokens import ACCOUNTS_HISTORY_FULL, AUDIT_READ, SECURITY_FULL, Caller, issue_token

OPERATOR = "operator@localhost"


def sign(home: Path, caller: Caller, lifetime_seconds: int = 3_600) -> str:
    """A token for `caller`.

    Raises:
        SetupError: there is no local platform in `home`.
    """
    file = home / "secrets" / "staff.pem"
    try:
        private_key = file.read_bytes()
    except OSError as error:
        raise SetupError(
            f"There is no local token issuer ({file}): start `portico run` once, "
            "or give a token of your own issuer as PORTICO_TOKEN."
        ) from error
    return issue_token(
        private_key,
        caller,
        key_id=TOKEN_KEY_ID,
        issuer=JWT_ISSUER,
        audience=JWT_AUDIENCE,
        now=SystemClock().time(),
        lifetime_seconds=lifetime_seconds,
    )


def administrator(network_id: int) -> Caller:
    """A Super User of one network, as whom local commands act."""
    return Caller(
        subject=OPERATOR,
        name="Local operator",
        network_id=network_id,
        permissions=frozenset((SECURITY_FULL, ACCOUNTS_HISTORY_FULL, AUDIT_READ)),
        is_super_user=True,
    )
