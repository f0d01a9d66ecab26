"""Faults planted one at a time in the shipped networks: layer, step, neuron and cause are named, in every layer.

A shipped checkpoint whose weights are rounded to whole multiples of their scales, exported with fine membranes, fires
exactly as its integers do (`test_without_a_fault_no_spike_differs`), so that a planted fault stands alone. Where a
difference is is found by brute force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import exp
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from odd_spikes import first_spike

from randhet.compare.equality import replay as replaying
from randhet.compare.equality.layers import spiking
from randhet.compare.equality.replay import FloatTrace, replay
from randhet.compare.equality.tables import wrong_tables
from randhet.compare.equality.tracing import SpikeDifference
from randhet.export.graph import FloatGraph
from randhet.export.passes import fold
from randhet.export.passes.quantise import Plan, QuantSettings, quantise
from randhet.export.pipeline import export_checkpoint
from randhet.export.trace import trace
from randhet.export.trace import trace as graph_of
from randhet.fixed_point import engine
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import Constant, Conv, Layer, Network, Spiking
from randhet.fixed_point.result import Trace
from randhet.train import checkpoint as checkpoints
from randhet.train.checkpoint import Checkpoint, build
from randhet.train.data.sources import load
from randhet.train.neurons import Sampler
from randhet.train.qat import Rounding

SHIPPED = Path(__file__).parents[3] / "checkpoints"
NAMES = ("digits-randhet-at", "digits-vanilla-at", "cifar10-randhet-at")
SEED, IMAGES = 5, 4
FINE = QuantSettings(f=12)
Place = tuple[int, int, str, tuple[int, ...]]


def pictures(checkpoint: Checkpoint) -> np.ndarray:
    """Digits, enlarged and in as many colours as the network takes."""
    pixels, (height, _) = load("digits").take(IMAGES).pixels, checkpoint.settings.image_size
    wide = pixels.repeat(height // 8, axis=2).repeat(height // 8, axis=3)
    return np.repeat(wide, checkpoint.settings.in_channels, axis=1)


def rounded(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the weights that its integers mean."""
    model = build(checkpoint)
    with Rounding.of(model, 8, "channel").applied():
        return replace(checkpoint, state={name: value.clone() for name, value in model.state_dict().items()})


def fixed_traces(network: Network, pixels: np.ndarray) -> Mapping[str, Trace]:
    names = [layer.name for layer in network.layers]
    return engine.run(network, pixels, seed=SEED, probes=names, threads=1).traces


def brute_force(network: Network, floats: Mapping[str, FloatTrace], fixed: Mapping[str, Trace]) -> Place | None:
    """The first unequal spike: image by image, step by step, layer by layer."""
    for image, step, layer in product(range(IMAGES), range(network.steps), spiking(network)):
        for neuron in np.argwhere(floats[layer.name].output[image, step] != fixed[layer.name].output[image, step]):
            return image, step, layer.name, tuple(neuron.tolist())
    return None


@dataclass(frozen=True, eq=False)
class Room:
    """A checkpoint, its network, images, and what the float model does under the network's taus."""

    checkpoint: Checkpoint
    network: Network
    pixels: np.ndarray

    @cached_property
    def graph(self) -> FloatGraph:
        return fold(trace(build(self.checkpoint), self.pixels.shape[1:]))

    @cached_property
    def floats(self) -> Mapping[str, FloatTrace]:
        return replay(build(self.checkpoint), self.network, self.pixels, SEED)[1]

    @cached_property
    def fixed(self) -> Mapping[str, Trace]:
        return fixed_traces(self.network, self.pixels)

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.network.layers if layer.name == name)

    def busiest(self, name: str) -> int:
        """The channel that fires most."""
        spikes = self.fixed[name].output
        return int(spikes.sum(axis=(0, 1, 3, 4)).argmax())

    def planted(self, name: str, change: Callable[[Layer], Layer]) -> Network:
        layers = tuple(change(one) if one.name == name else one for one in self.network.layers)
        return replace(self.network, layers=layers)

    def found(
        self,
        network: Network,
        floats: Mapping[str, FloatTrace] | None = None,
        fixed: Mapping[str, Trace] | None = None,
    ) -> SpikeDifference:
        """The first odd spike, where brute force finds it too."""
        floats, fixed = floats or self.floats, fixed or fixed_traces(network, self.pixels)
        odd = first_spike(network, fold(graph_of(build(self.checkpoint), network.image_shape)), floats, fixed, SEED)
        assert odd is not None
        at = odd.at
        assert (at.image, at.step, at.layer, at.neuron) == brute_force(network, floats, fixed)
        return odd


