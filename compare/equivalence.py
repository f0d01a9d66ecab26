"""Are two means the same within a margin? Two one-sided tests, and how many values a clear answer would take.

equivalent: the 90 % interval of the difference lies within +-margin, which is both one-sided tests at 5 %
(Schuirmann 1987); different: all of it lies outside; else there is not enough data. The interval is Welch's (1947) for
means over repetitions, Newcombe's (1998) with exact limits for paired images, whose differences are whole and rare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Finding = Literal["equivalent", "different", "not enough data"]
LEVEL = 0.05
"""Of each one-sided test."""
POWER = 0.8
"""Chance of a clear answer that a sample size is asked for."""
MOST = 10**6
_GRID = (np.arange(64) + 0.5) / 64


@dataclass(frozen=True)
class Sample:
    """Mean, variance (n - 1) and number of independent values."""

    mean: float
    variance: float
    size: int

    @staticmethod
    def of(values: NDArray[np.float64]) -> Sample:
        """The sample of some values; the variance of a single one is 0."""
        return Sample(float(np.mean(values)), float(np.var(values, ddof=1)) if len(values) > 1 else 0.0, len(values))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's interval of the mean, mean +- t(n - 1) * s / sqrt(n); infinite for a single value."""
        if self.size < 2:
            return -inf, inf
        half = float(stats.t.ppf((1 + level) / 2, self.size - 1)) * sqrt(self.variance / self.size)
        return self.mean - half, self.mean + half


def share_interval(share: float, size: int, z: float = 1.959964) -> tuple[float, float]:
    """Agresti and Coull's (1998) 95 % interval of a share: q -+ z*sqrt(q(1-q)/m), m = n + z^2, q = (n*p + z^2/2)/m.

    Computed exactly it covers at least 93.5 % for every share of 0.5 to 99.5 % and 50 or more values, where Wilson's
    falls to 89.5 %. Means of shares vary less than shares, so it is wide enough for them.
    """
    total = size + z * z
    middle = (size * share + z * z / 2) / total
    half = z * sqrt(middle * (1 - middle) / total)
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True)
class Difference:
    """value with its 90 % interval; p of the equivalence test; needed: values per side for a clear answer.

    needed is None where the answer is clear already, or where no number up to a million would make it so.
    """

    value: float
    low: float
    high: float
    margin: float
    p: float
    needed: int | None = None

    @property
    def finding(self) -> Finding:
        """Equivalent: the interval is inside the margin; different: it is wholly outside."""
        if -self.margin <= self.low and self.high <= self.margin:
            return "equivalent"
        return "different" if self.low > self.margin or self.high < -self.margin else "not enough data"


def exact(value: float, margin: float) -> Difference:
    """A difference without chance in it: no interval."""
    return Difference(value, value, value, margin, 0.0 if abs(value) <= margin else 1.0)


def difference(a: Sample, b: Sample, margin: float) -> Difference:
    """a - b with Welch's interval d +- t(0.95, df) * se, se = sqrt(va/na + vb/nb), and p = P(t > (margin - |d|)/se).

    A single value says nothing about the spread: the interval is then infinite, and two are needed to begin with.
    """
    value = a.mean - b.mean
    if min(a.size, b.size) < 2:
        return Difference(value, -inf, inf, margin, 1.0, 2)
    error, freedom = welch(a, b)
    if error == 0:
        return exact(value, margin)
    half = float(stats.t.ppf(1 - LEVEL, freedom)) * error
    p = float(stats.t.sf((margin - abs(value)) / error, freedom))
    estimate = Difference(value, value - half, value + half, margin, p)
    if estimate.finding != "not enough data":
        return estimate
    return Difference(
        value, estimate.low, estimate.high, margin, p, needed(value, a.variance, b.variance, margin, a.size)
    )


def welch(a: Sample, b: Sample) -> tuple[float, float]:
    """Standard error of a - b and its degrees of freedom after Welch and Satterthwaite."""
    va, vb = a.variance / a.size, b.variance / b.size
    if va + vb == 0:
        return 0.0, inf
    return sqrt(va + vb), (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))


