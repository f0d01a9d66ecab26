"""The tau generator: serial order, jumps, seeds, table, against bit-by-bit brute force and exact quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, ndtri

from randhet.fixed_point import generator

states = st.integers(1, 2**32 - 1)


def serial(seed: int, count: int) -> list[int]:
    """Draws straight from the definition, one clock at a time on a list of bits (index 0 is the lowest)."""
    bits = [seed >> i & 1 for i in range(32)]
    out = []
    for _ in range(count):
        for _ in range(8):
            low, bits = bits[0], [*bits[1:], 0]
            if low:
                for tap in (31, 21, 1, 0):
                    bits[tap] ^= 1
        out.append(sum(bit << i for i, bit in enumerate(bits[:8])))
    return out


@given(states)
def test_draws_follow_the_definition_clock_by_clock(seed: int) -> None:
    assert generator.draws(seed, 0, 20).tolist() == serial(seed, 20)


@given(states, st.integers(0, 2000))
def test_jump_equals_the_serial_order(seed: int, distance: int) -> None:
    state = seed
    for _ in range(distance):
        state, _ = generator.draw(state)
    assert generator.jump(seed, distance) == state


@given(states, st.integers(0, 2**70), st.integers(0, 2**70))
def test_jumps_add_up_at_any_distance(seed: int, a: int, b: int) -> None:
    assert generator.jump(generator.jump(seed, a), b) == generator.jump(seed, a + b)


@given(states, st.integers(0, 2**40))
def test_jump_matrix_is_the_jump(seed: int, distance: int) -> None:
    assert generator.apply_matrix(generator.jump_matrix(distance), seed) == generator.jump(seed, distance)


def test_period_is_the_full_one() -> None:
    """2^32 - 1 = 3*5*17*257*65537; the register returns after it and after none of its maximal divisors."""
    returns = lambda steps: generator.jump(1, steps * pow(8, -1, generator.PERIOD)) == 1
    assert returns(generator.PERIOD)
    assert not any(returns(generator.PERIOD // prime) for prime in (3, 5, 17, 257, 65537))


@given(st.integers(0, 2**64 - 1), st.integers(0, 60), st.integers(1, 70), st.integers(1, 16), st.integers(0, 30))
def test_layer_rounds_equal_cores_read_one_after_another(
    master: int, layer: int, neurons: int, per_core: int, number: int
) -> None:
    expected: list[int] = []
    for core, start in enumerate(range(0, neurons, per_core)):
        size = min(per_core, neurons - start)
        expected += serial(generator.core_seed(master, layer, core), size * (number + 1))[-size:]
    assert generator.LayerGenerator(master, layer, neurons, per_core).round(number).tolist() == expected


@given(st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 16), st.integers(0, 20), st.integers(1, 9))
def test_rounds_side_by_side_equal_the_serial_order(
    master: int, neurons: int, per_core: int, first: int, count: int
) -> None:
    columns = []
    for core, start in enumerate(range(0, neurons, per_core)):
        size = min(per_core, neurons - start)
        drawn = serial(generator.core_seed(master, 3, core), size * (first + count))[-size * count :]
        columns.append(np.array(drawn).reshape(count, size))
    expected = np.concatenate(columns, axis=1)
    assert np.array_equal(generator.LayerGenerator(master, 3, neurons, per_core).rounds(first, count), expected)


def test_splitmix_matches_the_published_sequence() -> None:
    """First outputs of SplitMix64 seeded with 1234567 (Vigna's splitmix64.c); its state grows by the golden gamma."""
    gamma = 0x9E3779B97F4A7C15
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [generator.splitmix64((1234567 + i * gamma) % 2**64) for i in range(4)] == published


def test_no_core_starts_at_zero_and_cores_differ() -> None:
    seeds = {generator.core_seed(7, layer, core) for layer in range(20) for core in range(200)}
    assert 0 not in seeds and len(seeds) == 4000


@pytest.mark.parametrize("k", range(1, 13))
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.5, 4.0])
def test_table_is_the_rounded_quantile(k: int, sigma: float) -> None:
    exact = 2**k * expit(sigma * ndtri((np.arange(256) + 0.5) / 256))
    table = generator.tau_table(k, sigma).astype(float)
    inside = exact <= 2**k - 1
    assert np.abs(table - exact)[inside].max() <= 0.5 + 1e-9
    assert (table[~inside] == 2**k - 1).all() and table.max() <= 2**k - 1
    assert (np.diff(table) >= 0).all()


def test_table_without_spread_is_constant() -> None:
    assert (generator.tau_table(8, 0.0) == 128).all()
