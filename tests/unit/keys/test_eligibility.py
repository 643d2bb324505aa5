"""Protects who may have a key: every reason against it is told at once, and only a Super User overrides."""

from itertools import product

import pytest

from services.keys import eligibility
from services.keys.eligibility import IneligibleError, Partner


@pytest.mark.parametrize("flags", list(product([False, True], repeat=5)))
def test_every_obstacle_is_told_and_no_other(flags):
    """All combinations; none means that a key may be issued."""
    onboarding, incapable, fraud, quality, inactive = flags
    status = "inactive" if inactive else "active"
    partner = Partner(201, 7, "Cedar", onboarding, not incapable, fraud, quality, status)
    names = (
        "in_onboarding",
        "no_technical_capacity",
        "fraud_flag",
        "quality_flag",
        "account_inactive",
    )
    expected = tuple(name for name, stands in zip(names, flags, strict=True) if stands)
    assert partner.obstacles() == expected


def test_a_refusal_tells_all_reasons_and_the_way_out():
    """Staff need not try again for each."""
    error = IneligibleError(("in_onboarding", "fraud_flag"))
    assert error.message == (
        "The partner may not have a key: it is in onboarding, it has an open fraud flag. "
        "A Super User may override this with a written reason (override_reason)."
    )


def test_a_super_user_with_a_reason_sets_obstacles_aside_and_nobody_else():
    """Without obstacles nobody needs one, and nothing is told as set aside."""
    flagged = Partner(201, 7, "Cedar", has_fraud_flag=True, account_status="suspended")
    found = ("fraud_flag", "account_inactive")
    assert eligibility.overridden(flagged, "agreed", is_super_user=True) == found
    for reason, is_super_user in (("agreed", False), (" ", True), ("", True)):
        with pytest.raises(IneligibleError) as refused:
            eligibility.overridden(flagged, reason, is_super_user=is_super_user)
        assert refused.value.obstacles == found
    assert eligibility.overridden(Partner(201, 7, "Cedar"), "", is_super_user=False) == ()
