"""The page of robustness results says what its files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import FileError
from randhet.compare.equivalence import mean_interval
from scripts.robust_front import front
from scripts.robust_page import CLAIMS, EXPECTED, read, render, verdict

DOCS = Path(__file__).parents[2] / "docs"


def reading(accuracy: float, images: int = 100) -> dict[str, Any]:
    """Ten draws; the first images are always right, one is sometimes, the others never."""
    right = round(10 * images * accuracy)
    return {
        "accuracy": accuracy,
        "interval": [accuracy - 0.01, accuracy + 0.01],
        "interval_images": [0, 1],  # of an earlier formula: the page takes the one of today
        "majority": accuracy,
        "draws": 10,
        "correct": " ".join(str(min(10, max(0, right - 10 * i))) for i in range(images)),
    }


def result(name: str, clean: float, stock: float, aware: float, samples: int = 100) -> dict[str, Any]:
    return {
        "checkpoint": f"{name}.pt",
        "samples": samples,
        "eps": 8 / 255,
        "draws": 10,
        "clean": clean,
        "attacks": {"apgd10": min(stock, aware)},
        "mra": min(stock, aware),
        "mra_attack": "apgd10 aware",
        "readings": {
            "clean": {"stock": reading(clean, samples)},
            "apgd10": {"stock": reading(stock, samples), "aware": reading(aware, samples)},
        },
        "training": {"seconds": 1230.0, "epoch": 12},
        "model": {"T": 4, "neuron": "randhet"},
    }


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    results = read(DOCS / "results")
    assert (DOCS / "robustness.md").read_text("utf-8") == render(
        results, front(read(DOCS / "results" / "assg"), results)
    )


def counted(correct: list[int], draws: int = 10) -> dict[str, Any]:
    accuracy = sum(correct) / len(correct) / draws
    return reading(accuracy) | {"draws": draws, "correct": " ".join(map(str, correct))}


MANY = 50
"""Times that a pattern of four images is repeated."""
HIGH, LOW = [1, 10, 5, 9] * MANY, [0, 9, 2, 6] * MANY
"""Draws of ten that are right: 62.5 and 42.5 %; differences 0.1, 0.1, 0.3, 0.3."""


def said(first: list[int], second: list[int], draws: int = 10) -> str:
    """The interval as the page shows it; that it holds is tested where it is made."""
    low, high = mean_interval((np.array(first) - np.array(second)) / draws, 0.025)
    return f"({100 * low:+.1f} to {100 * high:+.1f}), n = {len(first)}"


def test_results_on_the_same_images_are_paired() -> None:
    """Paired, 20 points are clear; each alone, spread over 10 to 100 %, would not be."""
    a, b = counted(HIGH), counted(LOW)
    assert verdict(a, b) == f"reproduced: 62.5 against 42.5, +20.0 {said(HIGH, LOW)}"
    assert verdict(b, a) == f"the opposite: 42.5 against 62.5, -20.0 {said(LOW, HIGH)}"
    low, high = (float(word) for word in verdict(a, b).split("(")[1].split(")")[0].split(" to "))
    assert 15 < low < 20 < high < 25
    # one draw against ten; the first images are the common ones: 0.9, 0, -0.5, 0.1
    few = verdict(counted([1, 1, 0, 1, 0, 0], 1), counted(HIGH[:4]))
    assert few.startswith("no clear answer: 75.0 against 62.5, +12.5 (") and few.endswith("n = 4")


def test_strong_attacks_on_fewer_images_join_the_claims() -> None:
    few, many = (result("cifar10-randhet-at", 0.6, 0.3, 0.3, count) for count in (4 * MANY, 6 * MANY))
    none = [0] * (4 * MANY)
    few["readings"] |= {"pgd10x10": {"stock": counted(LOW)}, "pgd10": {"stock": counted(none)}}
    many["readings"] |= {"pgd10": {"stock": counted([*HIGH, *[3] * (2 * MANY)])}}
    assert f"reproduced: 62.5 against 42.5, +20.0 {said(HIGH, LOW)}" in render([few, many])


def test_the_minimum_over_all_attacks_is_on_the_images_that_all_files_have() -> None:
    """RandHet 23.1 by the quick set on 500 images; on the first 200 its costly set leaves 20, vanilla's 30 of 35."""
    files = []
    for name, quick, costly in (("cifar10-randhet-at", 0.231, 0.2), ("cifar10-vanilla-at", 0.35, 0.3)):
        many, few = result(name, 0.6, quick + 0.1, quick, 500), result(name, 0.6, 0.5, 0.5, 200)
        few["readings"]["pgd50"] = {"stock": reading(costly + 0.05, 200), "aware": reading(costly, 200)}
        files += [result(name, 0.6, 0.01, 0.01, 50), few, many]  # fifty images are too few to count here
    line = next(line for line in render(files).splitlines() if "with the expensive set (EOT" in line)
    first, second = ([int(word) for word in reading(it, 200)["correct"].split()] for it in (0.2, 0.3))
    assert line.endswith(f"| the opposite: 20.0 against 30.0, -10.0 {said(first, second)} |")
    without = [it for it in files if "pgd50" not in it["readings"]]
    line = next(line for line in render(without).splitlines() if "with the expensive set (EOT" in line)
    assert line.endswith("| not measured |")


