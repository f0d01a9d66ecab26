"""Why the first odd spike between the float model and the integers is odd, both having read the same spikes until then.

With equal inputs and taus the integers' membrane differs from the float one by what rounding the constants explains
(clipping at export included, and bias correction as far as `recorded_bias` believes the file),

    e[t] = tau*e[t-1] + (1 - tau)*(sum (q*s - w)*s_in + b_q*u - b) + (tau - tau')*(m'[t-1] - x') + floor

with -u < floor <= 0 and u = s*2^-f, where tau', m' and x' are the float model's and tau' = tau for drawn ones. A spike
leaves e = 0, or e + theta - theta_q*u of a reset by subtraction. So a wrong constant shows as more than half a unit,
and anything else as an e[t] that this does not give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.compare.equality.recorded_bias import NOTHING, Claim, claim
from randhet.compare.equality.replay import FloatTrace
from randhet.export.graph import FloatConv, FloatDense, FloatGraph, FloatNeuron
from randhet.export.passes.correct import correction
from randhet.export.passes.quantise import neuron_of
from randhet.fixed_point.diagnosis.cause import Cause
from randhet.fixed_point.diagnosis.divergence import Divergence
from randhet.fixed_point.diagnosis.fit import patches
from randhet.fixed_point.diagnosis.seen import SeenLif
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import Layer, Lif, Network, Range, Reset, Weighted
from randhet.fixed_point.result import Trace
from randhet.train.scales import mantissa

HALF = 0.5 + 1e-6
RESETS: dict[Reset, str] = {"zero": "to zero", "subtract": "by subtraction"}
FLOAT32 = 2e-6
"""Relative error allowed to the sums of the float model."""
Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spot:
    """One neuron of one image up to a step: float and integer constants of its channel, and both membranes.

    weight, mantissa (taps,); read (T, taps); tau, model_tau, fixed and floats (membranes), fired (T,). limit: of
    mantissas in this layer; recorded: what the file says that bias correction added.
    """

    unit: float
    scale: float
    weight: Float
    mantissa: NDArray[np.int64]
    limit: int
    bias: tuple[float, int]
    recorded: Claim
    threshold: tuple[float, int]
    read: NDArray[np.int64]
    tau: Float
    model_tau: Float
    f: int
    reset: Reset
    fixed: NDArray[np.int64]
    floats: Float
    fired: NDArray[np.bool_]


LATE = ("", ", one step late")
"""When a reset acts, by its delay."""


def weighted(graph: FloatGraph, layer: str) -> tuple[FloatConv | FloatDense, FloatNeuron]:
    """Find the folded operation with weights, and the neuron, behind a layer of the integer network."""
    for node in graph.nodes:
        if isinstance(node.operation, (FloatConv, FloatDense)):
            neuron = neuron_of(graph, node)
            if neuron is not None and neuron.name == layer:
                assert isinstance(neuron.operation, FloatNeuron)
                return node.operation, neuron.operation
    raise KeyError(layer)


def explain(
    network: Network,
    graph: FloatGraph,
    spike: Divergence,
    floats: Mapping[str, FloatTrace],
    fixed: Mapping[str, Trace],
    seed: int,
    first_image: int = 0,
) -> Cause:
    """Find the cause of a first odd spike; graph: the folded model; floats, fixed: traces of the same images."""
    index = next(i for i, layer in enumerate(network.layers) if layer.name == spike.layer)
    layer = network.layers[index]
    operation, neuron = weighted(graph, spike.layer)
    own = _synapse(layer).weight
    if operation.weight.shape != own.shape:
        return Cause("shape", f"weights {own.shape}, the float model has {operation.weight.shape}")
    if layer.lif is None:
        return Cause("unexplained", f"neurons of kind {type(layer.neuron).__name__} are not followed")
    if cause := _kinds(layer.lif, neuron):
        return cause
    image = spike.image - first_image
    trace = Trace(*(values[image : image + 1] for values in (fixed[spike.layer].output, _membrane(fixed[spike.layer]))))
    source = layer.inputs[0]
    read = fixed[network.layers[source].name].output
    layer_run = SeenLif(network, index, [read[image : image + 1]], trace, seed, spike.image, layer.lif)
    if cause := _decays(layer_run, neuron, spike.neuron):
        return cause
    recorded = _recorded(network, layer, operation, spike.neuron[0], read, network.ranges[source])
    spot = _spot(layer_run, operation, neuron, spike, floats[spike.layer].membrane[image], recorded)
    return _constants(spot, spike.neuron) or _path(spot)


def _membrane(trace: Trace) -> NDArray[np.int64]:
    assert trace.membrane is not None
    return trace.membrane


def _synapse(layer: Layer) -> Weighted:
    assert layer.weighted is not None
    return layer.weighted


def _kinds(neuron: Lif, model: FloatNeuron) -> Cause | None:
    """Require that a spike does the same to both membrane potentials."""
    own, other = (f"{RESETS[one.reset]}{LATE[one.reset_delay]}" for one in (neuron, model))
    return None if own == other else Cause("reset", f"the integers are reset {own}, the float model {other}")


def _decays(layer_run: SeenLif, model: FloatNeuron, index: tuple[int, ...]) -> Cause | None:
    """Require constant decays to be the model's, within half a unit of 2^-k."""
    if layer_run.neuron.drawn:
        return None
    decay, tau, scale = int(layer_run.decay[0, 0][index]), _tau(model, index), 2**layer_run.neuron.k
    if abs(decay - min(tau * scale, scale - 1)) <= HALF:
        return None
    return Cause("tau", f"the decay is {decay}/{scale}, the float model's tau is {tau:.4f}")


