"""What the documents say can be followed: links lead somewhere, examples are true."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.main import get_command

from services.firehose.handlers import NOT_ENABLED
from services.keys.metrics import KeysMetrics
from shared import access, partner_key
from shared.errors import UnauthenticatedError
from tests.backends import ROOT
from tools.cli import app

DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("services/*/README.md"),
        *ROOT.glob("deploy/**/README.md"),
    )
    if "node_modules" not in path.parts
)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCANNING = ROOT / "docs" / "secret-scanning.md"
EXAMPLE = "aff_0123456789ABCDEFGHIJKLMNOPQ2Fyy18"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = FENCE.sub("", document.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_inside_the_project_leads_somewhere(document: Path) -> None:
    """A file that was moved, or a heading that was renamed, is not left pointed at."""
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / unquote(path)).resolve() if path else document
        assert file.exists(), f"{named(document)} points to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{named(document)} points to {target}"


def test_links_are_found_at_all() -> None:
    """The control: the README leads to every service, and a wrong anchor is noticed."""
    found = LINK.findall((ROOT / "README.md").read_text())
    assert len([target for target in found if target.startswith("services/")]) == 5
    assert "where-a-key-may-stand" in anchors(SCANNING)
    assert "where-a-key-may-fly" not in anchors(SCANNING)


def fenced(document: Path, language: str) -> list[str]:
    """The examples of a document in one language."""
    return [text for name, text in FENCE.findall(document.read_text()) if name == language]


@pytest.fixture
def keys_in() -> Any:
    """The verifier that the document prints."""
    found: dict[str, Any] = {}
    exec(fenced(SCANNING, "python")[0], found)
    return found["keys_in"]


@pytest.mark.parametrize("name", ["operator-guide.md", "using-your-api-key.md"])
def test_the_guides_quote_errors_as_they_are(name: str) -> None:
    """Who looks up the text of an error finds it."""
    guide = (ROOT / "docs" / name).read_text()
    source = (ROOT / "shared" / "access.py").read_text()
    suspended = re.search(r'text = "(API access .*)"', source)
    assert suspended
    for text in (
        access.NO_METHOD,
        access.OUT_OF_REALM,
        UnauthenticatedError().message,
        NOT_ENABLED,
        suspended[1],
    ):
        assert f"`{text}`" in guide


COMMANDS = {
    line
    for document in DOCUMENTS
    for line in re.findall(
        r"(?:^|[`(]|\.venv/bin/)(portico [a-z][^`\n]*)", document.read_text(), re.MULTILINE
    )
}


@pytest.mark.parametrize("line", sorted(COMMANDS))
def test_every_command_in_the_documents_exists(line: str) -> None:
    """Commands, options and the number of arguments are those of the program."""
    words = shlex.split(line.rstrip("\\)").replace(" …", ""), comments=True)[1:]
    command: Any = get_command(app)
    while hasattr(command, "commands") and words:
        name, *words = words
        assert name in command.commands, f"there is no {name}"
        command = command.commands[name]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
    needed = [one for one in command.params if one.param_type_name == "argument" and one.required]
    values = [word for word in words if not word.startswith("-")]
    assert not words or len(values) >= len(needed)


def test_commands_are_found_at_all() -> None:
    """The control: every command for keys is explained somewhere."""
    told = {line.split()[2] for line in COMMANDS if line.startswith("portico keys ")}
    root: Any = get_command(app)
    assert told == set(root.commands["keys"].commands)


def test_the_metrics_to_watch_exist() -> None:
    """Whoever alarms on what the guide names hears of it."""
    guide = (ROOT / "docs" / "operator-guide.md").read_text()
    named = set(re.findall(r"`(keys_[a-z_]+|replica_[a-z_]+)`", guide))
    own = KeysMetrics().render().decode()
    shared = "".join((ROOT / "shared" / name).read_text() for name in ("outbox.py", "replica.py"))
    assert len(named) >= 8
    for name in named:
        assert f"# HELP {name} " in own or name.removeprefix("keys_outbox") in shared, name


def test_the_examples_in_python_are_python() -> None:
    """Those for partners are run against a whole platform elsewhere."""
    examples = fenced(ROOT / "docs" / "using-your-api-key.md", "python")
    assert len(examples) >= 3
    for example in examples:
        compile(example, "using-your-api-key.md", "exec")


def test_the_published_verifier_knows_every_key_we_make(keys_in: Any) -> None:
    """Whoever follows the document finds what we issue, wherever in a text it stands."""
    made = [partner_key.generate().reveal() for _ in range(200)]
    text = "\n".join(f'KEY="{one}" # and on' for one in made)
    assert list(keys_in(text)) == made


def test_the_published_verifier_agrees_with_the_doors(keys_in: Any) -> None:
    """Any one character that differs makes it no key, there and here."""
    assert partner_key.is_well_formed(EXAMPLE)
    assert list(keys_in(EXAMPLE)) == [EXAMPLE]
    for place in range(4, len(EXAMPLE)):
        digit = "0" if EXAMPLE[place] != "0" else "1"
        wrong = EXAMPLE[:place] + digit + EXAMPLE[place + 1 :]
        assert not partner_key.is_well_formed(wrong)
        assert not list(keys_in(wrong))


def test_every_published_pattern_finds_a_key_and_nothing_longer() -> None:
    """The entries for scanners are well-formed files, and their patterns say what ours says."""
    (gitleaks,) = map(tomllib.loads, fenced(SCANNING, "toml"))
    (trufflehog,) = map(yaml.safe_load, fenced(SCANNING, "yaml"))
    patterns = [
        gitleaks["rules"][0]["regex"],
        trufflehog["detectors"][0]["regex"]["key"],
        *re.findall(r're\.compile\(r"(.+?)"\)', fenced(SCANNING, "python")[1]),
    ]
    assert len(patterns) == 3
    for pattern in patterns:
        key = partner_key.generate().reveal()
        assert re.search(pattern, f"x = '{key}';")
        assert re.search(pattern, f"https://door/?key={key}")
        assert not re.search(pattern, f"{key}A")
        assert not re.search(pattern, key[:-1])
    (plain,) = (text.strip() for text in fenced(SCANNING, "") if text.startswith("aff_"))
    assert re.fullmatch(plain, partner_key.generate().reveal())
