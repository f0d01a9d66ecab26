"""Energy and time of an image, with counts and sums worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from randhet.base.errors import RandhetError
from randhet.fixed_point import reference
from randhet.fixed_point.chips import chip, energy
from randhet.fixed_point.chips.load import Axis
from randhet.fixed_point.chips.mapping import map_network
from randhet.fixed_point.network import (
    Constant,
    Conv,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
    SumPool,
)

PICO, NANO = 1e-12, 1e-9


def always(count: int) -> Lif:
    """Fires at every step: x = bias > threshold, no decay."""
    return Lif(np.full(count, 1, np.int32), np.full(count, 9, np.int32), Constant(0))


def chain() -> Network:
    layers = (
        Layer("input", Input((1, 2, 2), 1)),
        Layer("hidden", Dense(np.zeros((3, 4), np.int8)), (0,), always(3)),
        Layer("read", Dense(np.ones((2, 3), np.int8)), (1,), ReadOut(np.zeros(2, np.int32))),
    )
    return Network(layers, 2)


def estimate(network: Network, images: np.ndarray, probes: tuple[str, ...] = ()) -> energy.Estimate:
    result = reference.run(network, images, seed=1, probes=probes)
    return energy.estimate(network, map_network(network, chip.load("loihi2")), images, result)


def test_energy_of_a_chain_by_hand() -> None:
    """T = 2, four lit pixels: 3*2 and 2*2 updates; 8 input spikes drive 3 synapses, 6 hidden ones drive 2: 36.

    6 spikes, 6 messages, each (8^2-1)/(3*8) = 2.625 tiles one way and (4^2-1)/(3*4) = 1.25 the other.
    """
    found = estimate(chain(), np.ones((1, 1, 2, 2), np.uint8))
    assert found.by_kind() == pytest.approx(
        {
            "neuron updates": 10 * 72.8 * PICO,
            "synaptic operations": 36 * 35.5 * PICO,
            "spikes": 6 * 69.3 * PICO,
            "messages": 6 * 111 * PICO,
            "hops x": 15.75 * 3.0 * PICO,
            "hops y": 7.5 * 4.2 * PICO,
        }
    )
    assert found.energy == pytest.approx(3166.55 * PICO)
    assert sum(found.by_layer().values()) == pytest.approx(found.energy)


def test_wide_weights_cost_what_narrow_ones_do_and_the_assumptions_say_so() -> None:
    """Weights of 2 bits and of 8 that give the same spikes: no gain may be read out of the estimate."""

    def scaled(by: int) -> Network:
        """The chain with a hidden layer that fires whenever a pixel is lit."""
        source, hidden, read = chain().layers
        weight, cell = (
            np.full((3, 4), by, np.int8),
            Lif(np.full(3, 32 * by, np.int32), np.zeros(3, np.int32), Constant(0)),
        )
        return Network((source, replace(hidden, operation=Dense(weight), neuron=cell), read), 2)

    image = np.ones((1, 1, 2, 2), np.uint8)
    narrow, wide = estimate(scaled(1), image), estimate(scaled(127), image)
    assert narrow.terms == wide.terms
    assert any(term.what == "spikes" and term.count == 6 for term in wide.terms)
    assert sum("every weight width" in it for it in energy.ASSUMPTIONS) == 1


def test_time_of_a_chain_by_hand() -> None:
    """A step of the hidden core: 3 updates, 12 operations, 3 spikes, 3 messages; an image takes T and two delays."""
    found = estimate(chain(), np.ones((1, 1, 2, 2), np.uint8))
    step = (3 * 9.7 + 12 * 4.0 + 3 * 30 + 3 * 5.1 + 1800) * NANO
    assert found.slowest == "hidden"
    assert found.step_time == pytest.approx(step)
    assert found.latency == pytest.approx(4 * step) and found.steps == 4
    assert found.images_per_second == pytest.approx(1 / (2 * step))
    busy = [term.total for term in found.times if term.layer in ("hidden", "all")]
    assert sum(busy) == pytest.approx(step)


def test_dark_pixels_cost_nothing_and_images_are_averaged() -> None:
    """Two images, one with one lit pixel of four and one dark: half a pixel, two steps, three synapses."""
    images = np.zeros((2, 1, 2, 2), np.uint8)
    images[0, 0, 0, 0] = 1
    found = {(term.what, term.layer): term.count for term in estimate(chain(), images).terms}
    assert found["synaptic operations", "hidden"] == 0.5 * 2 * 3


def test_every_term_names_its_source() -> None:
    found = estimate(chain(), np.ones((1, 1, 2, 2), np.uint8))
    assert all(term.unit.source and term.unit.unit for term in (*found.terms, *found.times))


def test_windows_and_synapses_of_a_convolution() -> None:
    assert energy.windows(Axis(4, 3, padding=1), 4).tolist() == [2, 3, 3, 2]
    assert energy.windows(Axis(5, 3, stride=2), 2).tolist() == [1, 1, 2, 1, 1]
    conv = Conv(np.ones((6, 2, 3, 3), np.int8), padding=(1, 1), groups=3)
    fan = energy.synapses(conv, (6, 4, 4), (6, 4, 4))
    assert fan.shape == (6, 4, 4) and fan[0, 0].tolist() == [2 * 2 * 2, 2 * 3 * 2, 2 * 3 * 2, 2 * 2 * 2]


def test_spikes_recorded_one_by_one_count_where_they_are() -> None:
    """One neuron of the conv fires: a corner, which the next conv's nine taps meet in four places; two channels out."""
    threshold = np.full(1, 5, np.int32)
    bias = np.zeros((1, 3, 3), np.int32)
    bias[0, 0, 0] = 6
    layers = (
        Layer("input", Input((1, 3, 3), 1)),
        Layer("a", Conv(np.zeros((1, 1, 1, 1), np.int8)), (0,), Lif(threshold, bias, Constant(0))),
        Layer("b", Conv(np.zeros((2, 1, 3, 3), np.int8), padding=(1, 1)), (1,), always(2)),
    )
    network, images = Network(layers, 1), np.zeros((1, 1, 3, 3), np.uint8)
    operations = lambda found: next(t.count for t in found.terms if (t.what, t.layer) == ("synaptic operations", "b"))
    assert operations(estimate(network, images, probes=("a",))) == 4 * 2
    # evenly spread: one spike at the mean of 4, 6, 4, 6, 9, 6, 4, 6, 4 = 49/9 windows
    assert operations(estimate(network, images)) == pytest.approx(49 / 9 * 2)