@pytest.fixture(scope="module", params=NAMES)
def shipped(request: pytest.FixtureRequest) -> Room:
    """As it is shipped and exported by default."""
    checkpoint = checkpoints.load(SHIPPED / f"{request.param}.pt")
    pixels = pictures(checkpoint)
    return Room(checkpoint, export_checkpoint(checkpoint, pixels).network, pixels)


@pytest.fixture(scope="module")
def room(shipped: Room) -> Room:
    """With weights that are whole multiples of their scales."""
    checkpoint = rounded(shipped.checkpoint)
    return Room(checkpoint, export_checkpoint(checkpoint, shipped.pixels, FINE).network, shipped.pixels)


def neuron(layer: Layer) -> Spiking:
    assert layer.spiking is not None
    return layer.spiking


def with_table(layer: Layer, change: Callable[[np.ndarray], np.ndarray]) -> Layer:
    """Another table of drawn decays."""
    assert layer.lif is not None
    assert layer.drawn is not None
    decay = replace(layer.drawn, table=change(layer.drawn.table))
    return replace(layer, neuron=replace(layer.lif, decay=decay))


def in_every_layer(room: Room, fault: Callable[[Layer, int], Layer]) -> Iterator[tuple[SpikeDifference, Layer, int]]:
    """The fault in one channel of each layer in turn: what is found, the faulty layer, the channel."""
    for layer in spiking(room.network):
        channel = room.busiest(layer.name)
        network = room.planted(layer.name, lambda one, it=channel: fault(one, it))
        odd = room.found(network)
        assert (odd.at.layer, odd.at.neuron[0]) == (layer.name, channel)
        yield odd, next(one for one in network.layers if one.name == layer.name), channel


def test_without_a_fault_no_spike_differs(room: Room) -> None:
    assert brute_force(room.network, room.floats, room.fixed) is None
    assert all(room.fixed[layer.name].output.any() for layer in spiking(room.network)), "every layer fires"


def test_honest_rounding(shipped: Room) -> None:
    """The shipped network itself: at the neuron named all constants are within half a unit, and a spike differs."""
    odd = shipped.found(shipped.network)
    assert odd.at.cause == "rounding", odd.at
    layer, channel = shipped.layer(odd.at.layer), odd.at.neuron[0]
    operation = float_operation(shipped.graph, layer.name)
    assert layer.scale is not None
    assert isinstance(layer.operation, Conv)
    scale, unit = layer.scale[channel], layer.scale[channel] * 2.0 ** -neuron(layer).f
    assert np.abs(layer.operation.weight[channel] * scale - operation.weight[channel]).max() <= 0.501 * scale
    exact = operation.bias[odd.at.neuron] if operation.bias.ndim > 1 else operation.bias[channel]
    assert abs(float(shipped_bias(layer, odd.at.neuron)) * unit - exact) <= 0.501 * unit
    assert abs(neuron(layer).threshold[channel] * unit - shipped.checkpoint.settings.threshold) <= 0.501 * unit
    fires, silent = sorted((odd.float_membrane, odd.fixed_membrane), reverse=True)
    assert silent <= shipped.checkpoint.settings.threshold + unit <= fires + 2 * unit


def float_operation(graph: FloatGraph, name: str) -> Any:
    """The folded operation that the neuron of this name reads."""
    node = graph.node(name)
    while not hasattr(node.operation, "weight"):
        node = graph.node(node.inputs[0])
    return node.operation


def shipped_bias(layer: Layer, place: tuple[int, ...]) -> int:
    bias = neuron(layer).bias
    return int(bias[place] if bias.ndim > 1 else bias[place[0]])


def test_a_wrong_weight(room: Room) -> None:
    def fault(layer: Layer, channel: int) -> Layer:
        """The weights of the channel with the other sign."""
        assert isinstance(layer.operation, Conv)
        weight = layer.operation.weight.copy()
        weight[channel] *= -1
        return replace(layer, operation=replace(layer.operation, weight=weight))

    for odd, layer, channel in in_every_layer(room, fault):
        assert isinstance(layer.operation, Conv)
        row = layer.operation.weight[channel].ravel()
        wrong = np.flatnonzero(row)
        assert odd.at.cause == "weight"
        assert odd.at.detail == (
            f"weight {wrong[0]} of channel {channel} is {row[wrong[0]]}, the float one is {-row[wrong[0]]:.2f} units; "
            f"{len(wrong)} such weights"
        )