def test_the_page_holds_every_number_and_says_what_is_missing() -> None:
    results = [result("cifar10-vanilla-at", 0.612, 0.171, 0.165), result("cifar10-randhet-at", 0.634, 0.345, 0.231)]
    page = render(results)
    for part in (
        "| cifar10-randhet-at | 100 | 63.4 | 34.5 | 23.1 | 23.1 | apgd10 aware | 20 min, 12 epochs |",
        # by Agresti and Coull: (34.5 + 1.92) / 103.84 = 0.3507, 1.96 * sqrt(0.3507 * 0.6493 / 103.84) = 0.0918
        "| apgd10 | stock | 34.5 | 33.5 – 35.5 | 25.9 – 44.3 | 34.5 |",
        "reproduced: 34.5 against 17.1",
        "reproduced: 23.1 against 16.5",
        "no clear answer: 63.4 against 61.2",
    ):
        assert part in page
    assert page.count("not measured") == len(CLAIMS) - 4
    assert "AutoAttack (*aa*)" not in page  # whose numbers these results do not have
    absent = page.split("**No results yet for:** ")[1].split("\n")[0].rstrip(".").split(", ")
    assert absent == [name for name in EXPECTED if name not in ("cifar10-vanilla-at", "cifar10-randhet-at")]


def test_the_result_on_more_images_decides() -> None:
    few, many = result("cifar10-vanilla-at", 0.6, 0.9, 0.9, 50), result("cifar10-vanilla-at", 0.6, 0.2, 0.2, 500)
    page = render(
        [*sorted([many, few], key=lambda it: it["samples"]), result("cifar10-randhet-at", 0.6, 0.3, 0.3, 500)]
    )
    assert "30.0 against 20.0" in page and "30.0 against 90.0" not in page


