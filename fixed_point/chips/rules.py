"""The design rules of a chip: named functions in a list. All findings are reported together, kept and broken ones.

A rule whose limit is not public has nothing to say for that chip; `unchecked` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point.check import SUM_LIMIT
from randhet.fixed_point.chips.chip import Chip
from randhet.fixed_point.chips.load import Core
from randhet.fixed_point.chips.mapping import Mapping
from randhet.fixed_point.chips.placement import branch_lags, on_chip
from randhet.fixed_point.network import Conv, Cuba, Dense, Het, Input, Layer, Network, RandomTau, ReadOut

Value = int | str


@dataclass(frozen=True)
class Finding:
    """One rule for one layer: what the layer has, what the chip allows, whether it holds."""

    rule: str
    layer: str
    value: Value
    limit: Value
    ok: bool


@dataclass(frozen=True, eq=False)
class Case:
    """What a rule looks at."""

    network: Network
    chip: Chip
    mapping: Mapping

    @property
    def weighted(self) -> list[tuple[int, Layer]]:
        """Layers with weights, with their numbers."""
        layers = enumerate(self.network.layers)
        return [(i, layer) for i, layer in layers if isinstance(layer.operation, (Conv, Dense))]

    @property
    def spiking(self) -> list[Layer]:
        """Layers with weights and spikes: all but the classifier."""
        return [layer for _, layer in self.weighted if not isinstance(layer.neuron, ReadOut)]


Rule = Callable[[Case], Iterator[Finding]]


def _within(rule: str, layer: str, value: int, limit: int) -> Finding:
    return Finding(rule, layer, value, limit, value <= limit)


def _none(rule: str, layer: str, count: int) -> Finding:
    """A rule that counts what is wrong: nothing may be."""
    return _within(rule, layer, count, 0)


def _largest(values: np.ndarray) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))


def _signed(bits: int) -> int:
    return 2 ** (bits - 1) - 1


# --- number formats -------------------------------------------------------------------------------------------------


def weight_mantissa(case: Case) -> Iterator[Finding]:
    """The largest weight, either sign, in the chip's weight bits."""
    limit = _signed(case.chip.need("weight_bits"))
    for _, layer in case.weighted:
        assert isinstance(layer.operation, (Conv, Dense))
        yield _within("largest |weight| fits the mantissa", layer.name, _largest(layer.operation.weight), limit)


def weight_exponent(case: Case) -> Iterator[Finding]:
    """A chip with a fixed shift of 6 turns another f into the weights' exponent; mixed signs cost one bit of it."""
    low, high = case.chip.limit("weight_exponent_min"), case.chip.limit("weight_exponent_max")
    if low is None or high is None:
        return
    for layer in case.spiking:
        exponent = layer.neuron.f - 7  # type: ignore[union-attr]
        yield Finding("weight exponent", layer.name, exponent, f"{low}..{high}", low <= exponent <= high)


def synaptic_sum(case: Case) -> Iterator[Finding]:
    """The proven bound on |a|, int32 everywhere."""
    for (_, layer), bound in zip(case.weighted, _bounds(case)):
        yield _within("synaptic sum fits 32 bits", layer.name, bound, SUM_LIMIT - 1)


def accumulator(case: Case) -> Iterator[Finding]:
    """The shifted sum of one step in the chip's accumulator: the largest any input could cause."""
    bits = case.chip.limit("accumulator_bits")
    if bits is None:
        return
    for (_, layer), bound in zip(case.weighted, _bounds(case)):
        if not isinstance(layer.neuron, ReadOut):
            shifted = bound << layer.neuron.f  # type: ignore[union-attr]
            yield _within("largest possible input of a step fits the accumulator", layer.name, shifted, _signed(bits))


def _bounds(case: Case) -> list[int]:
    every = case.network.bounds
    return [every[i] for i, _ in case.weighted]


def threshold_range(case: Case) -> Iterator[Finding]:
    """The largest threshold in the chip's state bits."""
    limit = _signed(case.chip.need("state_bits"))
    for layer in case.spiking:
        yield _within("threshold fits the state", layer.name, int(layer.neuron.threshold.max()), limit)  # type: ignore[union-attr]