@pytest.mark.parametrize("constant", ["bias", "threshold"])
def test_a_wrong_bias_or_threshold(room: Room, constant: str) -> None:
    def fault(layer: Layer, channel: int) -> Layer:
        """Half a threshold too much."""
        value = getattr(neuron(layer), constant).copy()
        value[channel] += neuron(layer).threshold[channel] // 2
        return replace(layer, neuron=replace(neuron(layer), **{constant: value}))

    for odd, layer, channel in in_every_layer(room, fault):
        value = getattr(neuron(layer), constant)
        own = value[odd.at.neuron] if value.ndim > 1 else value[channel]
        assert odd.at.cause == constant
        assert odd.at.detail.startswith(f"the {constant} of {odd.at.neuron} is {own}, the float one is")


def test_weights_of_another_shape(room: Room) -> None:
    """Kernels of 5 x 5 around those of 3 x 3, and a bias fault so that a spike differs; the shape is named."""

    def fault(layer: Layer, channel: int) -> Layer:
        assert isinstance(layer.operation, Conv)
        bias = neuron(layer).bias.copy()
        bias[channel] += neuron(layer).threshold[channel] // 2
        weight = np.pad(layer.operation.weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
        padding = (layer.operation.padding[0] + 1, layer.operation.padding[1] + 1)
        operation = replace(layer.operation, weight=weight, padding=padding)
        return replace(layer, operation=operation, neuron=replace(neuron(layer), bias=bias))

    for odd, layer, _ in in_every_layer(room, fault):
        assert isinstance(layer.operation, Conv)
        out, per_group, y, x = layer.operation.weight.shape
        assert odd.at.cause == "shape"
        assert odd.at.detail == (
            f"weights {(out, per_group, y, x)}, the float model has {(out, per_group, y - 2, x - 2)}"
        )


def redrawn(own: Sampler, foreign: Sampler, first: int) -> Sampler:
    """A sampler's taus, and another's from one step on."""
    return lambda shape: torch.cat([own(shape)[:first], foreign(shape)[first:]])


def test_other_draws_from_a_step_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of the float model sees other taus from step 1 on."""
    if not spiking(room.network)[0].drawn:
        pytest.skip("this network draws no taus")
    honest, first = replaying.samplers, 1
    for layer in spiking(room.network):

        def other(network: Network, seed: int, image: int, name: str = layer.name) -> dict[str, Sampler]:
            own, foreign = honest(network, seed, image), honest(network, seed + 1, image)
            return {**own, name: redrawn(own[name], foreign[name], first)}

        monkeypatch.setattr(replaying, "samplers", other)
        floats = replay(build(room.checkpoint), room.network, room.pixels, SEED)[1]
        odd = room.found(room.network, floats, room.fixed)
        assert (odd.at.layer, odd.at.cause) == (layer.name, "tau")
        assert odd.at.step >= first
        shape = (room.network.steps, IMAGES, *room.fixed[layer.name].output.shape[2:])
        used, due = (honest(room.network, SEED + it, 0)[layer.name](shape)[first:, odd.at.image] for it in (1, 0))
        step, said, meant = map(
            float, re.findall(r"step (\d).* used ([\d.]+), the integers ([\d.]+)", odd.at.detail)[0]
        )
        own = (int(step) - first, *odd.at.neuron)
        assert said == pytest.approx(float(used[own]), abs=2e-3), "solved from float32 membranes"
        assert meant == pytest.approx(float(due[own]), abs=1e-4)


def test_another_decay(room: Room) -> None:
    """A constant decay, or the whole table of drawn ones, that is not the model's."""

    def fault(layer: Layer, channel: int) -> Layer:
        assert layer.lif is not None
        if layer.drawn is None:
            return replace(layer, neuron=replace(layer.lif, decay=Constant(90)))
        return with_table(layer, lambda table: np.roll(table, 64))

    for layer in spiking(room.network):
        network = room.planted(layer.name, lambda one: fault(one, 0))
        odd = room.found(network)
        assert (odd.at.layer, odd.at.cause) == (layer.name, "tau")
        if layer.drawn is None:
            assert odd.at.detail == "the decay is 90/256, the float model's tau is 0.5000"


def sigmoid_table(sigma: float) -> np.ndarray:
    """256 * sigmoid(sigma * z), z the normal quantile of (r + 1/2) / 256, by the standard library."""
    quantiles = [NormalDist().inv_cdf((r + 0.5) / 256) for r in range(256)]
    return np.array([min(round(256 / (1 + exp(-sigma * z))), 255) for z in quantiles], np.uint16)


def test_a_table_of_another_sigma(room: Room) -> None:
    """Replay would follow the network's own table, so that no spike differs: tables are held against the model's."""
    if not spiking(room.network)[0].drawn:
        pytest.skip("this network draws no taus")
    assert wrong_tables(room.network, room.graph) == []
    for layer in spiking(room.network):

        def fault(one: Layer) -> Layer:
            return with_table(one, lambda table: sigmoid_table(0.5))

        (said,) = wrong_tables(room.planted(layer.name, fault), room.graph)
        draw = int(np.abs(sigmoid_table(0.5).astype(int) - sigmoid_table(1.0)).argmax())
        gives, due = sigmoid_table(0.5)[draw], sigmoid_table(1.0)[draw]
        assert said == (
            f"the table of layer {layer.name} is not the model's: draw {draw} gives {gives}/256, "
            f"sigma = 1 requires {due}/256"
        )


@pytest.mark.parametrize("bits", [1, 3])
def test_tables_of_fewer_random_bits_are_no_fault(shipped: Room, bits: int) -> None:
    network = export_checkpoint(shipped.checkpoint, shipped.pixels, QuantSettings(tau_bits=bits)).network
    assert wrong_tables(network, shipped.graph) == []


def test_states_that_leave_24_bits(room: Room) -> None:
    """Layers with as many fractional bits as thresholds and biases allow, as if nothing had been calibrated."""
    moved = 0
    for layer in spiking(room.network):
        network = finer(room, layer)
        fixed = fixed_traces(network, room.pixels)
        if brute_force(network, room.floats, fixed) is None:
            continue  # what was cut off moved no spike
        odd = room.found(network, fixed=fixed)
        assert (odd.at.layer, odd.at.cause) == (layer.name, "saturation")
        own = next(one for one in network.layers if one.name == layer.name)
        steps = range(odd.at.step + 1)
        assert max(abs(current(own, network, fixed, odd.at.image, t, odd.at.neuron)) for t in steps) > STATE_MAX
        moved += 1
    assert moved


def finer(room: Room, layer: Layer) -> Network:
    """The network with the largest f in one layer that threshold and bias can be written with in 24 bits."""
    operation, best = float_operation(room.graph, layer.name), room.network
    assert layer.scale is not None
    for f in range(neuron(layer).f, 24):
        units = layer.scale * 2.0**-f
        threshold = np.rint(room.checkpoint.settings.threshold / units).astype(np.int32)
        bias = np.rint(operation.bias / units.reshape(-1, *[1] * (operation.bias.ndim - 1))).astype(np.int32)
        if max(threshold.max(), np.abs(bias).max()) > STATE_MAX:
            break
        cell = replace(neuron(layer), threshold=threshold, bias=bias, f=f)
        best = room.planted(layer.name, lambda one, it=cell: replace(one, neuron=it))
    return best


def current(
    layer: Layer, network: Network, fixed: Mapping[str, Trace], image: int, step: int, place: tuple[int, ...]
) -> int:
    """The current of one neuron in Python's integers."""
    operation = layer.operation
    assert isinstance(operation, Conv)
    read = fixed[network.layers[layer.inputs[0]].name].output[image, step]
    (channel, y, x), total = place, 0
    _, inputs, height, width = operation.weight.shape
    for i, ky, kx in product(range(inputs), range(height), range(width)):
        at = y * operation.stride[0] + ky - operation.padding[0], x * operation.stride[1] + kx - operation.padding[1]
        if 0 <= at[0] < read.shape[1] and 0 <= at[1] < read.shape[2]:
            total += int(operation.weight[channel, i, ky, kx]) * int(read[i, at[0], at[1]])
    return (total << neuron(layer).f) + shipped_bias(layer, place)


def test_a_tie_at_the_threshold(room: Room) -> None:
    """The threshold of model and network is where one stem neuron's integers stand at step 0, just below its float."""
    stem = spiking(room.network)[0]
    assert stem.scale is not None
    units = stem.scale.reshape(-1, 1, 1) * 2.0 ** -neuron(stem).f
    standing = room.fixed[stem.name].membrane
    assert standing is not None
    above = room.floats[stem.name].membrane[0, 0] - standing[0, 0] * units
    room_above = (above > 0.3 * units) & (standing[0, 0] * units > 0.2)
    tied = 0
    for place in map(tuple, np.argwhere(room_above)[::31][:12].tolist()):
        threshold = float((standing[0, 0] * units)[place])
        checkpoint = replace(room.checkpoint, settings=replace(room.checkpoint.settings, threshold=threshold))
        lowered = {layer.name: neuron(layer).f for layer in spiking(room.network)}
        graph = fold(trace(build(checkpoint), room.pixels.shape[1:]))
        network = replace(
            quantise(graph, Plan(QuantSettings(), lowered), room.network.steps), metadata=room.network.metadata
        )
        odd = Room(checkpoint, network, room.pixels).found(network)
        if odd.at.neuron == place:
            assert (odd.at.image, odd.at.step, odd.at.layer, odd.at.cause) == (0, 0, stem.name, "tie")
            tied += 1
        if tied == 2:
            return
    pytest.fail(f"{tied} ties")
