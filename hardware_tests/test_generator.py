"""The tau generator as hardware people test one: what is proven exactly, what is measured, and its known weaknesses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from scipy.stats import kstest, logistic, norm

from hardware_tests import galois, study
from randhet.fixed_point import generator

SIGMAS = 5.0


def test_one_clock_is_a_product_with_x() -> None:
    """Both are linear, so agreement on the 32 unit states is agreement everywhere."""
    assert all(generator.step(1 << bit) == galois.multiply(galois.X, 1 << bit) for bit in range(32))


def test_the_period_is_2_to_the_32_minus_1() -> None:
    """x^n = 1 for the whole order and for none of its largest divisors, whose primes trial division found."""
    primes = galois.factors(galois.ORDER)
    assert primes == [3, 5, 17, 257, 65537] and prod(primes) == 2**32 - 1
    assert galois.power(galois.X, galois.ORDER) == galois.ONE
    assert all(galois.power(galois.X, galois.ORDER // prime) != galois.ONE for prime in primes)


def test_the_period_by_matrices() -> None:
    """The same with the project's 32x32 matrix, eight clocks at a time; 8 and the order have no common factor."""
    identity = tuple(1 << bit for bit in range(32))
    assert generator.jump_matrix(galois.ORDER) == identity
    assert all(generator.jump_matrix(galois.ORDER // prime) != identity for prime in galois.factors(galois.ORDER))


def test_four_draws_in_a_row_are_equally_likely_and_five_cannot_be() -> None:
    assert all(study.equally_often(tuple(range(n))) for n in (1, 2, 3, 4))
    assert not study.equally_often((0, 1, 2, 3, 4))


@pytest.mark.parametrize("lag", [1, 2, 10, 22, 30, 31, 32, 64, 1024, 8192])
def test_pairs_of_draws_are_equally_likely(lag: int) -> None:
    """Over a period, so their correlation is that of 65,536 pairs less one: none."""
    assert study.equally_often((0, lag))


def test_correlations_are_within_chance() -> None:
    seed = generator.core_seed(3, 1, 0)
    count = 2**17
    assert np.abs(study.autocorrelation(study.taus(seed, count), 128)).max() < SIGMAS / np.sqrt(count)
    neurons = study.pairwise_correlations(study.rounds([seed], 32, 4096))
    cores = study.pairwise_correlations(study.rounds([generator.core_seed(3, 1, c) for c in range(32)], 1, 4096))
    assert max(np.abs(neurons).max(), np.abs(cores).max()) < SIGMAS / np.sqrt(4096)


def test_the_mean_over_a_core_varies_as_that_of_independent_draws() -> None:
    """1,024 means: the variance of a variance ratio is 2/n."""
    ratio = study.variance_of_means(generator.core_seed(3, 1, 0), count=1024)
    assert abs(ratio - 1) < SIGMAS * np.sqrt(2 / 1024)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_distance_to_the_logit_normal(sigma: float) -> None:
    """256 equal steps are 1/512 away at best; rounding to A/2^12 moves a level by 2^-13 at most, times the density."""
    grid = np.linspace(0.001, 0.999, 9999)
    density = norm.pdf(np.log(grid / (1 - grid)) / sigma) / (sigma * grid * (1 - grid))
    distance = study.distance_to_logit_normal(12, sigma)
    assert 1 / 512 - 1e-9 <= distance <= 1 / 512 + density.max() / 2**13


def test_kolmogorov_and_smirnov_do_not_notice_ten_thousand_draws() -> None:
    """logit(tau) against the normal distribution; the table itself would be noticed from about 77,000 draws."""
    taus = study.taus(generator.core_seed(3, 1, 0), 10_000)
    assert kstest(logistic.ppf(taus), "norm").pvalue > 1e-3
    assert study.draws_until_noticed(study.distance_to_logit_normal()) > 70_000


# --- phases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0, 1, 12_345, 2**31 + 7, 2**32 - 2])
def test_a_states_place_on_the_cycle(exponent: int) -> None:
    assert galois.position(galois.power(galois.X, exponent)) == exponent


def test_two_cores_whose_stretches_meet_draw_the_same() -> None:
    """The nearest two of 200 cores: the one behind draws, a gap later, what the one ahead draws at its start."""
    eighth = pow(8, -1, galois.ORDER)
    seeds = [generator.core_seed(1, 1, core) for core in range(200)]
    placed = sorted((galois.position(seed) * eighth % galois.ORDER, seed) for seed in seeds)
    (here, behind), (there, ahead) = min(pairwise(placed), key=lambda pair: pair[1][0] - pair[0][0])
    gap = there - here
    assert generator.jump(behind, gap) == ahead
    assert generator.draws(behind, gap, 50).tolist() == generator.draws(ahead, 0, 50).tolist()
    assert study.Phases.of(1, (200,)).overlaps(gap) == 0
    assert study.Phases.of(1, (200,)).overlaps(gap + 1) == 1


def test_overlaps_are_those_of_random_phases() -> None:
    """200 cores with 2^22 draws each: 19,900 pairs, 38.9 expected, Poisson."""
    expected = study.expected_overlaps(200, 2**22)
    assert expected == pytest.approx(19_900 * 2**23 / (2**32 - 1))
    assert abs(study.Phases.of(1, (200,)).overlaps(2**22) - expected) < SIGMAS * np.sqrt(expected)


def test_overlaps_are_counted_around_the_end_of_the_cycle() -> None:
    start = np.array([5, 100, galois.ORDER - 10])
    assert study.Phases(start).overlaps(16) == 1
    assert study.Phases(start).overlaps(15) == 0
    assert study.Phases(start).overlaps(111) == 3


# --- known weaknesses: these hold, and a user should know that they do ------------------------------------------------


def test_five_draws_always_sum_to_zero() -> None:
    assert study.relation_holds(generator.draws(99, 0, 5000)) == 1.0
    assert study.relation_holds(np.random.default_rng(1).integers(0, 256, 5000)) < 0.02


def test_every_bit_is_predicted_after_64_draws() -> None:
    assert [study.profile(99, bit)[-1] for bit in range(8)] == [32] * 8


def test_linear_complexity_by_hand() -> None:
    """0001 needs a register of 4; alternating bits one of 2; Massey's profile never falls."""
    assert galois.linear_complexity([0, 0, 0, 1]) == [0, 0, 0, 4]
    assert galois.linear_complexity([1, 0, 1, 0, 1, 0])[-1] == 2
    assert galois.linear_complexity([1, 1, 1, 1])[-1] == 1


@pytest.mark.skipif(shutil.which("dieharder") is None, reason="dieharder is not installed: apt install dieharder")
@pytest.mark.parametrize(
    ("test", "samples", "verdict"), [("100", "20000", {"PASSED", "WEAK"}), ("2", "1000", {"FAILED"})]
)
def test_dieharder(test: str, samples: str, verdict: set[str]) -> None:
    """Single bits pass; ranks of 32x32 matrices of consecutive bits fail, as those of any linear register do."""
    command = (
        f"{sys.executable} -m hardware_tests.stream | "
        f"dieharder -d {test} -t {samples} -p 10 -g 200 -S 1 -c , -D assessment -D default"
    )
    said = subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout
    verdicts = {word for word in ("PASSED", "WEAK", "FAILED") if word in said}
    assert verdicts and verdicts <= verdict, said