def _tau(model: FloatNeuron, index: tuple[int, ...]) -> float:
    return float(model.decay[index if model.decay.ndim else ()])


def _recorded(
    network: Network,
    layer: Layer,
    operation: FloatConv | FloatDense,
    channel: int,
    read: NDArray[np.int64],
    span: Range,
) -> Claim:
    """Read the correction of a channel's bias, and what rounding its weights explains on what was read."""
    assert layer.scale is not None
    scale, synapse = float(np.broadcast_to(layer.scale, len(operation.weight))[channel]), _synapse(layer)
    lost = operation.weight[channel].ravel() - synapse.weight[channel].ravel() * scale
    units = float(np.broadcast_to(layer.unit, len(operation.weight))[channel])
    return claim(int(correction(network, layer)[channel]), lost / units, synapse, channel, read, span)


def _spot(
    layer_run: SeenLif,
    operation: FloatConv | FloatDense,
    model: FloatNeuron,
    spike: Divergence,
    floats: NDArray[np.float32],
    recorded: Claim,
) -> Spot:
    layer, neuron, channel, synapse = layer_run.layer, layer_run.neuron, spike.neuron[0], _synapse(layer_run.layer)
    assert layer.scale is not None
    scale = float(np.broadcast_to(layer.scale, len(operation.weight))[channel])
    positions = layer_run.sums[0, 0, 0].size
    position = int(np.ravel_multi_index(spike.neuron[1:], layer_run.sums.shape[3:])) if spike.neuron[1:] else 0
    rows = patches(synapse, layer_run.read[0], channel).reshape(layer_run.network.steps, positions, -1)
    own: Any = (0, slice(0, spike.step + 1), *spike.neuron)
    tau = layer_run.decay[own] / 2.0**neuron.k
    bias = operation.bias[spike.neuron] if operation.bias.ndim > 1 else operation.bias[channel]
    return Spot(
        unit=scale * 2.0**-neuron.f,
        scale=scale,
        weight=operation.weight[channel].ravel(),
        mantissa=synapse.weight[channel].ravel().astype(np.int64),
        limit=limit(layer_run.network, layer),
        bias=(float(bias), int(np.broadcast_to(layer_run.bias, layer_run.sums.shape[2:])[spike.neuron])),
        recorded=recorded,
        threshold=(model.threshold, int(neuron.threshold[channel])),
        read=rows[: spike.step + 1, position],
        tau=tau,
        model_tau=tau if neuron.drawn else np.full(spike.step + 1, _tau(model, spike.neuron)),
        f=neuron.f,
        reset=neuron.reset,
        fixed=layer_run.membrane[own],
        floats=floats[own[1:]].astype(np.float64),
        fired=layer_run.found.output[own] != 0,
    )


