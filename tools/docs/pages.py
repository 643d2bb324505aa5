"""The pages for partners: the reference of the API and the guides, as HTML that needs no script.

What they say comes from the partners' OpenAPI document and from `docs/`; a page loads nothing, not
even from its own server. `services/gateway/docs` holds them, and the gateway serves them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from shared.errors import SetupError
from tools.docs import shapes

_STATUSES_SHOWN: Final = ("200", "201", "202", "204", "304", "410")
"""Statuses of an operation's own; the others are the same everywhere, and stand once."""
_LINKS: Final = {
    "openapi.yaml": "/docs",
    "using-your-api-key.md": "/docs/using-your-api-key",
    "secret-scanning.md": "/docs/secret-scanning",
    "operator-guide.md": "",
}
"""Where documents that lie side by side are on the web; empty for what is not for partners."""


class Operation(NamedTuple):
    """One route, as the reference shows it."""

    method: str
    path: str
    anchor: str
    described: Mapping[str, Any]
    body: Mapping[str, Any]
    example: str
    answers: list[tuple[str, Mapping[str, Any], Mapping[str, Any], str]]


class Pages:
    """Renders pages."""

    def __init__(self) -> None:
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        environment = Environment(
            loader=PackageLoader("tools.docs"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["text"] = self._inline
        environment.globals.update(rows=shapes.rows, shape_of=shapes.shape_of)
        environment.globals["css"] = Markup(environment.get_template("page.css").render())  # noqa: S704 - ours
        self._reference = environment.get_template("reference.html")
        self._guide = environment.get_template("guide.html")

    def reference(self, document: Mapping[str, Any]) -> str:
        """The page of an OpenAPI document."""
        operations = [
            _operation(method, path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        return self._reference.render(
            title="API reference",
            info=document["info"],
            operations=operations,
            errors=_errors(operations),
            schemas=document["components"]["schemas"],
        )

    def guide(self, text: str) -> str:
        """The page of a Markdown document.

        Raises:
            SetupError: it links to a file that is no page.
        """
        tokens = self._markdown.parse(text)
        title, parts = "", []
        for heading, content in pairwise(tokens):
            if heading.type == "heading_open":
                heading.attrSet("id", _anchor(content.content))
                title = title or content.content
                if heading.tag == "h2":
                    parts.append((_anchor(content.content), content.content))
        for token in tokens:
            token.children = token.children and list(_on_the_web(token.children))
        body = self._markdown.renderer.render(tokens, self._markdown.options, {})
        return self._guide.render(title=title, body=Markup(body), parts=parts)  # noqa: S704 - escaped

    def _inline(self, text: str) -> Markup:
        return Markup(self._markdown.renderInline(text))  # noqa: S704 - escaped by the renderer


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _on_the_web(tokens: Iterable[Token]) -> Iterator[Token]:
    """A line whose links lead to pages; those to other documents are not links any more."""
    is_named_only = False
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href")))
            token.attrSet("href", target)
            is_named_only = not target
        if not (is_named_only and token.type in ("link_open", "link_close")):
            yield token
        is_named_only = is_named_only and token.type != "link_close"


def _target(link: str) -> str:
    name, _, anchor = link.partition("#")
    if not name or name.startswith("https://"):
        return link
    if name not in _LINKS:
        raise SetupError(f"docs: {link} is no page for partners.")
    page = _LINKS[name]
    return f"{page}#{anchor}" if page and anchor else page


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Operation:
    body = _json_of(described.get("requestBody", {}))
    answers = [
        (status, answer, _json_of(answer).get("schema", {}), _shown(_json_of(answer)))
        for status, answer in described["responses"].items()
        if status in _STATUSES_SHOWN
    ]
    anchor = re.sub(r"[^a-z0-9]+", "-", f"{method}{path}").strip("-")
    return Operation(
        method.upper(), path, anchor, described, body.get("schema", {}), _shown(body), answers
    )


def _json_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = message.get("content", {}).get("application/json", {})
    return found


def _shown(content: Mapping[str, Any]) -> str:
    """An example as it reads best; empty if there is none."""
    if "example" not in content:
        return ""
    return json.dumps(content["example"], indent=2, ensure_ascii=False)


def _errors(operations: Iterable[Operation]) -> dict[str, str]:
    """What errors mean that every route can answer."""
    return {
        status: answer["description"]
        for operation in operations
        for status, answer in sorted(operation.described["responses"].items())
        if status not in _STATUSES_SHOWN
    }
