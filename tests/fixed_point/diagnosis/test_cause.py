"""Faults planted in the reference, one of each cause, are found in the layer and place where they are, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import integer, reference
from randhet.fixed_point.diagnosis.difference import assert_equal, divergence
from randhet.fixed_point.diagnosis.divergence import Divergence
from randhet.fixed_point.diagnosis.fit import current_window, start_window, tau_window
from randhet.fixed_point.diagnosis.resets import RESETS
from randhet.fixed_point.integer import Int
from randhet.fixed_point.network import Add, Constant, Conv, Cuba, Dense, Input, Layer, Network, Reset
from randhet.fixed_point.result import Result, Trace
from randhet.train.checkpoint import random_init
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 6), (3, 4), (1, 1), steps=3)
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6), np.uint8)
SEED = 5
Change = Callable[[Layer], Layer]


KINDS = [(neuron, reset) for neuron in ("randhet", "randhet-forward", "vanilla", "het") for reset in get_args(Reset)]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def network(request: pytest.FixtureRequest) -> Network:
    neuron, reset = request.param
    return export_checkpoint(random_init(replace(MODEL, neuron=neuron, reset=reset), seed=2), PIXELS).network


@pytest.fixture(scope="module")
def randhet() -> Network:
    return export_checkpoint(random_init(MODEL, seed=2), PIXELS).network


def run(network: Network, seed: int = SEED, images: np.ndarray = PIXELS) -> Result:
    return reference.run(network, images, seed=seed, first_image=4, probes=[layer.name for layer in network.layers])


def with_layer(network: Network, name: str, change: Change) -> Network:
    return replace(network, layers=tuple(change(one) if one.name == name else one for one in network.layers))


def in_neuron(**fields: Callable[[Any], Any]) -> Change:
    """A change of fields of the neuron."""
    return lambda layer: replace(
        layer,
        neuron=replace(layer.neuron, **{key: make(getattr(layer.neuron, key)) for key, make in fields.items()}),  # type: ignore[type-var]
    )


def in_weights(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def changed(layer: Layer) -> Layer:
        assert isinstance(layer.operation, (Conv, Dense))
        return replace(layer, operation=replace(layer.operation, weight=change(layer.operation.weight.copy())))

    return changed


def at(index: tuple[int, ...], by: int) -> Callable[[np.ndarray], np.ndarray]:
    """Add to one entry of a copy."""

    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[index] = int(changed[index]) + by  # NumPy 2 casts no negative number to an unsigned one
        return changed

    return change


def diagnosed(network: Network, found: Result, images: np.ndarray = PIXELS) -> Divergence:
    expected = run(network, images=images)
    where = divergence(network, images, expected, found, SEED, 4)
    assert where is not None
    with pytest.raises(AssertionError, match=f"layer {where.layer}.*cause: {where.cause}"):
        assert_equal(network, images, expected, found, SEED, 4)
    return where


def test_equal_runs_have_no_divergence(network: Network) -> None:
    assert divergence(network, PIXELS, run(network), run(network), SEED, 4) is None
    assert_equal(network, PIXELS, run(network), run(network), SEED, 4)


@pytest.mark.parametrize(
    ("layer", "index", "by"),
    [("node1", (1, 0, 2, 1), 3), ("layer1.0.node2", (2, 1, 0, 0), -1), ("layer2.0.node1", (3, 2, 1, 1), 1)],
)
def test_one_wrong_weight_is_named(network: Network, layer: str, index: tuple[int, ...], by: int) -> None:
    own = next(one for one in network.layers if one.name == layer).operation
    assert isinstance(own, Conv)
    by = -by if abs(int(own.weight[index]) + by) > 127 else by
    found = diagnosed(network, run(with_layer(network, layer, in_weights(at(index, by)))))
    assert (found.layer, found.cause) == (layer, "weight")
    assert found.detail == f"weight {index} is {int(own.weight[index]) + by}, not {int(own.weight[index])}"


def test_flipped_kernels_are_wrong_weights(network: Network) -> None:
    flipped = with_layer(network, "layer1.0.node1", in_weights(lambda w: w[..., ::-1, ::-1].copy()))
    images = np.random.default_rng(3).integers(0, 256, (24, 1, 6, 6), np.uint8)
    found = diagnosed(network, run(flipped, images=images), images)
    assert (found.layer, found.cause) == ("layer1.0.node1", "weight")
    assert "more weights" in found.detail


def test_a_wrong_weight_of_the_classifier(network: Network) -> None:
    found = diagnosed(network, run(with_layer(network, "fc1", in_weights(at((1, 2), -4)))))
    assert (found.layer, found.cause) == ("fc1", "weight")
    assert found.detail.startswith("weight (1, 2) is")


@pytest.mark.parametrize("layer", ["layer1.0.node1", "layer2.0.downsample_sn", "fc1"])
@pytest.mark.parametrize("by", [-700, 900])
def test_a_wrong_bias_of_a_channel(network: Network, layer: str, by: int) -> None:
    found = diagnosed(network, run(with_layer(network, layer, in_neuron(bias=at((2,), by)))))
    assert (found.layer, found.cause) == (layer, "bias")
    assert found.detail == f"the bias of channel 2 is off by {by:+d} units"


def test_a_wrong_bias_of_one_place_of_a_map(network: Network) -> None:
    found = diagnosed(network, run(with_layer(network, "node1", in_neuron(bias=at((1, 0, 3), 5000)))))
    assert (found.layer, found.cause) == ("node1", "bias")
    assert found.detail == "the bias of neuron (1, 0, 3) is off by +5000 units"


def test_a_wrong_threshold(network: Network) -> None:
    """It shows in spikes; where it is subtracted, also in what a spike leaves of both membrane potentials."""
    found = diagnosed(network, run(with_layer(network, "layer1.0.node2", in_neuron(threshold=at((1,), 400)))))
    own = next(one for one in network.layers if one.name == "layer1.0.node2").lif
    assert own is not None
    quantity = {"zero": "output", "subtract": "membrane"}[own.reset]
    assert (found.layer, found.cause, found.quantity) == ("layer1.0.node2", "threshold", quantity)
    low, high = map(int, found.detail.split(" of ")[1].split(",")[0].split(".."))
    assert low <= int(own.threshold[1]) + 400 <= high
    assert own.reset == "zero" or high - low < 400, "what is subtracted is known to a few units"


def test_other_draws_are_another_tau(randhet: Network) -> None:
    found = diagnosed(randhet, run(randhet, seed=SEED + 1))
    assert (found.layer, found.cause) == ("node1", "tau")
    assert found.detail.startswith("other draws")


@pytest.mark.parametrize(("kind", "first", "which"), [("randhet", 5, "next image"), ("randhet", 3, "previous image")])
def test_draws_of_another_image(randhet: Network, kind: str, first: int, which: str) -> None:
    names = [layer.name for layer in randhet.layers]
    found = diagnosed(randhet, reference.run(randhet, PIXELS, seed=SEED, first_image=first, probes=names))
    assert (found.cause, found.detail) == ("tau", f"it takes the draws of the {which}")


def test_draws_of_the_neighbour(randhet: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(randhet)
    right = reference.LayerGenerator.round
    monkeypatch.setattr(reference.LayerGenerator, "round", lambda self, number: np.roll(right(self, number), 1))
    found = run(randhet)
    monkeypatch.undo()
    where = divergence(randhet, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert (where.cause, where.detail) == ("tau", "it takes the draws of the previous neuron")


def test_a_wrong_entry_of_the_table(randhet: Network) -> None:
    images = np.random.default_rng(3).integers(0, 256, (16, 1, 6, 6), np.uint8)
    table = lambda decay: replace(decay, table=at((200,), -60)(decay.table))
    changed = with_layer(randhet, "layer1.0.node1", in_neuron(decay=table))
    found = diagnosed(randhet, run(changed, images=images), images)
    assert (found.layer, found.cause) == ("layer1.0.node1", "tau")
    assert found.detail.startswith("1 table entries differ, draw 200 gives")


def test_a_wrong_constant_decay() -> None:
    vanilla = export_checkpoint(random_init(replace(MODEL, neuron="vanilla"), seed=2), PIXELS).network
    less = in_neuron(decay=lambda decay: Constant(decay.mantissa - 9))
    found = diagnosed(vanilla, run(with_layer(vanilla, "node1", less)))
    assert (found.layer, found.cause) == ("node1", "tau")
    assert "119..119 instead of 128" in found.detail


def fired(spike: np.ndarray, membrane: Int, left: Int | int) -> tuple[Int, Int]:
    """The spikes, and the membrane potentials of which they leave so much."""
    return spike.astype(np.int64), np.where(spike, left, membrane)


ROUNDED: dict[str, Callable[[Int, int], Int]] = {
    "to nearest, halves up": lambda value, k: np.floor(value / 2**k + 0.5).astype(np.int64),
    "toward zero": lambda value, k: np.trunc(value / 2**k).astype(np.int64),
}


@pytest.mark.parametrize("how", ROUNDED)
def test_another_rounding_within_a_unit(network: Network, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(network)
    monkeypatch.setattr(integer, "leak", lambda m, x, a, k: integer.sat24(x + ROUNDED[how](a * (m - x), k)))
    found = run(network)
    monkeypatch.undo()
    where = divergence(network, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert abs(where.expected - where.found) <= 1
    assert where.cause == "rounding"
    assert how in where.detail


def test_a_tie_at_the_threshold(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = run(network).traces["layer1.0.node1"].membrane
    assert traced is not None
    value = int(traced[:, 0, 1].max())  # met exactly at step 0, before any threshold matters
    assert value > 0
    tied = with_layer(network, "layer1.0.node1", in_neuron(threshold=lambda old: np.array([old[0], value, old[2]])))
    expected = run(tied)
    monkeypatch.setattr(
        integer, "fire", lambda m, theta, reset: fired(m >= theta, m, integer.reset_to(m, theta, reset))
    )
    found = run(tied)
    monkeypatch.undo()
    where = divergence(tied, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert (where.quantity, where.expected, where.found, where.cause) == ("output", 0, 1, "tie")
    trace, layer = found.traces[where.layer], next(one for one in tied.layers if one.name == where.layer)
    assert trace.membrane is not None
    place = (where.image - 4, where.step, *where.neuron)
    assert trace.membrane[place] == layer.neuron.threshold[where.neuron[0]]  # type: ignore[union-attr]


LEFT: dict[str, Callable[[Int, Int], Int]] = {
    "with a reset to zero": lambda m, theta: 0 * m,
    "with a reset by subtraction": lambda m, theta: m - theta,
    "without a reset": lambda m, theta: m,
}
"""What a spike leaves of the membrane potential."""


@pytest.mark.parametrize("how", LEFT)
def test_another_reset_is_named(network: Network, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.layers[1].lif is not None
    own = {"zero": "with a reset to zero", "subtract": "with a reset by subtraction"}[network.layers[1].lif.reset]
    expected = run(network)
    monkeypatch.setattr(integer, "fire", lambda m, theta, *_: fired(m > theta, m, LEFT[how](m, theta)))
    found = run(network)
    monkeypatch.undo()
    where = divergence(network, PIXELS, expected, found, SEED, 4)
    if how == own:
        assert where is None
        return
    assert where is not None
    assert (where.cause, where.quantity) == ("reset", "membrane")
    assert where.detail == f"the membrane potential continues as {how}, not {own}"


def test_every_reset_has_words() -> None:
    assert set(RESETS) == {*get_args(Reset), None}


def cuba() -> Network:
    """Two layers of CUBA neurons with currents that last, so that a spike's reset is seen at the next steps."""
    rng = np.random.default_rng(8)
    first, second = (rng.integers(-60, 61, shape).astype(np.int8) for shape in ((9, 36), (5, 9)))
    neuron = lambda count, theta: Cuba(np.full(count, theta), np.full(count, 3000), 2000, 300)
    layers = (
        Layer("input", Input((36, 1, 1))),
        Layer("first", Dense(first), (0,), neuron(9, 60_000)),
        Layer("second", Dense(second), (1,), neuron(5, 4_000)),
    )
    return Network(layers, 8)