def limit(network: Network, layer: Layer) -> int:
    """Return the largest mantissa that the layer's weight bits allow, as export noted; else the largest there is."""
    try:
        noted = json.loads(network.metadata["quantisation"])
        return mantissa(int(dict(noted["layer_bits"]).get(layer.name, noted["weight_bits"])))
    except (KeyError, ValueError, TypeError):  # a network that was not quantised here
        return int(np.abs(_synapse(layer).weight.astype(np.int64)).max())


def _constants(spot: Spot, index: tuple[int, ...]) -> Cause | None:
    """Find a weight, bias or threshold further from the float one than rounding, clipping and correction go."""
    off = np.abs(spot.mantissa - np.clip(spot.weight / spot.scale, -spot.limit, spot.limit))
    if (wrong := off > HALF).any():
        tap = int(wrong.argmax())
        return Cause(
            "weight",
            f"weight {tap} of channel {index[0]} is {spot.mantissa[tap]}, the float one is "
            f"{spot.weight[tap] / spot.scale:.2f} units; {wrong.sum()} such weights",
        )
    for name, (exact, whole), recorded in (("bias", spot.bias, spot.recorded), ("threshold", spot.threshold, NOTHING)):
        if abs(whole - recorded.shift - exact / spot.unit) > HALF or not recorded.credible:
            corrected = f", {recorded}" if recorded.shift else ""
            words = f"the {name} of {index} is {whole}, the float one is {exact / spot.unit:.2f} units{corrected}"
            return Cause(name, words)
    return None


def _path(spot: Spot) -> Cause:
    """Follow the membrane from the first step on; the first step that rounding does not explain says why."""
    x = (spot.read @ spot.mantissa << spot.f) + spot.bias[1]
    model_x = spot.read @ spot.weight + spot.bias[0]
    kept = 0.0 if spot.reset == "zero" else spot.floats[:-1] - spot.threshold[0]
    before = np.append(0.0, np.where(spot.fired[:-1], kept, spot.floats[:-1]))
    other_tau = (spot.tau - spot.model_tau) * (before - model_x)
    rounded = x * spot.unit - model_x
    slack = FLOAT32 * (np.abs(spot.read) @ np.abs(spot.weight) + abs(spot.bias[0]) + np.abs(spot.floats))
    low = high = 0.0
    for t in range(len(x)):
        if t and spot.fired[t - 1]:
            low, high = _after_spike(spot, low), _after_spike(spot, high)
        low, high = (spot.tau[t] * e + (1 - spot.tau[t]) * rounded[t] + other_tau[t] for e in (low, high))
        low -= spot.unit
        error = spot.fixed[t] * spot.unit - spot.floats[t]
        if abs(x[t]) > STATE_MAX or abs(int(spot.fixed[t])) >= STATE_MAX:
            return Cause("saturation", f"the state of step {t} is {max(abs(int(x[t])), abs(int(spot.fixed[t])))} units")
        if not low - slack[t] <= error <= high + slack[t]:
            return _other(spot, t, float(model_x[t]), float(before[t]), error)
    if spot.fixed[-1] == spot.threshold[1]:
        return Cause("tie", f"the integers' membrane equals its threshold, {spot.threshold[1]} units: no spike")
    corrected = f"; the bias was {spot.recorded}" if spot.recorded.shift else ""
    return Cause(
        "rounding",
        f"weights, bias and threshold, each within half a unit, move the membrane by "
        f"{error / spot.threshold[0]:+.5f} thresholds; "
        f"it stands {abs(spot.floats[-1] / spot.threshold[0] - 1):.5f} from the threshold in float{corrected}",
    )


def _after_spike(spot: Spot, error: float) -> float:
    """Return what the reset leaves of a difference of the membrane potentials."""
    return 0.0 if spot.reset == "zero" else error + spot.threshold[0] - spot.threshold[1] * spot.unit


def _other(spot: Spot, t: int, x: float, before: float, error: float) -> Cause:
    """Name another tau, if one in 0..1 gives the float membrane; it is not rounding."""
    if before != x and 0 <= (tau := (spot.floats[t] - x) / (before - x)) <= 1:
        return Cause("tau", f"at step {t} the float model used {tau:.4f}, the integers {spot.tau[t]:.4f}")
    return Cause("unexplained", f"at step {t} the membranes differ by {error / spot.threshold[0]:+.5f} thresholds")
