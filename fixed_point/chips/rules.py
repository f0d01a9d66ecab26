"""The design rules of a chip: named functions in a list. All findings are reported together, kept and broken ones.

A rule whose limit is not public has nothing to say for that chip; `unchecked` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point.chips.chip import Chip
from randhet.fixed_point.chips.load import Core
from randhet.fixed_point.chips.mapping import Mapping
from randhet.fixed_point.chips.needs import Needs, needs
from randhet.fixed_point.chips.placement import branch_lags, on_chip
from randhet.fixed_point.facts import SPIKE
from randhet.fixed_point.layers import SUM_MAX
from randhet.fixed_point.network import Array, Input, Layer, MaxPool, Network, Spiking, read_of

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
    def bounds(self) -> list[tuple[Layer, int]]:
        """Layers with weights, with the proven bound on |a|."""
        pairs = zip(self.network.layers, self.network.bounds)
        return [(layer, bound) for layer, bound in pairs if layer.weighted]

    @property
    def spiking(self) -> list[tuple[str, Spiking]]:
        """Names of the layers that spike, with their neurons."""
        return [(layer.name, layer.spiking) for layer in self.network.layers if layer.spiking]

    @property
    def dynamics(self) -> list[tuple[str, Spiking]]:
        """Names of the layers with a membrane potential, leaky read-outs included, with what moves it."""
        return [(layer.name, layer.dynamics) for layer in self.network.layers if layer.dynamics]

    @property
    def needs(self) -> list[tuple[str, Needs]]:
        """Names of the layers with a membrane potential, with what their neurons ask for."""
        return [(layer.name, needs(layer.neuron)) for layer in self.network.layers if layer.neuron and layer.dynamics]


Rule = Callable[[Case], Iterator[Finding]]


def _within(rule: str, layer: str, value: int, limit: int) -> Finding:
    return Finding(rule, layer, value, limit, value <= limit)


def _none(rule: str, layer: str, count: int) -> Finding:
    """Judge a count of what is wrong: nothing may be."""
    return _within(rule, layer, count, 0)


def _largest(values: np.ndarray) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))


def _signed(bits: int) -> int:
    return 2 ** (bits - 1) - 1


# --- number formats -------------------------------------------------------------------------------------------------


def weight_mantissa(case: Case) -> Iterator[Finding]:
    """Hold the largest weight, either sign, against the chip's weight bits."""
    limit = _signed(case.chip.need("weight_bits"))
    for layer in case.network.layers:
        for weight in (layer.weighted.weight if layer.weighted else None, layer.recurrent):
            if weight is not None:
                yield _within("largest |weight| fits the mantissa", layer.name, _largest(weight), limit)


def weight_exponent(case: Case) -> Iterator[Finding]:
    """Hold the weights' exponent against the chip's: f beyond a fixed shift of 6; mixed signs cost one bit of it."""
    low, high = case.chip.limit("weight_exponent_min"), case.chip.limit("weight_exponent_max")
    if low is None or high is None:
        return
    for name, neuron in case.dynamics:
        exponent = neuron.f - 7
        yield Finding("weight exponent", name, exponent, f"{low}..{high}", low <= exponent <= high)


def synaptic_sum(case: Case) -> Iterator[Finding]:
    """Hold the proven bound on |a| against int32."""
    for layer, bound in case.bounds:
        yield _within("synaptic sum fits 32 bits", layer.name, bound, SUM_MAX)


def accumulator(case: Case) -> Iterator[Finding]:
    """Hold the largest shifted sum that any input could cause in a step against the chip's accumulator."""
    bits = case.chip.limit("accumulator_bits")
    if bits is None:
        return
    rule = "largest possible input of a step fits the accumulator"
    for layer, bound in case.bounds:
        if layer.dynamics:
            yield _within(rule, layer.name, bound << layer.dynamics.f, _signed(bits))


def threshold_range(case: Case) -> Iterator[Finding]:
    """Hold the largest threshold against the chip's state bits."""
    limit = _signed(case.chip.need("state_bits"))
    for name, neuron in case.spiking:
        yield _within("threshold fits the state", name, int(neuron.threshold.max()), limit)


