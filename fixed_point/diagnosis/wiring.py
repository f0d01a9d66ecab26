"""Layers without a neuron, and values in another order: what else they may be made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.named import Cause
from randhet.fixed_point.diagnosis.seen import Seen
from randhet.fixed_point.network import Add, And, Concat, Iand, MaxPool, Operation, SumPool
from randhet.fixed_point.result import Trace


def alternatives(operation: Operation, sources: int) -> Iterator[tuple[str, Operation, list[int]]]:
    """List what an operation without weights may be taken for: words, operation, and the order of what it reads."""
    order = list(range(sources))
    gates: dict[type, Operation] = {And: And(), Iand: Iand(), Add: Add()}
    if isinstance(operation, And | Iand | Add) and sources == 2:
        others = {kind: gate for kind, gate in gates.items() if not isinstance(operation, kind)}
        yield from ((f"the {kind.__name__}", gate, order) for kind, gate in others.items())
        yield "the Iand with its two layers exchanged", Iand(), order[::-1]
    if isinstance(operation, Concat):
        yield "the Concat in the opposite order", operation, order[::-1]
    if isinstance(operation, MaxPool):
        yield "the SumPool", SumPool(operation.kernel, operation.stride), order
        yield "the MaxPool without padding", replace(operation, padding=(0, 0)), order
    if isinstance(operation, SumPool):
        yield "the MaxPool", MaxPool(operation.kernel, operation.stride), order


def wiring(layer_run: Seen) -> Cause:
    """Try other operations for layers without a neuron; else count their wrong values."""
    found, operation = layer_run.found.output, layer_run.layer.operation
    kind = type(operation).__name__
    for words, other, order in alternatives(operation, len(layer_run.read)):
        read = [layer_run.read[i] for i in order]
        values = np.stack([reference.operate(other, [r[:, t] for r in read]) for t in range(found.shape[1])], 1)
        if np.array_equal(values, found):
            return Cause("operation", f"the values are {words} of what the layer reads, not the {kind}")
    odd = int((found != layer_run.sums).sum())
    return Cause("operation", f"{odd} of {layer_run.sums.size} values are not the {kind} of what the layer reads")


def permuted(expected: Trace, observed: Trace) -> Cause | None:
    """Try the same values in another order of axes."""
    a, b = expected.output, observed.output
    if observed.membrane is not None and expected.membrane is not None:
        a, b = expected.membrane, observed.membrane
    names = ("channel", "y", "x")
    for order in permutations(range(a.ndim - 2)):
        moved = a.transpose(0, 1, *(i + 2 for i in order))
        if order != tuple(range(a.ndim - 2)) and moved.size == b.size and np.array_equal(moved.reshape(b.shape), b):
            return Cause("shape", f"the values stand in the order ({', '.join(names[i] for i in order)})")
    return None
