"""What is decided once, when a network is loaded: windows, tiles of weights, constants in the kernels' layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from randhet.fixed_point.engine import guard
from randhet.fixed_point.engine.strips import make_strip
from randhet.fixed_point.generator import PERIOD, STEPS_PER_DRAW, core_seed, core_starts, squarings
from randhet.fixed_point.kernels import dense
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.kernels.bundles import NO_STRIP, Source, Strip, Weights
from randhet.fixed_point.kernels.registers import jump, power, states_of_rounds
from randhet.fixed_point.network import Conv, Dense, Drawn, Layer, Network, Pair, Range, Shape, Weighted
from randhet.fixed_point.shape import window_count

NOTHING = np.zeros((0, 0, 0), np.uint8)
TILE_BYTES = 640 * 1024
"""Weights of a tile stay in a core's second-level cache, 1 MiB on the machines this was measured on."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Output channels offset..offset+width of one group, which reads input channels from `first`.

    weight: rows (taps * inputs + 1, width) int8, the last zero; packed: the same rows as `pack` lays them out; wide:
    as `dense.pack` does.
    """

    offset: int
    first: int
    weight: np.ndarray
    packed: np.ndarray
    wide: np.ndarray

    @property
    def width(self) -> int:
        """How many channels."""
        return int(self.weight.shape[1])

    @property
    def channels(self) -> slice:
        """Which of the layer's channels."""
        return slice(self.offset, self.offset + self.width)


@dataclass(frozen=True, eq=False)
class Synapse:
    """A layer's weights as the kernels read them: window (output pixels, taps) holds input pixels, -1 for padding.

    source: (pixels, channels) of what it reads. strip: for processors that multiply matrices.
    """

    window: np.ndarray
    tiles: tuple[Tile, ...]
    per_tap: int
    planes: int
    pixels: int
    channels: int
    source: tuple[int, int]
    strip: Strip = NO_STRIP

    def reads(self, tile: Tile, values: np.ndarray) -> Source:
        """What a tile reads of activity (rows, pixels, channels), for the kernels."""
        return Source(values, self.window, tile.first, self.per_tap, self.planes, self.strip)