def threshold_mantissa(case: Case) -> Iterator[Finding]:
    """Thresholds that are not a mantissa shifted by the chip's fixed shift."""
    bits, shift = case.chip.limit("threshold_mantissa_bits"), case.chip.limit("threshold_shift")
    if bits is None or shift is None:
        return
    for layer in case.spiking:
        threshold = layer.neuron.threshold.astype(np.int64)  # type: ignore[union-attr]
        wrong = (threshold % (1 << shift) != 0) | (threshold >> shift >= 1 << bits)
        yield _none(f"thresholds that are no {bits} bit mantissa times {1 << shift}", layer.name, int(wrong.sum()))


def thresholds_per_core(case: Case) -> Iterator[Finding]:
    """Chips that share thresholds among a core's neurons hold only so many different ones."""
    limit = case.chip.limit("thresholds_per_core")
    for layer in case.mapping.layers if limit is not None else ():
        threshold = getattr(layer.population.layer.neuron, "threshold", None)
        if threshold is not None:
            assert limit is not None
            most = max(len(np.unique(threshold[_slice(core.channels)])) for core in layer.cores)
            yield _within("different thresholds per core", layer.name, most, limit)


def bias_range(case: Case) -> Iterator[Finding]:
    """The largest bias, either sign, in the chip's state bits."""
    limit = _signed(case.chip.need("state_bits"))
    for layer in case.spiking:
        yield _within("|bias| fits the state", layer.name, _largest(layer.neuron.bias), limit)  # type: ignore[union-attr]


def bias_mantissa(case: Case) -> Iterator[Finding]:
    """Biases that are not a mantissa times a power of two the chip has."""
    bits, top = case.chip.limit("bias_mantissa_bits"), case.chip.limit("bias_exponent_max")
    if bits is None or top is None:
        return
    for layer in case.spiking:
        bias = np.abs(layer.neuron.bias.astype(np.int64))  # type: ignore[union-attr]
        fits = [(bias % (1 << e) == 0) & (bias >> e < 1 << bits) for e in range(top + 1)]
        rule = f"biases that are no {bits} bit mantissa times 2^0..2^{top}"
        yield _none(rule, layer.name, int((~np.any(fits, axis=0)).sum()))


def decay_width(case: Case) -> Iterator[Finding]:
    """Bits of the decays: k, or those of CUBA's larger one."""
    limit = case.chip.need("decay_bits")
    for layer in case.spiking:
        neuron = layer.neuron
        cuba = isinstance(neuron, Cuba)
        bits = max(neuron.current_decay, neuron.voltage_decay).bit_length() if cuba else neuron.k  # type: ignore[union-attr]
        yield _within("decay bits", layer.name, bits, limit)


def decays_per_core(case: Case) -> Iterator[Finding]:
    """Chips that share decays among a core's neurons hold only so many different ones."""
    limit = case.chip.limit("decays_per_core")
    for layer in case.mapping.layers if limit is not None else ():
        neuron = layer.population.layer.neuron
        if isinstance(neuron, Het):
            assert limit is not None
            most = max(len(np.unique(_part(neuron.decay, core))) for core in layer.cores)
            yield _within("different decays per core", layer.name, most, limit)


def _slice(part: range) -> slice:
    return slice(part.start, part.stop)


def _part(values: np.ndarray, core: Core) -> np.ndarray:
    return values.reshape((*values.shape, 1, 1)[:3])[_slice(core.channels), _slice(core.rows), _slice(core.columns)]


def graded_spikes(case: Case) -> Iterator[Finding]:
    """Bits of what leaves a layer of the chip, or the input; sums are made where they are read."""
    limit = case.chip.need("graded_spike_bits")
    for i, (layer, peak) in enumerate(zip(case.network.layers, [span.peak for span in case.network.ranges])):
        operation = layer.operation
        sends = isinstance(operation, Input) or on_chip(case.network, i)
        if sends and not isinstance(layer.neuron, ReadOut):
            bits = operation.bits if isinstance(operation, Input) else max(1, peak.bit_length())
            yield _within("bits of a spike's payload", layer.name, bits, limit)


def read_out_sum(case: Case) -> Iterator[Finding]:
    """The largest sum over T that any input could cause, in the chip's state; a wider sum is made off the core."""
    every = case.network.bounds
    for i, layer in case.weighted:
        if isinstance(layer.neuron, ReadOut):
            total = (every[i] + _largest(layer.neuron.bias)) * case.network.steps
            yield _within("read-out's sum over all steps fits 32 bits", layer.name, total, SUM_LIMIT - 1)


# --- what a neuron can do -------------------------------------------------------------------------------------------


