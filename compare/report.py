"""The report: one self-contained HTML file, the verdict first."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from compare import words
from compare.study import Comparison
from fixed_point.files import replacing

PACKAGES = ("randhet", "numpy", "torch", "numba", "lava-nc")


def versions() -> dict[str, str]:
    """What the comparison ran on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def render(found: Comparison) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": words.percent, "points": words.points, "decibels": words.decibels}
    template = environment.from_string(files("compare").joinpath("report.html").read_text("utf-8"))
    return template.render(
        found=found,
        headline=words.headline(found),
        paragraphs=list(words.paragraphs(found)),
        place=words.place,
        versions=versions(),
    )


def write(path: Path, found: Comparison) -> None:
    """Write the page, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(render(found), "utf-8")


def write_json(path: Path, found: Comparison) -> None:
    """Write the JSON object of `randhet compare`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(words.as_dict(found), indent=1) + "\n", "utf-8")
