"""The tau generator measured as hardware people test one; the numbers and the picture of docs/generator.md.

Example: `python -m hardware_tests.study docs/generator.png`
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit
from scipy.stats import norm

from hardware_tests import galois
from randhet.fixed_point.generator import core_seed, draws, tau_table
from randhet.fixed_point.kernels.registers import advance

NEURONS, STEPS = 1024, 8
COUNT = 2**20
RELATION = (0, 10, 30, 31, 32)
"""Draws at these distances sum to 0: p(x)^8 = p(x^8), and a draw is eight clocks. p has powers 0, 10, 30, 31, 32."""
CORES_OF_SEW_RESNET19 = (128,) * 7 + (64,) * 7 + (32,) * 5
"""Cores of each spiking layer at 1024 neurons a core: 131,072, 65,536 and 32,768 neurons in the three stages."""


def taus(seed: int, count: int = COUNT) -> np.ndarray:
    """Consecutive decays of one register, A / 256."""
    return tau_table()[draws(seed, 0, count)] / 256


# --- measures ---------------------------------------------------------------------------------------------------------


def autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Correlation of a series with itself at lags 1..lags."""
    centred = (values - values.mean()) / values.std()
    return np.array([float((centred[:-lag] * centred[lag:]).mean()) for lag in range(1, lags + 1)])


def pairwise_correlations(series: np.ndarray) -> np.ndarray:
    """Correlations of all pairs of columns of (rounds, columns)."""
    return np.corrcoef(series.T)[np.triu_indices(series.shape[1], 1)]


def rounds(seeds: list[int], neurons: int, count: int) -> np.ndarray:
    """(count, cores * neurons): decays of every neuron at every step, A / 256."""
    registers, sizes = np.array(seeds, np.int64), np.full(len(seeds), neurons, np.int64)
    table = tau_table().astype(np.int64)
    return np.stack([advance(registers, sizes, table) for _ in range(count)]) / 256


def distance_to_logit_normal(k: int = 8, sigma: float = 1.0) -> float:
    """sup |F - G| of the table's distribution F and the logit-normal G: exact, both sides of every jump."""
    levels, counts = np.unique(tau_table(k, sigma) / 2**k, return_counts=True)
    with np.errstate(divide="ignore"):
        wanted = norm.cdf(logit(levels) / sigma)
    above = np.cumsum(counts) / 256
    return float(max(np.abs(above - wanted).max(), np.abs(above - counts / 256 - wanted).max()))


def draws_until_noticed(distance: float, level: float = 1.358) -> int:
    """Sample size at which Kolmogorov and Smirnov's 5 % bound, 1.358 / sqrt(n), falls to the distance."""
    return int((level / distance) ** 2)


def variance_of_means(seed: int, neurons: int = NEURONS, count: int = 4096) -> float:
    """Variance of the mean tau over a core's neurons, over that of independent draws."""
    means = taus(seed, neurons * count).reshape(count, neurons).mean(axis=1)
    return float(means.var() / ((tau_table() / 256).var() / neurons))


# --- overlapping phases -----------------------------------------------------------------------------------------------


def expected_overlaps(cores: int, draws_each: int) -> float:
    """Pairs of cores whose stretches of the one cycle meet: C(C-1)/2 * 2L/P for random phases."""
    return cores * (cores - 1) / 2 * 2 * draws_each / galois.ORDER


@dataclass(frozen=True)
class Phases:
    """Where cores start on the cycle of draws, sorted, and how far it is to the next one (draws)."""

    start: np.ndarray

    @classmethod
    def of(cls, master: int, cores_per_layer: tuple[int, ...]) -> Phases:
        """Positions of all cores' seeds; eight clocks are one draw, and 8 has an inverse modulo the period."""
        eighth = pow(8, -1, galois.ORDER)
        seeds = [core_seed(master, i + 1, core) for i, n in enumerate(cores_per_layer) for core in range(n)]
        return cls(np.sort([galois.position(seed) * eighth % galois.ORDER for seed in seeds]))

    def overlaps(self, draws_each: int) -> int:
        """Pairs of cores that share at least one draw within `draws_each` draws from their start."""
        after = np.append(self.start, self.start + galois.ORDER)
        last = np.searchsorted(after, self.start + draws_each, side="left")
        return int((last - np.arange(len(self.start)) - 1).clip(0).sum())


# --- linearity --------------------------------------------------------------------------------------------------------


def profile(seed: int, bit: int, count: int = 200) -> list[int]:
    """Linear complexity of one bit of consecutive draws."""
    return galois.linear_complexity((draws(seed, 0, count) >> bit & 1).tolist())


def relation_holds(values: np.ndarray) -> float:
    """Share of places where the five draws of RELATION sum to 0; chance would give 1/256."""
    length = len(values) - RELATION[-1]
    total = np.bitwise_xor.reduce([values[lag : lag + length] for lag in RELATION])
    return float((total == 0).mean())


def equally_often(lags: tuple[int, ...]) -> bool:
    """Whether the draws at these distances take every tuple of values equally often in a period (all zeros once less).

    Their bits are linear in the register's 32: they do if and only if all of them are linearly independent.
    """
    columns = []
    for bit in range(32):
        start = 1 << bit
        values = [galois.multiply(galois.power(galois.X, 8 * (1 + lag)), start) & 0xFF for lag in lags]
        columns.append(sum(value << 8 * i for i, value in enumerate(values)))
    return galois.rank(columns) == 8 * len(lags)


