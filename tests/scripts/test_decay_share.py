"""The cost of random decay factors in float torch: intervals by the published ranks, rows by hand, a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import decay_share as share

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("count", "ranks"), [(4, (1, 4)), (9, (2, 8)), (15, (4, 12)), (20, (6, 15))])
def test_the_interval_of_a_median_has_the_ranks_of_tables(count: int, ranks: tuple[int, int]) -> None:
    """Ranks of the 95 % interval by the sign test, as in Conover, Practical Nonparametric Statistics."""
    values = list(range(count, 0, -1))
    assert share.median_interval(values) == ranks


def test_a_row_has_percent_more_of_time_and_memory_beside_the_paper() -> None:
    row = {"pair": list(share.PAIRS[0]), "time": {"median": 1.1, "interval": [0.95, 1.2]}, "memory": 1.05}
    lines = share.table([{"task": "inference", "costs": [row]}])
    assert lines == "| inference | fused | +10.0 (-5.0 to +20.0) | +5.0 | +25.0 | +23.6 |"


@pytest.mark.parametrize("task", share.TASKS)
def test_pairs_are_of_one_round_and_every_contender_has_a_peak(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = dict(zip(share.CONTENDERS, (300, 200, 900, 600)))
    monkeypatch.setattr(share, "peak", lambda task, name, model, batch: peaks[name])
    found = share.cost(task, "sew-digits", 2, 3)
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in found["seconds"].values())
    drawn, constant = (found["seconds"][name] for name in share.PAIRS[0])
    ratios = sorted(a / b for a, b in zip(drawn, constant))
    assert found["costs"][0]["time"] == {"median": ratios[1], "interval": [ratios[0], ratios[2]]}
    assert [row["memory"] for row in found["costs"]] == [1.5, 1.5]


def test_the_peak_is_that_of_a_process_that_did_the_work() -> None:
    batches = [share.peak("inference", "fused, constant", "sew-small", batch) for batch in (1, 256)]
    # 256 images of the first layer alone are 4 * 256 * 16 * 32 * 32 floats, 67 MB
    assert batches[1] - batches[0] > 65_000


@pytest.mark.parametrize("model", ["sew-resnet19", "sew-small"])
def test_the_page_has_the_rows_of_the_results(model: str) -> None:
    results = json.loads((DOCS / "results" / "float-cost" / f"{model}.json").read_text())
    assert results["model"] == model and share.table(results["results"]) in (DOCS / "performance.md").read_text("utf-8")