def threshold_mantissa(case: Case) -> Iterator[Finding]:
    """Count the thresholds that are not a mantissa shifted by the chip's fixed shift."""
    bits, shift = case.chip.limit("threshold_mantissa_bits"), case.chip.limit("threshold_shift")
    if bits is None or shift is None:
        return
    for name, neuron in case.spiking:
        threshold = neuron.threshold.astype(np.int64)
        wrong = (threshold % (1 << shift) != 0) | (threshold >> shift >= 1 << bits)
        yield _none(f"thresholds that are no {bits} bit mantissa times {1 << shift}", name, int(wrong.sum()))


def thresholds_per_core(case: Case) -> Iterator[Finding]:
    """Count the different thresholds on a core, where its neurons share them."""
    limit = case.chip.limit("thresholds_per_core")
    if limit is None:
        return
    for layer in case.mapping.layers:
        if neuron := layer.population.layer.spiking:
            most = max(len(np.unique(neuron.threshold[_slice(core.channels)])) for core in layer.cores)
            yield _within("different thresholds per core", layer.name, most, limit)


def bias_range(case: Case) -> Iterator[Finding]:
    """Hold the largest bias, either sign, against the chip's state bits."""
    limit = _signed(case.chip.need("state_bits"))
    for name, neuron in case.dynamics:
        yield _within("|bias| fits the state", name, _largest(neuron.bias), limit)


def bias_mantissa(case: Case) -> Iterator[Finding]:
    """Count the biases that are not a mantissa times a power of two the chip has."""
    bits, top = case.chip.limit("bias_mantissa_bits"), case.chip.limit("bias_exponent_max")
    if bits is None or top is None:
        return
    for name, neuron in case.dynamics:
        bias = np.abs(neuron.bias.astype(np.int64))
        fits = [(bias % (1 << e) == 0) & (bias >> e < 1 << bits) for e in range(top + 1)]
        rule = f"biases that are no {bits} bit mantissa times 2^0..2^{top}"
        yield _none(rule, name, int((~np.any(fits, axis=0)).sum()))


def decay_width(case: Case) -> Iterator[Finding]:
    """Count the bits of the decays: k, or those of CUBA's larger one."""
    limit = case.chip.need("decay_bits")
    for name, own in case.needs:
        if own.decay_bits is not None:
            yield _within("decay bits", name, own.decay_bits, limit)


def decays_per_core(case: Case) -> Iterator[Finding]:
    """Count the different decays on a core, where its neurons share them."""
    limit = case.chip.limit("decays_per_core")
    if limit is None:
        return
    decays = {name: own.own_decays for name, own in case.needs}
    for layer in case.mapping.layers:
        if (own := decays.get(layer.name)) is not None:
            most = max(len(np.unique(_part(own, core))) for core in layer.cores)
            yield _within("different decays per core", layer.name, most, limit)


def _slice(indices: range) -> slice:
    return slice(indices.start, indices.stop)


def _part(values: Array, core: Core) -> Array:
    return values.reshape((*values.shape, 1, 1)[:3])[_slice(core.channels), _slice(core.rows), _slice(core.columns)]


def graded_spikes(case: Case) -> Iterator[Finding]:
    """Count the bits of what a layer of the chip, or the input, sends; sums are made where they are read."""
    limit = case.chip.need("graded_spike_bits")
    for i, (layer, span) in enumerate(zip(case.network.layers, case.network.ranges)):
        source = isinstance(layer.operation, Input)
        if source or (on_chip(case.network, i) and (layer.spikes or layer.neuron is None)):
            bits = case.network.input.bits if source else max(1, span.peak.bit_length())
            yield _within("bits of a spike's payload", layer.name, bits, limit)


def read_out_sum(case: Case) -> Iterator[Finding]:
    """Hold the largest sum over T that any input could cause against 32 bits."""
    for layer, span in zip(case.network.layers, case.network.ranges):
        if layer.neuron and not layer.spiking:
            total = span.peak * (case.network.steps if read_of(layer.neuron) == "sum" else 1)
            yield _within("read-out's sum over all steps fits 32 bits", layer.name, total, SUM_MAX)


# --- what a neuron can do -------------------------------------------------------------------------------------------


