"""Protects who acts, as rows and events tell it: the person, and whoever is behind them."""

from services.keys.staff import NAME_LENGTH_MAX, Staff
from shared.events import Actor
from shared.tokens import Caller
from tests.keys_parts import CLIENT_IP, NOW


def test_a_cause_names_both_persons_the_moment_and_the_request():
    """A partner's user is no staff, whatever else their token says."""
    ada = Caller("user-7", "Ada", network_id=201, behind="user-1")
    cause = Staff(ada, "request-1", CLIENT_IP).cause(NOW, "why")
    assert cause.actor == Actor(subject="user-7", name="Ada", behind="user-1", kind="staff")
    assert (cause.at, cause.reason, cause.request_id) == (NOW, "why", "request-1")
    assert cause.client_ip == CLIENT_IP
    partner_user = Caller("user-9", network_id=201, network_affiliate_id=7)
    assert Staff(partner_user, "request-1", CLIENT_IP).cause(NOW).actor.kind == "partner"


def test_a_name_is_kept_as_far_as_it_can_be_read():
    """What does not print would break a row, or hide what follows it."""
    odd = Caller("user-7", "A\x00d\u202ea" + "x" * 300, network_id=201)
    name = Staff(odd, "request-1", CLIENT_IP).cause(NOW).actor.name
    assert name == ("Ada" + "x" * 300)[:NAME_LENGTH_MAX]
