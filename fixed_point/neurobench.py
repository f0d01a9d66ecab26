"""A network's metrics under the names and definitions of NeuroBench.

Source: NeuroBench 2.2 (Yik et al., Nature Communications 2025, doi 10.1038/s41467-025-56739-4), package `neurobench`,
docs/metrics and neurobench/metrics. What it leaves open for integers is said where it is decided here.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from randhet.base.errors import RandhetError
from randhet.fixed_point.chips.needs import needs
from randhet.fixed_point.layers import Declared, declared
from randhet.fixed_point.network import Layer, Network, Shape
from randhet.fixed_point.synaptic import Counted, Reading

VERSION = "2.2"


def metrics(network: Network, found: Counted) -> dict[str, Any]:
    """Return footprint, connection_sparsity, activation_sparsity and synaptic_operations; samples: images counted."""
    return {
        "footprint": footprint(network),
        "connection_sparsity": connection_sparsity(network),
        "activation_sparsity": 1 - found.rate,
        "synaptic_operations": synaptic_operations(found.readings),
        "samples": found.images,
        "definitions": f"NeuroBench {VERSION}",
    }


def synaptic_operations(readings: tuple[Reading, ...]) -> dict[str, float]:
    """Count per image, the mean: Dense, all synapses; Effective, those from a value to a weight, neither of them zero.

    Effective_ACs: of layers whose every value read was 0 or 1; Effective_MACs: of the others (pixels, residual sums).
    """
    return {
        "Effective_MACs": sum(one.effective for one in readings if not one.binary),
        "Effective_ACs": sum(one.effective for one in readings if one.binary),
        "Dense": sum(one.dense for one in readings),
    }


def connection_sparsity(network: Network) -> float:
    """Return the share of weights that are zero, 0..1, recurrent ones included."""
    weights = [weight for layer in network.layers for weight in _weights(layer)]
    if not weights:
        raise RandhetError("the network has no weights, connection_sparsity takes at least 1")
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.size for weight in weights)


def footprint(network: Network) -> int:
    """Return bytes: a weight takes one, a parameter of a neuron the whole bytes of its range, a state its own.

    A state is what a neuron keeps from step to step; the registers of random decays count with the layer's cores.
    """
    return sum(_layer_bytes(layer, shape) for layer, shape in zip(network.layers, network.shapes))


def _layer_bytes(layer: Layer, shape: Shape) -> int:
    total = sum(weight.size for weight in _weights(layer))
    if layer.sender is None:
        return total
    dynamics = layer.dynamics or layer.sender
    parts = [dynamics, layer.lif.decay] if layer.lif else [dynamics]
    k = layer.lif.k if layer.lif else 0
    total += sum(_parameter_bytes(entry, value, k) for part in parts for _, entry, value in declared(part))
    registers = -(-prod(shape) // layer.drawn.neurons_per_core) if layer.drawn else 0
    return total + prod(shape) * needs(layer.sender).state // 8 + 4 * registers


def _parameter_bytes(entry: Declared, value: Any, k: int) -> int:
    """Return the bytes of a declared field; a name, such as that of a reset, is no number and takes none."""
    if entry.names:
        return 0
    high = 2**k - 1 if entry.high is None else entry.high
    bits = max(high.bit_length(), (-entry.low - 1).bit_length() if entry.low < 0 else 0) + (entry.low < 0)
    return int(np.size(value)) * -(-bits // 8)


def _weights(layer: Layer) -> list[np.ndarray]:
    own = [] if layer.weighted is None else [layer.weighted.weight]
    return own if layer.recurrent is None else [*own, layer.recurrent]