@pytest.mark.parametrize("text", ["{", "[]", '{"samples": 3}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(text) if text == "[]" else text)
    with pytest.raises(FileError, match="odd.json"):
        read(tmp_path)


def attacked(name: str, correct: str, draws: int, attack: str = "sa-pgd50+assg") -> dict[str, Any]:
    """Results of one adaptive attack: right answers of each image, the other evaluation never wrong."""
    made = result(name, 0.9, 0.9, 0.9, samples=len(correct.split()))
    total = sum(map(int, correct.split())) / draws / len(correct.split())
    low = reading(total) | {"draws": draws, "correct": correct, "accuracy": total}
    high = low | {"correct": " ".join([str(draws)] * len(correct.split())), "accuracy": 1.0}
    return made | {"readings": {"clean": {"stock": high}, attack: {"stock": high, "aware": low}}}


def test_the_section_on_the_stronger_attack_counts_by_image() -> None:
    """By hand: two attacks leave 1, 0 and 0, 1 of two images, so that both together leave none."""
    one, other = attacked("cifar10-vanilla-at", "1 0", 1), attacked("x", "0 1", 1, "sa-pgd-dlr50+assg")
    both = one | {"readings": one["readings"] | other["readings"]}
    cells = [line.strip("| ").split(" | ") for line in front([both]).splitlines() if line.startswith("| ")]
    shown = {name: left.split(" (")[0] for name, left in cells[2:]}
    assert shown == {
        "clean": "100.0",
        "sa-pgd50+assg": "50.0",
        "sa-pgd-dlr50+assg": "50.0",
        "**left by all**": "0.0",
    }
    assert "More robust?" not in front([both])


@pytest.mark.parametrize(("right", "said"), [("10", "Yes"), ("2", "No clear answer"), ("0", "No, less")])
def test_the_pair_is_compared_image_by_image(right: str, said: str) -> None:
    """Vanilla is right on every fifth of 200 images; the other on a share of the repetitions of every image."""
    vanilla = attacked("cifar10-vanilla-at", " ".join(["1", "0", "0", "0", "0"] * 40), 1)
    randhet = attacked("cifar10-randhet-at", " ".join([right] * 200), 10)
    assert f"**{said}: {10 * int(right):.1f} against 20.0" in front([vanilla, randhet])


def test_an_old_minimum_is_corrected_on_the_same_images() -> None:
    """By hand: HIGH leaves 62.5 % where the new attack leaves 42.5 %; other numbers of images are left out."""
    new = attacked("cifar10-vanilla-at", " ".join(map(str, LOW)), 10)
    old, few = (result("cifar10-vanilla-at", 0.9, 0.9, 0.9, count) for count in (len(LOW), 100))
    old["readings"]["apgd10"]["aware"] = counted(HIGH)
    interval = said(HIGH, LOW).split(")")[0].replace("+", "") + ")"
    lines = [line for line in front([new], [few, old]).splitlines() if "apgd10 aware" in line]
    assert lines == [f"| cifar10-vanilla-at | {len(LOW)} | 62.5, apgd10 aware | 42.5 | 20.0 {interval} |"]
    assert "What earlier numbers were wrong" not in front([new], [few])


def test_the_battery_is_told_attack_after_attack() -> None:
    made = attacked("cifar10-randhet-at-wide", "5 0", 10, "snn-auto") | {
        "parts": {"snn-auto": {"ce": 0.5, "dlr": 0.25}}
    }
    page = front([made])
    assert (
        "- `snn-auto` on `cifar10-randhet-at-wide`, attack after attack, right in percent: ce 50.0, dlr 25.0." in page
    )
    assert "| snn-auto | 25.0 (" in page and "**left by all**" not in page


def test_networks_stand_side_by_side_and_a_dash_is_an_attack_that_one_did_not_meet() -> None:
    one, other = attacked("cifar10-a", "1 0", 1, "pgd10"), attacked("cifar10-b", "1 0 0 0", 1)
    lines = front([one | {"readings": one["readings"] | other["readings"]}, other]).splitlines()
    start = lines.index("| attack (images) | a (2) | b (4) |")
    assert [line.split(" | ")[0] for line in lines[start + 2 : start + 5]] == ["| clean", "| sa-pgd50+assg", "| pgd10"]
    assert lines[start + 4].endswith(" | – |")


def test_the_mean_over_training_seeds_has_an_interval_over_seeds() -> None:
    """By hand: differences 10, 12 and 14, so s = 2 and t(2) * 2 / sqrt(3) = 4.303 * 1.155 = 4.97."""
    made = []
    for seed, right in enumerate((30, 32, 34)):
        ending = f"-s{seed}" * (seed > 0)
        made.append(attacked(f"cifar10-randhet-at{ending}", " ".join(["10"] * right + ["0"] * (100 - right)), 10))
        made.append(attacked(f"cifar10-vanilla-at{ending}", " ".join(["1"] * 20 + ["0"] * 80), 1))
    page = front(made)
    assert "| **mean** |  |  | **+0.0 (+0.0 to +0.0)** |  |  | **+12.0 (+7.0 to +17.0)** |" in page
    assert "| 2 | 100.0 | 100.0 | +0.0 (" in page and "| 34.0 | 20.0 | +14.0 (" in page
    assert "over 3 training runs" in page and "randhet-at-s1" not in page
    assert "Over training seeds" not in front(made[:2])


def test_seeds_are_compared_by_the_attacks_that_all_of_a_recipe_have() -> None:
    first, second = (attacked(f"cifar10-randhet-at{ending}", "5 5", 10) for ending in ("", "-s1"))
    stronger = attacked("x", "0 0", 10, "sa-pgd50x5+assg")["readings"]
    others = [attacked(f"cifar10-vanilla-at{ending}", "1 0", 1) for ending in ("", "-s1")]
    page = front([first | {"readings": first["readings"] | stronger}, second, *others])
    assert "the lowest accuracy under `sa-pgd50+assg`, in both evaluations" in page
    assert "| 0 | 100.0 | 100.0 | +0.0 (" in page and "| 50.0 | 50.0 | +0.0 (" in page
    weaker = attacked("x", "5 5", 10, "pgd10+assg")["readings"]
    page = front(
        [
            first | {"readings": {**first["readings"], **weaker}},
            second | {"readings": {**second["readings"], **weaker}},
            *others,
        ]
    )
    assert (
        "under `sa-pgd50+assg`, `pgd10+assg` for `cifar10-randhet-at` or `sa-pgd50+assg` for `cifar10-vanilla-at`"
        in page
    )


def test_a_battery_that_only_one_of_a_pair_met_does_not_decide() -> None:
    vanilla = attacked("cifar10-vanilla-at", " ".join(["1"] * 40 + ["0"] * 160), 1)
    battery = attacked("x", " ".join(["0"] * 200), 1, "snn-auto")["readings"]
    randhet = attacked("cifar10-randhet-at", " ".join(["2"] * 200), 10)
    page = front([vanilla | {"readings": vanilla["readings"] | battery}, randhet])
    assert "was run on one of them only and is left out" in page and "**No clear answer: 20.0 against 20.0" in page
    both = randhet | {"readings": randhet["readings"] | battery}
    page = front([vanilla | {"readings": vanilla["readings"] | battery}, both])
    assert "is left out" not in page and "**No clear answer: 0.0 against 0.0" in page
