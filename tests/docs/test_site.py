"""The site builds without a warning, its generated pages are as the code makes them, and imports keep to the rooms."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRITER = runpy.run_path(str(ROOT / "scripts" / "write_docs"))
PAGES, ROOMS, SVG = WRITER["PAGES"], WRITER["ROOMS"], WRITER["svg"]
BELOW = {
    "base": set(),
    "fixed_point": {"base"},
    "train": {"base"},
    "netx": {"base", "fixed_point"},
    "export": {"base", "fixed_point", "train", "netx"},
    "lava_runtime": {"base", "fixed_point", "netx"},
    "compare": {"base", "fixed_point", "train", "netx", "export", "lava_runtime"},
    "benchmarks": {"base", "fixed_point", "train", "netx", "export", "lava_runtime"},
}
ALLOWED = BELOW | {"cli": set(BELOW), "randhet": {*BELOW, "cli"}, "hardware_tests": set(BELOW)}
"""The rooms and what each may import, as the design has it; the reference's own oracle is tested apart."""
OUTSIDE = {
    "lava": {"lava_runtime", "benchmarks", "hardware_tests"},  # the last two judge and time stock Lava
    "torch": {"train", "export", "compare", "benchmarks", "cli", "hardware_tests"},
}
"""Packages, and the rooms that may import them."""


def imported(room: str) -> dict[Path, set[str]]:
    """Modules that each file of a room imports, with their full names."""
    return {path: set(WRITER["modules"](path)) for path in WRITER["sources"](room)}


def tops(names: set[str], depth: int) -> set[str]:
    """The part of dotted names at a depth, of those that are long enough."""
    return {name.split(".")[depth] for name in names if name.count(".") >= depth}


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_between_rooms_point_one_way(room: str) -> None:
    files = imported(room)
    assert files
    for path, names in files.items():
        own = {name for name in names if name.startswith("randhet.")}
        assert tops(own, 1) & set(ALLOWED) <= ALLOWED[room] | {room}, path


@pytest.mark.parametrize("room", ALLOWED)
def test_no_room_is_imported_by_its_folder(room: str) -> None:
    """`import train` would find a user's own train.py."""
    for path, names in imported(room).items():
        assert not tops(names, 0) & (set(ALLOWED) - {"randhet", "hardware_tests"}), path


@pytest.mark.parametrize("package", OUTSIDE)
def test_heavy_packages_stay_in_their_rooms(package: str) -> None:
    for room in set(ALLOWED) - OUTSIDE[package]:
        assert [path for path, names in imported(room).items() if package in tops(names, 0)] == []


def test_every_room_of_the_package_is_in_the_picture() -> None:
    links = {path.name for path in (ROOT / "randhet").iterdir() if path.is_symlink()}
    assert links == set(ROOMS)


def test_the_picture_is_a_diamond_whose_arrows_point_down() -> None:
    """Base at the bottom, train beside fixed_point, export beside lava_runtime, the command line on top."""
    rows = {room: box.row for room, box in ROOMS.items()}
    assert min(rows, key=lambda room: rows[room]) == "base"
    assert max(rows, key=lambda room: rows[room]) == "cli"
    assert (
        rows["train"] == rows["fixed_point"] < rows["netx"] < rows["export"] == rows["lava_runtime"] < rows["compare"]
    )
    drawn = re.findall(r'data-from="(\w+)" data-to="(\w+)"', (ROOT / "docs" / "architecture.md").read_text())
    assert {("train", "base"), ("fixed_point", "base"), ("export", "train"), ("netx", "fixed_point")} <= set(drawn)
    assert all(rows[begin] > rows[end] for begin, end in drawn)


def test_boxes_of_one_row_do_not_overlap() -> None:
    boxes = [(box.row, box.low, box.high) for box in sorted(ROOMS.values(), key=lambda box: (box.row, box.low))]
    assert all(one[2] <= other[1] for one, other in pairwise(boxes) if one[0] == other[0])


def test_a_new_import_is_a_new_arrow() -> None:
    """What the picture shows comes from the arrows given to it."""
    arrows = {room: set() for room in ROOMS} | {"compare": {"lava_runtime"}}
    assert re.findall(r'data-from="(\w+)" data-to="(\w+)"', SVG(arrows)) == [("compare", "lava_runtime")]


def test_the_page_lists_every_place_that_asks_for_the_kind_of_a_neuron() -> None:
    """Each of them ends in `assert_never` of a neuron, from which the type checker knows that a kind is missing."""
    page = (ROOT / "docs" / "architecture.template.md").read_text().split("## A new kind of neuron")[1]
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", page, re.MULTILINE))
    files = [path for room in ROOMS for path in WRITER["sources"](room)]
    ending = re.compile(r"assert_never\((?:layer\.)?neuron\)")
    assert listed == {str(path.relative_to(ROOT)) for path in files if ending.search(path.read_text())}


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
