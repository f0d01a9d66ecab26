"""Chips, cores and their loads, with values worked out by hand from chips/*.toml: see the comments beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from randhet.fixed_point.chips import chip, load, mapping
from randhet.fixed_point.chips.chip import ChipError
from randhet.fixed_point.chips.load import Axis
from randhet.fixed_point.chips.mapping import Load, map_network
from randhet.fixed_point.chips.needs import needs
from randhet.fixed_point.network import (
    Add,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    PerNeuron,
    ReadOut,
    SumPool,
)


def ints(count: int, value: int = 64) -> np.ndarray:
    return np.full(count, value, np.int32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def small(neuron: Neuron) -> Network:
    """A conv of 2 to 4 channels on 4x4 pixels, pooled whole, then three classes."""
    layers = (
        Layer("input", Input((2, 4, 4))),
        Layer("conv", Conv(ones(4, 2, 3, 3), padding=(1, 1)), (0,), neuron),
        Layer("pool", SumPool((4, 4), (4, 4)), (1,)),
        Layer("flat", Flatten(), (2,)),
        Layer("read", Dense(ones(3, 4)), (3,), ReadOut(ints(3))),
    )
    return Network(layers, 2)


def test_every_number_of_every_chip_has_a_unit_and_a_source() -> None:
    assert chip.names() == ["loihi1", "loihi2"]
    for name in chip.names():
        found = chip.load(name)
        assert found.unknown and found.quantities
        for quantity in found.quantities.values():
            assert quantity.unit and quantity.source
            assert ("not verified" in str(quantity)) == (not quantity.checked)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("name = ", "is wrong"),
        ("name = 'x'\nunknown = []\n[a]\nvalue = 1\nunit = 'J'\nsource = ''", "is wrong"),
        ("name = 'x'\nunknown = []\n[a]\nvalue = 1", "source"),
    ],
)
def test_a_wrong_description_is_refused(wrong: str, words: str) -> None:
    with pytest.raises(ChipError, match=words):
        chip.parse("test", wrong)


def test_an_unknown_chip_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ChipError, match="no chip is called loihi3, the chips are loihi1, loihi2"):
        chip.load("loihi3")


def test_loads_of_a_constant_decay_layer_on_loihi2() -> None:
    """Kernel 4*2*9 bytes = 576 bits; 64 membranes and 4 thresholds and 4 biases of 24 bits = 1728; 16 source pixels.

    The pool only wires: the read-out hears all 64 neurons, holds 3*4 weights = 96 bits, 3 sums of 32, 3 biases of 24.
    """
    found = map_network(small(Lif(ints(4), ints(4))), chip.load("loihi2"))
    conv, read = found.layers
    assert conv.loads == (Load(64, 576, 1728, 576 + 1728, 16, 64, 1.0),)
    assert read.loads == (Load(3, 96, 168, 264, 64, 0, 0.0),)
    assert (found.cores, found.chips, found.hungriest.name) == (2, 1, "conv")


def test_random_tau_cores_hold_consecutive_neurons() -> None:
    """24 neurons a core: 16 + 8, 8 + 16, then the last channel. A register of 32 bits and a table of 256 bytes each.

    Two channels: 2*2*9 weights, 4 constants; one: 1*2*9 weights, 2 constants.
    """
    found = map_network(small(Lif(ints(4), ints(4), Drawn(neurons_per_core=24))), chip.load("loihi2")).layers[0]
    assert [(list(core.channels), core.neurons) for core in found.cores] == [([0, 1], 24), ([1, 2], 24), ([3], 16)]
    shared = 32 + 256 * 8
    wide = 24 * 24 + shared + 4 * 24
    last = 16 * 24 + shared + 2 * 24
    assert [load.state_bits for load in found.loads] == [wide, wide, last]
    assert [load.weight_bits for load in found.loads] == [36 * 8, 36 * 8, 18 * 8]


def test_a_decay_held_for_an_image_is_a_state() -> None:
    per_step = needs(Lif(ints(4), ints(4), Drawn(sampling="step")))
    held = needs(Lif(ints(4), ints(4), Drawn(sampling="forward")))
    assert (per_step.state, held.state) == (24, 24 + 8)


def test_what_each_neuron_asks_of_a_chip() -> None:
    """Decays of 12 bits take two bytes; a table has 256 of them beside a register of 32 bits. 17 = 10001 has 5 bits."""
    own = np.full((4, 4, 4), 9, np.uint16)
    table = np.full(256, 9, np.uint16)
    asked = {
        "constant": Lif(ints(4), ints(4), Constant(9), 12, reset="subtract"),
        "own": Lif(ints(4), ints(4), PerNeuron(own), 12),
        "drawn": Lif(ints(4), ints(4), Drawn(table, "forward"), 12),
        "cuba": Cuba(ints(4), ints(4), 16, 17),
        "sums": ReadOut(ints(4)),
    }
    found = {name: needs(neuron) for name, neuron in asked.items()}
    assert {name: (it.state, it.shared, it.decay_bits, it.reset, it.standard) for name, it in found.items()} == {
        "constant": (24, 0, 12, "subtract", False),
        "own": (24 + 16, 0, 12, "zero", False),
        "drawn": (24 + 16, 32 + 256 * 16, 12, "zero", False),
        "cuba": (48, 0, 5, "zero", True),
        "sums": (32, 0, None, None, False),
    }
    assert found["own"].own_decays is own


def test_a_neuron_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        needs(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_weights_that_do_not_fit_a_core_are_spread_over_as_few_as_hold_them(name: str) -> None:
    """4096 to 100. Loihi 2: 4096*50 bytes exceed 196,608, 4096*25 do not.

    Loihi 1: 4096 lists of 25*8 + 10 bits take 4 words of 64, 1,048,576 bits, the whole memory; lists of 50 take 7.
    """
    layers = (
        Layer("input", Input((4096, 1, 1), 1)),
        Layer("dense", Dense(ones(100, 4096)), (0,), Lif(ints(100), ints(100))),
    )
    found = map_network(Network(layers, 1), chip.load(name)).layers[0]
    assert [core.neurons for core in found.cores] == [25] * 4
    assert found.largest("weight_bits") == {"loihi1": 2**20, "loihi2": 4096 * 25 * 8}[name]


def test_taps_that_source_pixels_meet() -> None:
    """Kernel 3, padding 1, four outputs: the ends meet two taps, each its own two; both inner ones meet all three."""
    assert load.patterns(Axis(4, 3, padding=1), range(4)) == (2, 2, 3)
    assert load.seen(Axis(8, 3, stride=2, padding=1), range(1, 3)) == {1, 2, 3, 4, 5}


def test_a_convolution_on_loihi1_shares_lists_between_pixels() -> None:
    """3x3 patterns with 4, 6, 4, 6, 9, 6, 4, 6, 4 synapses of 8 + 6 bits, a header of 10, in words of 64.

    4*14+10 = 66 and 6*14+10 = 94 take 2 words, 9*14+10 = 136 takes 3: 8*128 + 192 = 1216 bits, not 16 lists.
    """
    layers = (
        Layer("input", Input((1, 4, 4), 1)),
        Layer("conv", Conv(ones(1, 1, 3, 3), padding=(1, 1)), (0,), Lif(ints(1), ints(1))),
    )
    assert map_network(Network(layers, 1), chip.load("loihi1")).layers[0].loads[0].weight_bits == 1216


def test_a_residual_sum_has_no_core_and_its_reader_hears_both_branches() -> None:
    neuron = Lif(ints(2), ints(2))
    conv = Conv(ones(2, 2, 1, 1))
    layers = (
        Layer("input", Input((2, 3, 3), 1)),
        Layer("a", conv, (0,), neuron),
        Layer("b", conv, (1,), neuron),
        Layer("sum", Add(), (1, 2)),
        Layer("c", conv, (3,), neuron),
    )
    found = {layer.name: layer.loads[0] for layer in map_network(Network(layers, 1), chip.load("loihi2")).layers}
    assert set(found) == {"a", "b", "c"}
    assert found["c"].in_axons == 2 * 9
    assert (found["a"].out_axons, found["b"].out_axons, found["a"].destinations) == (18, 9, 2.0)


def test_chips_are_counted_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """121 channels of one pixel, one neuron a core: one core more than the 120 of a chip."""
    layers = (
        Layer("input", Input((1, 1, 1), 1)),
        Layer("wide", Dense(ones(121, 1)), (0,), Lif(ints(121), ints(121), Drawn(neurons_per_core=1))),
    )
    found = map_network(Network(layers, 1), chip.load("loihi2"))
    assert (found.cores, found.chips) == (121, 2)


def test_boxes_cover_every_neuron_once() -> None:
    cells = [
        (c, y, x)
        for core in mapping.boxes((5, 4, 3), (2, 3, 2))
        for c in core.channels
        for y in core.rows
        for x in core.columns
    ]
    assert sorted(cells) == [(c, y, x) for c in range(5) for y in range(4) for x in range(3)]


def test_the_chip_files_lie_where_the_package_takes_them() -> None:
    assert {path.name for path in Path(chip.FOLDER).glob("*.toml")} == {"loihi1.toml", "loihi2.toml"}