def random_decay(case: Case) -> Iterator[Finding]:
    """Require a neuron whose program can draw, where a decay is drawn per neuron and step."""
    possible = "microcoded neuron" if case.chip.programmable else "none: noise reaches current or voltage only"
    for layer in case.network.layers:
        if layer.drawn:
            drawn = "every step" if layer.drawn.sampling == "step" else "every image"
            by_cipher = case.network.generator != "register"
            value, fits = drawn + " by a cipher" * by_cipher, case.chip.programmable and not by_cipher
            yield Finding("decay drawn at random", layer.name, value, possible, fits)


def neuron_model(case: Case) -> Iterator[Finding]:
    """Require CUBA of a chip without microcode; x + (A (m - x) >> k) is not it, bit for bit."""
    possible = "any, microcoded" if case.chip.programmable else "Cuba"
    for layer in case.network.layers:
        if layer.dynamics and not layer.drawn:
            fits = needs(layer.dynamics).standard or case.chip.programmable
            yield Finding("neuron model", layer.name, type(layer.dynamics).__name__, possible, fits)


def graded_max(case: Case) -> Iterator[Finding]:
    """Require microcode where the largest of graded values is taken; of spikes a neuron of any chip gives the OR."""
    possible = "any, microcoded" if case.chip.programmable else "spikes, 0..1"
    for layer in case.network.layers:
        if isinstance(layer.operation, MaxPool):
            low, high = case.network.ranges[layer.inputs[0]]
            fits = case.chip.programmable or (low, high) == SPIKE
            yield Finding("values of a max pool", layer.name, f"{low}..{high}", possible, fits)


def reset_kind(case: Case) -> Iterator[Finding]:
    """Require a reset that the chip's neurons are known for, and microcode where it is late or there is a floor."""
    for name, own in case.needs:
        if own.reset is not None and own.words is not None:
            possible = " or ".join(case.chip.resets)
            plain = not (own.late or own.floor)
            fits = own.reset in case.chip.resets and (plain or case.chip.programmable)
            yield Finding("reset after a spike", name, own.words, possible, fits)


def residual_delay(case: Case) -> Iterator[Finding]:
    """Count the steps that the earlier branch of a residual sum waits in its synapses."""
    limit = case.chip.limit("delay_max")
    if limit is not None:
        for i, lag in branch_lags(case.network, case.network.delays).items():
            yield _within("steps a residual branch waits", case.network.layers[i].name, lag, limit)


# --- what a core holds ----------------------------------------------------------------------------------------------


def register_on_one_core(case: Case) -> Iterator[Finding]:
    """Require neurons that share a register to share a core: exporting with fewer neurons per core mends it."""
    for layer in case.mapping.layers:
        drawn = layer.population.layer.drawn
        if drawn and case.network.generator == "register":
            whole = min(drawn.neurons_per_core, int(np.prod(layer.population.shape)))
            yield _within("neurons that share a register and a core", layer.name, whole, layer.largest("neurons"))


def neurons_per_core(case: Case) -> Iterator[Finding]:
    """Count the neurons on the layer's fullest core."""
    yield from _per_core(case, "neurons per core", "neurons", "neurons_per_core")


def memory_per_core(case: Case) -> Iterator[Finding]:
    """Count the bits on the layer's fullest core."""
    yield from _per_core(case, "memory per core, bits", "memory_bits", "memory_per_core")


def fan_in_axons(case: Case) -> Iterator[Finding]:
    """Count the axons into the core that has most of them."""
    yield from _per_core(case, "fan-in axons per core", "in_axons", "input_axons_per_core")


def fan_out_axons(case: Case) -> Iterator[Finding]:
    """Count the axons out of the core that has most of them."""
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
    graded_max,
    reset_kind,
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
    """List every finding of every rule, in the order of RULES, for the chip of the mapping."""
    case = Case(network, mapping.chip, mapping)
    return [finding for rule in RULES for finding in rule(case)]


def broken(findings: list[Finding]) -> list[Finding]:
    """Return the findings that do not hold."""
    return [finding for finding in findings if not finding.ok]


def unchecked(chip: Chip) -> list[str]:
    """List the limits that no public source gives for this chip, and that are therefore not checked."""
    return [what for key, what in NEEDS.items() if chip.limit(key) is None]
