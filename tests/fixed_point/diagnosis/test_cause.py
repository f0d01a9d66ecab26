"""Faults planted in the reference, one of each cause, are found in the layer and place where they are, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import integer, reference
from randhet.fixed_point.diagnosis.difference import assert_equal, divergence
from randhet.fixed_point.diagnosis.divergence import Divergence
from randhet.fixed_point.diagnosis.fit import current_window, tau_window
from randhet.fixed_point.integer import Int
from randhet.fixed_point.network import Add, Conv, Dense, Layer, Network
from randhet.fixed_point.result import Result, Trace
from randhet.train.checkpoint import random_init
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 6), (3, 4), (1, 1), steps=3)
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6), np.uint8)
SEED = 5
Change = Callable[[Layer], Layer]


@pytest.fixture(scope="module", params=["randhet", "randhet-forward", "vanilla", "het"])
def network(request: pytest.FixtureRequest) -> Network:
    return export_checkpoint(random_init(replace(MODEL, neuron=request.param), seed=2), PIXELS).network


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
    found = diagnosed(network, run(with_layer(network, "layer1.0.node2", in_neuron(threshold=at((1,), 400)))))
    assert (found.layer, found.cause, found.quantity) == ("layer1.0.node2", "threshold", "output")
    own = next(one for one in network.layers if one.name == found.layer).neuron
    low, high = map(int, found.detail.split(" of ")[1].split(",")[0].split(".."))
    assert low <= int(own.threshold[1]) + 400 <= high  # type: ignore[union-attr]


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
    changed = with_layer(randhet, "layer1.0.node1", in_neuron(table=at((200,), -60)))
    found = diagnosed(randhet, run(changed, images=images), images)
    assert (found.layer, found.cause) == ("layer1.0.node1", "tau")
    assert found.detail.startswith("1 table entries differ, draw 200 gives")


def test_a_wrong_constant_decay() -> None:
    vanilla = export_checkpoint(random_init(replace(MODEL, neuron="vanilla"), seed=2), PIXELS).network
    found = diagnosed(vanilla, run(with_layer(vanilla, "node1", in_neuron(decay=lambda decay: decay - 9))))
    assert (found.layer, found.cause) == ("node1", "tau")
    assert "119..119 instead of 128" in found.detail


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
    monkeypatch.setattr(integer, "fire", lambda m, theta: ((m >= theta).astype(np.int64), np.where(m >= theta, 0, m)))
    found = run(tied)
    monkeypatch.undo()
    where = divergence(tied, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert (where.quantity, where.expected, where.found, where.cause) == ("output", 0, 1, "tie")
    trace, layer = found.traces[where.layer], next(one for one in tied.layers if one.name == where.layer)
    assert trace.membrane is not None
    place = (where.image - 4, where.step, *where.neuron)
    assert trace.membrane[place] == layer.neuron.threshold[where.neuron[0]]  # type: ignore[union-attr]


def test_a_membrane_that_is_not_reset(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(network)
    monkeypatch.setattr(integer, "fire", lambda m, theta: ((m > theta).astype(np.int64), m - theta * (m > theta)))
    found = run(network)
    monkeypatch.undo()
    where = divergence(network, PIXELS, expected, found, SEED, 4)
    assert where is not None
    assert where.cause == "reset"
    assert "loses the threshold" in where.detail


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


def test_a_sum_that_is_not_one(network: Network) -> None:
    expected, right = run(network), reference.operate.dispatch(Add)
    reference.operate.register(Add, lambda operation, read: np.max(read, axis=0))
    found = run(network)
    reference.operate.register(Add, right)
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
    arrays = [np.array([value]) for value in (result, before, decay)]
    low, high = (int(side[0]) for side in current_window(*arrays, 8))
    for edge, inside in ((low - 1, False), (low, True), (high, True), (high + 1, False), (x, True)):
        assert (edge + ((decay * (before - edge)) >> 8) == result) == inside
    result += off
    low, high = (int(side[0]) for side in tau_window(np.array([result]), np.array([before]), np.array([x]), 8))
    fits = {a for a in range(256) if x + ((a * (before - x)) >> 8) == result}
    assert fits == set(range(low, high + 1))
