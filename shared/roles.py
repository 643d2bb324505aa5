"""What the roles of an issuer mean here: which permissions a role carries, by network.

An issuer that knows roles and not our permissions puts `roles[]` into its tokens, and `JWT_ROLES`
says what each is worth: `{"*": {"manager": ["security:full"]}, "17": {"manager": []}}`. What a
network says of a role replaces what `*` says of it. `*` stands for every network, never for the
whole platform: operators have network 0, which is named as any other.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from shared.errors import SetupError

EVERY_NETWORK: Final = "*"
_NETWORK: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_Table = dict[str, dict[str, tuple[str, ...]]]


class Roles:
    """The permissions that roles carry.

    Args:
        setting: JSON, or the path of a file with it; empty: no role carries any.
        known: the permissions that there are.

    Raises:
        SetupError: it cannot be read, is no such table, or names a permission that is none.
    """

    def __init__(self, setting: str, known: Collection[str]) -> None:
        self._table = _read(setting) if setting.strip() else {}
        for network, roles in self._table.items():
            _require_network(network)
            for role, permissions in roles.items():
                _require_known(network, role, permissions, known)

    def permissions(self, network_id: int, roles: Iterable[str]) -> frozenset[str]:
        """What `roles` carry in a network; a role that nobody described carries nothing."""
        own = self._table.get(str(network_id), {})
        common = self._table.get(EVERY_NETWORK, {}) if network_id else {}
        return frozenset().union(*(own.get(role, common.get(role, ())) for role in roles))


def _read(setting: str) -> _Table:
    try:
        text = setting if setting.lstrip().startswith("{") else Path(setting).read_text()
        return msgspec.json.decode(text, type=_Table)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SetupError(f"JWT_ROLES: {setting} cannot be read: {reason}.") from error
    except msgspec.DecodeError as error:
        raise SetupError(
            f"JWT_ROLES: {error}. Give JSON such as "
            '{"*": {"<role>": ["security:full"]}}, or the path of a file with it.'
        ) from error


def _require_network(network: str) -> None:
    if network != EVERY_NETWORK and not _NETWORK.fullmatch(network):
        raise SetupError(f"JWT_ROLES: {network!r} is no network: use its id, or * for every one.")


def _require_known(
    network: str, role: str, permissions: Iterable[str], known: Collection[str]
) -> None:
    for permission in permissions:
        if permission not in known:
            raise SetupError(
                f"JWT_ROLES: role {role!r} of network {network}: {permission!r} is no permission; "
                f"there are {', '.join(sorted(known))}."
            )
