"""Are two means the same within a margin? Two one-sided tests, and how many values a clear answer would take.

equivalent: the 90 % interval of the difference lies within +-margin, which is both one-sided tests at 5 %
(Schuirmann 1987); different: all of it lies outside; else there is not enough data. The interval is Welch's (1947).
"""

from __future__ import annotations

from dataclasses import dataclass
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


def wilson(share: float, size: int, z: float = 1.959964) -> tuple[float, float]:
    """(p + z^2/2n -+ z*sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n); wide enough for means of shares, which vary less."""
    middle, half = share + z * z / (2 * size), z * sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max((middle - half) / (1 + z * z / size), 0.0), min((middle + half) / (1 + z * z / size), 1.0)


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
    found = Difference(value, value - half, value + half, margin, p)
    if found.finding != "not enough data":
        return found
    return Difference(value, found.low, found.high, margin, p, needed(value, a.variance, b.variance, margin, a.size))


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
    """The mean of independent paired differences in -1..1 with Student's interval.

    Where all of them are 0 the spread cannot be seen; the bound is then 1 - 0.05^(1/n), the rule of three: whatever
    differs on more than that share would have shown up once in n with 95 %.
    """
    sample = Sample.of(differences)
    if sample.size < 2:
        return Difference(sample.mean, -inf, inf, margin, 1.0, 2)
    if not differences.any():
        bound = 1 - LEVEL ** (1 / sample.size)
        enough = None if bound <= margin else ceil(log(LEVEL) / log(1 - margin))
        return Difference(0.0, -bound, bound, margin, (1 - margin) ** sample.size, enough)
    return difference(sample, Sample(0.0, 0.0, sample.size), margin)
