"""The registers of a layer: one state per neuron, so that all neurons draw at once.

Draw number n of a register is the low byte of its state after n + 1 draws. From one round to the next, a neuron of a
core of N neurons moves N draws on. The move is linear over GF(2): the state's four bytes are looked up in four tables
of 256 words, whose exclusive or is the state N draws later.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import triton
import triton.language as tl
from torch import Tensor

from randhet.export.gpu.launch import BLOCK, blocks, empty, placed
from randhet.fixed_point.engine.plan import channels_last, columns
from randhet.fixed_point.generator import core_seed, core_starts
from randhet.fixed_point.kernels.registers import jump
from randhet.fixed_point.network import Drawn, Shape

TABLES: Any = tl.constexpr(1024)
"""Words of the four tables of one distance."""


class Order(NamedTuple):
    """How neurons are counted: values lie (pixel, channel), draws are made in (channel, pixel); first: the last core's.

    size: neurons of an image.
    """

    size: Any
    channels: Any
    pixels: Any
    first: Any


@triton.jit
def number_of(place, order):
    """Return the draw number within a round of the neuron at a place of an image."""
    return (place % order.channels) * order.pixels + place // order.channels


@triton.jit
def moved(state, tables, far):
    """Return states (uint32) moved on by the distance of the near tables, or of the far ones where `far` is 1."""
    base = tables + far * TABLES
    low, high = state & 0xFFFF, state >> 16
    after = tl.load(base + (low & 255).to(tl.int32))
    after ^= tl.load(base + 256 + (low >> 8).to(tl.int32))
    after ^= tl.load(base + 512 + (high & 255).to(tl.int32))
    after ^= tl.load(base + 768 + (high >> 8).to(tl.int32))
    return after.to(tl.uint32, bitcast=True)


@triton.jit
def image_states(base, out, tables, order, images, B: tl.constexpr):
    """out (images, size) becomes the states of consecutive images, from those of `base`, which move on."""
    place = tl.program_id(0) * B + tl.arange(0, B)
    live = place < order.size
    far = (number_of(place, order) >= order.first).to(tl.int32)
    state = tl.load(base + place, mask=live, other=0).to(tl.uint32, bitcast=True)
    for image in range(images):
        at = out + tl.cast(image, tl.int64) * order.size + place
        tl.store(at, state.to(tl.int32, bitcast=True), mask=live)
        state = moved(state, tables, far)
    tl.store(base + place, state.to(tl.int32, bitcast=True), mask=live)


def tables_of(near: int, far: int) -> Tensor:
    """Return tables of jumps over so many draws, (2, 1024) int32: entry 256*b + v is what byte b of value v adds."""
    bytes_at = (np.arange(256, dtype=np.uint32)[None, :] << (8 * np.arange(4, dtype=np.uint32)[:, None])).reshape(-1)
    both = np.stack([bytes_at, bytes_at])
    for states, draws in zip(both, (near, far)):
        jump(states, columns(draws))
    return placed(both)


def first_states(seeds: np.ndarray, sizes: np.ndarray, rounds: int) -> np.ndarray:
    """Return every neuron's state at its draw of round number `rounds`, (neurons,) uint32, in the order of draws."""
    begun = seeds.copy()
    jump(begun[:-1], columns(rounds * int(sizes[0])))
    jump(begun[-1:], columns(rounds * int(sizes[-1])))
    # neuron n of a core is n + 1 draws further; distances are made of powers of two
    further = np.concatenate([np.arange(1, size + 1) for size in sizes.tolist()])
    states = np.repeat(begun, sizes)
    for bit in range(int(further.max()).bit_length()):
        chosen = (further >> bit & 1).astype(bool)
        moving = states[chosen]
        jump(moving, columns(1 << bit))
        states[chosen] = moving
    return states


@dataclass(frozen=True, eq=False)
class Registers:
    """The registers of a layer in one run; base: its neurons' states at the next image's first round, on the device.

    step: tables of one round; image: tables of all rounds of an image.
    """

    base: Tensor
    step: Tensor
    image: Tensor
    order: Order

    def states(self, images: int) -> Tensor:
        """Return the states (images, size) at the first round of the next images, and pass these images."""
        out = empty(images, self.order.size)
        image_states[blocks(self.order.size)](self.base, out, self.image, self.order, images, BLOCK)
        return out


def order_of(shape: Shape, first: int = 0) -> Order:
    """Return the order of a layer's neurons; first: number of the first neuron of its last core."""
    return Order(prod(shape), shape[0], prod(shape[1:]), first)


def make_registers(decay: Drawn, shape: Shape, layer: int, master: int, rounds: tuple[int, int]) -> Registers:
    """Seed a layer's registers; rounds: number of the first round of the first image, rounds of an image."""
    neurons, (first, per_image) = prod(shape), rounds
    starts = np.array(core_starts(neurons, decay.neurons_per_core))
    seeds = np.array([core_seed(master, layer, core) for core in range(len(starts))], np.uint32)
    sizes = np.minimum(decay.neurons_per_core, neurons - starts)
    near, far = int(sizes[0]), int(sizes[-1])
    states = channels_last(first_states(seeds, sizes, first).reshape(shape), shape).reshape(-1)
    tables = (tables_of(near, far), tables_of(near * per_image, far * per_image))
    return Registers(placed(states), *tables, order_of(shape, int(starts[-1])))
