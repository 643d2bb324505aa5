"""Protects the published document: the key service answers as it says, whatever it is asked.

Requests are made up from `docs/openapi.yaml` itself, right ones and wrong ones, by callers of every
kind, about keys that exist and keys that do not, and sent to a running service as the gateway would.
"""

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared.routes import of_service
from shared.tokens import SECURITY_READ, Caller
from tests import published
from tests.keys_parts import Platform, clerk, network, partner, staff
from tests.soak import count

CHECKS = [
    not_a_server_error,
    negative_data_rejection,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SECRET = re.compile(r"aff_[0-9A-Za-z]{33}")
SHOWING = frozenset(
    {
        ("POST", "/v1/networks/affiliates/{affiliate_id}/apikeys"),
        ("POST", "/v1/networks/apikey"),
        ("POST", "/v1/networks/apikeys/{key_id}/reveal"),
        ("POST", "/v1/networks/apikeys/{key_id}/rotate"),
        ("POST", "/v1/shares/{token}"),
        ("GET", "/v1/partner/apikeys"),
    }
)
"""Whose answers may carry a secret."""
CALLERS = ("super", "super", "super", "staff", "reader", "clerk", "partner", "stranger", "nobody")
SECONDS = 120


def _document() -> dict[str, Any]:
    """The published one, without who may call: callers are of our own choosing."""
    found = published.openapi()
    del found["components"]["securitySchemes"]
    for operations in found["paths"].values():
        for operation in operations.values():
            del operation["security"]
    return found


_SCHEMA = schemathesis.openapi.from_dict(_document())


@dataclass
class Scene:
    """A network with keys and links in it, and those who call.

    Attributes:
        keys: ids that exist, in this network and in another.
        links: those of links: their ids and their tokens.
    """

    platform: Platform
    network_id: int
    keys: list[str] = field(default_factory=list)
    shares: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def caller(self, kind: str) -> Caller | None:
        """Somebody of this kind."""
        found = {
            "super": staff(self.network_id, super_user=True),
            "staff": staff(self.network_id),
            "reader": staff(self.network_id, SECURITY_READ),
            "clerk": clerk(self.network_id),
            "partner": Caller("user-9", network_id=self.network_id, network_affiliate_id=7),
            "stranger": staff(self.network_id + 1),
        }
        return found.get(kind)

    async def fill(self) -> None:
        """Tell of two partners, of whom one may have no key, and issue keys to the other."""
        flagged = partner(self.network_id, 8, has_fraud_flag=True)
        await self.platform.tell(partner(self.network_id), flagged)
        for number in range(4):
            await self.issue(f"integration {number}")

    async def issue(self, integration: str) -> None:
        """One more key, with a link."""
        caller = staff(self.network_id)
        self.keys.append((await self.platform.issue(caller, 7, integration))["key_id"])
        path = f"/v1/networks/apikeys/{self.keys[-1]}/shares"
        link = (await self.platform.call("POST", path, caller)).json()
        self.shares.append(link["share_id"])
        self.tokens.append(link["url"].rpartition("/")[2])

    def name(self, case: Any, source: random.Random) -> None:
        """Have `case` name things that exist, most of the time; a wrong name stays as it is."""
        path = case.meta.components.get(ParameterLocation.PATH)
        if path is not None and not path.mode.is_positive:
            return
        found = {
            "key_id": self.keys,
            "share_id": self.shares,
            "token": self.tokens,
            "affiliate_id": ["7", "7", "8", "9"],
        }
        for parameter in case.path_parameters or {}:
            if source.random() < 0.8:
                case.path_parameters[parameter] = source.choice(found[parameter])

    def learn(self, answer: Any) -> None:
        """Keep what an answer has made, so that later requests can be about it."""
        if answer.status_code == 201:
            made = answer.json()
            self.keys.append(made["key_id"])
            if "url" in made:
                self.shares.append(made["share_id"])
                self.tokens.append(made["url"].rpartition("/")[2])


class Signed:
    """Adds to a request what the gateway adds, and its caller's token."""

    def __init__(self, platform: Platform, caller: Caller | None) -> None:
        self._platform = platform
        self._caller = caller

    def __call__(self, request: Any) -> Any:
        path = urlsplit(request.url).path
        request.headers.pop("authorization", None)
        request.headers.update(self._platform.headers(request.method, path, self._caller))
        return request


@pytest.fixture(scope="module")
def scene(service: Platform) -> Scene:
    """A network of this module's own, filled."""
    made = Scene(service, network())
    asyncio.run(made.fill())
    return made


def _strategy(method: str, template: str) -> st.SearchStrategy[Any]:
    operation = _SCHEMA[template][method]
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return st.one_of(right, right, wrong)


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("method", "template"),
    [(route.method, route.template) for route in of_service("keys")],
)
def test_the_service_answers_as_the_document_says(scene: Scene, method: str, template: str):
    """No fault of ours, and no status, header or shape that the document does not have."""
    is_partners = template.startswith("/v1/partner")
    callers = ("partner", *CALLERS) if is_partners else CALLERS

    @settings(max_examples=count(7, 100), phases=[Phase.generate])
    @given(_strategy(method, template), st.sampled_from(callers), st.integers(0, 2**32))
    def holds(case: Any, kind: str, seed: int) -> None:
        scene.name(case, random.Random(seed))
        signed = Signed(scene.platform, scene.caller(kind))
        answer = case.call(base_url=scene.platform.url, auth=signed, timeout=SECONDS)
        case.validate_response(answer, checks=CHECKS)
        if kind in ("clerk", "nobody") and "shares/{token}" not in template:
            assert answer.status_code in (400, 401, 403, 404), "it went through"
        if (method, template) not in SHOWING or answer.status_code >= 400:
            assert not SECRET.search(answer.text)
        scene.learn(answer)

    holds()
