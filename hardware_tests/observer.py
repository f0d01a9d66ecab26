"""What someone who sees a few draws learns: a linear register is 32 linear equations away from being known for ever.

Every bit of every draw is a linear function over GF(2) of the 32 bit start state. So four consecutive draws, or 32
independent bits of any draws whose numbers are known, give the state, and with it all draws before and after. Spikes
tell such bits too: at the first step of an image a neuron of the first layer fires below a decay that the image and the
network file determine, which says on which side of it the draw was. Two registers of a layer then give the master seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numba import njit
from numpy.typing import NDArray

from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.engine.plan import columns
from randhet.fixed_point.generator import DRAW_VALUES, core_starts
from randhet.fixed_point.integer import leak

STATE_BITS, DRAW_BITS = 32, 8
Equation = tuple[int, int]
"""(mask, bit): the parity of mask & state is bit."""


def masks(number: int) -> tuple[int, ...]:
    """For each of the 8 bits of draw `number`, which bits of the register's start state add up to it."""
    column = columns(number + 1).tolist()
    return tuple(sum((word >> bit & 1) << i for i, word in enumerate(column)) for bit in range(DRAW_BITS))


def known_bits(number: int, candidates: Iterable[int]) -> Iterator[Equation]:
    """The equations that draw `number` obeys where it is known to be one of the candidates (0..255, at least one)."""
    values = list(candidates)
    same = ~reduce(int.__or__, (values[0] ^ value for value in values))
    for bit, mask in enumerate(masks(number)):
        if same >> bit & 1:
            yield mask, values[0] >> bit & 1


@dataclass(frozen=True)
class Solution:
    """state: the register's start, None while `rank` is below 32; used: equations read until then."""

    state: int | None
    rank: int
    used: int


def solve(equations: Iterable[Equation]) -> Solution:
    """Gaussian elimination over GF(2), stopping when the state is determined. ValueError where they contradict."""
    pivots: dict[int, Equation] = {}
    used = 0
    for mask, bit in equations:
        used += 1
        for pivot, (other, value) in pivots.items():
            if mask >> pivot & 1:
                mask, bit = mask ^ other, bit ^ value
        if not mask:
            if bit:
                raise ValueError("the observed bits are not of one register")
            continue
        pivot = mask.bit_length() - 1
        for row, (other, value) in pivots.items():
            if other >> pivot & 1:
                pivots[row] = other ^ mask, value ^ bit
        pivots[pivot] = mask, bit
        if len(pivots) == STATE_BITS:
            return Solution(sum(value << row for row, (_, value) in pivots.items()), STATE_BITS, used)
    return Solution(None, len(pivots), used)


def from_draws(pairs: Iterable[tuple[int, int]]) -> Solution:
    """The start state from (number, draw) pairs of one register."""
    return solve(equation for number, value in pairs for equation in known_bits(number, [value]))


def from_spikes(
    network: ir.Network, image: NDArray[np.uint8], fired: NDArray[np.bool_], number: int, core: int
) -> Solution:
    """The start state of a core of the first layer from which of its neurons fired at step 0 of one image.

    image (C, Y, X): what was shown; fired: (C, Y, X) or (C,), the layer's spikes; number: the image's logical one.
    """
    layer = network.layers[1]
    neuron = layer.neuron
    if not isinstance(neuron, ir.Lif) or (drawn := neuron.drawn) is None or layer.inputs != (0,):
        raise ValueError(f"layer {layer.name} does not draw its decays on the image itself")
    spikes = fired.ravel()
    sums = reference.operate(layer.operation, [image[None].astype(np.int64)])
    x = ((sums << neuron.f) + reference.per_channel(neuron.bias, fired.shape)).ravel()
    threshold = np.broadcast_to(reference.per_channel(neuron.threshold, fired.shape), fired.shape).ravel()
    start = core_starts(len(x), drawn.neurons_per_core)[core]
    size = min(drawn.neurons_per_core, len(x) - start)
    table = drawn.table.astype(np.int64)
    fires, _ = leak(np.zeros((1, DRAW_VALUES), np.int64), x[start : start + size, None], table, neuron.k)
    possible = (fires > threshold[start : start + size, None]) == spikes[start : start + size, None]
    rounds = number if drawn.sampling == "forward" else number * network.steps
    return solve(
        equation
        for n in np.flatnonzero(~possible.all(axis=1)).tolist()
        for equation in known_bits(rounds * size + n, np.flatnonzero(possible[n]).tolist())
    )


# --- from registers to the master seed ------------------------------------------------------------------------------

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_INVERSES = tuple(pow(factor, -1, 2**64) for factor in (_FIRST, _SECOND))
_LOW = np.uint64(2**32 - 1)


@njit(cache=True)
def unmix(z: np.uint64) -> np.uint64:
    """The value whose `splitmix64` is z: each xorshift undone by a longer one, each product by its inverse mod 2^64."""
    z = z ^ (z >> np.uint64(31)) ^ (z >> np.uint64(62))
    z = z * np.uint64(_INVERSES[1])
    z = z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))
    z = z * np.uint64(_INVERSES[0])
    z = z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))
    return z - np.uint64(_GAMMA)


@njit(cache=True)
def _mix(value: np.uint64) -> np.uint64:
    z = value + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _search(state_0: np.uint64, state_1: np.uint64, first: np.uint64, count: int) -> np.ndarray:
    """Keys of a layer under which cores 0 and 1 start at these states, the unknown half of a mix being first, ..."""
    keys = []
    for high in range(count):
        key = unmix((first + np.uint64(high)) << np.uint64(32) | state_0)
        if _mix(key ^ np.uint64(1)) & _LOW == state_1:
            keys.append(key)
    return np.array(keys, np.uint64)


def master_seeds(layer: int, state_0: int, state_1: int, highs: range = range(2**32)) -> list[int]:
    """The master seeds under which cores 0 and 1 of a layer start at these states; about two of all 2^64.

    The mix of the seeds can be undone once the 32 bits are tried that the register does not hold; highs: which.
    """
    keys = _search(np.uint64(state_0), np.uint64(state_1), np.uint64(highs.start), len(highs))
    return [int(unmix(np.uint64(int(unmix(key)) ^ layer))) for key in keys]