# --- report -----------------------------------------------------------------------------------------------------------


def study(master: int = 1) -> dict[str, Any]:
    """Every number of the page."""
    seed = core_seed(master, 1, 0)
    series, noise = taus(seed), 1 / np.sqrt(COUNT)
    across = pairwise_correlations(rounds([seed], 64, 4096))
    cores = pairwise_correlations(rounds([core_seed(master, 1, c) for c in range(128)], 1, 2**15))
    phases = Phases.of(master, CORES_OF_SEW_RESNET19)
    draws_of = {images: images * STEPS * NEURONS for images in (1, 10, 100, 1000)}
    return {
        "factors_of_the_order": galois.factors(galois.ORDER),
        "full_period": galois.power(galois.X, galois.ORDER) == galois.ONE,
        "returns_earlier": [
            prime
            for prime in galois.factors(galois.ORDER)
            if galois.power(galois.X, galois.ORDER // prime) == galois.ONE
        ],
        "tuples_equally_often": {n: equally_often(tuple(range(n))) for n in (1, 2, 3, 4, 5)},
        "lags_where_pairs_are_not": [lag for lag in range(1, 1025) if not equally_often((0, lag))],
        "largest_serial_correlation_in_sigmas": float(np.abs(autocorrelation(series, 256)).max() / noise),
        "largest_neuron_correlation_in_sigmas": float(np.abs(across).max() * np.sqrt(4096)),
        "largest_core_correlation_in_sigmas": float(np.abs(cores).max() * np.sqrt(2**15)),
        "pairs": {"neurons": len(across), "cores": len(cores)},
        "distance_to_logit_normal": {f"k={k}": distance_to_logit_normal(k) for k in (4, 8, 12)},
        "draws_until_noticed": draws_until_noticed(distance_to_logit_normal(8)),
        "variance_of_core_means": variance_of_means(seed),
        "cores": sum(CORES_OF_SEW_RESNET19),
        "overlapping_pairs": {n: phases.overlaps(length) for n, length in draws_of.items()},
        "overlapping_pairs_expected": {
            n: expected_overlaps(sum(CORES_OF_SEW_RESNET19), length) for n, length in draws_of.items()
        },
        "linear_complexity_of_bits": [profile(seed, bit)[-1] for bit in range(8)],
        "relation_of_five_draws_holds": relation_holds(draws(seed, 0, COUNT)),
    }  # fmt: skip


def plot(file: Path, master: int = 1) -> None:
    """Four panels: distribution, serial correlation, linear complexity, overlapping phases."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    seed = core_seed(master, 1, 0)
    for panel, draw in zip(panels, (_distribution, _serial, _linear, _overlap)):
        draw(panel, seed, master)
    figure.savefig(file, dpi=120)


def _distribution(axes: Any, seed: int, master: int) -> None:
    grid = np.linspace(0.002, 0.998, 500)
    density = norm.pdf(logit(grid)) / (grid * (1 - grid))
    axes.hist(taus(seed), bins=np.arange(0, 257, 16) / 256, density=True, color="#89c2d9", label="2^20 draws")
    axes.plot(grid, density, color="#bc6c25", label="logit-normal, sigma = 1")
    axes.set(title="Distribution of tau", xlabel="tau = A / 256", ylabel="density", ylim=(0, 2.1))
    axes.legend(frameon=False, loc="upper center", ncols=2)


def _serial(axes: Any, seed: int, master: int) -> None:
    correlation, bound = autocorrelation(taus(seed), 256), 3 / np.sqrt(COUNT)
    axes.axhspan(-bound, bound, color="#f2f2f2", label="3 sigma of chance")
    axes.plot(np.arange(1, 257), correlation, ".", ms=3, color="#2a6f97")
    axes.set(title="Correlation of draws of one core", xlabel="lag (draws)", ylabel="correlation", ylim=(-0.006, 0.006))
    axes.legend(frameon=False, loc="upper right")


def _linear(axes: Any, seed: int, master: int) -> None:
    chance = np.random.default_rng(master).integers(0, 2, 200).tolist()
    axes.plot(galois.linear_complexity(chance), color="#bc6c25", label="random bits")
    axes.plot(profile(seed, 0), color="#2a6f97", label="one bit of the draws")
    axes.set(title="Linear complexity", xlabel="draws seen", ylabel="shortest register")
    axes.legend(frameon=False)


def _overlap(axes: Any, seed: int, master: int) -> None:
    images = np.unique(np.logspace(0, 4, 40).astype(int))
    cores, each = sum(CORES_OF_SEW_RESNET19), STEPS * NEURONS
    pairs = cores * (cores - 1) / 2
    expected = [min(expected_overlaps(cores, int(n) * each) / pairs, 1) for n in images]
    phases = Phases.of(master, CORES_OF_SEW_RESNET19)
    axes.plot(images, 100 * np.array(expected), color="#bc6c25", label="expected: 2L / P")
    overlaps = [phases.overlaps(int(n) * each) / pairs for n in images if n * each < galois.ORDER // 2]
    label = f"{cores} cores of master seed {master}"
    axes.plot(images[: len(overlaps)], 100 * np.array(overlaps), ".", color="#2a6f97", label=label)
    axes.set(title="Pairs of cores that share draws", xlabel="images", ylabel="% of pairs", xscale="log", yscale="log")
    axes.legend(frameon=False)


if __name__ == "__main__":
    print(json.dumps(study(), indent=1))
    plot(Path(sys.argv[1]))