def power(value: float, va: float, vb: float, margin: float, size: int) -> float:
    """Chance that `size` values per side give a clear answer where the true difference and variances are these.

    The mean over the estimated standard error s of Phi((m - t*s - d)/se) - Phi((-m + t*s - d)/se) for |d| < m, which is
    the equivalence test's power; of Phi((|d| - m - t*s)/se) beyond, the chance to prove a difference.
    """
    error, freedom = welch(Sample(0, va, size), Sample(0, vb, size))
    if error == 0:
        return float(value != margin)
    room = stats.t.ppf(1 - LEVEL, freedom) * error * np.sqrt(stats.chi2.ppf(_GRID, freedom) / freedom)
    if abs(value) >= margin:
        return float(np.mean(stats.norm.cdf((abs(value) - margin - room) / error)))
    inside = stats.norm.cdf((margin - room - value) / error) - stats.norm.cdf((room - margin - value) / error)
    return float(np.mean(np.maximum(inside, 0)))


def needed(value: float, va: float, vb: float, margin: float, least: int = 1) -> int | None:
    """The smallest number of values per side, above `least`, whose power is 80 %; None if it is beyond a million."""
    enough = lambda size: power(value, va, vb, margin, size) >= POWER
    low, high = max(least, 1), max(least + 1, 2)
    while not enough(high):
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def paired(differences: NDArray[np.float64], margin: float) -> Difference:
    """The mean of independent paired differences in -1..1, with an interval that holds where differences are rare.

    p = mean(max(d, 0)), q = mean(max(-d, 0)), each with Clopper and Pearson's limits at 5 % a side; recovered variances
    (Newcombe 1998, method 10): U = p - q + sqrt((u_p - p)^2 - 2r(u_p - p)(q - l_q) + (q - l_q)^2), L alike, where
    r = -sqrt(pq/((1-p)(1-q))) is the correlation of the two counts.
    """
    sample = Sample.of(differences)
    if sample.size < 2:
        return Difference(sample.mean, -inf, inf, margin, 1.0, 2)
    low, high = mean_interval(differences)
    undecided = Difference(sample.mean, low, high, margin, _crossing(differences, margin))
    if undecided.finding != "not enough data":
        return undecided
    return replace(undecided, needed=_needed_pairs(sample, margin))


def mean_interval(differences: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """The interval of `paired`, each limit at `level`."""
    up, down = np.maximum(differences, 0).mean(), np.maximum(-differences, 0).mean()
    return recovered(float(up), float(down), effective(differences), level)


FEW = 10
"""Differences other than 0 that say as much about their sizes as the worst case assumed before any was seen."""


def effective(differences: NDArray[np.float64]) -> float:
    """How many differences of -1, 0 and 1 have a mean as uncertain as this one: n * v1 / v.

    v1 = p + q - (p - q)^2, the variance if every difference were whole; v, the one seen, is drawn towards v1 by `FEW`.
    """
    up, down = np.maximum(differences, 0).mean(), np.maximum(-differences, 0).mean()
    whole, count = float(up + down - (up - down) ** 2), int(np.count_nonzero(differences))
    if not whole:
        return float(len(differences))
    return len(differences) * whole * (count + FEW) / (count * float(differences.var()) + FEW * whole)


def recovered(up: float, down: float, size: float, level: float) -> tuple[float, float]:
    """Limits of up - down, each at `level` a side, from those of both shares of `size` values."""
    (low_up, high_up), (low_down, high_down) = (clopper_pearson(share, size, level) for share in (up, down))
    both = -sqrt(up * down / ((1 - up) * (1 - down))) if max(up, down) < 1 else 0.0
    reach = lambda a, b: sqrt(a * a - 2 * both * a * b + b * b)
    return (
        max(up - down - reach(up - low_up, high_down - down), -1.0),
        min(up - down + reach(high_up - up, down - low_down), 1.0),
    )


def clopper_pearson(share: float, size: float, level: float) -> tuple[float, float]:
    """Limits of a share, each at `level`, by quantiles of the beta distribution; counts need not be whole."""
    count = share * size
    low = float(stats.beta.ppf(level, count, size - count + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(1 - level, count + 1, size - count)) if count < size else 1.0
    return low, high


def _crossing(differences: NDArray[np.float64], margin: float) -> float:
    """p of the equivalence test: the level at which the interval just reaches the margin, by halving; at most 1."""
    within = lambda level: max(map(abs, mean_interval(differences, level))) <= margin
    low, high = 0.0, 0.5
    if not within(high):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


def _needed_pairs(sample: Sample, margin: float) -> int | None:
    """Pairs for a clear answer: by the normal approximation, but no fewer than show that nothing differs at all."""
    rare = ceil(log(LEVEL) / log(1 - margin))
    if not sample.variance and not sample.mean:
        return rare
    more = needed(sample.mean, sample.variance, 0.0, margin, sample.size)
    return None if more is None else max(more, rare)
