"""Last layers that only integrate: read-outs of their voltages, as the tutorials of lava-dl read them at the last step.

A voltage that is a plain sum of what came in becomes a `ReadOut`; one that leaks, has a bias, wraps or saturates
becomes a `Leaky` read-out with the same dynamics. What would spike is no integrator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point.facts import fan_in_weights
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX, Int, keep
from randhet.fixed_point.network import Cuba, Dense, Layer, Leaky, Network, ReadOut

SUMMING = ((-1, 4096), (4095, 0))
"""Decays of current and voltage with which the voltage is the sum of all that came in: only one of the two keeps it."""
NEVER = (2**17 - 1) << 6
"""Threshold of a neuron that is not meant to spike: the largest mantissa of its field, in membrane units."""


def read_out(network: Network) -> Network:
    """Return the network with a last layer that only integrates as a read-out of its voltages at the last step.

    NetworkError where an inner layer cannot spike: then every image would be of class 0; and where a last layer that is
    not meant to spike may do so.
    """
    *inner, last = network.layers
    for layer in inner:
        if layer.cuba and _mute(network, layer, layer.cuba):
            raise NetworkError(f"layer {layer.name} can never spike, so that nothing reaches the layers behind it")
    if not last.cuba:
        return network
    mute = _mute(network, last, last.cuba)
    if not mute and last.cuba.threshold.min() < NEVER:
        return network
    if not mute:
        raise NetworkError(
            f"layer {last.name} is an integrator by its threshold of {NEVER >> 6} << 6, which its voltage can pass "
            f"within {network.steps} steps: fewer steps, or the threshold {2**18 - 1}, keep it from spiking"
        )
    return replace(network, layers=(*inner, _integrator(network, last, last.cuba)))


def _integrator(network: Network, layer: Layer, neuron: Cuba) -> Layer:
    """Return the layer with a read-out whose sums, in units of its scale and f, are the voltages of its neurons."""
    # its own spikes never come
    operation = Dense(layer.operation.weight) if isinstance(layer.operation, Dense) else layer.operation
    layer = replace(layer, operation=operation, scale=np.array([2.0**neuron.f]))
    if _plain(network, layer, neuron):
        return replace(layer, neuron=ReadOut(np.zeros(len(neuron.bias), np.int32)))
    top = np.full(len(neuron.threshold), STATE_MAX, np.int32)
    return replace(layer, neuron=Leaky(replace(neuron, threshold=top), "last"))


def _plain(network: Network, layer: Layer, neuron: Cuba) -> bool:
    """Whether the voltage at the last step is the sum of all that came in."""
    low, high = _sums(network, layer)
    reach = int(max(high.max(), -low.min())) << neuron.f
    kept = (neuron.current_decay, neuron.voltage_decay) in SUMMING and not neuron.bias.any()
    return kept and reach * network.steps <= STATE_MAX


def _mute(network: Network, layer: Layer, neuron: Cuba) -> bool:
    """Whether no neuron of the layer can spike within T steps; its own spikes would come after a first one."""
    if neuron.threshold.min() >= STATE_MAX:
        return True
    low, high = _sums(network, layer)
    if _peak(replace(neuron, bias=-neuron.bias), -low, network.steps)[0].max() >= STATE_MAX:
        return False  # a current below the least one wraps to the other side
    return bool((_peak(neuron, high, network.steps)[1] <= neuron.threshold).all())


def _peak(neuron: Cuba, high: Int, steps: int) -> tuple[Int, Int]:
    """Upper bounds (C,) of current and voltage within T steps, no word wrapping: both only grow with what comes in."""
    unity, bias = 1 << DECAY_BITS, neuron.bias.reshape(len(high), -1).max(axis=1).astype(np.int64)
    u = v = top_u = top_v = np.zeros_like(high)
    for _ in range(steps):
        last = u, v
        u = keep(u, unity - neuron.current_decay - 1) + (high << neuron.f)
        v = keep(v, unity - neuron.voltage_decay) + u + bias
        top_u, top_v = np.maximum(top_u, u), np.maximum(top_v, v)
        if all(map(np.array_equal, last, (u, v))):
            break
    return top_u, top_v


def _sums(network: Network, layer: Layer) -> tuple[Int, Int]:
    """Least and largest synaptic sum of each channel, (C,)."""
    weighted, read = layer.weighted, network.ranges[layer.inputs[0]]
    assert weighted is not None, layer.name
    up, down = (np.maximum(sign * fan_in_weights(weighted.weight), 0).sum(axis=1) for sign in (1, -1))
    return up * read.low - down * read.high, up * read.high - down * read.low
