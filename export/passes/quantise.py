"""Quantisation: a folded float graph to the integer network.

q = round(w / s_c), s_c = max|w_c| / (2^(bits-1) - 1) per output channel; theta_c = round(V_th / s_c * 2^f);
b_c = round(b / s_c * 2^f); A = round(2^k * tau). One membrane unit of a channel is s_c * 2^-f. Source: fixed_point.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch

import numpy as np
import torch

from randhet.export.graph import (
    Array,
    AveragePool,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    FloatSpread,
)
from randhet.export.passes.pooled import reads_sums, sends_sums
from randhet.export.passes.recurrent import check_levels
from randhet.fixed_point.check import CUBA_MAX
from randhet.fixed_point.facts import bounds, ranges
from randhet.fixed_point.generator import tau_table
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Decay,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Operation,
    PerNeuron,
    ReadOut,
    Sampling,
    Spiking,
    Spread,
    SumPool,
)
from randhet.train.scales import FLOOR, SCALES, Scales, candidates, chosen, mantissa

UNITY = 1 << DECAY_BITS
COARSE, WRONG = 0.01, 0.05
"""A constant decay's leak may change by so much when it is rounded before it gets all bits; before it is refused."""
PASSES = ("clip", "correct_bias")
"""What may be done to scales and biases with calibration data, in this order (`randhet.export.passes`)."""


