"""Layers without weights in the error budget's simulator: what they make of the values that they read, float64."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from randhet.base.kinds import assert_never
from randhet.fixed_point.layers import Conv, Dense
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Flatten,
    Iand,
    Input,
    MaxPool,
    Operation,
    Spread,
    SumPool,
)
from randhet.train.layers import spread


def wired(operation: Operation, read: Sequence[Tensor]) -> Tensor:  # noqa: C901 (a case a kind)
    """Compute a layer without weights from what it reads, each (N, *shape)."""
    match operation:
        case Input():
            return read[0]
        case Add():
            return torch.stack(list(read)).sum(0)
        case And():
            return read[0] * read[1]
        case Iand():
            return (1 - read[0]) * read[1]
        case Concat():
            return torch.cat(list(read), 1)
        case Flatten():
            return read[0].flatten(1)
        case SumPool():
            return F.avg_pool2d(read[0], operation.kernel, operation.stride) * prod(operation.kernel)
        case MaxPool():
            return F.max_pool2d(read[0], operation.kernel, operation.stride, operation.padding)
        case Spread():
            return spread(read[0], operation.stride, operation.extra)
        case Conv() | Dense():
            raise AssertionError("a layer with weights has a neuron or sends its sums")
        case _:
            assert_never(operation)
