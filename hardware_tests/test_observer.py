"""What an observer recovers: the register from its draws or from spikes, the master seed from two registers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_tests.observer import from_draws, from_spikes, known_bits, master_seeds, solve, unmix
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.generator import core_seed, draw, draws, splitmix64
from randhet.fixed_point.network import Constant, Lif, Network
from randhet.train.checkpoint import load, random_init
from randhet.train.data.sources import load as load_data
from randhet.train.models import ModelSettings

SHIPPED = Path(__file__).parents[1] / "checkpoints/digits-randhet-at.pt"
STATES = st.integers(1, 2**32 - 1)


def following(state: int, count: int) -> list[int]:
    """Draws by the definition, one after another."""
    values = []
    for _ in range(count):
        state, value = draw(state)
        values.append(value)
    return values


@settings(max_examples=25)
@given(STATES, st.integers(0, 500))
def test_four_consecutive_draws_give_the_register_and_every_later_draw(state: int, first: int) -> None:
    values = following(state, first + 24)
    solution = from_draws((first + n, values[first + n]) for n in range(4))
    assert (solution.state, solution.rank, solution.used) == (state, 32, 32) and solution.state is not None
    assert following(state, first + 24) == draws(solution.state, 0, first + 24).tolist()


@given(STATES)
def test_three_draws_leave_one_in_256(state: int) -> None:
    solution = from_draws(enumerate(following(state, 3)))
    assert (solution.state, solution.rank) == (None, 24)


@settings(max_examples=25)
@given(STATES, st.lists(st.integers(0, 10**6), min_size=60, max_size=60, unique=True))
def test_top_bits_of_scattered_draws_are_enough(state: int, numbers: list[int]) -> None:
    """Whoever only learns on which side of 1/2 a tau was has one equation per draw."""
    half = {n: range(128) if draws(state, n, 1)[0] < 128 else range(128, 256) for n in numbers}
    solution = solve(equation for n, side in half.items() for equation in known_bits(n, side))
    assert solution.state == state
    assert 32 <= solution.used <= 60


def test_bits_of_two_registers_contradict() -> None:
    pairs = [*enumerate(following(7, 4)), (4, following(8, 5)[4]), (5, following(8, 6)[5])]
    with pytest.raises(ValueError, match="not of one register"):
        solve(equation for n, value in [*pairs[:3], *pairs[4:]] for equation in known_bits(n, [value]))
    equations = [*known_bits(0, [1]), *((mask, 1 - bit) for mask, bit in known_bits(0, [1]))]
    with pytest.raises(ValueError, match="not of one register"):
        solve(equations)


@pytest.fixture(scope="module")
def shipped() -> Network:
    return export_checkpoint(load(SHIPPED), load_data("digits", "train").pixels[:32]).network


@pytest.mark.parametrize("number", [0, 70_000])
def test_spikes_of_one_step_of_one_image_give_the_registers_of_the_shipped_network(
    shipped: Network, number: int
) -> None:
    """The observer has the network file, the image, and which neurons of the first layer fired; the seed is secret."""
    secret, image = 2025, load_data("digits").pixels[:1]
    run = reference.run(shipped, image, seed=secret, first_image=number, probes=["node1"])
    for core in range(2):
        solution = from_spikes(shipped, image[0], run.traces["node1"].output[0, 0] != 0, number, core)
        assert solution.state == core_seed(secret, 1, core)


def test_per_forward_draws_are_read_off_the_same_way() -> None:
    model = ModelSettings(1, 3, (12, 12), (6,), (1,), steps=2, neuron="randhet-forward")
    pixels = np.random.default_rng(4).integers(0, 256, (4, 1, 12, 12), np.uint8)
    network = export_checkpoint(random_init(model, seed=2), pixels).network
    run = reference.run(network, pixels[:1], seed=9, first_image=31, probes=["node1"])
    solution = from_spikes(network, pixels[0], run.traces["node1"].output[0, 0] != 0, 31, 0)
    assert solution.state == core_seed(9, 1, 0)


def test_a_network_without_draws_has_nothing_to_recover(shipped: Network) -> None:
    stem = shipped.layers[1]
    assert isinstance(stem.neuron, Lif)
    constant = replace(stem, neuron=replace(stem.neuron, decay=Constant()))
    still = replace(shipped, layers=(shipped.layers[0], constant))
    with pytest.raises(ValueError, match="does not draw"):
        from_spikes(still, np.zeros((1, 8, 8), np.uint8), np.zeros(10, bool), 0, 0)


@given(st.integers(0, 2**64 - 1))
def test_the_mixer_of_the_seeds_can_be_undone(value: int) -> None:
    assert int(unmix(np.uint64(splitmix64(value)))) == value


@settings(max_examples=25)
@given(st.integers(0, 2**64 - 1), st.integers(1, 40))
def test_two_registers_of_a_layer_give_the_master_seed(master: int, layer: int) -> None:
    """2^32 tries in all; here those around the right one."""
    high = splitmix64(splitmix64(splitmix64(master) ^ layer)) >> 32
    tried = range(max(high - 2000, 0), min(high + 2000, 2**32))
    seeds = master_seeds(layer, core_seed(master, layer, 0), core_seed(master, layer, 1), tried)
    assert master in seeds
    assert {core_seed(seed, layer, 1) for seed in seeds} == {core_seed(master, layer, 1)}
