"""What each Lava process is told: plain data, made in the parent, unpacked in the process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fixed_point.network import Neuron, Operation, Shape


@dataclass(frozen=True, eq=False)
class Run:
    """One run: T steps for each of `images` images, the first of which has the logical number `first_image`."""

    directory: Path
    steps: int
    images: int
    first_image: int
    master: int

    @property
    def total(self) -> int:
        """Logical steps of the whole run."""
        return self.steps * self.images


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One layer in one run. delay: steps by which its output lags the input. index: its number in the network."""

    run: Run
    name: str
    index: int
    operation: Operation
    neuron: Neuron | None
    shape_in: Shape
    shape: Shape
    delay: int

    def logical(self, time_step: int) -> int | None:
        """The logical step that is computed at Lava's 1-based time step; None before the first and after the last."""
        step = time_step - self.delay
        return step if 0 <= step < self.run.total else None
