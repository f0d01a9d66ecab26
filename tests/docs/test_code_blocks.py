"""Every code block of the README and the docs runs, page by page, in an empty folder beside the shipped checkpoints.

Blocks of sh and python are run in order; console and text are what a page shows. A comment
`<!-- needs: lava -->` before a block says that it runs only where Lava is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from randhet.lava_runtime.available import missing

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
SHOWN = {"console", "text", "toml", "json"}
BY_CI = {"make demo", "make test"}
"""What .ci/run itself calls."""


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """(language, code, the comment right before) of the fenced blocks of a page."""
    before = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            yield token.info.strip(), token.content, before
        before = token.content.strip() if token.type == "html_block" else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_fences_say_what_they_are(page: Path) -> None:
    assert {language for language, _, _ in blocks(page)} <= set(RUN) | SHOWN


def runs(page: Path) -> bool:
    return any(language in RUN for language, _, _ in blocks(page))


@pytest.mark.parametrize("page", list(filter(runs, PAGES)), ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.timeout(900)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    for name in ("checkpoints", "configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    for language, code, before in blocks(page):
        if language not in RUN or code.strip() in BY_CI or ("needs: lava" in before and missing()):
            continue
        done = subprocess.run([*RUN[language], code], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_ci_calls_what_is_left_to_it() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for command in BY_CI:
        make, target = command.split()
        assert any(line.split()[:1] == [make] and target in line.split() for line in script.splitlines()), command
