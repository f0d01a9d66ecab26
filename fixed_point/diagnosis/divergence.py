"""Where two traces of one network first differ: the image, the step, the layer, the neuron, both values, the cause."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.result import Trace

Numbers = NDArray[Any]


class Traced(Protocol):
    """A layer's values over a run, both (images, T, *shape): integers, or the float model's."""

    @property
    def output(self) -> Numbers: ...

    @property
    def membrane(self) -> Numbers | None: ...


@dataclass(frozen=True)
class Divergence:
    """The first difference. neuron: (channel, y, x) or (channel,); quantity: membrane (before the reset) or output.

    cause, detail: what `randhet.fixed_point.diagnosis.cause` makes of it, "" where nobody asked.
    """

    image: int
    step: int
    layer: str
    neuron: tuple[int, ...]
    quantity: str
    expected: float
    found: float
    cause: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self) | {"neuron": list(self.neuron)}

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self, expected: str = "expected", observed: str = "found") -> str:
        """Say where, both values, and why."""
        text = (
            f"image {self.image}, step {self.step}, layer {self.layer}, neuron {self.neuron}, {self.quantity}: "
            f"{expected} {self.expected:g}, {observed} {self.found:g}"
        )
        return f"{text}; cause: {self.cause} ({self.detail})" if self.cause else text


def first(
    expected: Mapping[str, Traced],
    observed: Mapping[str, Traced],
    order: Collection[str],
    first_image: int = 0,
    quantities: Collection[str] = ("membrane", "output"),
) -> Divergence | None:
    """Find the earliest difference in logical time: by image, step, layer in `order`, quantity, neuron.

    Every layer of `order` must be in both traces with the same shapes; a missing one is a mistake, not an agreement.
    """
    earliest: tuple[tuple[int, int, int, int], Divergence] | None = None
    for depth, layer in enumerate(order):
        for rank, quantity in enumerate(quantities):
            a, b = getattr(expected[layer], quantity), getattr(observed[layer], quantity)
            if (a is None) != (b is None) or (a is not None and a.shape != b.shape):
                raise ValueError(f"traces of layer {layer} do not match: {quantity} is missing or of another shape")
            index = None if a is None else _first_index(a, b)
            if index is None:
                continue
            key = (index[0], index[1], depth, rank)
            if earliest is None or key < earliest[0]:
                image, step, *neuron = index
                earliest = (
                    key,
                    Divergence(
                        first_image + image, step, layer, tuple(neuron), quantity, a[index].item(), b[index].item()
                    ),
                )
    return earliest[1] if earliest else None


def _first_index(a: Numbers, b: Numbers) -> tuple[int, ...] | None:
    """Find the index of the first unequal entry in C order: image, step, neuron."""
    unequal = (a != b).ravel()
    flat = int(unequal.argmax()) if unequal.size else 0
    if not unequal.size or not unequal[flat]:
        return None
    return tuple(int(i) for i in np.unravel_index(flat, a.shape))


def compared(traces: Mapping[str, Trace]) -> dict[str, int]:
    """Count the values that a comparison of these traces looks at: spikes (or other outputs) and membranes."""
    return {
        "outputs": sum(trace.output.size for trace in traces.values()),
        "membranes": sum(trace.membrane.size for trace in traces.values() if trace.membrane is not None),
    }