@dataclass(frozen=True)
class QuantSettings:
    """weight_bits 2..8; f fractional membrane bits 0..12; k decay bits 1..12; tau_bits 1..8 random bits per draw.

    floor: smallest scale of a channel relative to its layer's largest; keeps nearly dead channels inside 24 bits.
    layer_bits: (layer, weight bits) of the layers that differ from weight_bits. passes: which of PASSES run.
    """

    weight_bits: int = 8
    f: int = 6
    k: int = 8
    tau_bits: int = 8
    scales: Scales = "channel"
    floor: float = FLOOR
    neurons_per_core: int = 1024
    layer_bits: tuple[tuple[str, int], ...] = ()
    passes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limits = {
            "weight_bits": (2, 8),
            "f": (0, 12),
            "k": (1, 12),
            "tau_bits": (1, 8),
            "floor": (2**-12, 1),
            "neurons_per_core": (1, 2**24),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ExportError(f"{name} is {getattr(self, name)}, the limits are {low} to {high}")
        low, high = limits["weight_bits"]
        for layer, bits in self.layer_bits:
            if not low <= bits <= high:
                raise ExportError(f"weight bits of layer {layer} are {bits}, the limits are {low} to {high}")
        if self.scales not in SCALES:
            raise ExportError(f"scales is {self.scales!r}, it must be one of {', '.join(SCALES)}")
        if unknown := [name for name in self.passes if name not in PASSES]:
            raise ExportError(f"pass {unknown[0]!r} is not one of {', '.join(PASSES)}")

    @property
    def mantissa(self) -> int:
        """Largest weight, 127 for 8 bits."""
        return mantissa(self.weight_bits)


@dataclass(frozen=True, eq=False)
class Plan:
    """Settings; per layer name: fractional bits where they differ from settings.f, and what passes chose.

    scales (channels,) in place of max|w| / mantissa; shifts (channels,), added to the bias.
    """

    settings: QuantSettings
    lowered: Mapping[str, int] = field(default_factory=dict)
    scales: Mapping[str, Array] = field(default_factory=dict)
    shifts: Mapping[str, Array] = field(default_factory=dict)

    def of(self, name: str) -> QuantSettings:
        """The settings of a layer, with its own weight bits."""
        bits = dict(self.settings.layer_bits).get(name, self.settings.weight_bits)
        return replace(self.settings, weight_bits=bits)

    def f(self, name: str) -> int:
        """Fractional membrane bits of a layer."""
        return self.lowered.get(name, self.settings.f)

    def bias(self, name: str, bias: Array, units: Array) -> Array:
        """A layer's bias, or map of biases, in units (channels,), with its shift: b/u + round(shift/u).

        The shift is a whole number of units so that a file can say it, and a reader can tell it from a wrong bias.
        """
        shift = np.rint(self.shifts.get(name, np.zeros(len(bias))) / units)
        ones = [1] * (bias.ndim - 1)
        return bias / units.reshape(-1, *ones) + shift.reshape(-1, *ones)


def channel_scales(weight: Array, settings: QuantSettings) -> Array:
    """s_c = max|w_c| / mantissa with the floor; one for the layer, or rounded up to powers of two, where asked for."""
    widest = candidates(torch.from_numpy(np.ascontiguousarray(weight)), settings.weight_bits, settings.scales)
    unclipped = torch.zeros(len(weight), dtype=torch.int64)
    return np.asarray(chosen(widest, unclipped, settings.scales, settings.floor).numpy())


def weighted_nodes(graph: FloatGraph) -> dict[str, FloatNode]:
    """Nodes with weights by the name of their layer: that of the neuron behind them, their own for the classifier."""
    nodes = [node for node in graph.nodes if isinstance(node.operation, (FloatConv, FloatDense))]
    return {(neuron_of(graph, node) or node).name: node for node in nodes}


def kind_of(name: str, node: FloatNode, plan: Plan) -> QuantSettings:
    """A layer's settings; a classifier's classes are compared with each other and share one scale."""
    return plan.of(name) if name != node.name else replace(plan.of(name), scales="layer")


def layer_scales(name: str, node: FloatNode, plan: Plan) -> Array:
    """Scales (channels,): those a pass has chosen, else the widest."""
    assert isinstance(node.operation, (FloatConv, FloatDense))
    given = plan.scales.get(name)
    return channel_scales(all_weights(node.operation), kind_of(name, node, plan)) if given is None else given


def all_weights(operation: FloatConv | FloatDense) -> Array:
    """The weights of each output, those on its layer's own spikes too, which have the same scale."""
    if isinstance(operation, FloatConv) or operation.recurrent is None:
        return operation.weight
    return np.hstack([operation.weight, operation.recurrent])


def rounded(weight: Array, scale: Array, settings: QuantSettings) -> np.ndarray:
    """round(w / s) within +-mantissa, int8."""
    value = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(value, -settings.mantissa, settings.mantissa).astype(np.int8)


def quantise(graph: FloatGraph, plan: Plan, steps: int) -> Network:
    """The integer network of a folded graph: each layer with weights takes the neuron that reads it with it."""
    layers: list[Layer] = []
    index: dict[str, int] = {}
    _check_names(graph, plan)
    plan = replace(plan, scales={**plan.scales, **_pooled_scales(graph, plan)})
    for node in graph.nodes:
        inputs = tuple(index[name] for name in node.inputs)
        if isinstance(node.operation, FloatNeuron):
            index[node.name] = inputs[0]
            continue
        index[node.name] = len(layers)
        layers.append(_layer(graph, node, inputs, plan))
    _check_currents(layers)
    return Network(tuple(layers), steps)


def _pooled_scales(graph: FloatGraph, plan: Plan) -> dict[str, Array]:
    """Of the layers behind pools of sums: one unit of a sum, so that the integer weight is 1."""
    scales = {}
    for name, node in weighted_nodes(graph).items():
        source = reads_sums(graph, node)
        if source is not None:
            assert isinstance(node.operation, FloatConv)
            scales[name] = node.operation.weight.ravel() * layer_scales(source.name, source, plan)
    return scales


def _check_currents(layers: Sequence[Layer]) -> None:
    """A current a << f beyond what CUBA neurons bring back into 24 bits is an error that lowering f can mend."""
    for layer, bound in zip(layers, bounds(layers, ranges(layers))):
        if layer.cuba and (reach := bound << layer.cuba.f) > CUBA_MAX:
            raise OutOfRange(layer.name, f"layer {layer.name}: a current can reach {reach}, the limit is {CUBA_MAX}")


def _check_names(graph: FloatGraph, plan: Plan) -> None:
    """Layers with bits of their own must exist."""
    names = weighted_nodes(graph)
    for layer, _ in plan.settings.layer_bits:
        if layer not in names:
            raise ExportError(f"weight bits are given for layer {layer!r}, layers with weights are {', '.join(names)}")


def _layer(graph: FloatGraph, node: FloatNode, inputs: tuple[int, ...], plan: Plan) -> Layer:
    operation = node.operation
    if not isinstance(operation, (FloatConv, FloatDense)):
        return Layer(node.name, structure(operation, node.name), inputs)
    if sends_sums(graph, node):
        scale = layer_scales(node.name, node, plan)
        return Layer(node.name, _synapse(operation, scale, plan.of(node.name)), inputs, None, scale)
    neuron = neuron_of(graph, node)
    if neuron is None:
        return _classifier(node, operation, inputs, plan, read_out_of(graph, node))
    settings, scale = plan.of(neuron.name), layer_scales(neuron.name, node, plan)
    check_levels(graph, node, neuron.name, scale, settings.mantissa)
    cell = spiking(neuron, operation.bias, scale, plan)
    synapse = _synapse(operation, scale, settings) if reads_sums(graph, node) is None else _ones(operation)
    return Layer(neuron.name, synapse, inputs, cell, scale)


def _ones(operation: FloatConv | FloatDense) -> Conv:
    assert isinstance(operation, FloatConv)
    return Conv(np.ones(operation.weight.shape, np.int8), groups=operation.groups)


def neuron_of(graph: FloatGraph, node: FloatNode) -> FloatNode | None:
    """The neuron behind a layer with weights, None for the output; anything else cannot be deployed."""
    readers = graph.readers(node.name)
    if (not readers and node is graph.nodes[-1]) or read_out_of(graph, node) or sends_sums(graph, node):
        return None
    if len(readers) != 1 or not isinstance(readers[0].operation, FloatNeuron):
        raise ExportError(f"{node.name} must be read by exactly one neuron, or be the output of the model")
    return readers[0]


def read_out_of(graph: FloatGraph, node: FloatNode) -> FloatNode | None:
    """The leaky read-out that reads the last layer with weights, None where its sums are the output."""
    last = graph.nodes[-1]
    leaky = isinstance(last.operation, FloatNeuron) and last.operation.read is not None
    return last if leaky and last.inputs == (node.name,) else None


def _synapse(operation: FloatConv | FloatDense, scale: Array, settings: QuantSettings) -> Conv | Dense:
    weight = rounded(operation.weight, scale, settings)
    if isinstance(operation, FloatDense):
        own = operation.recurrent
        return Dense(weight, None if own is None else rounded(own, scale, settings))
    return Conv(weight, operation.stride, operation.padding, operation.dilation, operation.groups)


def _classifier(
    node: FloatNode, operation: FloatConv | FloatDense, inputs: tuple[int, ...], plan: Plan, leaky: FloatNode | None
) -> Layer:
    """One scale for all classes, because they are compared; the bias of a sum is in units of that scale, f = 0."""
    scale = layer_scales(node.name, node, plan)
    if leaky is not None:
        cell = read_leaky(replace(leaky, name=node.name), operation.bias, scale, plan)
        return Layer(node.name, _synapse(operation, scale, plan.of(node.name)), inputs, cell, scale[:1])
    bias = np.rint(plan.bias(node.name, operation.bias, scale))
    if np.abs(bias).max(initial=0) >= 2**31:
        raise ExportError(f"{node.name}: bias {bias[np.abs(bias).argmax()]:.0f} does not fit 32 bits")
    synapse = _synapse(operation, scale, plan.of(node.name))
    return Layer(node.name, synapse, inputs, ReadOut(bias.astype(np.int32)), scale[:1])


def read_leaky(node: FloatNode, bias: Array, scale: Array, plan: Plan) -> Leaky:
    """A leaky read-out: the neuron's dynamics with the threshold that is never passed."""
    neuron = node.operation
    assert isinstance(neuron, FloatNeuron)
    assert neuron.read is not None
    reachable = replace(neuron, threshold=float(scale.max()))  # any that can be represented
    cell = spiking(replace(node, operation=reachable), bias, scale, plan)
    never = np.full(len(scale), STATE_MAX, np.int32)
    return Leaky(replace(cell, threshold=never), neuron.read)


def spiking(node: FloatNode, bias: Array, scale: Array, plan: Plan) -> Spiking:
    """Threshold, bias and decays of a neuron in the units of its channels."""
    neuron, f = node.operation, plan.f(node.name)
    assert isinstance(neuron, FloatNeuron)
    # before the threshold, which a drive beside a leak near 0 makes tiny: the leak is what is wrong then
    settings = (
        plan.settings if neuron.kind in CUBA else replace(plan.settings, k=decay_bits(node.name, neuron, plan.settings))
    )
    units = scale * 2.0**-f
    exact = neuron.threshold / units
    # m >= theta in integers is m > theta - 1
    threshold = _fit(exact, node.name, "threshold") - neuron.inclusive
    if threshold.min() < 1:
        channel = int(exact.argmin())
        raise ExportError(
            f"layer {node.name}, channel {channel}: threshold {exact[channel]:.3g} rounds to 0, the least is 1"
        )
    whole_bias = _fit(plan.bias(node.name, bias, units), node.name, "bias")
    if neuron.kind in CUBA:
        return _cuba(node.name, neuron, threshold, whole_bias, f)
    decay = DECAYS[neuron.kind](neuron, settings)
    made = Lif(threshold, whole_bias, decay, settings.k, f, neuron.reset, neuron.reset_delay)
    if neuron.floor is None:
        return made
    return replace(made, floor=_fit(np.broadcast_to(neuron.floor, len(units)) / units, node.name, "floor"))


def decay_bits(name: str, neuron: FloatNeuron, settings: QuantSettings) -> int:
    """settings.k; all bits there are where the default ones would change the leak of a layer or channel by over 1 %.

    ExportError where even these change it by over 5 %.
    """
    rows = neuron.decay.reshape(len(neuron.decay), -1) if neuron.decay.ndim else neuron.decay.reshape(1, 1)
    if neuron.kind == "randhet" or settings.k != QuantSettings.k or np.ptp(rows, axis=1).any():
        return settings.k
    few = rows[:, 0]
    off = lambda k: np.abs(np.clip(np.rint(few * 2**k), 0, 2**k - 1) / 2**k - few) / np.maximum(1 - few, 1e-12)
    if off(settings.k).max() <= COARSE:
        return settings.k
    if (worst := off(DECAY_BITS)).max() > WRONG:
        decay = few[worst.argmax()]
        raise ExportError(
            f"layer {name}: decay {decay:g} leaks {1 - decay:.3g} a step, the least that can be represented is "
            f"{1 / UNITY:.3g}: use fewer, longer time steps"
        )
    return DECAY_BITS


def _fit(value: Array, name: str, what: str) -> np.ndarray:
    """Rounded to int32; values outside 24 bits are an error that lowering f can mend (`OutOfRange`)."""
    whole = np.rint(value)
    if (top := np.abs(whole).max(initial=0)) > STATE_MAX:
        raise OutOfRange(name, f"layer {name}: {what} {top:.0f} does not fit 24 bits, the limit is {STATE_MAX}")
    return whole.astype(np.int32)


class OutOfRange(ExportError):
    """A constant of a layer leaves 24 bits at the present f."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(message)
        self.layer = layer


def table_of(sigma: float, settings: QuantSettings) -> np.ndarray:
    """The tau table of 256 entries; with fewer random bits, neighbouring entries share their mean."""
    group = 2 ** (8 - settings.tau_bits)
    if group == 1:
        return tau_table(settings.k, sigma)
    fine = tau_table(settings.k, sigma).astype(np.float64).reshape(-1, group)
    return np.rint(fine.mean(axis=1)).astype(np.uint16).repeat(group)


# --- decays -------------------------------------------------------------------------------------------------------


def _drawn(neuron: FloatNeuron, settings: QuantSettings) -> Drawn:
    sampling: Sampling = "step" if neuron.sampling == "step" else "forward"
    return Drawn(table_of(neuron.sigma, settings), sampling, neuron.sigma, settings.neurons_per_core)


def mantissas(neuron: FloatNeuron, settings: QuantSettings) -> np.ndarray:
    """A = round(2^k * decay) within 0..2^k - 1, one or one per neuron, uint16."""
    return np.clip(np.rint(neuron.decay * 2**settings.k), 0, 2**settings.k - 1).astype(np.uint16)


DECAYS: dict[str, Callable[[FloatNeuron, QuantSettings], Decay]] = {
    "randhet": _drawn,
    "vanilla": lambda neuron, settings: Constant(int(mantissas(neuron, settings))),
    "het": lambda neuron, settings: PerNeuron(mantissas(neuron, settings)),
}
"""Where the decay of a `Lif` comes from, by the float neuron's kind."""
CUBA: dict[str, Callable[[FloatNeuron], tuple[float, float]]] = {
    "integrate": lambda neuron: (0.0, 1.0),
    "cuba": lambda neuron: (neuron.synapse, float(neuron.decay)),
}
"""What current and voltage of a `Cuba` keep from step to step, by the float neuron's kind."""


def _cuba(name: str, neuron: FloatNeuron, threshold: np.ndarray, bias: np.ndarray, f: int) -> Cuba:
    """Decays of 12 bits: the current keeps (4095 - i)/4096 of itself, the voltage (4096 - v)/4096; 0 and all of it."""
    if neuron.reset != "zero" or neuron.reset_delay:
        raise ExportError(
            f"layer {name}: a {neuron.kind} neuron with reset {neuron.reset!r}{' one step late' * neuron.reset_delay}: "
            "it can be reset to zero at once only, let it leak (a decay below 1) or change its reset"
        )
    if neuron.synapse and bias.any():
        raise ExportError(
            f"layer {name}: the bias of its weights would pass through the synapse of its neurons, which integer ones "
            "cannot represent: leave out the bias, and what becomes one: a normalisation, or a batch norm's shift"
        )
    if neuron.floor is not None:
        raise ExportError(
            f"layer {name}: a {neuron.kind} neuron has a lowest membrane potential, which only leaky ones can"
        )
    synapse, decay = CUBA[neuron.kind](neuron)
    kept = min(round(synapse * UNITY), UNITY - 1)
    return Cuba(threshold, bias, UNITY - 1 - kept, min(UNITY - round(decay * UNITY), UNITY - 1), f)


@singledispatch
def structure(operation: FloatOperation, name: str) -> Operation:
    """The integer operation of a node without weights; what a pass should have folded away is an error."""
    raise ExportError(f"{name} ({type(operation).__name__}) has no counterpart in the integer network where it stands")


@structure.register
def _(operation: FloatInput, name: str) -> Operation:
    return Input(operation.shape, sequence=operation.sequence)


@structure.register
def _(operation: FloatAdd, name: str) -> Operation:
    return Add()


@structure.register
def _(operation: FloatAnd, name: str) -> Operation:
    return And()


@structure.register
def _(operation: FloatIand, name: str) -> Operation:
    return Iand()


@structure.register
def _(operation: FloatConcat, name: str) -> Operation:
    return Concat()


@structure.register
def _(operation: AveragePool, name: str) -> Operation:
    assert operation.kernel is not None
    return SumPool(operation.kernel, operation.stride or operation.kernel)


@structure.register
def _(operation: FloatMaxPool, name: str) -> Operation:
    return MaxPool(operation.kernel, operation.stride, operation.padding)


@structure.register
def _(operation: FloatSpread, name: str) -> Operation:
    return Spread(operation.stride, operation.extra)


@structure.register
def _(operation: FloatFlatten, name: str) -> Operation:
    return Flatten()
