"""The first spike that a float model and integers do not share, from their traces."""

from __future__ import annotations

from collections.abc import Mapping

from randhet.compare.equality.layers import spiking
from randhet.compare.equality.replay import FloatTrace
from randhet.compare.equality.tracing import SpikeDifference, explained_spike, odd_spike
from randhet.export.graph import FloatGraph
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Trace


def first_spike(
    network: Network, graph: FloatGraph, floats: Mapping[str, FloatTrace], fixed: Mapping[str, Trace], seed: int
) -> SpikeDifference | None:
    """Find and explain it; graph: the folded model."""
    at = odd_spike(spiking(network), floats, fixed, 0)
    return at and explained_spike(network, graph, at, floats, fixed, seed, 0)
