"""Intervals and tests against SciPy's own, sample sizes against closed forms and against trying it out."""

from __future__ import annotations

from math import ceil, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from randhet.compare.equivalence import (
    Difference,
    Sample,
    clopper_pearson,
    difference,
    exact,
    mean_interval,
    needed,
    paired,
    power,
    share_interval,
)

SHARES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


def sample(values: list[float]) -> Sample:
    return Sample.of(np.array(values))


def test_sample_by_hand() -> None:
    found = sample([0.9, 0.8, 1.0])
    assert (found.mean, found.variance, found.size) == pytest.approx((0.9, 0.01, 3))
    assert sample([0.7]).variance == 0
    assert sample([0.7]).interval() == (-inf, inf)


@given(SHARES)
def test_interval_of_a_mean_is_student_s(values: list[float]) -> None:
    assume(np.std(values) > 1e-3)
    low, high = stats.ttest_1samp(values, 0.5).confidence_interval(0.95)
    assert sample(values).interval() == pytest.approx((low, high))


@given(SHARES, SHARES, st.floats(0.01, 0.9))
def test_interval_and_p_are_those_of_two_one_sided_welch_tests(a: list[float], b: list[float], margin: float) -> None:
    assume(min(np.std(a), np.std(b)) > 1e-2)
    found = difference(sample(a), sample(b), margin)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    one = stats.ttest_ind(np.array(a) + margin, b, equal_var=False, alternative="greater").pvalue
    other = stats.ttest_ind(np.array(a) - margin, b, equal_var=False, alternative="less").pvalue
    assert found.p == pytest.approx(max(one, other), abs=1e-9)
    assert (found.finding == "equivalent") == (max(one, other) <= 0.05)


@pytest.mark.parametrize(
    ("low", "high", "finding"),
    [
        (-0.01, 0.01, "equivalent"),
        (0.0, 0.0, "equivalent"),
        (-0.011, 0.0, "not enough data"),
        (0.005, 0.02, "not enough data"),
        (0.011, 0.02, "different"),
        (-0.5, -0.011, "different"),
        (-inf, inf, "not enough data"),
    ],
)
def test_finding_is_where_the_interval_lies(low: float, high: float, finding: str) -> None:
    assert Difference(0, low, high, 0.01, 0.5).finding == finding


def test_one_value_with_chance_in_it_proves_nothing_and_without_chance_everything() -> None:
    one = sample([0.9])
    assert difference(one, one, 0.01).finding == "not enough data"
    assert difference(one, one, 0.01).needed == 2
    assert exact(0.0, 0.01).finding == "equivalent"
    assert exact(0.1, 0.01).finding == "different"


def closed_form(value: float, va: float, vb: float, margin: float) -> float:
    """Values per side with known variances at 5 % and 80 %: Chow, Shao & Wang, Sample Size Calculations, ch. 3."""
    z = stats.norm.ppf
    both = z(0.95) + (z(0.9) if value == 0 else z(0.8))
    return (va + vb) * both**2 / (margin - abs(value)) ** 2


@pytest.mark.parametrize("value", [0.0, 0.003, -0.003, 0.009])
def test_sample_size_is_the_closed_form_s_but_for_the_t_distribution(value: float) -> None:
    found = needed(value, 0.0004, 0.0006, 0.005)
    assert found is not None
    expected = closed_form(value, 0.0004, 0.0006, 0.005)
    assert expected <= found <= expected + 5
    assert power(value, 0.0004, 0.0006, 0.005, found) >= 0.8 > power(value, 0.0004, 0.0006, 0.005, found - 1)


def test_beyond_a_million_there_is_no_number() -> None:
    assert needed(0.005, 1e-4, 1e-4, 0.005) is None


@pytest.mark.parametrize(("value", "finding"), [(0.0, "equivalent"), (0.002, "equivalent"), (0.009, "different")])
def test_a_sample_of_the_size_asked_for_gives_the_answer_in_eight_of_ten(value: float, finding: str) -> None:
    rng, margin, spread = np.random.default_rng(8), 0.005, 0.004
    size = needed(value, spread**2, spread**2, margin)
    assert size is not None
    tries = 1500
    clear = 0
    for _ in range(tries):
        a, b = (Sample.of(rng.normal(mean, spread, size)) for mean in (0.9 + value, 0.9))
        error = sqrt(a.variance / size + b.variance / size)
        freedom = (a.variance + b.variance) ** 2 / ((a.variance**2 + b.variance**2) / (size - 1))
        half, d = stats.t.ppf(0.95, freedom) * error, a.mean - b.mean
        clear += abs(d) + half <= margin if finding == "equivalent" else d - half > margin
    assert clear / tries == pytest.approx(power(value, spread**2, spread**2, margin, size), abs=4 * 0.4 / sqrt(tries))
    assert clear / tries > 0.76


