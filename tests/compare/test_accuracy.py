"""Means over draws and what they say about a margin, against SciPy's own test and by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from compare.accuracy import Difference, Draws, difference, fixed_draws, is_random
from compare.backends import runner
from fixed_point import reference
from fixed_point.network import Dense, Flatten, Input, Layer, Lif, Network, RandomTau
from train.data import Images

SHARES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


def test_mean_and_deviation_by_hand() -> None:
    draws = Draws((0.9, 0.8, 1.0))
    assert draws.mean == pytest.approx(0.9)
    assert draws.deviation == pytest.approx(0.1)  # sqrt((0 + 0.01 + 0.01) / 2)
    assert Draws((0.7,)).deviation == 0


@given(SHARES, SHARES)
def test_interval_is_welch_s(a: list[float], b: list[float]) -> None:
    assume(min(np.std(a), np.std(b)) > 1e-2)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.90)
    found = difference(Draws(tuple(a)), Draws(tuple(b)), 0.01)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))


@pytest.mark.parametrize(
    ("low", "high", "finding"),
    [
        (-0.01, 0.01, "equal"),
        (0.0, 0.0, "equal"),
        (-0.011, 0.0, "undecided"),
        (0.005, 0.02, "undecided"),
        (0.011, 0.02, "different"),
        (-0.5, -0.011, "different"),
        (-inf, inf, "undecided"),
    ],
)
def test_finding_is_where_the_interval_lies(low: float, high: float, finding: str) -> None:
    assert Difference((low + high) / 2 if abs(low) < inf else 0, low, high, 0.01).finding == finding


def test_one_draw_of_a_random_network_proves_nothing_but_one_of_a_deterministic_network_does() -> None:
    one = Draws((0.9,))
    assert difference(one, one, 0.01).finding == "undecided"
    assert difference(one, one, 0.01, deterministic=True).finding == "equal"
    assert difference(one, Draws((0.8,)), 0.01, deterministic=True).finding == "different"


def small(neuron: type[RandomTau | Lif]) -> Network:
    rng = np.random.default_rng(3)
    synapse = Dense(rng.integers(-90, 91, (7, 12)).astype(np.int8))
    spiking = neuron(threshold=np.full(7, 900_000, np.int32), bias=np.zeros(7, np.int32))
    layers = (
        Layer("input", Input((3, 2, 2))),
        Layer("flat", Flatten(), (0,)),
        Layer("out", synapse, (1,), spiking, np.ones(1)),
    )
    return Network(layers, steps=5)


def test_a_draw_is_the_share_of_right_predictions_under_its_own_seed() -> None:
    network, rng = small(RandomTau), np.random.default_rng(4)
    images = Images("x", rng.integers(0, 256, (40, 3, 2, 2), np.uint8), rng.integers(0, 7, 40), tuple("abcdefg"))
    told: list[int] = []
    found = fixed_draws(network, images, range(11, 14), runner("reference"), told.append)
    for seed, accuracy in zip((11, 12, 13), found.accuracies):
        predictions = reference.run(network, images.pixels, seed=seed).predictions
        assert accuracy == sum(int(p == label) for p, label in zip(predictions, images.labels)) / 40
    assert len(set(found.accuracies)) > 1, "the seeds must matter for this test to say anything"
    assert told == [1, 1, 1]


def test_only_drawn_taus_are_chance() -> None:
    assert is_random(small(RandomTau))
    assert not is_random(small(Lif))
