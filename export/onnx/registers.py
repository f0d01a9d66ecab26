"""The shift registers inside an ONNX graph: every core's draws, for any batch of images from any start index.

A register is linear over GF(2), so a jump by n draws is the XOR of four table entries, one per byte of the state. Cores
are cut into blocks of 256 neurons. A block's register starts where its first neuron draws and moves on by the whole
core's neurons per round; its 256 draws are four table rows XORed. A row's word holds two draws, w and w + 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from randhet.export.graph import ExportError
from randhet.export.onnx.graph import Scope
from randhet.fixed_point.generator import PERIOD, byte_step, core_seed, core_starts, jump_matrix
from randhet.fixed_point.network import Drawn, Network, Sampling

BLOCK = 256
PAIR = BLOCK // 2
Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Bank:
    """The registers of one layer: neurons in all, neurons per core, first core among all cores of the network."""

    layer: int
    drawn: Drawn
    neurons: int
    first_core: int

    @property
    def cores(self) -> list[int]:
        """Neurons of each core."""
        size = self.drawn.neurons_per_core
        return [min(size, self.neurons - start) for start in core_starts(self.neurons, size)]

    def blocks(self) -> list[tuple[int, int, int]]:
        """(core among all, neurons of that core, first neuron of the block) of each block."""
        cores = enumerate(self.cores, self.first_core)
        return [(core, size, start) for core, size in cores for start in range(0, size, BLOCK)]


def banks(network: Network) -> list[Bank]:
    """The layers that draw, with their places in the one vector of registers."""
    if network.generator != "register":
        raise ExportError(
            f"its generator is {network.generator!r}, integer ONNX has shift registers only: "
            "export with --generator register, or run it on another backend"
        )
    drawing: list[Bank] = []
    first = 0
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        if layer.drawn:
            drawing.append(Bank(i, layer.drawn, prod(shape), first))
            first += len(drawing[-1].cores)
    return drawing


def seeds(places: Sequence[tuple[int, int]], master: int) -> Words:
    """Start states of the registers, (cores,), from (layer, cores of that layer) pairs: the model's `registers`."""
    states = [core_seed(master, layer, core) for layer, cores in places for core in range(cores)]
    return np.array(states, np.uint32)


def _columns(draws: int) -> Words:
    return np.array(jump_matrix(draws), np.uint32)


def byte_tables(columns: Words) -> Words:
    """A 32x32 matrix over GF(2), given as its columns, as (4, 256) words: M s = XOR over b of table[b, byte b of s]."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    chosen = np.where(bits[None], columns.reshape(4, 1, 8), np.uint32(0))
    return np.bitwise_xor.reduce(chosen, axis=2).astype(np.uint32)


@lru_cache(maxsize=1)
def draw_rows() -> NDArray[np.int32]:
    """(4, 256, 128) words: draws w and w + 128 (in bits 8..15) after the state whose byte b is v, XORed over b."""
    clock, columns, draws = np.array(byte_step(), np.uint32), _columns(0), []
    for _ in range(BLOCK):
        columns = (columns >> 8) ^ clock[columns & 0xFF]
        draws.append(byte_tables(columns & 0xFF).astype(np.int32))
    each = np.stack(draws, axis=2)
    return each[..., :PAIR] | each[..., PAIR:] << 8


def _bytes(scope: Scope, state: str) -> list[str]:
    """The four bytes of each state, int32, lowest first."""
    shifted = [scope.op("BitShift", state, np.uint32(8 * b), direction="RIGHT") if b else state for b in range(4)]
    return [scope.cast(scope.op("BitwiseAnd", word, np.uint32(255)), np.int32) for word in shifted]


def _xor(scope: Scope, parts: list[str]) -> str:
    total, *rest = parts
    for term in rest:
        total = scope.op("BitwiseXor", total, term)
    return total


def _apply(scope: Scope, tables: list[str], state: list[str], choice: str) -> str:
    """Look each byte up in its table at `choice` (a multiple of 256 that selects a matrix) plus the byte, and XOR."""
    indices = [scope.op("Add", byte, choice) for byte in state]
    return _xor(scope, [scope.op("Gather", table, index) for table, index in zip(tables, indices)])


def times(scope: Scope, number: str, factor: NDArray[np.int64]) -> str:
    """number * factor modulo the register's period, number any int64 from 0: 16 bits at a time, below 2^49."""
    number, factor = scope.op("Mod", number, np.int64(PERIOD)), factor % PERIOD
    high = scope.op("Mul", scope.op("Div", number, np.int64(1 << 16)), factor)
    high = scope.op("Mul", scope.op("Mod", high, np.int64(PERIOD)), np.int64(1 << 16))
    low = scope.op("Mul", scope.op("Mod", number, np.int64(1 << 16)), factor)
    return scope.op("Mod", scope.op("Add", high, low), np.int64(PERIOD))


