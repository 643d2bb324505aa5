"""Who may have a key: what stands against it, all at once, and who may set that aside. Pure."""

from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import ConflictError

SUSPENDING: Final = frozenset({"inactive", "suspended"})
"""Account statuses with which no key of a partner works."""

Obstacle = Literal[
    "in_onboarding", "no_technical_capacity", "fraud_flag", "quality_flag", "account_inactive"
]


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner as far as it decides whether a key may be issued."""

    network_id: int
    network_affiliate_id: int
    name: str
    in_onboarding: bool = False
    has_technical_capacity: bool = True
    has_fraud_flag: bool = False
    has_quality_flag: bool = False
    account_status: str = "active"

    def obstacles(self) -> tuple[Obstacle, ...]:
        """Everything that stands against a key, always in the same order."""
        found: dict[Obstacle, bool] = {
            "in_onboarding": self.in_onboarding,
            "no_technical_capacity": not self.has_technical_capacity,
            "fraud_flag": self.has_fraud_flag,
            "quality_flag": self.has_quality_flag,
            "account_inactive": self.account_status in SUSPENDING,
        }
        return tuple(obstacle for obstacle, stands in found.items() if stands)


_OBSTACLE_TEXTS: Final[dict[Obstacle, str]] = {
    "in_onboarding": "it is in onboarding",
    "no_technical_capacity": "it lacks the technical capacity",
    "fraud_flag": "it has an open fraud flag",
    "quality_flag": "it has an open quality flag",
    "account_inactive": "its account is inactive or suspended",
}


class IneligibleError(ConflictError):
    """The partner may not have a key; `obstacles` are all reasons."""

    def __init__(self, obstacles: tuple[Obstacle, ...]) -> None:
        texts = ", ".join(_OBSTACLE_TEXTS[obstacle] for obstacle in obstacles)
        super().__init__(
            f"The partner may not have a key: {texts}. "
            "A Super User may override this with a written reason (override_reason)."
        )
        self.obstacles = obstacles


def overridden(partner: Partner, reason: str, *, is_super_user: bool) -> tuple[Obstacle, ...]:
    """The obstacles that a Super User sets aside for a written `reason`; none if there are none.

    Raises:
        IneligibleError: there are some, and nobody who may sets them aside.
    """
    obstacles = partner.obstacles()
    if obstacles and not (is_super_user and reason.strip()):
        raise IneligibleError(obstacles)
    return obstacles
