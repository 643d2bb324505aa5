"""The door: judges a request in the one order that the contract has, without waiting.

Route, key, realm, status and time window, allowlist, partner, budget. What comes later in that
order tells nothing to whoever fails earlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from msgspec.structs import replace

from services.gateway.domain import (
    GRANULAR_POLICY,
    POLICY,
    TOKEN_POLICY,
    Carried,
    Passage,
    Rejection,
    Request,
    over_budget,
    rejection_of,
)
from services.gateway.granular import REPORT_BYTES_MAX, is_granular
from services.gateway.guessing import Guesses
from services.gateway.hourly import HourlyLimiter
from services.gateway.http1.wire import RequestLine
from services.gateway.limiter import Limiter, Verdict
from services.gateway.sharing import SharedBudgets
from shared.access import (
    NO_METHOD,
    AccessTable,
    ClientAddresses,
    Decision,
    Grant,
    Network,
    Refusal,
)
from shared.clock import Clock
from shared.errors import UnauthenticatedError
from shared.events import Budget
from shared.identity import LIFETIME_SECONDS, Identity, IdentitySigner
from shared.routes import ROUTES, Route, RouteTable

ROUTED: Final = tuple(route for route in ROUTES if route.service != "firehose")
"""What passes here: streams have a door of their own."""
_SHOWS_BUDGET: Final = ("allowlist", "suspended")
"""Refusals after which the network may be known to the caller: their key works as such."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of requests."""

    header_bytes_max: int
    body_bytes_max: int
    token_budget: Budget
    guess_budget: Budget


@dataclass(frozen=True, slots=True)
class _Row:
    """What the table of routes says about a first line."""

    route: Route | None


