"""The page of snn-auto's curve: tables and differences by hand, and that the page holds what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import RandhetError
from randhet.train.attacks.battery import EOT, STEPS
from scripts import auto_curve, auto_page

ROOT = Path(__file__).parents[2]


def cell(steps: int, draws: int, first: list[float], last: list[float] | None = None) -> dict[str, Any]:
    rest = {} if last is None else {"square": last}
    return {"steps": steps, "draws": draws, "whole": last is not None, "left": {"ce": first, **rest}}


def result(*cells: dict[str, Any], stochastic: bool = True) -> dict[str, Any]:
    common = {"checkpoint": "a-net.pt", "eps": 8 / 255, "samples": 4, "clean": [1.0, 1.0, 1.0, 0.0]}
    return common | {"stochastic": stochastic, "cells": list(cells)}


def test_tables_have_a_row_for_iterations_and_a_column_for_samples() -> None:
    made = result(cell(10, 1, [1, 0.5, 0, 0]), cell(20, 5, [1, 0, 0, 0], [0, 0, 0, 0.2]), cell(20, 1, [0, 0, 0, 0]))
    assert list(auto_page.table(made, False)) == [
        "| iterations | 1 EOT sample | 5 EOT samples |",
        "| ---: | ---: | ---: |",
        "| 10 | 37.5 | – |",
        "| 20 | 0.0 | 25.0 |",
    ]
    assert list(auto_page.table(made, True))[2:] == ["| 20 | 5.0 |"]


def test_differences_are_paired_by_image_and_contain_zero_where_images_disagree() -> None:
    low, high = [0.0] * 100, [1.0] * 30 + [0.0] * 70
    made = result(cell(STEPS, EOT, low), cell(2 * STEPS, EOT, high), cell(STEPS, 20, low))
    lines = list(auto_page.differences(made, False))
    start = f"- {auto_page.named(STEPS, EOT, made)} against "
    assert lines[0].startswith(f"{start}{auto_page.named(2 * STEPS, EOT, made)}: -30.0 points (-")
    assert lines[1].startswith(f"{start}{auto_page.named(STEPS, 20, made)}: +0.0 points (-") and len(lines) == 2
    # the rule of three: where no image of 100 differs, 1 - 0.025^(1/100) = 3.6 % may
    assert lines[1].endswith("(-3.6 to +3.6)")
    fixed = result(cell(STEPS, 1, high, high), cell(2 * STEPS, 1, low, low), stochastic=False)
    assert next(auto_page.differences(fixed, True)).startswith(f"- {STEPS} iterations against {2 * STEPS}")


def test_cells_are_the_grid_once_each() -> None:
    cells = auto_curve.cells(True)
    assert len(cells) == len(set(cells)) == 20 + len(auto_curve.WHOLE)
    assert [(steps, draws) for steps, draws, _ in auto_curve.cells(False)] == [(n, 1) for n in auto_curve.ITERATIONS]


def test_the_page_holds_what_the_results_say() -> None:
    results = [json.loads(path.read_text()) for path in sorted(auto_page.RESULTS.glob("*.json"))]
    assert {each["checkpoint"] for each in results} == {
        "cifar10-randhet-at.pt", "cifar10-vanilla-at.pt", "digits-randhet-at.pt",
    }  # fmt: skip
    text = (ROOT / "docs" / "how-to" / "attack.md").read_text()
    assert auto_page.replaced(text, auto_page.page(results)) == text
    for each in results:
        shares = [np.array(list(one["left"].values())) for one in each["cells"]]
        assert all(share.shape[1] == each["samples"] and 0 <= share.min() <= share.max() <= 1 for share in shares)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(RandhetError, match="the page has no marks"):
        auto_page.replaced("text", "new")
