"""Are the tables of drawn decays the float model's? Replay takes its taus from them, so that no spike could tell.

A[r] = round(2^k * sigmoid(sigma * Phi^-1((r + 1/2) / 256))), with fewer random bits the mean of neighbours.
"""

from __future__ import annotations

import json

import numpy as np

from randhet.compare.equality.float_cause import weighted
from randhet.export.graph import FloatGraph
from randhet.export.passes.quantise import QuantSettings, table_of
from randhet.fixed_point.network import Network

OFF = 1
"""Another machine's exponential may round to a neighbour."""


def wrong_tables(network: Network, graph: FloatGraph) -> list[str]:
    """Say what is wrong with each layer's table; graph: the folded float model."""
    messages = []
    for layer in network.layers:
        if layer.lif and layer.drawn:
            sigma, own = weighted(graph, layer.name)[1].sigma, layer.drawn.table.astype(np.int64)
            due = table_of(sigma, QuantSettings(k=layer.lif.k, tau_bits=random_bits(network)))
            off = np.abs(own - due)
            if off.max() > OFF:
                draw, scale = int(off.argmax()), 2**layer.lif.k
                messages.append(
                    f"the table of layer {layer.name} is not the model's: draw {draw} gives {own[draw]}/{scale}, "
                    f"sigma = {sigma:g} requires {due[draw]}/{scale}"
                )
    return messages


def random_bits(network: Network) -> int:
    """Return the random bits per draw, as export noted them; 8 where it did not."""
    try:
        return QuantSettings(tau_bits=int(json.loads(network.metadata["quantisation"])["tau_bits"])).tau_bits
    except (KeyError, ValueError, TypeError):
        return 8