class Door:
    """Judges requests.

    Args:
        access: who comes in.
        signer: signs identities for upstreams.
        clock: the time.
        trusted: our own proxies.
        limits: bounds.
        shared: the networks' budgets; without them this gateway keeps its own.
    """

    def __init__(
        self,
        access: AccessTable,
        signer: IdentitySigner,
        clock: Clock,
        *,
        trusted: tuple[Network, ...],
        limits: Limits,
        shared: SharedBudgets | None = None,
    ) -> None:
        self._access = access
        self._signer = signer
        self._clock = clock
        self._clients = ClientAddresses(trusted)
        self._limits = limits
        self._routes = RouteTable(ROUTED)
        self._budgets = Limiter(clock) if shared is None else shared.buckets
        self._hourly = HourlyLimiter(clock) if shared is None else shared.hourly
        self._addresses = Limiter(clock)
        self._guesses = Guesses(clock, limits.guess_budget)

    def judge(self, request: Request) -> Passage:
        """What becomes of `request`; takes a token if it gets as far as that."""
        carried = request.carried
        address = self._clients.of(request.peer, carried.forwarded_for)
        route = self._route(request.line)
        if carried.size > self._limits.header_bytes_max:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return Passage(route, address, rejection=_too_large(status, "Headers"))
        if route is None:
            return Passage(None, address, rejection=self._no_route(request.line))
        if route.authentication == "key":
            passage = self._judge_key(carried, route, address)
        elif route.authentication == "jwt":
            passage = self._judge_token(carried, route, address)
        else:
            passage = Passage(route, address, rejection=self._address_limit(address))
        return self._bounded(passage, carried.declared_bytes) if carried.declared_bytes else passage

    def judge_report(self, passage: Passage, content: bytes) -> Passage:
        """What becomes of a request that was let in, once the body of its report is known."""
        caller, route = passage.caller, passage.route
        if caller is None or route is None:
            return passage
        if route.granular != "always" and not is_granular(content):
            return passage
        state = self._access.network(caller.network_id)
        verdict = self._hourly.take(
            (caller.network_id, caller.realm), state.granular_per_hour, shadow=state.shadow
        )
        rejection = None if verdict.admitted else over_budget(verdict, GRANULAR_POLICY)
        return replace(passage, granular=verdict, rejection=rejection)

    def body_bytes_max(self, route: Route) -> int:
        """The longest body of a request to `route`."""
        longest = self._limits.body_bytes_max
        return min(longest, REPORT_BYTES_MAX) if route.granular else longest

    def identity(self, request: Request, passage: Passage, path: str) -> str:
        """The signed header for the upstream of a request that was let in."""
        caller = passage.caller
        return self._signer.sign(
            Identity(
                network_id=0 if caller is None else caller.network_id,
                network_affiliate_id=0 if caller is None else caller.network_affiliate_id,
                key_id="" if caller is None else caller.key_id,
                request_id=request.request_id,
                client_ip=passage.client_ip,
                method=request.line.method,
                path=path,
                expires_at=int(self._clock.time()) + LIFETIME_SECONDS,
            )
        )

    def _route(self, line: RequestLine) -> Route | None:
        """The row of the request, looked up once for all that begin with the same line."""
        found = line.notes
        if not isinstance(found, _Row):
            found = line.notes = _Row(self._routes.find(line.method, line.path))
        return found.route

    def _no_route(self, line: RequestLine) -> Rejection:
        methods = self._routes.methods(line.path)
        if not methods:
            return Rejection(HTTPStatus.NOT_FOUND, "Not Found", "path")
        allow = ", ".join(methods).encode()
        status = HTTPStatus.METHOD_NOT_ALLOWED
        return Rejection(status, "Method Not Allowed", "method", ((b"allow", allow),))

    def _judge_key(self, carried: Carried, route: Route, address: str) -> Passage:
        decision = self._decide(carried, route, address)
        caller, refusal = decision.caller, decision.refusal
        if refusal is not None:
            shown = caller if refusal.reason in _SHOWS_BUDGET else None
            verdict = None if shown is None else self._peek(shown)
            return Passage(
                route, address, caller, verdict, rejection=self._refused(refusal, address)
            )
        if caller is None:
            missing = rejection_of(UnauthenticatedError(NO_METHOD), "missing")
            return Passage(route, address, rejection=missing)
        verdict = self._take(caller)
        if verdict.admitted:
            return Passage(route, address, caller, verdict)
        return Passage(route, address, caller, verdict, rejection=over_budget(verdict, POLICY))

    def _judge_token(self, carried: Carried, route: Route, address: str) -> Passage:
        """Only the owning service can verify a token; a partner's key is out of its realm."""
        decision = self._decide(carried, route, address)
        if decision.refusal is not None:
            rejection = self._refused(decision.refusal, address)
            return Passage(route, address, decision.caller, rejection=rejection)
        if not carried.has_authorization:
            missing = rejection_of(UnauthenticatedError(NO_METHOD), "missing")
            return Passage(route, address, rejection=missing)
        return Passage(route, address, rejection=self._address_limit(address))

    def _decide(self, carried: Carried, route: Route, address: str) -> Decision:
        """What the key header says; neither caller nor refusal if there is none."""
        keys = carried.keys
        if len(keys) == 1:
            return self._access.decide(
                keys[0], realm=route.realm, client_ip=address, now=self._clock.time()
            )
        if not keys:
            return Decision(None, None)
        return Decision(None, Refusal("unknown", UnauthenticatedError()))

    def _refused(self, refusal: Refusal, address: str) -> Rejection:
        return self._guesses.answer(rejection_of(refusal.error, refusal.reason), address)

    def _take(self, caller: Grant) -> Verdict:
        state = self._access.network(caller.network_id)
        name = (caller.network_id, caller.realm)
        return self._budgets.take(name, state.affiliate, shadow=state.shadow)

    def _peek(self, caller: Grant) -> Verdict:
        state = self._access.network(caller.network_id)
        return self._budgets.peek((caller.network_id, caller.realm), state.affiliate)

    def _address_limit(self, address: str) -> Rejection | None:
        verdict = self._addresses.take(address, self._limits.token_budget)
        return None if verdict.admitted else over_budget(verdict, TOKEN_POLICY)

    def _bounded(self, passage: Passage, declared: int) -> Passage:
        if passage.rejection is not None or passage.route is None:
            return passage
        if declared <= self.body_bytes_max(passage.route):
            return passage
        return replace(passage, rejection=BODY_TOO_LARGE)


def _too_large(status: HTTPStatus, what: str) -> Rejection:
    return Rejection(status, f"{what} too large", "size")


BODY_TOO_LARGE: Final = _too_large(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Body")

Upstreams = Mapping[str, str]
"""Base URLs by service."""
