"""The tau generator: one 32 bit linear feedback shift register per core, read by the core's neurons one after another.

step(s): low = s & 1; s >>= 1; if low: s ^= 0x80200003        Galois form, period 2^32 - 1
draw(s): step 8 times, return s & 0xFF                        no bit is used twice

A register is linear over GF(2): its state after n steps is M^n s, so any position is reached by a jump.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x80200003
PERIOD = 2**32 - 1
STEPS_PER_DRAW = 8
DRAW_VALUES = 256
_MASK64 = 2**64 - 1

Word = NDArray[np.uint32]
GeneratorKind = Literal["register", "chacha"]
GENERATORS: tuple[str, ...] = get_args(GeneratorKind)
"""Where a network's draws come from: the shift registers of this module, or the cipher of `fixed_point.keyed`."""


def step(state: int) -> int:
    """Clock the register once."""
    low = state & 1
    state >>= 1
    return state ^ POLYNOMIAL if low else state


def draw(state: int) -> tuple[int, int]:
    """Clock 8 times; return (new state, the draw 0..255)."""
    for _ in range(STEPS_PER_DRAW):
        state = step(state)
    return state, state & 0xFF


def splitmix64(value: int) -> int:
    """Mix 64 bits of `value` as Steele, Lea & Flood (OOPSLA 2014) do, one output."""
    z = (value + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def core_seed(master: int, layer: int, core: int) -> int:
    """Return a core's start state: low 32 bits of mix(mix(mix(master) ^ layer) ^ core), 1 if that is 0."""
    return splitmix64(splitmix64(splitmix64(master & _MASK64) ^ layer) ^ core) & 0xFFFFFFFF or 1


def core_starts(neurons: int, neurons_per_core: int) -> range:
    """Return the first neuron of each core: consecutive cores of at most `neurons_per_core` neurons."""
    return range(0, neurons, neurons_per_core)


@lru_cache(maxsize=1)
def squarings() -> tuple[tuple[int, ...], ...]:
    """Compute M^(2^j), M one clock, for j = 0..31, each as the images of the 32 unit vectors."""
    columns = tuple(step(1 << bit) for bit in range(32))
    powers = [columns]
    for _ in range(31):
        columns = tuple(apply_matrix(columns, column) for column in columns)
        powers.append(columns)
    return tuple(powers)


def apply_matrix(columns: tuple[int, ...], state: int) -> int:
    """Return the GF(2) product of a 32x32 matrix, given as its columns, with a state."""
    result = 0
    for bit in range(32):
        if state >> bit & 1:
            result ^= columns[bit]
    return result


def jump(state: int, draws: int) -> int:
    """Return the state after `draws` draws (any non-negative integer), in 32 matrix products at the most."""
    steps = draws * STEPS_PER_DRAW % PERIOD
    for j, columns in enumerate(squarings()):
        if steps >> j & 1:
            state = apply_matrix(columns, state)
    return state


@lru_cache(maxsize=64)
def jump_matrix(draws: int) -> tuple[int, ...]:
    """Return the matrix of `jump(., draws)` as 32 columns, for kernels that jump by the same distance many times."""
    return tuple(jump(1 << bit, draws) for bit in range(32))


@lru_cache(maxsize=1)
def byte_step() -> tuple[int, ...]:
    """Compute what eight clocks add for each low byte: state' = (state >> 8) ^ byte_step()[state & 0xFF]."""
    return tuple(draw(byte)[0] for byte in range(256))


def draws(seed: int, first: int, count: int) -> NDArray[np.uint8]:
    """Return draws number first..first+count-1 of the register that starts at `seed`, (count,) uint8."""
    state, table = jump(seed, first), byte_step()
    out = np.empty(count, np.uint8)
    for i in range(count):
        state = (state >> 8) ^ table[state & 0xFF]
        out[i] = state & 0xFF
    return out


def tau_table(k: int = 8, sigma: float = 1.0) -> NDArray[np.uint16]:
    """Compute A[r] = round(2^k * sigmoid(sigma * Phi^-1((r + 1/2) / 256))), clipped to 0..2^k-1, (256,) uint16."""
    quantile = np.array([NormalDist().inv_cdf((r + 0.5) / DRAW_VALUES) for r in range(DRAW_VALUES)])
    tau = 1.0 / (1.0 + np.exp(-sigma * quantile))
    return np.clip(np.rint(tau * 2**k), 0, 2**k - 1).astype(np.uint16)


class LayerGenerator:
    """The registers of one layer: decays of all its neurons for each image and step, in logical time.

    Draw number of neuron n of a core of N neurons: (image*T + step)*N + n, per-forward sampling image*N + n.
    """

    def __init__(self, master: int, layer: int, neurons: int, neurons_per_core: int) -> None:
        self.neurons = neurons
        starts = core_starts(neurons, neurons_per_core)
        self.cores = [
            (core_seed(master, layer, core), min(neurons_per_core, neurons - start))
            for core, start in enumerate(starts)
        ]

    def round(self, number: int) -> NDArray[np.uint8]:
        """Draw for every neuron in round `number` (image*T + step, or image for per-forward sampling), (neurons,)."""
        return np.concatenate([draws(seed, number * size, size) for seed, size in self.cores])

    def rounds(self, first: int, count: int) -> NDArray[np.uint8]:
        """Draw rounds number first..first+count-1, (count, neurons): all rounds of a core side by side."""
        out = np.empty((count, self.neurons), np.uint8)
        table, start = np.array(byte_step(), np.uint32), 0
        for seed, size in self.cores:
            states = _spaced(jump(seed, first * size), size, count)
            for n in range(start, start + size):
                states = (states >> np.uint32(8)) ^ table[states & np.uint32(0xFF)]
                out[:, n] = states & np.uint32(0xFF)
            start += size
        return out


def _spaced(state: int, distance: int, count: int) -> Word:
    """List the states 0, 1, .. count-1 times `distance` draws after `state`, doubling how many are known."""
    states = np.array([state], np.uint32)
    while len(states) < count:
        later = np.zeros_like(states)
        for bit, column in enumerate(jump_matrix(distance * len(states))):
            later ^= np.where(states >> np.uint32(bit) & np.uint32(1), np.uint32(column), np.uint32(0))
        states = np.concatenate([states, later])
    return states[:count]