def random_decay(case: Case) -> Iterator[Finding]:
    """A decay drawn per neuron and step needs a neuron whose program can draw."""
    for layer in case.spiking:
        if isinstance(layer.neuron, RandomTau):
            possible = "microcoded neuron" if case.chip.programmable else "none: noise reaches current or voltage only"
            drawn = "every step" if layer.neuron.sampling == "step" else "every image"
            yield Finding("decay drawn at random", layer.name, drawn, possible, case.chip.programmable)


def neuron_model(case: Case) -> Iterator[Finding]:
    """A chip without microcode has one neuron, CUBA; x + (A (m - x) >> k) is not it, bit for bit."""
    for layer in case.spiking:
        if not isinstance(layer.neuron, RandomTau):
            same = isinstance(layer.neuron, Cuba)
            possible = "any, microcoded" if case.chip.programmable else "Cuba"
            name = type(layer.neuron).__name__
            yield Finding("neuron model", layer.name, name, possible, same or case.chip.programmable)


def residual_delay(case: Case) -> Iterator[Finding]:
    """Steps that the earlier branch of a residual sum waits in its synapses."""
    limit = case.chip.limit("delay_max")
    if limit is not None:
        for i, lag in branch_lags(case.network, case.network.delays).items():
            yield _within("steps a residual branch waits", case.network.layers[i].name, lag, limit)


# --- what a core holds ----------------------------------------------------------------------------------------------


def register_on_one_core(case: Case) -> Iterator[Finding]:
    """Neurons that share a register must share a core: exporting with fewer neurons per core mends it."""
    for layer in case.mapping.layers:
        neuron = layer.population.layer.neuron
        if isinstance(neuron, RandomTau):
            whole = min(neuron.neurons_per_core, int(np.prod(layer.population.shape)))
            yield _within("neurons that share a register and a core", layer.name, whole, layer.largest("neurons"))


def neurons_per_core(case: Case) -> Iterator[Finding]:
    """Neurons on the layer's fullest core."""
    yield from _per_core(case, "neurons per core", "neurons", "neurons_per_core")


def memory_per_core(case: Case) -> Iterator[Finding]:
    """Bits on the layer's fullest core."""
    yield from _per_core(case, "memory per core, bits", "memory_bits", "memory_per_core")


def fan_in_axons(case: Case) -> Iterator[Finding]:
    """Axons into the core that has most of them."""
    yield from _per_core(case, "fan-in axons per core", "in_axons", "input_axons_per_core")


def fan_out_axons(case: Case) -> Iterator[Finding]:
    """Axons out of the core that has most of them."""
    yield from _per_core(case, "fan-out axons per core", "out_axons", "output_axons_per_core")


def _per_core(case: Case, rule: str, resource: str, key: str) -> Iterator[Finding]:
    limit = case.chip.limit(key)
    if limit is not None:
        for layer in case.mapping.layers:
            yield _within(rule, layer.name, layer.largest(resource), limit)


RULES: tuple[Rule, ...] = (
    weight_mantissa,
    weight_exponent,
    synaptic_sum,
    accumulator,
    threshold_range,
    threshold_mantissa,
    thresholds_per_core,
    bias_range,
    bias_mantissa,
    decay_width,
    decays_per_core,
    graded_spikes,
    read_out_sum,
    random_decay,
    neuron_model,
    residual_delay,
    register_on_one_core,
    neurons_per_core,
    memory_per_core,
    fan_in_axons,
    fan_out_axons,
)

NEEDS = {
    "input_axons_per_core": "fan-in axons per core",
    "output_axons_per_core": "fan-out axons per core",
    "accumulator_bits": "width of the synaptic accumulator",
    "delay_max": "longest synaptic delay",
    "thresholds_per_core": "different thresholds per core",
    "decays_per_core": "different decays per core",
}
"""Limits that a rule needs and that a chip's description may lack."""


def check_chip(network: Network, mapping: Mapping) -> list[Finding]:
    """Every finding of every rule, in the order of RULES, for the chip of the mapping."""
    case = Case(network, mapping.chip, mapping)
    return [finding for rule in RULES for finding in rule(case)]


def broken(findings: list[Finding]) -> list[Finding]:
    """The findings that do not hold."""
    return [finding for finding in findings if not finding.ok]


def unchecked(chip: Chip) -> list[str]:
    """Limits that no public source gives for this chip, and that are therefore not checked."""
    return [what for key, what in NEEDS.items() if chip.limit(key) is None]
