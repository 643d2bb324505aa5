"""Keys, links and partners as people read them: what the API answers, in rows and facts. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tools.cli.moments import day, readable

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str]]

KEY_COLUMNS: Final[Columns] = (
    ("key_id", "key id"),
    ("partner", "partner"),
    ("integration", "integration"),
    ("masked", "key"),
    ("status", "status"),
    ("used", "last used (UTC)"),
    ("created", "created"),
    ("ends", "ends"),
    ("notes", "notes"),
)
SOURCE_COLUMNS: Final[Columns] = (
    ("source", "from network"),
    ("ip", "last address"),
    ("endpoint", "last endpoint"),
    ("used", "last used (UTC)"),
    ("count", "on that day"),
)
LINK_COLUMNS: Final[Columns] = (
    ("share_id", "link id"),
    ("state", "state"),
    ("created", "made (UTC)"),
    ("created_by", "by"),
    ("expires", "expires (UTC)"),
    ("ended", "ended (UTC)"),
    ("opened_ip", "opened from"),
)
WARNINGS: Final[Mapping[str, str]] = {
    "unused_90_days": "unused for 90 days",
    "many_networks": "used from many networks",
    "expiring_soon": "expires soon",
    "predecessor_in_use": "the old key is still used",
}


def key_line(row: Row) -> dict[str, Any]:
    """A key as a line of `KEY_COLUMNS`."""
    return {
        "key_id": row["key_id"],
        "partner": _partner(row),
        "integration": row["integration"],
        "masked": row["masked"],
        "status": _status(row),
        "used": _used(row),
        "created": day(row["created_at"]),
        "ends": day(_end(row)) or "never",
        "notes": "; ".join(_notes(row)),
    }


def key_facts(row: Row) -> list[tuple[str, object]]:
    """A key as facts, the secret left out."""
    return [
        ("key id", row["key_id"]),
        ("partner", _partner(row)),
        ("integration", row["integration"]),
        ("key", row["masked"]),
        ("status", _status(row)),
        ("addresses", row["allowlist"] or "any"),
        ("created", _by(row)),
        ("valid from", readable(row.get("not_before"))),
        ("ends", readable(row["expires_at"]) or "never"),
        ("ended", readable(row["ended_at"])),
        ("last used", _used(row)),
        ("used today", row.get("used_today")),
        ("last refused", _refused(row.get("usage") or {})),
        ("follows", row.get("predecessor_key_id")),
        ("followed by", row.get("successor_key_id")),
        ("warnings", [WARNINGS.get(name, name) for name in row.get("warnings") or ()]),
    ]


def source_line(row: Row) -> dict[str, Any]:
    """A network that a key is used from, as a line of `SOURCE_COLUMNS`."""
    return {
        "source": row.get("source"),
        "ip": row.get("last_used_ip"),
        "endpoint": row.get("last_used_endpoint"),
        "used": readable(row.get("last_used_at")),
        "count": row.get("count"),
    }


def link_line(row: Row) -> dict[str, Any]:
    """A link as a line of `LINK_COLUMNS`."""
    return {
        "share_id": row["share_id"],
        "state": row["state"],
        "created": readable(row["created_at"]),
        "created_by": row["created_by_name"] or row["created_by"],
        "expires": readable(row["expires_at"]),
        "ended": readable(row["ended_at"]),
        "opened_ip": row["opened_ip"],
    }


def partner_facts(row: Row) -> list[tuple[str, object]]:
    """What a partner may do, as facts."""
    return [
        ("partner", row["network_affiliate_id"]),
        ("streams", row.get("enabled")),
        ("suspended", row.get("suspended")),
        ("held by", row.get("holds")),
    ]


def budget_facts(row: Row) -> list[tuple[str, object]]:
    """The budgets of a network as facts."""
    affiliate = row["affiliate"]
    return [
        ("requests", f"{affiliate['rate']:g} a second, {affiliate['burst']} at once"),
        ("granular reports", f"{row['granular_per_hour']} an hour"),
        ("over budget", "only reported" if row["shadow"] else "refused"),
    ]


def question(row: Row, deed: str) -> str:
    """What to ask before `deed` is done to a key, which cannot be undone."""
    return (
        f"{deed} {row['masked']} of partner {_partner(row)} for {row['integration']!r}, "
        f"last used {_used(row) or 'never'}? It cannot be undone."
    )


def _partner(row: Row) -> str:
    number = str(row["network_affiliate_id"])
    return f"{row['partner_name']} ({number})" if row.get("partner_name") else number


def _status(row: Row) -> str:
    suspended = row["status"] in ("active", "scheduled") and row.get("suspended")
    return f"{row['status']}, partner suspended" if suspended else str(row["status"])


def _end(row: Row) -> str | None:
    found: str | None = row["ended_at"] or row["expires_at"]
    return found


def _by(row: Row) -> str:
    name, subject = row.get("created_by_name"), row["created_by"]
    who = f"{name} ({subject})" if name and name != subject else subject
    return f"{readable(row['created_at'])} by {who}"


def _used(row: Row) -> str:
    if "last_used_at" not in row:
        return ""
    if row["last_used_at"] is None:
        return "never"
    return f"{readable(row['last_used_at'])} {row.get('last_used_ip') or ''}".rstrip()


def _refused(usage: Row) -> str:
    if not usage.get("refused_at"):
        return ""
    return f"{readable(usage['refused_at'])} {usage['refused_ip']} ({usage['refused_reason']})"


def _notes(row: Row) -> list[str]:
    notes = [WARNINGS.get(name, name) for name in row.get("warnings") or ()]
    if row.get("successor_key_id"):
        notes.append("rotated")
    if row["status"] == "scheduled":
        notes.append(f"from {readable(row.get('not_before'))}")
    return notes
