"""Energy beside an ANN against sums made by hand, in pJ, from Horowitz's figures."""

from __future__ import annotations

import pytest

from randhet.fixed_point.chips.beside_ann import Energies, as_json, beside
from randhet.fixed_point.synaptic import Counted, Reading

STEM = Reading("stem", 50, 1, False, 255, 1000, 800.0, 700.0, still=True)
DEEP = Reading("deep", 20, 4, True, 1, 2000, 400.0, 300.0)
SUM = Reading("sum", 10, 4, False, 3, 500, 90.0, 80.0)
OWN = Reading("deep", 20, 4, True, 1, 400, 60.0, 60.0, own=True)
FOUND = Counted((STEM, DEEP, SUM, OWN), spikes=28.0, neurons=70, steps=4, images=3)
ADD, BYTE, WIDE, MEMORY = 0.1, 0.2, 3.1, 20 / 8
"""pJ: an addition of 32 bits, a multiplication of 8 and of 32 bits, a byte of a memory whose 64 bits take 20 pJ."""

ANN = 1e-12 * ((1000 + 2000 + 500) * (BYTE + ADD + 2 * MEMORY) + (50 + 20 + 10) * (WIDE + ADD + MEMORY))
NEURONS = 70 * 4 * (WIDE + 3 * ADD + 12 * MEMORY)
STEM_SUMS = 800 * (ADD + BYTE + MEMORY)


def test_by_output_by_hand() -> None:
    found = beside(FOUND, "by output")
    events = 1e-12 * ((400 + 60) * (ADD + MEMORY) + 90 * (ADD + BYTE + MEMORY))
    bits = 1000 * 8 + 4 * 2000 * 1 + 4 * 500 * 2 + 4 * 400 * 1
    rest = 1e-12 * (STEM_SUMS + NEURONS + bits / 8 * MEMORY)
    assert (found.ann, found.events, found.rest) == pytest.approx((ANN, events, rest))
    assert found.rate == 28 / (70 * 4)
    assert found.break_even == pytest.approx(0.1 * (ANN - rest) / events)


def test_by_event_by_hand() -> None:
    found = beside(FOUND, "by event")
    events = 1e-12 * ((400 + 60) * (ADD + 9 * MEMORY) + 90 * (ADD + BYTE + 9 * MEMORY))
    assert (found.ann, found.events, found.rest) == pytest.approx((ANN, events, 1e-12 * (STEM_SUMS + NEURONS)))


def test_at_the_break_even_rate_both_take_the_same() -> None:
    found = Energies("by event", ann=10.0, events=4.0, rest=2.0, rate=0.05)
    assert found.wins and found.break_even == pytest.approx(0.1)
    assert Energies("by event", 10.0, 4.0 * 0.1 / 0.05, 2.0, 0.1).snn == pytest.approx(10.0)


@pytest.mark.parametrize("energies", [(5.0, 1.0, 6.0, 0.1), (5.0, 0.0, 1.0, 0.0)])
def test_no_rate_at_which_it_changes(energies: tuple[float, float, float, float]) -> None:
    assert Energies("by output", *energies).break_even is None


def test_json_names_what_it_rests_on() -> None:
    content = as_json(FOUND)
    assert content["spike_rate"] == 0.1 and content["samples"] == 3
    assert set(content["orders"]) == {"by output", "by event"}
    for order, one in content["orders"].items():
        assert one["snn_takes_less"] == (one["snn_joule"] < one["ann_joule"]) == beside(FOUND, order).wins
    assert all("ISSCC 2014" in figure for figure in content["figures"].values())
