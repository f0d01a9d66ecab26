"""The page of sweeps shows every plot there is, with the number of images that its results have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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
