"""The integer network: the one intermediate representation between a trained model and everything that runs it.

A network is a tuple of layers in topological order; layer 0 is the input, the last layer is read out. A layer applies
one operation to the outputs of earlier layers and, for Conv and Dense, hands the sums to a neuron. A network is checked
when it is made and carries what follows from its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point import facts
from randhet.fixed_point.check import check, check_generator
from randhet.fixed_point.facts import Range
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.layers import (
    Add,
    And,
    Array,
    Concat,
    Constant,
    Conv,
    Cuba,
    Decay,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Neuron,
    Operation,
    Pair,
    PerNeuron,
    Read,
    ReadOut,
    Reset,
    Sampling,
    Shape,
    Spiking,
    Spread,
    SumPool,
    Weighted,
    read_of,
)
from randhet.fixed_point.shape import shapes

__all__ = [
    "Add", "And", "Array", "Concat", "Constant", "Conv", "Cuba", "Decay", "Dense", "Drawn", "Flatten", "Iand", "Input",
    "Layer", "Leaky", "Lif", "MaxPool", "Network", "Neuron", "Operation", "Pair", "PerNeuron", "Range", "Read",
    "ReadOut", "Reset", "Sampling", "Shape", "Spiking", "Spread", "SumPool", "Weighted", "read_of",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, the number of time steps T, the master seed (None: from the system's entropy), free-text metadata.

    generator: where random decays come from, the shift registers of `generator` or the cipher of `keyed`.
    Derived, one entry per layer: shapes of the outputs; ranges, the lowest and highest value sent; bounds, the largest
    |synaptic sum| (0 without weights); delays, the steps by which it lags the input at one step per synapse. Raises
    NetworkError that lists every broken rule of `check`.
    """

    layers: tuple[Layer, ...]
    steps: int
    seed: int | None = None
    classes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    generator: GeneratorKind = "register"
    shapes: tuple[Shape, ...] = field(init=False, repr=False)
    ranges: tuple[Range, ...] = field(init=False, repr=False)
    bounds: tuple[int, ...] = field(init=False, repr=False)
    delays: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check(self.layers, self.steps)
        check_generator(self.generator)
        sent = facts.ranges(self.layers)
        derived = {
            "shapes": shapes(self.layers),
            "ranges": sent,
            "bounds": facts.bounds(self.layers, sent),
            "delays": facts.delays(self.layers),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def image_shape(self) -> Shape:
        """Shape of one image, (T, *shape) of one recording where the input is a sequence."""
        return (self.steps, *self.input.shape) if self.input.sequence else self.input.shape

    @property
    def logit_unit(self) -> NDArray[np.float64]:
        """Float value of one unit of the class sums, (classes,) or (1,): s_c 2^-f, over T where logits are a mean."""
        last = self.layers[-1]
        return last.unit / (self.steps if read_of(last.neuron) == "sum" else 1)

    @property
    def input(self) -> Input:
        """The input operation."""
        operation = self.layers[0].operation
        assert isinstance(operation, Input), operation  # `check` has seen to it
        return operation
