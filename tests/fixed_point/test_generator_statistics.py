"""The generator as a source of taus: a million draws, correlations and frequencies within their statistical error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from randhet.fixed_point.generator import LayerGenerator, draws, tau_table

COUNT = 2**20
SIGMAS = 4.5
"""A sound generator exceeds this in one test of 150,000."""


@pytest.fixture(scope="module")
def stream() -> np.ndarray:
    """One core's draws, as taus of the default table."""
    return tau_table()[draws(0x1234_5678, 0, COUNT)].astype(float)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64, 1024, 4096])
def test_neighbouring_neurons_and_steps_are_uncorrelated(stream: np.ndarray, lag: int) -> None:
    """Lag 1 is the next neuron of the core, lag N the same neuron a step later in a core of N neurons."""
    assert abs(correlation(stream[:-lag], stream[lag:])) < SIGMAS / np.sqrt(COUNT - lag)


def test_cores_and_layers_are_uncorrelated(stream: np.ndarray) -> None:
    def taken(layer: int) -> np.ndarray:
        generator = LayerGenerator(99, layer, 2048, 1024)
        return tau_table()[np.concatenate([generator.round(number) for number in range(128)])].astype(float)

    one, other = taken(3).reshape(-1, 2048), taken(4).reshape(-1, 2048)
    bound = SIGMAS / np.sqrt(one.size / 2)
    assert abs(correlation(one[:, :1024].ravel(), one[:, 1024:].ravel())) < bound
    assert abs(correlation(one.ravel(), other.ravel())) < bound


def test_every_draw_value_is_equally_likely() -> None:
    counts = np.bincount(draws(0xCAFE_F00D, 0, COUNT), minlength=256)
    assert chisquare(counts).pvalue > 1e-5


def test_pairs_of_neighbouring_draws_are_equally_likely() -> None:
    values = draws(0xCAFE_F00D, 0, COUNT).astype(int)
    pairs = values[:-1:2] // 16 * 16 + values[1::2] // 16
    assert chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-5


def test_mean_and_spread_are_those_of_the_table(stream: np.ndarray) -> None:
    table = tau_table().astype(float)
    assert abs(stream.mean() - table.mean()) < SIGMAS * table.std() / np.sqrt(COUNT)
    assert abs(stream.std() / table.std() - 1) < SIGMAS / np.sqrt(2 * COUNT)