@pytest.mark.parametrize("how", ["with a reset by subtraction", "without a reset"])
def test_another_reset_of_a_cuba_neuron_is_named(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = cuba(), PIXELS.reshape(6, 36, 1, 1)
    expected = run(network, images=images)
    assert expected.spikes["first"] > 20
    monkeypatch.setattr(integer, "fire", lambda m, theta, *_: fired(m > theta, m, LEFT[how](m, theta)))
    found = run(network, images=images)
    monkeypatch.undo()
    where = divergence(network, images, expected, found, SEED, 4)
    assert where is not None
    assert (where.layer, where.cause) == ("first", "reset")
    assert where.detail == f"the membrane potential continues as {how}, not with a reset to zero"


def test_a_wrong_bias_and_threshold_of_a_cuba_neuron() -> None:
    network, images = cuba(), PIXELS.reshape(6, 36, 1, 1)
    found = diagnosed(network, run(with_layer(network, "first", in_neuron(bias=at((4,), 77))), images=images), images)
    assert (found.layer, found.cause, found.detail) == ("first", "bias", "the bias of channel 4 is off by +77 units")
    other = with_layer(network, "second", in_neuron(threshold=lambda old: old + 2_000))
    found = diagnosed(network, run(other, images=images), images)
    assert (found.layer, found.cause) == ("second", "threshold")


@pytest.mark.parametrize("held", [False, True])
def test_draws_of_images_whose_numbers_times_t_pass_64_bits(held: bool) -> None:
    """A wrong table, in the last images that have numbers at all: the draws are Python's integers on the way."""
    model = replace(MODEL, neuron="randhet-forward" if held else "randhet")
    network = export_checkpoint(random_init(model, seed=2), PIXELS).network
    first, names = 2**62 - len(PIXELS), [layer.name for layer in network.layers]
    table = lambda decay: replace(decay, table=decay.table[::-1].copy())
    wrong = with_layer(network, "node1", in_neuron(decay=table))
    expected, found = (
        reference.run(one, PIXELS, seed=SEED, first_image=first, probes=names) for one in (network, wrong)
    )
    where = divergence(network, PIXELS, expected, found, SEED, first)
    assert where is not None
    assert (where.layer, where.cause, where.image >= first) == ("node1", "tau", True)
    assert "table entries differ" in where.detail
    assert divergence(network, PIXELS, expected, expected, SEED, first) is None


@pytest.mark.parametrize("limit", [None, 2**17 - 1])
def test_saturation(network: Network, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    big = with_layer(network, "layer1.0.node1", in_neuron(bias=lambda b: np.array([b[0], 2**23 - 9, b[2]])))
    network = big if limit is None else network
    expected = run(network)
    monkeypatch.setattr(integer, "sat24", lambda v: (v, 0) if limit is None else (np.clip(v, -limit, limit), 0))
    found = run(network)
    monkeypatch.undo()
    where = divergence(network, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert where.cause == "saturation"
    assert ("left as they are" if limit is None else f"cut off at {limit}") in where.detail


def test_axes_in_another_order_and_a_wrong_shape(network: Network) -> None:
    right = run(network)
    name = "layer1.0.node1"
    trace = right.traces[name]
    assert trace.membrane is not None
    swapped = Trace(trace.output.swapaxes(-1, -2), trace.membrane.swapaxes(-1, -2))
    found = diagnosed(network, replace(right, traces={**right.traces, name: swapped}))
    assert (found.layer, found.cause) == (name, "shape")
    assert found.detail == "the values stand in the order (channel, x, y)"
    cut = Trace(trace.output[..., :5], trace.membrane[..., :5])
    found = diagnosed(network, replace(right, traces={**right.traces, name: cut}))
    assert (found.layer, found.cause, found.detail) == (name, "shape", "(3, 6, 5), the network has (3, 6, 6)")


def test_a_sum_that_is_not_one(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, right = run(network), reference.operate
    largest = lambda operation, read: np.max(read, axis=0) if isinstance(operation, Add) else right(operation, read)
    monkeypatch.setattr(reference, "operate", largest)
    found = run(network)
    monkeypatch.undo()
    where = divergence(network, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert (where.layer, where.cause) == ("layer1.0.add", "operation")


def test_noise_without_a_system_is_not_explained_away(network: Network) -> None:
    right = run(network)
    trace = right.traces["layer1.0.node1"]
    assert trace.membrane is not None
    noise = np.random.default_rng(0).integers(-90_000, 90_000, trace.membrane.shape)
    found = diagnosed(
        network, replace(right, traces={**right.traces, "layer1.0.node1": Trace(trace.output, trace.membrane + noise)})
    )
    assert found.cause == "unexplained"


STATES = st.integers(-(2**23) + 1, 2**23 - 1)


@given(STATES, STATES, st.integers(0, 255), st.integers(-3, 3))
def test_windows_hold_exactly_the_values_that_fit(before: int, x: int, decay: int, off: int) -> None:
    result = x + ((decay * (before - x)) >> 8)
    given, start, current, factor = (np.array([value]) for value in (result, before, x, decay))
    low, high = (int(side[0]) for side in current_window(given, start, factor, 8))
    for edge, inside in ((low - 1, False), (low, True), (high, True), (high + 1, False), (x, True)):
        assert (edge + ((decay * (before - edge)) >> 8) == result) == inside
    result += off
    low, high = (int(side[0]) for side in tau_window(np.array([result]), np.array([before]), np.array([x]), 8))
    least, most = (int(side[0]) for side in start_window(np.array([result]), current, factor, 8))
    for other in (*range(max(before - 4, 1 - 2**23), min(before + 5, 2**23)), 0):
        assert (x + ((decay * (other - x)) >> 8) == result) == (least <= other <= most)
    fits = {a for a in range(256) if x + ((a * (before - x)) >> 8) == result}
    assert fits == set(range(low, high + 1))
