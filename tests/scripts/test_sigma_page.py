"""The page of sigma per layer: its rows by hand, and that it holds what its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from randhet.train.checkpoint import random_init, save
from randhet.train.models import ModelSettings
from scripts import sigma_page as page

IMAGES = 100


def reading(right: int) -> dict[str, Any]:
    return {"draws": 2, "correct": " ".join(["2"] * right + ["0"] * (IMAGES - right))}


def result(clean: int, stock: int, aware: int) -> dict[str, Any]:
    readings = {"clean": {"stock": reading(clean)}, "pgd4": {"stock": reading(stock), "aware": reading(aware)}}
    return {"samples": IMAGES, "eps": 32 / 255, "readings": readings}


def test_recipes_are_compared_on_the_seeds_that_all_have() -> None:
    results = {f"{recipe}-s{seed}": result(90, 50, 40 + 10 * seed) for recipe in page.RECIPES for seed in (0, 1)}
    results |= {"fixed-s2": result(10, 10, 10), "wide-s1": result(80, 30, 40)}
    sigmas = {name: {"node1": 0.5 + int(name[-1])} for name in results}
    lines = list(page.trained(results, sigmas))
    assert lines[2] == "| `node1` | 1.00 (0.50 to 1.50) | 1.00 (0.50 to 1.50) | 1.00 (0.50 to 1.50) |"
    assert lines[4].startswith("| 2 seeds |")
    # stock 50 and 50, aware 40 and 50: the noise-aware evaluation leaves 45 on average, which is less
    assert lines[6] == "| sigma = 1 | 90.0 | 45.0 | – | – |"
    # stock 50 and 30 leaves 40, aware 40 and 40 as well
    assert (
        lines[8].startswith("| trained, bounds 0.01 to 1.99 | 85.0 | 40.0 | -5.0 (-") and "| -5.0 (-" in lines[8][40:]
    )


def test_seeds_of_two_digits_are_seeds() -> None:
    assert [page.seed_of(name) for name in ("wide-s0", "wide-s10")] == ["0", "10"]


def test_the_best_of_a_search_is_the_one_of_highest_fitness() -> None:
    tried = [{"sigmas": [1.0, 1.0], "fitness": 0.5}, {"sigmas": [0.5, 2.0], "fitness": 0.7}]
    results = {"start": result(90, 50, 40), "evolution": result(85, 60, 55), "random": result(90, 50, 40)}
    lines = list(page.searched(results, {"evolution": tried, "random": tried[:1]}))
    assert lines[2] == "| sigma = 1, as trained | 1.00, 1.00 | 50.0 | 90.0 | 40.0 | – | – |"
    assert lines[3].startswith("| evolution | 0.50, 2.00 | 70.0 | 85.0 | 55.0 | -5.0 (-")
    assert "| +15.0 (+" in lines[3] and lines[4].startswith("| random search | 1.00, 1.00 | 50.0 |")


def test_what_is_more_robust_has_an_interval_above_zero() -> None:
    group = {"sigma = 1": [result(90, 50, 50)], "better": [result(90, 70, 70)], "alike": [result(90, 51, 51)]}
    assert page.decided(group, "sigma = 1") == "Clearly more robust than sigma = 1: better. Clearly less: none."
    assert page.decided(group, "better") == "Clearly more robust than better: none. Clearly less: sigma = 1; alike."


def test_sigmas_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    settings = ModelSettings(1, 3, (6, 6), (4,), (1,), steps=2, sigmas=(0.5, 1.5, 2.5))
    save(tmp_path / "some.pt", random_init(settings))
    assert page.sigmas_of([tmp_path / "some.pt"]) == {
        "some": {"node1": 0.5, "layer1.0.node1": 1.5, "layer1.0.node2": 2.5}
    }


def test_the_page_holds_what_the_results_say() -> None:
    assert page.PAGE.read_text("utf-8") == page.render(*page.read(page.RESULTS))
