"""The file's words for the kinds of operations, neurons and decays, and for the fields that neurons and decays declare.

A field is stored under its own name as its declaration says: an integer, an array of them, or one of its names. Only
where stock NetX has another word for the same thing is that word used. Nothing else about a field is written down here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, get_args

from randhet.base.kinds import assert_never
from randhet.fixed_point.layers import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Decay,
    Declared,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Leaky,
    Lif,
    MaxPool,
    Neuron,
    Operation,
    PerNeuron,
    ReadOut,
    Spiking,
    Spread,
    SumPool,
)

FORMAT = "randhet-netx"
FORMAT_VERSION = 2
ENSEMBLE_VERSION = 3
"""Of a file with several members: layers as in version 2, those of member 0, and what the others have instead."""

OPERATIONS: Mapping[str, type] = {
    "input": Input,
    "conv": Conv,
    "dense": Dense,
    "add": Add,
    "and": And,
    "iand": Iand,
    "concat": Concat,
    "sum_pool": SumPool,
    "max_pool": MaxPool,
    "spread": Spread,
    "flatten": Flatten,
}
NEURONS: Mapping[str, type] = {"RHLIF": Lif, "CUBA": Cuba, "READOUT": ReadOut, "LEAKY": Leaky}
DYNAMICS: Mapping[str, type] = {word: kind for word, kind in NEURONS.items() if kind in get_args(Spiking)}
"""What can move the membrane potential of a leaky read-out."""
DECAYS: Mapping[str, type] = {"constant": Constant, "per_neuron": PerNeuron, "drawn": Drawn}

RENAMED = {"current_decay": ("iDecay", 1), "voltage_decay": ("vDecay", 0)}
"""Fields that stock NetX has a word for: the word, and by how much the file's integer is larger than the field's."""


class Entry(NamedTuple):
    """A field: its name, its word in the file, what the file's integer is larger by, its declaration.

    limits None: not declared; then `kind` says what it is, "float", "Decay" or "Spiking".
    """

    name: str
    word: str
    added: int
    limits: Declared | None
    kind: str


def entries(kind: Any) -> Iterator[Entry]:
    """The fields of a kind of neuron or decay, in the order of its class."""
    for field in fields(kind):
        word, added = RENAMED.get(field.name, (field.name, 0))
        yield Entry(field.name, word, added, field.metadata.get("declared"), str(field.type))


def operation_word(operation: Operation) -> str:  # noqa: C901 (a case a kind)
    """The word for the kind of an operation."""
    match operation:
        case Input():
            return "input"
        case Conv():
            return "conv"
        case Dense():
            return "dense"
        case Add():
            return "add"
        case And():
            return "and"
        case Iand():
            return "iand"
        case Concat():
            return "concat"
        case SumPool():
            return "sum_pool"
        case MaxPool():
            return "max_pool"
        case Spread():
            return "spread"
        case Flatten():
            return "flatten"
        case _:
            assert_never(operation)


def neuron_word(neuron: Neuron) -> str:
    """The word for the kind of a neuron."""
    match neuron:
        case Lif():
            return "RHLIF"
        case Cuba():
            return "CUBA"
        case ReadOut():
            return "READOUT"
        case Leaky():
            return "LEAKY"
        case _:
            assert_never(neuron)


def decay_word(decay: Decay) -> str:
    """The word for where a decay comes from."""
    match decay:
        case Constant():
            return "constant"
        case PerNeuron():
            return "per_neuron"
        case Drawn():
            return "drawn"
        case _:
            assert_never(decay)
