"""Protects a link over any history: shown once at most, closed by guesses, no step untold."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.keys import domain as keys_domain
from services.keys.domain import Cause
from services.keys.shares import domain
from services.keys.shares.domain import TOLD_SECONDS, VISITOR, WRONG_PASSPHRASES_MAX, Target
from shared.errors import ConflictError
from shared.events import Actor
from tests.keys_parts import KEY, NOW
from tests.shares_parts import SHARE
from tests.soak import count

ADA = Actor(subject="user-7", name="Ada")


class Link(RuleBasedStateMachine):
    """A link, its key and the clock, beside what is remembered of what happened."""

    @initialize(has_passphrase=st.booleans())
    def make(self, has_passphrase):
        self.now = NOW
        passphrase = b"salt and hash" if has_passphrase else b""
        self.share = replace(SHARE, has_passphrase=has_passphrase, passphrase=passphrase)
        self.share = replace(self.share, expires_at=NOW + 300)
        self.target = Target(replace(KEY, expires_at=None), is_suspended=False)
        self.shown = self.wrong = 0
        self.vain_told_at: list[float] = []
        self.is_over = False

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 61.0, 200.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(knows=st.booleans())
    def press(self, knows):
        fits = knows or not self.share.has_passphrase
        before, state = self.share, domain.state_of(self.share, self.target, self.now)
        cause = Cause(VISITOR, self.now, "", "request-1", "198.51.100.7")
        opening = domain.opened(before, self.target, fits=fits, cause=cause)
        self.share = opening.share
        if opening.outcome == "shown":
            self.shown += 1
            assert fits
            assert state == "open"
            assert not self.is_over
            assert (self.target.is_suspended, opening.event.outcome) == (False, "shown")
        elif state == "open":
            self.wrong += 1
            assert opening.event.outcome == "refused"
        else:
            assert opening.outcome == state
            assert replace(opening.share, told_at=before.told_at) == before
            if opening.event is not None:
                self.vain_told_at.append(self.now)
        self.is_over |= self.share.status != "open"

    @rule()
    def withdraw(self):
        cause = Cause(ADA, self.now, "", "request-1", "192.0.2.7")
        state = domain.state_of(self.share, self.target, self.now)
        try:
            change = domain.withdrawn(self.share, self.target, cause)
        except ConflictError:
            assert state in ("used", "locked", "expired")
            return
        assert (change is None) == (state == "withdrawn")
        if change is not None:
            self.share = change[0]
            self.is_over = True

    @rule()
    def revoke(self):
        change = keys_domain.revoked(self.target.key, Cause(ADA, self.now))
        if change is not None:
            self.target = replace(self.target, key=change.now)
        self.is_over = True

    @rule(suspended=st.booleans())
    def suspend(self, suspended):
        self.target = replace(self.target, is_suspended=suspended)

    @invariant()
    def it_is_shown_once_at_most(self):
        assert self.shown == (self.share.status == "used")

    @invariant()
    def guesses_close_it(self):
        assert self.wrong == self.share.wrong_passphrases <= WRONG_PASSPHRASES_MAX
        assert (self.wrong == WRONG_PASSPHRASES_MAX) == (self.share.status == "locked")

    @invariant()
    def it_ends_once_and_keeps_no_passphrase(self):
        if self.share.status != "open":
            assert self.share.passphrase == b""
            assert NOW <= self.share.ended_at <= self.now

    @invariant()
    def nobody_floods_the_trail(self):
        pairs = zip(self.vain_told_at, self.vain_told_at[1:], strict=False)
        assert all(later - earlier >= TOLD_SECONDS for earlier, later in pairs)


TestLink = Link.TestCase
TestLink.settings = settings(
    max_examples=count(60, 2_000), stateful_step_count=30, deadline=None, print_blob=True
)
