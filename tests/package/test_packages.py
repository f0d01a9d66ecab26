"""The packages in pyproject.toml, the folders, the links and what the type checker reads are the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES: list[str] = SETTINGS["setuptools"]["packages"]
MAPPED: dict[str, str] = SETTINGS["setuptools"]["package-dir"]
DATA = "randhet.checkpoints"
"""Files without code."""


def folder(package: str) -> Path:
    """Where a package's files lie: the mapping of the longest of its parents, as setuptools resolves it."""
    parents = [package.rsplit(".", count)[0] for count in range(package.count(".") + 1)]
    parent = next(name for name in parents if name in MAPPED)
    return ROOT / MAPPED[parent] / Path(*package[len(parent) :].strip(".").split("."))


def rooms() -> list[str]:
    """The rooms of the package: folders at the top with a link of theirs in randhet/."""
    return sorted(path.name for path in (ROOT / "randhet").iterdir() if path.is_symlink())


def test_every_room_is_mapped_and_linked_to_its_folder() -> None:
    expected = {"randhet": "randhet", DATA: "checkpoints"} | {f"randhet.{room}": room for room in rooms()}
    assert expected == MAPPED
    for room in rooms():
        assert (ROOT / "randhet" / room).readlink() == Path("..") / room


def test_the_list_holds_every_folder_with_code_and_no_other() -> None:
    found = {"randhet", DATA}
    for room in rooms():
        for path in (ROOT / room).rglob("*.py"):
            found.add(".".join(("randhet", *path.parent.relative_to(ROOT).parts)))
    assert sorted(found) == sorted(PACKAGES)
    assert len(set(PACKAGES)) == len(PACKAGES)


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {DATA}))
def test_every_package_has_an_init(package: str) -> None:
    assert (folder(package) / "__init__.py").is_file()


def test_files_that_are_not_code_are_shipped() -> None:
    """Anything beside code that lies in a room is matched by a pattern of package-data."""
    patterns = SETTINGS["setuptools"]["package-data"]["*"]
    files = [path for room in rooms() for path in (ROOT / room).rglob("*") if path.is_file()]
    others = [path for path in files if path.suffix != ".py" and path.parent.name != "__pycache__"]
    assert len(others) >= 4
    assert [path for path in others if not any(path.match(pattern) for pattern in patterns)] == []


def test_the_type_checker_reads_every_file() -> None:
    main = pytest.importorskip("mypy.main")
    sources, _ = main.process_options(["--config-file", str(ROOT / "pyproject.toml")])
    read = {Path(source.path).resolve() for source in sources if source.path}
    checked = [ROOT / name for name in (*rooms(), "hardware_tests")]
    wanted = {path for place in checked for path in place.rglob("*.py")}
    wanted |= {ROOT / "randhet" / name for name in ("__init__.py", "__main__.py")}
    assert len(wanted) > 200
    assert wanted - read == set()
