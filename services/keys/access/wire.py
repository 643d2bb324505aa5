"""The shapes of requests and answers about partners and budgets."""

from typing import Final

from pydantic import Field

from services.keys.wire import Because, Model, Reason
from shared.events import SuspensionHold

RATE_MIN: Final = 0.001
"""Requests a second that a network has at least; far below it, waiting times are no numbers."""


class SetFirehose(Because):
    """Whether the partner may open streams."""

    enabled: bool = Field(strict=True, examples=[True])


class SetSuspension(Because):
    """Whether the network's staff keep the partner out."""

    suspended: bool = Field(strict=True, examples=[True])


class BudgetModel(Model):
    """A token bucket: `rate` requests a second, `burst` at once."""

    rate: float = Field(strict=True, ge=RATE_MIN, le=1e6, allow_inf_nan=False, examples=[5])
    burst: int = Field(strict=True, ge=1, le=1_000_000, examples=[20])


class Budgets(Model):
    """The budgets that all keys of the network share."""

    affiliate: BudgetModel
    granular_per_hour: int = Field(
        strict=True,
        ge=1,
        le=10_000_000,
        description="Granular reports in a rolling hour.",
        examples=[1000],
    )
    shadow: bool = Field(
        strict=True, description="Whether the gateway only reports what it would refuse."
    )


class SetBudgets(Budgets):
    """The budgets that replace the present ones."""

    reason: Reason = ""


class Firehose(Model):
    """What a partner may stream."""

    network_affiliate_id: int = Field(examples=[7])
    enabled: bool = Field(examples=[True])
    suspended: bool = Field(description="Whether the partner's keys are out of work altogether.")
    propagated: bool


class Suspension(Model):
    """Whether a partner's keys work, and what keeps them from it."""

    network_affiliate_id: int = Field(examples=[7])
    suspended: bool = Field(
        description="Whether any hold stands: no key of the partner works.", examples=[True]
    )
    holds: list[SuspensionHold] = Field(
        description="`staff`, who lift it by this call, and `account_status`, which lifts itself "
        "once the account is active again.",
        examples=[["staff"]],
    )
    propagated: bool


class ChangedBudgets(Budgets):
    """The budgets after a change."""

    propagated: bool