class Registers:
    """All registers that draw at one rate ("step" or "forward"), as (images, blocks) states in the graph."""

    def __init__(self, network: Network, sampling: Sampling) -> None:
        self.sampling = sampling
        self.banks = [bank for bank in banks(network) if bank.drawn.sampling == sampling]
        self.table = [block for bank in self.banks for block in bank.blocks()]
        self.per_image = network.steps if sampling == "step" else 1

    def start(self, scope: Scope, registers: str, images: str, step: str = "") -> str:
        """States (images, blocks) before an image's first draw: seed jumped by number * draws per image + start.

        images: (images, 1) int64 numbers. step: an int64 of this name, before whose draws the states are instead. The
        jump goes bit by bit of the distance, 32 rounds.
        """
        cores, sizes, starts = (np.array(column, np.int64) for column in zip(*self.table))
        distance = scope.op("Add", times(scope, images, sizes * self.per_image), starts)
        if step:
            distance = scope.op("Add", distance, times(scope, step, sizes))
        distance = scope.op("Mod", distance, np.int64(PERIOD))
        seed = scope.op("Gather", registers, cores)
        state = scope.op("Expand", seed, scope.op("Shape", distance))
        powers = [byte_tables(_columns(1 << j)) for j in range(32)]
        nothing = byte_tables(_columns(0))
        tables = np.stack([np.concatenate([nothing, power], axis=1) for power in powers])
        body = self._jump(scope, distance)
        sequences = [scope.constant(1 << np.arange(32, dtype=np.int64)), scope.constant(tables)]
        return scope.scan(body, "jump", [state], sequences)[0]

    @staticmethod
    def _jump(outer: Scope, distance: str) -> Scope:
        body = Scope(outer)
        state, power, tables = body.fresh("state"), body.fresh("power"), body.fresh("tables")
        body.input(state, np.uint32)
        body.input(power, np.int64, [])
        body.input(tables, np.uint32, [4, 512])
        bit = body.op("Mod", body.op("Div", distance, power), np.int64(2))
        choice = body.cast(body.op("Mul", bit, np.int64(256)), np.int32)
        four = [body.op("Gather", tables, np.int64(b)) for b in range(4)]
        body.output(_apply(body, four, _bytes(body, state), choice), np.uint32)
        return body

    def advance(self, scope: Scope, state: str) -> str:
        """The states one round later: each block jumps by its core's neurons."""
        sizes = [size for _, size, _ in self.table]
        distinct = sorted(set(sizes))
        tables = np.concatenate([byte_tables(_columns(size)) for size in distinct], axis=1)
        choice = np.array([distinct.index(size) * 256 for size in sizes], np.int32)
        names = [scope.constant(table) for table in tables]
        return _apply(scope, names, _bytes(scope, state), scope.constant(choice))

    def decays(self, scope: Scope, state: str, rows: list[str], pairs: dict[int, str]) -> dict[int, str]:
        """This round's decays A of each layer that draws, by layer number, (images, neurons) int32.

        rows: the four draw tables; pairs: by layer, the (2, 65536) table of the decays of both draws of a word.
        """
        state_bytes = _bytes(scope, state)
        decays, first = {}, 0
        for bank in self.banks:
            count = len(bank.blocks())
            bank_bytes = [scope.slice(byte, first, first + count, 1) for byte in state_bytes]
            words = _xor(scope, [scope.op("Gather", row, index) for row, index in zip(rows, bank_bytes)])
            decays[bank.layer] = _trim(scope, bank, _lookup(scope, pairs[bank.layer], words))
            first += count
        return decays


def _lookup(scope: Scope, pairs: str, words: str) -> str:
    """(images, blocks, 128) words to (images, blocks, 256) decays."""
    flat = scope.op("Expand", scope.reshape(words, 1, -1), np.array([2, 1], np.int64))
    both = scope.op("GatherElements", pairs, flat, axis=1)
    split = scope.op("Reshape", both, scope.op("Concat", np.array([2], np.int64), scope.op("Shape", words), axis=0))
    return scope.op("Transpose", split, perm=[1, 2, 0, 3])


def _trim(scope: Scope, bank: Bank, decays: str) -> str:
    """Drop what the last block of each core drew beyond the core's neurons: (images, blocks, 2, 128) to (images, n)."""
    full = bank.neurons // bank.drawn.neurons_per_core
    parts, first = [], 0
    for cores, size in ((full, bank.drawn.neurons_per_core), (1, bank.neurons - full * bank.drawn.neurons_per_core)):
        blocks = -(-size // BLOCK)
        if cores and size:
            kept = scope.slice(decays, first, first + cores * blocks, 1)
            kept = scope.reshape(kept, -1, cores, blocks * BLOCK)
            kept = scope.slice(kept, 0, size, 2) if size % BLOCK else kept
            parts.append(scope.reshape(kept, -1, cores * size))
            first += cores * blocks
    return scope.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def pair_table(scope: Scope, table: str) -> str:
    """From the (256,) table of decays: (2, 65536), row 0 the decay of a word's low byte, row 1 of its high byte."""
    square = np.array([256, 256], np.int64)
    low = scope.op("Expand", scope.reshape(table, 1, 256), square)
    high = scope.op("Expand", scope.reshape(table, 256, 1), square)
    return scope.op("Concat", *(scope.reshape(half, 1, 65536) for half in (low, high)), axis=0)
