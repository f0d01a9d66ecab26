"""The page of results: numbers come from the run, aims are judged by it, nothing else of the page moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from randhet.base.errors import RandhetError
from randhet.benchmarks import scaling
from randhet.benchmarks.networks import Activity, Case
from randhet.benchmarks.race import Times
from randhet.benchmarks.rows import rows, tau_cost
from scripts import performance_page as page

MACHINE = {
    "date": "2026-01-02T03:04:05+00:00", "processor": "Some CPU", "features": ["avx2"], "cores": 2, "load": 0.1,
    "python": "3.10.1", "versions": {"torch": "2.3.1"},
}  # fmt: skip


def content(engine: float, engine_cpu: float, peak: float, load: float) -> dict[str, Any]:
    """Torch 10 s per batch in both measures, add-only 4 s, constant taus 1 s."""
    found = {
        "torch-eager": Times(12, [10.0], [10.0], 900, 30),
        "snntorch": Times(missing="snntorch is not installed"),
        "engine": Times(2, [engine], [engine_cpu], peak, 30),
        "add-only": Times(2, [4.0], [4.0], 300, 30),
        "engine-constant": Times(2, [1.0], [1.0], 300, 30),
    }
    case, seen = Case(rate=0.1), dict.fromkeys(("random", "constant"), Activity(0.1, 0.1, 0))
    return {"rows": rows(case, seen, found), "tau_cost": tau_cost(case, found), "machine": MACHINE | {"load": load}}


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (content(1.0, 9.0, 429, load=0.1), [True, True, True, True]),  # a calm machine: the clock decides
        (content(1.1, 0.5, 431, load=0.1), [False, False, True, False]),
        (content(9.0, 1.0, 429, load=9.0), [True, True, True, True]),  # a busy one: the processor time
        (content(0.5, 0.9, 429, load=9.0), [True, True, False, True]),
    ],
)
def test_aims_are_judged_by_the_numbers(made: dict[str, Any], holds: list[bool]) -> None:
    assert [aim.holds for aim in page.aims(made)] == holds


def test_the_page_keeps_what_is_around(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(content(1.0, 1.0, 300, 0.1)))
    file = tmp_path / "page.md"
    file.write_text(f"above\n{page.BEGIN}\nstale\n{page.END}\nbelow\n")
    page.main(file, [tmp_path])
    text = file.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "stale" not in text
    assert "| engine | 125.0 | 125.0 to 125.0 | 125.0 | 1 | 10.00 | 10.00 | 8 | 300 |" in text
    assert "| snntorch | snntorch is not installed |" in text
    page.main(file, [tmp_path])
    assert file.read_text() == text


def test_a_folder_without_results_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"{page.BEGIN}\n{page.END}")
    with pytest.raises(RandhetError, match="has no bench.json"):
        page.main(file, [tmp_path])


def test_growth_has_every_value_and_the_exponent(tmp_path: Path) -> None:
    """The engine's cost in proportion to T, torch's as its square; add-only failed at one value."""
    cost = {"engine": (1.0, 2.0, 4.0), "torch-eager": (10.0, 40.0, 160.0), "add-only": (3.0, None, 5.0)}
    along = [
        {"axis": "T", "value": value, "name": name, "ms_per_image": values[i]}
        for i, value in enumerate((1, 2, 4))
        for name, values in cost.items()
    ]
    made = {"rows": along, "growth": scaling.slopes(along), "machine": MACHINE | {"load": 0.1}}
    (tmp_path / "scaling.json").write_text(json.dumps(made))
    file = tmp_path / "page.md"
    file.write_text(f"{page.BEGIN}\n{page.END}")
    page.main(file, [tmp_path])
    text = file.read_text()
    assert "| T | 2 | 2.0 | 40.0 | – |" in text
    assert "| T | exponent | 1.00 | 2.00 |" in text
    assert "Some CPU (avx2), 2 cores, load 0.1 when it began. Python 3.10.1, torch 2.3.1." in text
