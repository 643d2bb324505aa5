"""Reading `RateLimit-Policy` and `RateLimit` as a partner's program does, and holding them to the decision.

Both are lists of structured fields (RFC 9651) in draft-ietf-httpapi-ratelimit-headers-10: an item for
each policy, a string that names it, with whole numbers as parameters.
"""

import re

from tests.hostile_parts import Message

Items = dict[str, dict[str, int]]
_ITEM = re.compile(r'"([ -!#-\[\]-~]*)"((?:;[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*)')


def items(text: str) -> Items:
    """The parameters of each policy in a header's value."""
    found: Items = {}
    for part in text.split(", "):
        item = _ITEM.fullmatch(part)
        assert item is not None, text
        name, rest = item.groups()
        assert name not in found, text
        pairs = [pair.split("=") for pair in rest.split(";")[1:]]
        found[name] = {key: int(value) for key, value in pairs}
        assert len(found[name]) == len(pairs), text
    return found


def limits_of(answer: Message) -> tuple[Items, Items]:
    """The policies and what remains of them, after a look at whether they agree with one another.

    The older headers, both structured ones and `Retry-After` say the same thing about the same
    decision, whatever the status.
    """
    policies = items(answer.value("ratelimit-policy") or "")
    states = items(answer.value("ratelimit") or "")
    assert list(policies) == list(states)
    assert "affiliate" in policies
    for name, state in states.items():
        policy = policies[name]
        assert set(policy) == {"q", "w"}
        assert set(state) == {"r", "t"}
        assert 0 <= state["r"] <= policy["q"]
        assert 0 <= state["t"] <= policy["w"]
        assert state["r"] or state["t"], "nothing left, and no time to wait"
    assert answer.value("x-ratelimit-limit") == str(policies["affiliate"]["q"])
    assert answer.value("x-ratelimit-remaining") == str(states["affiliate"]["r"])
    if answer.status == 429:
        (violated,) = answer.json["violated-policies"]
        assert states[violated]["r"] == 0
        assert answer.value("retry-after") == str(states[violated]["t"])
    return policies, states


def shows_limits(answer: Message) -> bool:
    """Whether an answer tells anything of a budget."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit-policy", "ratelimit")
    shown = [bool(answer.values(name)) for name in names]
    assert all(shown) or not any(shown), shown
    return all(shown)
