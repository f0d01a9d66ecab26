"""Accuracy over several draws of the taus, and whether two mean accuracies are the same within a margin.

The test set is taken as given: the statement is about these images, the only chance in it is that of the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
from scipy import stats

from compare.backends import Runner
from fixed_point.network import Network, RandomTau
from train.data import Images

Finding = Literal["equal", "different", "undecided"]


@dataclass(frozen=True)
class Draws:
    """Accuracy (0..1) of each independent draw on the same images."""

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Standard deviation over the draws (n - 1); 0 for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class Difference:
    """Float minus fixed mean accuracy, its 90 % interval, and what that says about a margin."""

    value: float
    low: float
    high: float
    margin: float

    @property
    def finding(self) -> Finding:
        """equal: the whole interval lies within +-margin (two one-sided tests at 5 %); different: all of it outside."""
        if -self.margin <= self.low and self.high <= self.margin:
            return "equal"
        return "different" if self.low > self.margin or self.high < -self.margin else "undecided"


def difference(a: Draws, b: Draws, margin: float, deterministic: bool = False) -> Difference:
    """a - b with Welch's interval: d +- t(0.95, df) * sqrt(va/na + vb/nb). Deterministic: no interval, no chance.

    A single draw of a random network says nothing about the spread: the interval is then infinite. Source: Welch 1947.
    """
    value = a.mean - b.mean
    width = 0.0 if deterministic else _half_width(a, b)
    return Difference(value, value - width, value + width, margin)


def _half_width(a: Draws, b: Draws) -> float:
    na, nb = len(a.accuracies), len(b.accuracies)
    if min(na, nb) < 2:
        return inf
    va, vb = a.deviation**2 / na, b.deviation**2 / nb
    if va + vb == 0:
        return 0.0
    freedom = (va + vb) ** 2 / (va**2 / (na - 1) + vb**2 / (nb - 1))
    return float(stats.t.ppf(0.95, freedom)) * sqrt(va + vb)


def is_random(network: Network) -> bool:
    """Whether any layer draws its taus."""
    return any(isinstance(layer.neuron, RandomTau) for layer in network.layers)


def fixed_draws(
    network: Network, images: Images, seeds: range, run: Runner, done: Callable[[int], None] = lambda count: None
) -> Draws:
    """Accuracy of the integer network under each master seed; `done` is told after each draw."""
    found = []
    for seed in seeds:
        result = run(network, images.pixels, seed=seed, first_image=0, probes=())
        found.append(float(np.mean(result.predictions == images.labels)))
        done(1)
    return Draws(tuple(found))
