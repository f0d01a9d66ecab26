"""The page of sweeps shows every plot there is, with the number of images that its results have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.compare.equivalence import mean_interval

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs" / "sweeps").glob("*.json"))
PAGE = (ROOT / "docs" / "sweeps.md").read_text("utf-8")


def test_every_plot_of_the_page_has_its_results() -> None:
    assert re.findall(r"\(sweeps/([\w-]+)\.png\)", PAGE)
    assert sorted(re.findall(r"\(sweeps/([\w-]+)\.png\)", PAGE)) == [path.stem for path in RESULTS]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_plot_is_of_a_shipped_sweep_and_its_images_are_named(path: Path) -> None:
    found = json.loads(path.read_text("utf-8"))
    section = PAGE.split(f"(sweeps/{path.stem}.png)")[1].split("\n## ")[0]
    assert {f"{one['samples']} images" for one in found["checkpoints"].values()} <= set(
        re.findall(r"\d+ images", section)
    )
    assert (ROOT / "configs" / "sweeps" / f"{path.stem}.toml").exists()
    assert path.with_suffix(".png").stat().st_size < 60_000


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_accuracies_named_first_to_last_are_those_of_the_results(path: Path) -> None:
    """Every percentage that the page says of noise-aware APGD-10 is in the results."""
    found = json.loads(path.read_text("utf-8"))
    curve = found["checkpoints"]["cifar10-randhet-at"]["curves"].get("apgd10")
    section = PAGE.split(f"(sweeps/{path.stem}.png)")[1].split("**The paper:**")[0]
    said = re.search(r"noise-aware APGD-10.*", section, re.DOTALL)
    if curve is not None and said is not None:
        values = {f"{100 * point['aware']['accuracy']:.1f}" for point in curve}
        assert len(values & set(re.findall(r"\d+\.\d", said.group()))) >= 2


AWARE = "cifar10-randhet-at", "apgd10", "aware"
VANILLA = "cifar10-vanilla-at"
Curve = tuple[str, str, str]


def stated(attack: str, kind: str = "aware", network: str = AWARE[0]) -> Curve:
    return network, attack, kind


QUOTED: list[tuple[str, Curve, int, Curve, int]] = [
    ("segment", AWARE, 1, AWARE, 0), ("segment", AWARE, 4, AWARE, 0),
    ("segment", AWARE, 2, AWARE, 0), ("segment", AWARE, 3, AWARE, 0),
    ("sigma", AWARE, 3, AWARE, 0), ("sigma", AWARE, 6, AWARE, 3),
    ("sigma", stated("clean", "stock"), 0, stated("clean", "stock"), 6),
    ("time-steps", AWARE, 0, AWARE, 3), ("time-steps", stated("clean", "stock"), 1, stated("clean", "stock"), 0),
    ("eps", stated("apgd10", "stock"), 1, stated("apgd10", "stock", VANILLA), 1),
    ("eps", stated("apgd10", "stock"), 4, stated("apgd10", "stock", VANILLA), 4),
    ("eps", AWARE, 1, stated("apgd10", network=VANILLA), 1), ("eps", AWARE, 4, stated("apgd10", network=VANILLA), 4),
    ("draws", stated("pgd10x{m}"), 0, stated("pgd10x{m}"), 3),
    ("draws", stated("apgd10x{m}"), 0, stated("apgd10x{m}"), 3),
    ("steps", stated("apgd{n}", network=VANILLA), 0, stated("apgd{n}", network=VANILLA), 5),
    ("steps", stated("apgd{n}"), 0, stated("apgd{n}"), 5),
    ("steps", stated("apgd{n}"), 5, stated("apgd{n}", network=VANILLA), 5),
    ("steps", stated("apgd{n}"), 0, stated("apgd{n}", network=VANILLA), 0),
]  # fmt: skip
"""Differences that the page quotes: sweep, curve and number of the value of the first, and of the second."""


def shares(found: dict[str, Any], curve: Curve, number: int) -> np.ndarray:
    """Of every image, the share of repetitions that were right."""
    network, attack, kind = curve
    point = found["checkpoints"][network]["curves"][attack][number][kind]
    return np.array(point["correct"].split(), float) / point["draws"]


def test_differences_have_the_interval_that_the_report_gives() -> None:
    """In the order of the page, and the page has no others."""
    said = []
    for name, *pair in QUOTED:
        found = json.loads((ROOT / "docs" / "sweeps" / f"{name}.json").read_text("utf-8"))
        difference = shares(found, *pair[:2]) - shares(found, *pair[2:])
        value, low, high = (f"{100 * it:+.1f}" for it in (difference.mean(), *mean_interval(difference, 0.025)))
        said.append((value, low, high))
    assert re.findall(r"(\+\d+\.\d) \(([+-]\d+\.\d) to\s+([+-]\d+\.\d)\)", PAGE) == said
