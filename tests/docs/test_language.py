"""README, docs, help texts and the report have one word for one thing; words that it replaced do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from randhet.cli.app import app
from randhet.cli.listed import LISTS, filled

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").glob("*.template")])
ROOMS = ("base", "benchmarks", "cli", "compare", "export", "fixed_point", "lava_runtime", "netx", "train")
INSTEAD = {
    r"chance": "randomness; a stochastic or deterministic network",
    r"anew": "Monte-Carlo repetitions",
    r"redrawn": "random, stochastic",
    r"draws per gradient": "EOT samples per gradient",
    r"taus": "decay factors",
    r"(?:no|has|have) words? for": "cannot represent",
    r"tak(?:e|es|en|ing) over": "import",
    r"told": "recorded, reported",
    r"said": "recorded, reported",
    r"lets? go": "freed",
    r"ask(?:s|ed|ing)? for": "required",
    r"readings?": "evaluation, stock or noise-aware",
    r"strangers?": "untrusted files",
    r"warden": "guard",
    r"classifier": "read-out",
    r"sinks?": "recorder",
    r"stands? in for": "is used for",
    r"(?:goes|go|went) on": "continues",
    r"dearer|dearest": "more expensive",
    r"honest(?:ly)?": "say what is measured",
}
"""Words as patterns, and what stands in their place."""
ALLOWED = {
    ("decisions.md", "honest"): "a correction that is no forgery",
}
"""Where such a word is the right one, and why."""
OPTIONS = {"--rate": "--lr", "--step": "--attack-step"}
RENAMED = {"CHANGELOG.md"}
"""Pages that name options as they were."""


def prose(page: str) -> str:
    """Text of a page in Markdown or HTML without code, comments, addresses and what a template fills in."""
    for code in (
        r"```.*?```",
        r"<svg.*?</svg>",
        r"<!--.*?-->",
        r"\{[{%].*?[%}]\}",
        r"`[^`\n]+`",
        r"\]\([^)]*\)",
        r"<[^>]+>",
    ):
        page = re.sub(code, " ", page, flags=re.DOTALL)
    return re.sub(r"(?m)^    .*$", " ", page)


def found(text: str, where: str) -> list[str]:
    """Every word in a text that another one replaces."""
    hits = [
        f"{match.group()}: write {better}, as in ...{text[max(0, match.start() - 40) : match.end() + 20]!r}"
        for pattern, better in INSTEAD.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
        if (where, match.group().lower()) not in ALLOWED
    ]
    return hits


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    assert found(prose(page.read_text("utf-8")), page.name) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_membrane_is_at_first_a_membrane_potential(page: Path) -> None:
    first = re.search(r"(?i)membranes?\b\s*(\S+)?", prose(page.read_text("utf-8")))
    assert first is None or re.match(r"(?i)membrane\s+(potential|decay)", first.group()), first.group()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_have_their_present_names(page: Path) -> None:
    if page.name not in RENAMED:
        assert [old for old in OPTIONS if re.search(rf"{old}(?![\w-])", page.read_text("utf-8"))] == []


def helps() -> Iterator[tuple[str, str]]:
    """Help texts of every command and option as they are shown."""
    group: Any = typer.main.get_command(app)
    yield "randhet", group.help
    for name, command in group.commands.items():
        yield name, filled(command.help) or ""
        for parameter in command.params:
            yield f"{name} {parameter.name}", filled(getattr(parameter, "help", "")) or ""


def test_help_texts_use_the_words_of_the_glossary() -> None:
    texts = dict(helps())
    assert len(texts) > 100
    assert {where: hits for where, text in texts.items() if (hits := found(prose(text), where))} == {}


def strings(path: Path) -> Iterator[str]:
    """Text in a Python file that is no docstring: of a sentence's length, or part of a formatted one."""
    tree = ast.parse(path.read_text("utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in alone
            and " " in node.value
        ):
            yield node.value


def test_the_report_uses_the_words_of_the_glossary() -> None:
    folder = ROOT / "compare" / "report"
    texts = {"report.html": prose((folder / "report.html").read_text("utf-8"))}
    texts |= {path.name: "\n".join(strings(path)) for path in sorted(folder.glob("*.py"))}
    assert "Monte-Carlo repetitions" in texts["words.py"]
    assert {where: hits for where, text in texts.items() if (hits := found(text, where))} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_messages_of_the_rooms_use_the_words_of_the_glossary(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    assert {str(path): hits for path in files if (hits := found("\n".join(strings(path)), path.name))} == {}


def test_the_glossary_names_every_backend_and_every_kind_of_network() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    for name in (*LISTS["backends"](), *LISTS["neurons"](), *LISTS["objectives"]()):
        assert name == "plain" or re.search(rf"\b{name}\b", page, re.IGNORECASE), name


def test_a_word_that_returns_is_found() -> None:
    assert found("A network without chance answers.", "page.md")[0].startswith("chance: write randomness")
    assert found("Both READINGS of an attack", "page.md") and not found("a readable reference", "page.md")
    assert found(prose("`chance` in code and [a link](chance.md) and <b>words</b>"), "page.md") == []