def test_a_folded_pool_sends_every_spike_to_the_dense_layer() -> None:
    layers = (
        Layer("input", Input((1, 4, 4), 1)),
        Layer("a", Conv(np.zeros((1, 1, 1, 1), np.int8)), (0,), always(1)),
        Layer("pool", SumPool((2, 2), (2, 2)), (1,)),
        Layer("flat", Flatten(), (2,)),
        Layer("read", Dense(np.zeros((5, 4), np.int8)), (3,), ReadOut(np.zeros(5, np.int32))),
    )
    found = estimate(Network(layers, 3), np.zeros((1, 1, 4, 4), np.uint8))
    count = {(term.what, term.layer): term.count for term in found.terms}
    assert count["synaptic operations", "read"] == 16 * 3 * 5


@pytest.mark.parametrize(("sampling", "draws"), [("step", 6), ("forward", 3)])
def test_draws_are_counted(sampling: str, draws: int) -> None:
    neuron = Lif(np.ones(3, np.int32), np.ones(3, np.int32), Drawn(sampling=sampling))  # type: ignore[arg-type]
    layers = (*chain().layers[:1], Layer("hidden", Dense(np.zeros((3, 4), np.int8)), (0,), neuron))
    found = estimate(Network(layers, 2), np.zeros((1, 1, 2, 2), np.uint8))
    assert [term.count for term in found.terms if term.what == "random draws"] == [draws]


def test_an_estimate_needs_the_images_of_its_run() -> None:
    network = chain()
    result = reference.run(network, np.ones((2, 1, 2, 2), np.uint8))
    placed = map_network(network, chip.load("loihi2"))
    with pytest.raises(RandhetError, match="the run has 2 images and 1 were given"):
        energy.estimate(network, placed, np.ones((1, 1, 2, 2), np.uint8), result)
