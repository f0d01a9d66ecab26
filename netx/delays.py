"""Delays of dense layers as a layer of their own: neurons that hand spikes on, a step at a time, through recurrence.

A synapse with a delay of d steps reads a spike d steps late. Each input with delayed synapses gets a line of neurons,
the first of which repeats its spike at once and every further one that of its neighbour a step later; the synapse then
reads the neuron d steps down the line. Stock Lava (`lava.proc.dense`, DelayDense) does the same with sums that wait.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from randhet.fixed_point.network import Cuba, Dense
from randhet.netx.node import Node

MAX_DELAY = 62
"""Largest delay of lava-dl in steps; longer ones are cut to it."""
MAX_LINE = 4096
"""Neurons of all lines of a layer, whose recurrent weights are the square of this."""


class Line(NamedTuple):
    """The layer that holds spikes back, and the weights of the layer that reads it."""

    operation: Dense
    neuron: Cuba
    reader: np.ndarray


def of(node: Node, weight: np.ndarray) -> np.ndarray:
    """Return the delay of each synapse, (out, in), in steps; 0 where there is no weight.

    One number, one per output, one per input (where the two differ in number), or one per synapse, as lava-dl reads it.
    """
    stored = np.trunc(node.array("delay", "iuf", (0, 1, 2)))
    if stored.min(initial=0) < 0:
        raise node.fail("delay", f"is {stored.min():.0f} steps, it must be at least 0")
    steps = np.minimum(stored, MAX_DELAY).astype(np.int64)
    out, into = weight.shape
    if steps.ndim == 1:
        # outputs come first where there are as many inputs, as in lava-dl
        steps = steps[:, None] if len(steps) == out else steps[None]
    if steps.ndim and steps.shape not in ((out, 1), (1, into), (out, into)):
        raise node.fail("delay", f"has the shape {stored.shape}, {out} outputs of {into} inputs do not")
    return np.where(weight != 0, np.broadcast_to(steps, weight.shape), 0)


def line(node: Node, weight: np.ndarray, late: np.ndarray) -> Line:
    """Return the layer of lines for the weights (out, in) of a dense layer whose synapses are late by so many steps."""
    lengths = late.max(axis=0) + 1
    total, starts = int(lengths.sum()), np.cumsum(lengths) - lengths
    if total > MAX_LINE:
        raise node.fail("delay", f"needs {total} neurons to hold spikes back, the limit is {MAX_LINE}: shorten delays")
    first = np.zeros((total, len(lengths)), np.int8)
    first[starts, np.arange(len(lengths))] = 2
    behind = np.setdiff1d(np.arange(total), starts)
    onward = np.zeros((total, total), np.int8)
    onward[behind, behind - 1] = 2
    reader = np.zeros((len(weight), total), np.int8)
    outputs, inputs = np.nonzero(weight)
    reader[outputs, starts[inputs] + late[outputs, inputs]] = weight[outputs, inputs]
    # a weight of 2 passes the threshold of 1, and nothing is left of current and voltage at the next step
    ones = np.ones(total, np.int32)
    return Line(Dense(first, onward), Cuba(ones, 0 * ones, 4095, 4096, 0), reader)
