"""What one core of a population needs: weights, states and axons, from the operation, the neuron and the core's part.

A core's part is a box of channels, rows and columns. The figures are the least the arithmetic needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, singledispatch
from math import ceil, prod

from randhet.fixed_point.chips.chip import Chip
from randhet.fixed_point.chips.needs import STATE_BITS, needs
from randhet.fixed_point.chips.placement import Population
from randhet.fixed_point.network import Conv, Dense, Operation, Shape, SumPool

SYNAPSES_PER_BLOCK = 64


@dataclass(frozen=True)
class Core:
    """The box of neurons on one core; neurons may be fewer than the box where a core ends inside a channel."""

    channels: range
    rows: range
    columns: range
    neurons: int

    @property
    def pixels(self) -> int:
        """Positions of the box."""
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True)
class Axis:
    """A window along one axis: source length, kernel, stride, padding, dilation."""

    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


@lru_cache(maxsize=4096)
def seen(axis: Axis, outputs: range) -> frozenset[int]:
    """List the source positions that these outputs read, padding left out."""
    return frozenset(
        position
        for out in outputs
        for tap in range(axis.kernel)
        if 0 <= (position := out * axis.stride + tap * axis.dilation - axis.padding) < axis.size
    )


@lru_cache(maxsize=4096)
def patterns(axis: Axis, outputs: range) -> tuple[int, ...]:
    """List the lengths of the patterns (tap, output relative to the first) that source positions meet in `outputs`."""
    met: dict[int, list[tuple[int, int]]] = {}
    for out in outputs:
        for tap in range(axis.kernel):
            met.setdefault(out * axis.stride + tap * axis.dilation - axis.padding, []).append((tap, out))
    inside = [pairs for position, pairs in met.items() if 0 <= position < axis.size]
    different = {tuple((tap, out - pairs[0][1]) for tap, out in pairs) for pairs in inside}
    return tuple(sorted(len(pattern) for pattern in different))


@singledispatch
def axes(operation: Operation, shape_in: Shape) -> tuple[Axis, Axis]:
    """Return the windows of an operation along y and x; a dense layer sees everything."""
    return Axis(1, 1), Axis(1, 1)


@axes.register
def _(operation: Conv, shape_in: Shape) -> tuple[Axis, Axis]:
    kernel = operation.weight.shape[2:]
    y, x = (
        Axis(shape_in[1 + a], kernel[a], operation.stride[a], operation.padding[a], operation.dilation[a])
        for a in (0, 1)
    )
    return y, x


@axes.register
def _(operation: SumPool, shape_in: Shape) -> tuple[Axis, Axis]:
    y, x = (Axis(shape_in[1 + a], operation.kernel[a], operation.stride[a]) for a in (0, 1))
    return y, x


# --- weights ----------------------------------------------------------------------------------------------------------


def list_bits(chip: Chip, weights: int, index_bits: int = 0) -> int:
    """Count the bits of one weight list: blocks of 64 synapses with a header, each rounded up to memory words."""
    width = chip.need("weight_bits") + index_bits
    header, word = chip.limit("list_header") or 0, chip.need("memory_word")
    full, rest = divmod(weights, SYNAPSES_PER_BLOCK)
    block = lambda n: ceil((n * width + header) / word) * word
    return full * block(SYNAPSES_PER_BLOCK) + (block(rest) if rest else 0)


@singledispatch
def weight_bits(operation: Operation, chip: Chip, core: Core, shape_in: Shape) -> int:
    """Count the bits of one core's synaptic memory."""
    raise TypeError(f"no weights are counted for {type(operation).__name__}")


@weight_bits.register
def _(operation: Dense, chip: Chip, core: Core, shape_in: Shape) -> int:
    return prod(shape_in) * list_bits(chip, len(core.channels))


@weight_bits.register
def _(operation: Conv, chip: Chip, core: Core, shape_in: Shape) -> int:
    out, per_group, *kernel = operation.weight.shape
    if chip.convolution == "kernel":
        return list_bits(chip, len(core.channels) * per_group * prod(kernel))
    width = out // operation.groups
    groups = range(core.channels.start // width, (core.channels.stop - 1) // width + 1)
    shared = (len(range(max(core.channels.start, g * width), min(core.channels.stop, (g + 1) * width))) for g in groups)
    return sum(per_group * _pattern_bits(operation, chip, core, shape_in, channels) for channels in shared)


@weight_bits.register
def _(operation: SumPool, chip: Chip, core: Core, shape_in: Shape) -> int:
    if chip.convolution == "kernel":
        return list_bits(chip, 1)
    return len(core.channels) * _pattern_bits(operation, chip, core, shape_in, 1)


def _pattern_bits(operation: Conv | SumPool, chip: Chip, core: Core, shape_in: Shape, channels: int) -> int:
    """Count the bits of one source channel's weight lists: one for each pattern of taps along y and along x."""
    y, x = axes(operation, shape_in)
    index_bits = max(6, (core.neurons - 1).bit_length())
    return sum(
        list_bits(chip, rows * columns * channels, index_bits)
        for rows in patterns(y, core.rows)
        for columns in patterns(x, core.columns)
    )


# --- states -----------------------------------------------------------------------------------------------------------


def state_bits(population: Population, core: Core) -> int:
    """Count the bits of one core's states, thresholds and biases; a bias map takes one bias per neuron."""
    layer = population.layer
    if layer.neuron is None:
        return 0
    own = needs(layer.neuron)
    biases = core.neurons if layer.neuron.bias.ndim > 1 else len(core.channels)
    thresholds = len(core.channels) if layer.spiking else 0
    return core.neurons * own.state + own.shared + STATE_BITS * (biases + thresholds)


# --- axons ------------------------------------------------------------------------------------------------------------


def in_axons(population: Population, core: Core, chip: Chip, sent: Sequence[Shape]) -> int:
    """Count input axons: one per source neuron of a dense layer, one per source pixel and group of channels else."""
    operation = population.layer.operation
    if isinstance(operation, Dense):
        return sum(prod(sent[source]) for source in population.sources)
    y, x = axes(operation, population.shape_in)
    groups = ceil(population.shape_in[0] / (chip.limit("channels_per_axon") or population.shape_in[0]))
    return len(population.sources) * len(seen(y, core.rows)) * len(seen(x, core.columns)) * groups


def entries(reader: Population, source: Core) -> int:
    """Count the output axons of `source` for one core of a reader that sees all of it."""
    return source.neurons if isinstance(reader.layer.operation, Dense) else source.pixels


def reached(reader: Population, core: Core, source: Core) -> int:
    """Count the output axons that `source` needs to reach one core of a reader: pixels seen there, or all neurons."""
    if isinstance(reader.layer.operation, Dense):
        return source.neurons
    y, x = axes(reader.layer.operation, reader.shape_in)
    return len(seen(y, core.rows) & set(source.rows)) * len(seen(x, core.columns) & set(source.columns))
