"""Layers onto cores, cores onto chips.

The neurons of a random-tau layer keep their order: a core holds consecutive neurons (channel, y, x), because they read
one register in turn. Other layers may be cut along channels, rows and columns; of the cuts in halves that respect the
chip's limits the one with the fewest cores is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from randhet.base.errors import NetworkError
from randhet.fixed_point.chips.chip import Chip
from randhet.fixed_point.chips.load import Core, entries, in_axons, reached, seen, sight, state_bits, weight_bits
from randhet.fixed_point.chips.placement import Population, populations
from randhet.fixed_point.network import Dense, Network, Shape


@dataclass(frozen=True)
class Load:
    """What one core carries. memory_bits: what the chip's memory per core has to hold.

    destinations: cores that a spike of this core goes to, the mean over its neurons.
    """

    neurons: int
    weight_bits: int
    state_bits: int
    memory_bits: int
    in_axons: int
    out_axons: int
    destinations: float


@dataclass(frozen=True, eq=False)
class LayerMap:
    """The cores of one population."""

    population: Population
    cores: tuple[Core, ...]
    loads: tuple[Load, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.population.layer.name

    def largest(self, resource: str) -> int:
        """Return the largest value of a resource (a field of Load) on any of the layer's cores."""
        return max(getattr(load, resource) for load in self.loads)


@dataclass(frozen=True, eq=False)
class Mapping:
    """A network on a chip: populations in network order."""

    chip: Chip
    layers: tuple[LayerMap, ...]

    @property
    def cores(self) -> int:
        """Cores of all layers."""
        return sum(len(layer.cores) for layer in self.layers)

    @property
    def chips(self) -> int:
        """Chips that hold so many cores."""
        return ceil(self.cores / self.chip.need("cores_per_chip"))

    @property
    def hungriest(self) -> LayerMap:
        """The layer with the most cores, of equals the one with the fullest core."""
        return max(self.layers, key=lambda layer: (len(layer.cores), layer.largest("memory_bits")))


def map_network(network: Network, chip: Chip) -> Mapping:
    """Cut every population into cores and weigh each core; NetworkError where no layer needs one."""
    sent = network.shapes
    placed = populations(network)
    if not placed:
        raise NetworkError("no layer of the network has weights, there is nothing to put on a chip")
    cut = {population.index: tuple(_cut(population, chip, sent)) for population in placed}
    layers = tuple(_weigh(population, placed, cut, chip, sent) for population in placed)
    return Mapping(chip, layers)


def _box(shape: Shape) -> Shape:
    return (*shape, 1, 1)[:3]


# --- cuts -------------------------------------------------------------------------------------------------------------


def _cut(population: Population, chip: Chip, sent: Sequence[Shape]) -> list[Core]:
    """Cut a population into cores; coarsely where no cut respects the limits, so that the rules can name them."""
    cuts = _in_order(population, chip) if population.layer.drawn else _halves(population, chip)
    coarsest: list[Core] | None = None
    for cores in cuts:
        coarsest = coarsest or cores
        if all(_fits(population, core, chip, sent) for core in cores):
            return cores
    assert coarsest is not None
    return coarsest


def _fits(population: Population, core: Core, chip: Chip, sent: Sequence[Shape]) -> bool:
    axons = chip.limit("input_axons_per_core")
    memory = sum(_memory(population, core, chip)[2:])
    within = axons is None or in_axons(population, core, chip, sent) <= axons
    return within and memory <= chip.need("memory_per_core")


def _memory(population: Population, core: Core, chip: Chip) -> tuple[int, int, int]:
    """Count bits of weights, of states, and those that count against the chip's memory per core."""
    weights = weight_bits(population.layer.operation, chip, core, population)
    states = state_bits(population, core)
    return weights, states, weights + (states if chip.memory_holds == "weights and state" else 0)


def _in_order(population: Population, chip: Chip) -> Iterator[list[Core]]:
    """Cut into consecutive neurons: as many per core as the file says, then half as many, and so on."""
    drawn = population.layer.drawn
    assert drawn is not None
    size = min(drawn.neurons_per_core, chip.need("neurons_per_core"))
    while size:
        yield consecutive(population.shape, size)
        size //= 2


def consecutive(shape: Shape, size: int) -> list[Core]:
    """Make cores of `size` consecutive neurons in (channel, y, x) order, each with the box around them."""
    total = prod(shape)
    return [_around(shape, start, min(start + size, total)) for start in range(0, total, size)]


def _around(shape: Shape, start: int, stop: int) -> Core:
    _, rows, columns = _box(shape)
    first, last = divmod(start, rows * columns), divmod(stop - 1, rows * columns)
    channels = range(first[0], last[0] + 1)
    if len(channels) > 1:
        return Core(channels, range(rows), range(columns), stop - start)
    (top, left), (bottom, right) = divmod(first[1], columns), divmod(last[1], columns)
    across = range(left, right + 1) if top == bottom else range(columns)
    return Core(channels, range(top, bottom + 1), across, stop - start)


def _halves(population: Population, chip: Chip) -> Iterator[list[Core]]:
    """Cut into boxes with sides halved again and again, fewest cores first, then fewest source pixels."""
    shape = _box(population.shape)
    most = chip.need("neurons_per_core")
    sides = [step for step in product(*map(_steps, shape)) if prod(step) <= most]
    for step in sorted(sides, key=lambda step: (_count(shape, step), step[1] * step[2])):
        yield boxes(shape, step)


def _steps(size: int) -> list[int]:
    steps = [size]
    while steps[-1] > 1:
        steps.append(ceil(steps[-1] / 2))
    return steps


def _count(shape: Shape, step: Shape) -> int:
    return prod(ceil(size / side) for size, side in zip(shape, step))


def boxes(shape: Shape, step: Shape) -> list[Core]:
    """Cut the shape into boxes of at most `step` (channels, rows, columns)."""
    parts = [[range(a, min(a + side, size)) for a in range(0, size, side)] for size, side in zip(shape, step)]
    return [Core(c, y, x, len(c) * len(y) * len(x)) for c, y, x in product(*parts)]


# --- loads ------------------------------------------------------------------------------------------------------------


def _weigh(
    population: Population,
    placed: list[Population],
    cut: dict[int, tuple[Core, ...]],
    chip: Chip,
    sent: Sequence[Shape],
) -> LayerMap:
    readers = [reader for reader in placed for source in reader.sources if source == population.index]
    targets = [(reader, _alike(reader, cut[reader.index])) for reader in readers]
    cores = cut[population.index]
    loads = []
    for core in cores:
        out = [(reader, reached(reader, other, core) * times) for reader, group in targets for other, times in group]
        far = sum(count / entries(reader, core) for reader, count in out)
        axons = in_axons(population, core, chip, sent), sum(count for _, count in out)
        loads.append(Load(core.neurons, *_memory(population, core, chip), *axons, far))
    return LayerMap(population, cores, tuple(loads))


def _alike(reader: Population, cores: tuple[Core, ...]) -> list[tuple[Core, int]]:
    """Group cores that see the same source pixels, as one of them and how many they are."""
    if isinstance(reader.layer.operation, Dense):
        return [(cores[0], len(cores))]
    y, x = sight(reader)
    counts: Counter[tuple[frozenset[int], frozenset[int]]] = Counter()
    example = {}
    for core in cores:
        key = seen(y, core.rows), seen(x, core.columns)
        counts[key] += 1
        example[key] = core
    return [(example[key], times) for key, times in counts.items()]
