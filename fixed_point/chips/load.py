"""What one core of a population needs: weights, states and axons, from the operation, the neuron and the core's part.

A core's part is a box of channels, rows and columns. The figures are the least the arithmetic needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from math import ceil, prod

from randhet.fixed_point.chips.chip import Chip
from randhet.fixed_point.chips.needs import STATE_BITS, needs
from randhet.fixed_point.chips.placement import Population
from randhet.fixed_point.network import And, Conv, Dense, Iand, MaxPool, Operation, Shape, SumPool

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
    """A window along one axis: source length, kernel, stride, padding, dilation, distance of the source's values."""

    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    apart: int = 1

    def value_at(self, position: int) -> bool:
        """Whether a value stands there: inside, and not one of the zeros between values."""
        return 0 <= position < self.size and position % self.apart == 0


@lru_cache(maxsize=4096)
def seen(axis: Axis, outputs: range) -> frozenset[int]:
    """List the numbers of the source's values that these outputs read, padding and zeros between values left out."""
    return frozenset(
        position // axis.apart
        for out in outputs
        for tap in range(axis.kernel)
        if axis.value_at(position := out * axis.stride + tap * axis.dilation - axis.padding)
    )


@lru_cache(maxsize=4096)
def patterns(axis: Axis, outputs: range) -> tuple[int, ...]:
    """List the lengths of the patterns (tap, output relative to the first) that source positions meet in `outputs`."""
    met: dict[int, list[tuple[int, int]]] = {}
    for out in outputs:
        for tap in range(axis.kernel):
            met.setdefault(out * axis.stride + tap * axis.dilation - axis.padding, []).append((tap, out))
    inside = [pairs for position, pairs in met.items() if axis.value_at(position)]
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


@axes.register
def _(operation: MaxPool, shape_in: Shape) -> tuple[Axis, Axis]:
    kernel, stride, padding = operation.kernel, operation.stride, operation.padding
    y, x = (Axis(shape_in[1 + a], kernel[a], stride[a], padding[a]) for a in (0, 1))
    return y, x


@axes.register(And)
@axes.register(Iand)
def _(operation: And | Iand, shape_in: Shape) -> tuple[Axis, Axis]:
    _, rows, columns = (*shape_in, 1, 1)[:3]
    return Axis(rows, 1), Axis(columns, 1)


def sight(population: Population) -> tuple[Axis, Axis]:
    """Return the windows of a population, with the distances of the values that it reads."""
    y, x = axes(population.layer.operation, population.shape_in)
    return replace(y, apart=population.apart[0]), replace(x, apart=population.apart[1])


# --- weights ----------------------------------------------------------------------------------------------------------


def list_bits(chip: Chip, weights: int, index_bits: int = 0) -> int:
    """Count the bits of one weight list: blocks of 64 synapses with a header, each rounded up to memory words."""
    width = chip.need("weight_bits") + index_bits
    header, word = chip.limit("list_header") or 0, chip.need("memory_word")
    full, rest = divmod(weights, SYNAPSES_PER_BLOCK)
    block = lambda n: ceil((n * width + header) / word) * word
    return full * block(SYNAPSES_PER_BLOCK) + (block(rest) if rest else 0)


@singledispatch
def weight_bits(operation: Operation, chip: Chip, core: Core, population: Population) -> int:
    """Count the bits of one core's synaptic memory."""
    raise TypeError(f"no weights are counted for {type(operation).__name__}")


@weight_bits.register
def _(operation: Dense, chip: Chip, core: Core, population: Population) -> int:
    own = 0 if operation.recurrent is None else len(operation.recurrent)
    return (prod(population.shape_in) + own) * list_bits(chip, len(core.channels))


@weight_bits.register
def _(operation: Conv, chip: Chip, core: Core, population: Population) -> int:
    out, per_group, *kernel = operation.weight.shape
    if chip.convolution == "kernel":
        return list_bits(chip, len(core.channels) * per_group * prod(kernel))
    width = out // operation.groups
    groups = range(core.channels.start // width, (core.channels.stop - 1) // width + 1)
    shared = (len(range(max(core.channels.start, g * width), min(core.channels.stop, (g + 1) * width))) for g in groups)
    return sum(per_group * _pattern_bits(chip, core, population, channels) for channels in shared)


@weight_bits.register(SumPool)
@weight_bits.register(MaxPool)
def _(operation: SumPool | MaxPool, chip: Chip, core: Core, population: Population) -> int:
    return _one_weight(chip, core, population)


@weight_bits.register(And)
@weight_bits.register(Iand)
def _(operation: And | Iand, chip: Chip, core: Core, population: Population) -> int:
    # one for each branch
    return 2 * _one_weight(chip, core, population)


def _one_weight(chip: Chip, core: Core, population: Population) -> int:
    """Count the bits where every value that is read has the same weight, from its channel to the same one."""
    if chip.convolution == "kernel":
        return list_bits(chip, 1)
    return len(core.channels) * _pattern_bits(chip, core, population, 1)


def _pattern_bits(chip: Chip, core: Core, population: Population, channels: int) -> int:
    """Count the bits of one source channel's weight lists: one for each pattern of taps along y and along x."""
    y, x = sight(population)
    index_bits = max(6, (core.neurons - 1).bit_length())
    return sum(
        list_bits(chip, rows * columns * channels, index_bits)
        for rows in patterns(y, core.rows)
        for columns in patterns(x, core.columns)
    )


# --- states -----------------------------------------------------------------------------------------------------------


def state_bits(population: Population, core: Core) -> int:
    """Count the bits of one core's states, thresholds, floors and biases; a bias map takes one bias per neuron."""
    layer = population.layer
    if layer.neuron is None:
        return 0
    own = needs(layer.neuron)
    biases = core.neurons if layer.neuron.bias.ndim > 1 else len(core.channels)
    levels = len(core.channels) * (bool(layer.spiking) + own.floor)
    return core.neurons * own.state + own.shared + STATE_BITS * (biases + levels)


# --- axons ------------------------------------------------------------------------------------------------------------


def in_axons(population: Population, core: Core, chip: Chip, sent: Sequence[Shape]) -> int:
    """Count input axons: one per source neuron of a dense layer, one per source pixel and group of channels else."""
    if isinstance(population.layer.operation, Dense):
        return sum(prod(sent[source]) for source in population.sources)
    (y, x), together = sight(population), chip.limit("channels_per_axon")
    groups = sum(ceil(sent[source][0] / (together or sent[source][0])) for source in population.sources)
    return len(seen(y, core.rows)) * len(seen(x, core.columns)) * groups


def entries(reader: Population, source: Core) -> int:
    """Count the output axons of `source` for one core of a reader that sees all of it."""
    return source.neurons if isinstance(reader.layer.operation, Dense) else source.pixels


def reached(reader: Population, core: Core, source: Core) -> int:
    """Count the output axons that `source` needs to reach one core of a reader: pixels seen there, or all neurons."""
    if isinstance(reader.layer.operation, Dense):
        return source.neurons
    y, x = sight(reader)
    return len(seen(y, core.rows) & set(source.rows)) * len(seen(x, core.columns) & set(source.columns))