def make_synapse(operation: Weighted, shape_in: Shape, peak: int) -> Synapse:
    """Tiles and windows of a convolution, or of a dense layer as a convolution of one pixel."""
    if isinstance(operation, Dense):
        # all its inputs are channels of one pixel
        weight = operation.weight.reshape(*operation.weight.shape, 1, 1)
        operation, shape_in = Conv(weight), (operation.weight.shape[1], 1, 1)
    out, per_group = operation.weight.shape[:2]
    window = windows(operation, shape_in)
    widths = tile_widths(out // operation.groups, window.shape[1] * per_group) * operation.groups
    groups_of_tiles = len(widths) // operation.groups
    tiles, offset = [], 0
    for number, width in enumerate(widths):
        tiles.append(_tile(operation.weight[offset : offset + width], offset, number // groups_of_tiles * per_group))
        offset += width
    source = prod(shape_in[1:]), shape_in[0]
    strip = make_strip(operation, shape_in) if dense.shares(per_group) else NO_STRIP
    synapse = Synapse(window, tuple(tiles), per_group, int(peak).bit_length(), len(window), out, source, strip)
    for tile in tiles:
        guard.weights(Weights(tile.weight, tile.packed, tile.wide, 0), synapse.reads(tile, NOTHING), source)
    return synapse


def top(span: Range) -> int:
    """Largest value of a layer as its reader's bit planes see it: so large where it is signed that none are made."""
    return 2**24 if span.signed else span.high


def pack(weight: np.ndarray) -> np.ndarray:
    """Weight rows (rows, width) as `blocks.add_rows` reads them: chunks of 64 channels one after another, flat int8.

    Bytes 2i and 2i + 1 of a row hold channels i (with its sign bit flipped: w + 128) and 32 + i of the chunk. Rows
    begin at cache lines.
    """
    rows, width = weight.shape
    chunks = -(-width // CHUNK)
    padded = np.zeros((rows, chunks, 2, CHUNK // 2), np.int8)
    padded.reshape(rows, -1)[:, :width] = weight
    # -128 has the sign bit alone
    padded[:, :, 0] ^= -128
    return lined_up(padded.transpose(1, 0, 3, 2).reshape(-1))


def lined_up(values: np.ndarray) -> np.ndarray:
    """A copy of bytes that begins at a cache line."""
    # NumPy aligns to 16 bytes; a row that straddles two cache lines costs two loads
    space = np.empty(values.size + CHUNK, np.int8)
    start = -space.ctypes.data % CHUNK
    aligned = space[start : start + values.size]
    aligned[:] = values
    return aligned


def _tile(weight: np.ndarray, offset: int, first: int) -> Tile:
    """A tile of output channels offset.., whose weight is (width, inputs, ky, kx)."""
    # the inputs of a tap side by side: `gather` adds the tap's first row to the numbers of active channels
    rows = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    rows = np.ascontiguousarray(np.vstack([rows, np.zeros_like(rows[:1])]), np.int8)
    return Tile(offset, first, rows, pack(rows), lined_up(dense.pack(rows[:-1], weight.shape[1])))


def tile_widths(channels: int, rows: int) -> list[int]:
    """Widths of the tiles of a group: as few as keep each within the cache, in whole chunks, the last what is left.

    Any number of channels is cut alike: 127 into 64 and 63, as 128 into 64 and 64.
    """
    widest = max(TILE_BYTES // rows // CHUNK, 1) * CHUNK
    if channels <= widest:
        return [channels]
    width = -(-channels // (-(-channels // widest) * CHUNK)) * CHUNK
    return [min(width, channels - start) for start in range(0, channels, width)]


def windows(operation: Conv, shape_in: Shape) -> np.ndarray:
    """(output pixels, taps) int32: the flat input pixel each tap sees, -1 outside."""
    kernel = operation.weight.shape[2:]
    return windows_of(kernel, operation.stride, operation.padding, shape_in[1:], operation.dilation)


def windows_of(kernel: Pair, stride: Pair, padding: Pair, size: Shape, dilation: Pair = (1, 1)) -> np.ndarray:
    """The same for any window over an image of a size (y, x)."""
    index = []
    for axis, length in enumerate(size):
        count = window_count(length, kernel[axis], stride[axis], padding[axis], dilation[axis])
        pixel = np.arange(count)[:, None] * stride[axis] + np.arange(kernel[axis]) * dilation[axis] - padding[axis]
        index.append(np.where((pixel >= 0) & (pixel < length), pixel, -1))
    y, x = index[0][:, None, :, None], index[1][None, :, None, :]
    flat = np.where((y >= 0) & (x >= 0), y * size[1] + x, -1)
    return np.ascontiguousarray(flat.reshape(-1, kernel[0] * kernel[1]).astype(np.int32))


def channels_last(value: np.ndarray, shape: Shape) -> np.ndarray:
    """A bias, threshold or decay in (C,) or (C, Y, X) as (1 or pixels, C)."""
    if value.size == 1 or (value.ndim == 1 and len(value) == shape[0]):
        return np.ascontiguousarray(np.broadcast_to(value.reshape(1, -1), (1, shape[0])))
    return np.ascontiguousarray(value.reshape(shape[0], -1).T)


@lru_cache(maxsize=1)
def _squarings() -> np.ndarray:
    """One clock's matrix squared 0..31 times, each as 32 uint32 columns."""
    return np.array(squarings(), np.uint32)


@lru_cache(maxsize=512)
def columns(draws: int) -> np.ndarray:
    """The matrix of a jump over `draws` draws as 32 uint32 columns."""
    return power(_squarings(), np.uint64(draws * STEPS_PER_DRAW % PERIOD))


def jumped(states: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Each state (uint32) moved over its own number of draws."""
    moved = states.copy()
    # few distances, many states: one matrix for each distance
    for distance in np.unique(distances).tolist():
        moving = moved[distances == distance]
        jump(moving, columns(distance))
        moved[distances == distance] = moving
    return moved


@dataclass(frozen=True, eq=False)
class Registers:
    """The registers of a random layer in one run, seen along its channels.

    A core's register visits its neurons channel by channel. Entry e is where a visit begins: at the first pixel of
    every channel, and where a core begins inside a channel. There `core[e]` has done `before[e]` draws of its round.
    From an entry on, each pixel of the channel takes the next draw.
    """

    seeds: np.ndarray
    sizes: np.ndarray
    pixel: np.ndarray
    channel: np.ndarray
    core: np.ndarray
    before: np.ndarray

    @cached_property
    def last(self) -> np.ndarray:
        """Which entries belong to the last core, whose rounds may be shorter."""
        return self.core == len(self.seeds) - 1

    @cached_property
    def origin(self) -> np.ndarray:
        """States of the entries in round 0."""
        return jumped(self.seeds[self.core], self.before)

    @property
    def aligned(self) -> bool:
        """Every core holds whole channels: all entries are at pixel 0."""
        return not self.pixel.any()

    def moved(self, rounds: int) -> np.ndarray:
        """The seeds moved on by so many rounds, which may be more than 64 bits hold."""
        distances = [rounds * size % PERIOD for size in self.sizes.tolist()]
        return jumped(self.seeds, np.array(distances))

    def starts(self, number: int) -> np.ndarray:
        """States of the entries in round `number` (image*T + step, or image)."""
        return states_of_rounds(self.origin, self.last, *self.round(number), False, 2)[1]

    def round(self, rounds: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Matrices that move on by whole rounds: of the other cores, and of the last one."""
        return columns(rounds * int(self.sizes[0])), columns(rounds * int(self.sizes[-1]))


@dataclass(frozen=True, eq=False)
class Visits:
    """The entries of a tile: their numbers in Registers, and its kernels' entry_pixel, entry_channel, entry_last."""

    number: np.ndarray
    pixel: np.ndarray
    channel: np.ndarray
    last: np.ndarray


def visits(registers: Registers, tile: Tile) -> Visits:
    """Those entries that fall into the channels of a tile."""
    mine = np.flatnonzero((registers.channel >= tile.offset) & (registers.channel < tile.channels.stop))
    return Visits(mine, registers.pixel[mine], registers.channel[mine] - tile.offset, registers.last[mine])


def make_registers(decay: Drawn, shape: Shape, layer: int, master: int) -> Registers:
    """The registers of layer number `layer`, seeded from the master seed."""
    neurons, per_core = prod(shape), decay.neurons_per_core
    pixels, cores = neurons // shape[0], np.array(core_starts(neurons, per_core))
    first = np.union1d(np.arange(shape[0]) * pixels, cores)
    # kernels go pixel by pixel and meet the entries in this order
    first = first[np.argsort(first % pixels, kind="stable")]
    seeds = np.array([core_seed(master, layer, core) for core in range(len(cores))], np.uint32)
    sizes = np.minimum(per_core, neurons - cores)
    return Registers(seeds, sizes, first % pixels, first // pixels, first // per_core, first % per_core)


@dataclass(frozen=True)
class Span:
    """Steps start..stop - 1 of T = `steps`, of so many images, the first of which has the number `first`."""

    first: int
    images: int
    steps: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many steps."""
        return self.stop - self.start


def image_starts(registers: Registers, decay: Drawn, span: Span) -> np.ndarray:
    """States of the entries where a span begins in each image, (images, entries): one jump, then on by rounds."""
    rounds, ahead = (1, 0) if decay.sampling == "forward" else (span.steps, span.start)
    start = registers.starts(span.first * rounds + ahead)
    return states_of_rounds(start, registers.last, *registers.round(rounds), False, span.images)


def with_own_spikes(operation: Weighted) -> Weighted:
    """A recurrent layer as one that reads its own spikes of the step before behind what it reads: weights [W U]."""
    if isinstance(operation, Dense) and operation.recurrent is not None:
        return Dense(np.hstack([operation.weight, operation.recurrent]))
    return operation


def own_span(layer: Layer, read: Range) -> Range:
    """Range of what the weights of `with_own_spikes` see of a layer's input, and of its own spikes."""
    return read if layer.recurrent is None else Range(read.low, max(read.high, 1))


def last_reader(network: Network) -> list[int]:
    """For each layer the index of the last layer that reads it, so that its output can be let go."""
    last = list(range(len(network.layers)))
    for i, layer in enumerate(network.layers):
        for source in layer.inputs:
            last[source] = i
    return last
