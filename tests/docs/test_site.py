"""The site builds without a warning, its generated pages are as the code makes them, and imports keep to the rooms."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = runpy.run_path(str(ROOT / "scripts" / "write_docs"))["PAGES"]
ALLOWED = {
    "fixed_point": set(),
    "train": {"fixed_point"},
    "export": {"fixed_point", "train"},
    "lava_runtime": {"fixed_point", "export"},
    "compare": {"fixed_point", "train", "export", "lava_runtime"},
    "randhet": {"fixed_point", "train", "export", "lava_runtime", "compare"},
}
"""The rooms and what each may import, as the design has it."""
OUTSIDE = {"lava": {"lava_runtime"}, "torch": {"train", "export", "compare", "randhet"}}


def modules(room: str) -> dict[Path, set[str]]:
    """Top-level packages that each file of a room imports."""
    found: dict[Path, set[str]] = {}
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        names = [
            name
            for node in tree
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        found[path] = {name.partition(".")[0] for name in names}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_between_rooms_point_one_way(room: str) -> None:
    for path, names in modules(room).items():
        assert names & set(ALLOWED) <= ALLOWED[room] | {room}, path


@pytest.mark.parametrize("package", OUTSIDE)
def test_heavy_packages_stay_in_their_rooms(package: str) -> None:
    for room in set(ALLOWED) - OUTSIDE[package]:
        assert [path for path, names in modules(room).items() if package in names] == []


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    """To renew them: python scripts/write_docs."""
    assert (ROOT / "docs" / name).read_text() == PAGES[name]()


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="MkDocs is not installed: the extra docs")
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "tutorial" / "index.html").exists()
