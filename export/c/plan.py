"""Where everything of a network lies in the program's memory: decided once, when its text is made.

Values that layers send share memory where they do not live at the same time. What depends on the image alone is made
once per image; all else at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir

MAX_CONSTANTS = 2**23
"""Bytes of constants that are written as text; a larger network needs another way onto a chip."""
MAX_MEMORY = 2**28
"""Bytes of the arena."""
KEYED_WORDS = 12
"""Words of the cipher's key and of its two counts, as in randhet_chacha.h, where the registers would be."""
VALUE_TYPES = ("uint8_t", "int8_t", "uint16_t", "int16_t", "int32_t")


@dataclass(frozen=True)
class Plan:
    """Positions as numbers of elements, one entry per layer; None where a layer has no such thing.

    value, total: C types of what layers send, of what is read of an image. still: whether a layer sends the same at
    every step. values: its place among the values. states: its membrane potential among the words. sums: its synaptic
    sums there, held where it reads a still layer, else of one pixel and shared. registers: its first register. own:
    where the sums of recurrent layers are, which they share.

    Words of read-outs come first, `read_outs` of them, and start anew with each image. Values of recurrent layers come
    first, `recurrent` of them, and are there at the next step.
    """

    value: str
    total: str
    still: tuple[bool, ...]
    values: tuple[int | None, ...]
    states: tuple[int | None, ...]
    sums: tuple[int | None, ...]
    registers: tuple[int | None, ...]
    own: int
    value_count: int
    word_count: int
    read_outs: int
    recurrent: int
    draw_count: int
    register_count: int
    outputs: int

    @property
    def memory(self) -> int:
        """Bytes of the arena, with the alignment of a 32 bit processor."""
        size = np.dtype(self.total.removesuffix("_t")).itemsize
        words = 4 * (self.word_count + self.register_count + 1 + 2)
        bytes_ = -(-words // size) * size + self.outputs * size
        bytes_ += self.value_count * np.dtype(self.value.removesuffix("_t")).itemsize + self.draw_count
        return -(-bytes_ // size) * size


def channels_of(shape: ir.Shape) -> tuple[int, int]:
    """Return channels and pixels of a shape: the first axis, the product of the others."""
    return shape[0], prod(shape[1:])


def cores_of(decay: ir.Drawn, shape: ir.Shape) -> int:
    """Number of a layer's registers."""
    return -(-prod(shape) // decay.neurons_per_core)


def plan(network: ir.Network) -> Plan:
    """Lay out a network's memory; NetworkError where it is more than a limit."""
    still = still_layers(network)
    values, value_count = _place(network, still)
    states, read_outs = _states(network)
    sums, own, words = _sums(network, still, states)
    registers, register_count = _registers(network)
    made = Plan(
        value_type(network),
        total_type(network),
        still,
        values,
        states,
        sums,
        registers,
        own,
        max(value_count, 1),
        max(words, 1),
        read_outs,
        sum(prod(s) for s, layer in zip(network.shapes, network.layers) if layer.recurrent is not None),
        max([prod(s) for s, layer in zip(network.shapes, network.layers) if layer.drawn and not keyed(network)] or [1]),
        register_count,
        prod(network.shapes[-1]),
    )
    _within("memory", made.memory, MAX_MEMORY)
    _within("constants", _constants(network), MAX_CONSTANTS)
    return made


def _within(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise NetworkError(f"as C the network has {count} bytes of {what}, the limit is {limit}")


def _constants(network: ir.Network) -> int:
    """A lower bound on the bytes of constants."""
    weights = (part for layer in network.layers if layer.weighted for part in (layer.weighted.weight, layer.recurrent))
    return sum(part.size for part in weights if part is not None)


def has_values(layer: ir.Layer) -> bool:
    """Whether other layers may read what it sends: all but read-outs."""
    return layer.neuron is None or layer.spikes


def value_type(network: ir.Network) -> str:
    """The smallest type that holds what any layer sends."""
    sent = [span for layer, span in zip(network.layers, network.ranges) if has_values(layer)]
    low, high = min(span.low for span in sent), max(span.high for span in sent)
    limits = {name: np.iinfo(name.removesuffix("_t")) for name in VALUE_TYPES}
    return next(name for name, limit in limits.items() if limit.min <= low and high <= limit.max)


def total_type(network: ir.Network) -> str:
    """The smaller type that holds what is read of the last layer: one membrane potential, or sums of all steps."""
    steps = network.steps if ir.read_of(network.layers[-1].neuron) == "sum" else 1
    return "int32_t" if network.ranges[-1].peak * steps < 2**31 else "int64_t"


def still_layers(network: ir.Network) -> tuple[bool, ...]:
    """Layers without a neuron that depend on the image alone, those with weights too."""
    known: list[bool] = []
    for layer in network.layers:
        moving = layer.neuron is not None or (isinstance(layer.operation, ir.Input) and layer.operation.sequence)
        known.append(not moving and all(known[i] for i in layer.inputs))
    return tuple(known)


def holds(network: ir.Network, still: tuple[bool, ...], i: int) -> bool:
    """Whether a layer's neurons read the same synaptic sums at every step; without neurons they are sent instead."""
    layer = network.layers[i]
    return layer.weighted is not None and layer.neuron is not None and still[layer.inputs[0]]


def _lives(network: ir.Network, still: tuple[bool, ...], i: int) -> tuple[int, int]:
    """First and last moment of a layer's values: L moments of the image, then L of every step, then the collecting."""
    count = len(network.layers)
    if network.layers[i].recurrent is not None:
        return 0, 2 * count  # read at the next step, whichever layers come between
    end = begin = i if still[i] else count + i
    for j, reader in enumerate(network.layers):
        if i in reader.inputs:
            in_image = still[i] and (still[j] or reader.weighted is not None)
            end = max(end, j if in_image else 2 * count if still[i] else count + j)
    return begin, 2 * count if i == count - 1 else end


def _place(network: ir.Network, still: tuple[bool, ...]) -> tuple[tuple[int | None, ...], int]:
    """Put each layer's values at the lowest place that is free all the time it lives."""
    placed: list[tuple[int, int, int, int]] = []
    found: list[int | None] = [None] * len(network.layers)
    recurrent_first = sorted(range(len(network.layers)), key=lambda i: network.layers[i].recurrent is None)
    for i in recurrent_first:
        if has_values(network.layers[i]):
            size, (begin, end) = prod(network.shapes[i]), _lives(network, still, i)
            rivals = sorted((low, high) for low, high, b, e in placed if b <= end and begin <= e)
            place = _gap(rivals, size)
            placed.append((place, place + size, begin, end))
            found[i] = place
    return tuple(found), max((high for _, high, _, _ in placed), default=0)


def _gap(rivals: list[tuple[int, int]], size: int) -> int:
    """The lowest place where `size` elements lie between these, which are sorted."""
    place = 0
    for low, high in rivals:
        if place + size <= low:
            break
        place = max(place, high)
    return place


def _states(network: ir.Network) -> tuple[tuple[int | None, ...], int]:
    """Place of each layer's membrane potentials, and currents, among the words: read-outs first, which are counted."""
    found: list[int | None] = [None] * len(network.layers)
    used = read_outs = 0
    sums_alone = lambda i: network.layers[i].dynamics is None
    for i in sorted(range(len(network.layers)), key=lambda i: not sums_alone(i)):
        if network.layers[i].neuron is not None:
            found[i] = used
            used += _state_words(network, i)
            read_outs = used if sums_alone(i) else read_outs
    return tuple(found), read_outs


def _state_words(network: ir.Network, i: int) -> int:
    return prod(network.shapes[i]) * (2 if network.layers[i].cuba else 1)


def _sums(
    network: ir.Network, still: tuple[bool, ...], states: tuple[int | None, ...]
) -> tuple[tuple[int | None, ...], int, int]:
    """Held sums behind the states one after another, then those of one pixel, then those of recurrent layers.

    Returns their places, where those of recurrent layers are, and the end.
    """
    used = sum(_state_words(network, i) for i, place in enumerate(states) if place is not None)
    held: dict[int, int] = {}
    for i, shape in enumerate(network.shapes):
        if holds(network, still, i):
            held[i] = used
            used += prod(shape)
    layers = list(enumerate(network.layers))
    sums = tuple(held.get(i, used) if layer.weighted else None for i, layer in layers)
    shared = [network.shapes[i][0] for i, layer in layers if layer.weighted and i not in held]
    own = used + max(shared, default=0)
    return sums, own, own + max([network.shapes[i][0] for i, layer in layers if layer.recurrent is not None], default=0)


def keyed(network: ir.Network) -> bool:
    """Whether a network draws by the cipher at all."""
    return network.generator == "chacha" and any(layer.drawn for layer in network.layers)


def _registers(network: ir.Network) -> tuple[tuple[int | None, ...], int]:
    if keyed(network):
        return (None,) * len(network.layers), KEYED_WORDS
    found: list[int | None] = []
    used = 0
    for layer, shape in zip(network.layers, network.shapes):
        found.append(used if layer.drawn else None)
        used += cores_of(layer.drawn, shape) if layer.drawn else 0
    return tuple(found), used