def test_a_difference_at_the_margin_is_called_equivalent_no_more_than_in_one_of_twenty() -> None:
    rng, tries = np.random.default_rng(9), 400
    found = [
        difference(Sample.of(rng.normal(0.905, 0.002, 8)), Sample.of(rng.normal(0.9, 0.002, 8)), 0.005).finding
        for _ in range(tries)
    ]
    assert found.count("equivalent") / tries <= 0.05 + 3 * sqrt(0.05 * 0.95 / tries)


def test_undecided_asks_for_more_than_there_were() -> None:
    rng = np.random.default_rng(1)
    found = difference(Sample.of(rng.normal(0.9, 0.02, 5)), Sample.of(rng.normal(0.9, 0.02, 5)), 0.005)
    assert found.finding == "not enough data"
    assert found.needed is not None
    assert found.needed > 5


def test_no_difference_seen_is_the_rule_of_three_and_one_seen_says_less() -> None:
    none = paired(np.zeros(359), 0.005)
    assert none.finding == "not enough data"
    assert none.high == pytest.approx(1 - 0.05 ** (1 / 359))
    assert none.needed == ceil(log(0.05) / log(0.995)) == 598
    assert paired(np.zeros(598), 0.005).finding == "equivalent"
    assert paired(np.zeros(597), 0.005).finding == "not enough data"
    one = np.zeros(598)
    one[0] = 1
    assert paired(one, 0.005).finding == "not enough data"
    assert paired(np.zeros(2), 0.005).high == pytest.approx(1 - 0.05**0.5)


def test_paired_is_the_one_sample_test_where_differences_are_many() -> None:
    values = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], 40_000, p=[0.3, 0.4, 0.3])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    answer = paired(values, 0.02)
    assert (answer.low, answer.high) == pytest.approx((low, high), abs=1e-4)
    below, above = (stats.ttest_1samp(values, m, alternative=a).pvalue for m, a in ((0.02, "less"), (-0.02, "greater")))
    assert answer.p == pytest.approx(max(below, above), rel=0.2)


def test_limits_of_a_share_are_those_of_scipy() -> None:
    for count, size in ((0, 50), (1, 50), (7, 60), (60, 60)):
        low, high = stats.binomtest(count, size).proportion_ci(0.9, "exact")
        assert clopper_pearson(count / size, size, 0.05) == pytest.approx((low, high))


@pytest.mark.parametrize("size", [50, 60, 100, 359, 1000, 10_000])
def test_the_interval_of_a_share_covers_what_it_claims(size: int) -> None:
    """Exact coverage over the binomial counts, not a simulation; Wilson's falls to 89.5 % at 50."""
    shares = np.concatenate([np.linspace(0.005, 0.05, 300), np.linspace(0.05, 0.95, 91), np.linspace(0.95, 0.995, 300)])
    low, high = np.array([share_interval(count / size, size) for count in range(size + 1)]).T
    chances = stats.binom.pmf(np.arange(size + 1)[:, None], size, shares)
    covered = (chances * ((low[:, None] <= shares) & (shares <= high[:, None]))).sum(axis=0)
    assert covered.min() >= 0.93
    assert covered.mean() <= 0.98


RARE = [(size, other) for size in (50, 359, 540, 600, 1000, 10_000) for other in (0.0, 0.001, 0.005, 0.02)]


@pytest.mark.parametrize(("size", "other"), RARE)
def test_rare_whole_differences_are_covered_and_not_called_equivalent(size: int, other: float) -> None:
    """At the margin itself: the shares of +1 and -1 differ by it. Student's interval calls 12 to 20 % equivalent."""
    margin, tries = 0.005, 4000
    rng = np.random.default_rng(size)
    counts = rng.multinomial(size, [other + margin, other, 1 - margin - 2 * other], tries)[:, :2]
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    limits = np.array([mean_interval(differing(*pair, size)) for pair in kinds])
    inside = (limits[:, 0] >= -margin) & (limits[:, 1] <= margin)
    covered = (limits[:, 0] <= margin) & (margin <= limits[:, 1])
    assert (inside @ times) / tries <= 0.055 + 2 * sqrt(0.05 * 0.95 / tries)
    assert (covered @ times) / tries >= 0.88


def differing(more: int, fewer: int, size: int) -> np.ndarray:
    """Differences of which so many are 1 and -1."""
    return np.repeat([1.0, -1.0, 0.0], [more, fewer, size - more - fewer])


@pytest.mark.parametrize("size", [50, 200, 1000])
def test_means_over_repetitions_are_covered(size: int) -> None:
    """Three images in ten answer by chance; ten repetitions on each side."""
    rng, tries = np.random.default_rng(size), 400
    shift = 0.02
    chances = lambda count: np.where(rng.random(count) < 0.3, rng.beta(0.5, 0.5, count), 1.0)
    worse = lambda right: np.clip(right - shift, 0, 1)
    many = chances(10**6)
    truth = float((many - worse(many)).mean())
    hits = 0
    for _ in range(tries):
        right = chances(size)
        low, high = mean_interval((rng.binomial(10, right) - rng.binomial(10, worse(right))) / 10)
        hits += low <= truth <= high
    assert hits / tries >= 0.88
