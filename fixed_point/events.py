"""Event-driven kernels for one image: active inputs select weight columns to add. Compiled by numba, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import numpy as np
from numba import njit

from fixed_point.generator import byte_step
from fixed_point.network import Conv, Dense, Shape
from fixed_point.shape import window_count

Sums = Callable[[np.ndarray], np.ndarray]


@njit(cache=True)
def _conv_events(source, weight, stride, padding, dilation, per_group, out):  # type: ignore[no-untyped-def]
    """out (y, x, o) += value * weight[c, i, j, :] for every non-zero source[c, y, x]."""
    wide = weight.shape[3]
    for c in range(source.shape[0]):
        first = c // per_group * wide
        for y in range(source.shape[1]):
            for x in range(source.shape[2]):
                value = source[c, y, x]
                if value == 0:
                    continue
                for i in range(weight.shape[1]):
                    row, left = divmod(y + padding[0] - i * dilation[0], stride[0])
                    if left != 0 or row < 0 or row >= out.shape[0]:
                        continue
                    for j in range(weight.shape[2]):
                        column, rest = divmod(x + padding[1] - j * dilation[1], stride[1])
                        if rest != 0 or column < 0 or column >= out.shape[1]:
                            continue
                        for o in range(wide):
                            out[row, column, first + o] += value * np.int32(weight[c, i, j, o])


@njit(cache=True)
def _dense_events(source, weight, out):  # type: ignore[no-untyped-def]
    for i in range(len(source)):
        value = source[i]
        if value != 0:
            for o in range(len(out)):
                out[o] += value * np.int32(weight[i, o])


@njit(cache=True)
def _draw_decays(registers, sizes, byte, table, out):  # type: ignore[no-untyped-def]
    n = 0
    for core in range(len(registers)):
        state = registers[core]
        for _ in range(sizes[core]):
            state = (state >> 8) ^ byte[state & 0xFF]
            out[n] = table[state & 0xFF]
            n += 1
        registers[core] = state


@singledispatch
def sums(operation: Conv | Dense, shape: Shape) -> Sums:
    """A function from one input of `shape`, int32, to its synaptic sums, (O, Y', X') or (O,) int32."""
    raise TypeError(f"no event-driven kernel for {type(operation).__name__}")


@sums.register
def _(operation: Conv, shape: Shape) -> Sums:
    out, per_group, *kernel = operation.weight.shape
    groups, (stride, padding, dilation) = operation.groups, (operation.stride, operation.padding, operation.dilation)
    split = operation.weight.reshape(groups, out // groups, per_group, *kernel)
    weight = np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1).reshape(-1, *kernel, out // groups))
    rows, columns = (window_count(shape[1 + a], kernel[a], stride[a], padding[a], dilation[a]) for a in (0, 1))

    def apply(source: np.ndarray) -> np.ndarray:
        total = np.zeros((rows, columns, out), np.int32)
        _conv_events(source, weight, stride, padding, dilation, per_group, total)
        return np.ascontiguousarray(total.transpose(2, 0, 1))

    return apply


@sums.register
def _(operation: Dense, shape: Shape) -> Sums:
    weight = np.ascontiguousarray(operation.weight.T)

    def apply(source: np.ndarray) -> np.ndarray:
        total = np.zeros(weight.shape[1], np.int32)
        _dense_events(np.ascontiguousarray(source).reshape(-1), weight, total)
        return total

    return apply


def advance(registers: np.ndarray, sizes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """One draw per neuron, core after core; registers (cores,) int64 move on in place. Decays (neurons,) int64."""
    out = np.empty(int(sizes.sum()), np.int64)
    _draw_decays(registers, sizes, np.array(byte_step(), np.int64), table, out)
    return out
