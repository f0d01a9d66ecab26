"""The page of randomised networks without spikes: its numbers by hand, and that it holds what its files say."""

from __future__ import annotations

from typing import Any

import numpy as np

from scripts import baselines_page as page
from scripts.robust_page import read

IMAGES = 100


def reading(right: int, draws: int = 10) -> dict[str, Any]:
    """All repetitions right on the first images, none on the others."""
    return {"draws": draws, "correct": " ".join([str(draws)] * right + ["0"] * (IMAGES - right))}


def result(name: str, clean: int, without: tuple[int, int], with_eot: tuple[int, int]) -> dict[str, Any]:
    attacks = {"pgd10": without, "pgd10x10": with_eot}
    each = {attack: {"stock": reading(stock), "aware": reading(aware)} for attack, (stock, aware) in attacks.items()}
    readings = {"clean": {"stock": reading(clean)}, **each}
    return {"checkpoint": f"/some/{name}.pt", "samples": IMAGES, "eps": 8 / 255, "readings": readings}


RESULTS = [
    result("toy-rpf-at-s0", 90, (60, 50), (40, 30)),
    result("toy-rpf-at-s1", 80, (50, 50), (40, 20)),
    result("toy-randhet-at", 70, (65, 55), (60, 50)),
    result("other-relu-at", 70, (20, 20), (20, 20)),
]


def test_a_drop_is_a_paired_difference_of_means_over_seeds() -> None:
    lines = list(page.drops(page.grouped(RESULTS)["toy"]))
    start = "| RPF | 85.0 | 0.0 | 55.0, 50.0 | 40.0, 25.0 | +15.0 (+"
    assert lines[2].startswith(start) and lines[2].endswith("| +20.0, +10.0 | 90.01, 40.19, 34.62, 5.57 |")
    assert lines[3].startswith("| RandHet | 70.0 | 0.0 | 65.0, 55.0 | 60.0, 50.0 | +5.0 (+")
    assert lines[3].endswith("| – | 90.12, 43.5, 40.15, 3.35 |")


def test_images_on_which_repetitions_differ_are_counted() -> None:
    """By hand: 3 of 5 images with one seed and 1 of 5 with the other, 40 % in the mean."""
    seeds = [{"readings": {"clean": {"stock": {"draws": 2, "correct": one}}}} for one in ("1 1 2 0 1", "2 2 2 0 1")]
    assert page.wavering(seeds) == "40.0"


def test_the_paper_s_drops_are_those_of_its_table() -> None:
    wanted = {"ctrw": 38.22, "rna": 16.34, "rpf": 5.57, "randhet": 3.35}
    assert {kind: round(without - with_eot, 2) for kind, (_, without, with_eot) in page.PAPER.items()} == wanted


def test_randhet_is_compared_by_the_attack_that_leaves_least_of_each() -> None:
    lines = list(page.strongest(page.grouped(RESULTS)["toy"]))
    assert lines[2].startswith("| RPF | pgd10x10 aware | 25.0 | +25.0 (+")
    assert lines[3] == "| RandHet | pgd10x10 aware | 50.0 | – |"
    alone = list(page.strongest(page.grouped(RESULTS)["other"]))
    assert alone[2] == "| ReLU, nothing random | pgd10 stock | 20.0 | – |"


def test_equal_networks_differ_by_nothing_within_the_rule_of_three() -> None:
    same = np.ones(IMAGES)
    # where no image of 100 differs, 1 - 0.025^(1/100) = 3.6 % may
    assert page.points(same, same) == "+0.0 (-3.6 to +3.6)"


def test_a_deterministic_network_has_no_drop_and_its_stock_evaluation_as_both() -> None:
    one = result("toy-relu-at", 90, (30, 30), (30, 30))
    del one["readings"]["pgd10x10"], one["readings"]["pgd10"]["aware"]
    row = "| ReLU, nothing random | 90.0 | 0.0 | 30.0, 30.0 | – | – | – | – |"
    assert list(page.drops(page.grouped([one])["toy"]))[2] == row


def test_networks_that_were_not_measured_are_named() -> None:
    groups = page.grouped(RESULTS)
    assert "Not measured: ReLU, nothing random, CTRW, RNA, vanilla SNN." in list(page.section("toy", groups["toy"]))
    full = dict.fromkeys(page.KINDS, groups["toy"]["rpf"])
    assert not any(line.startswith("Not measured") for line in page.section("toy", full))


def test_the_page_holds_what_the_results_say() -> None:
    assert page.PAGE.read_text("utf-8") == page.render(read(page.RESULTS))
