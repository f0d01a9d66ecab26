"""What each Lava process is told: plain data, made in the parent, unpacked in the process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.network import Layer, Shape
from randhet.lava_runtime.wire import Wire


@dataclass(frozen=True, eq=False)
class Run:
    """One run: T steps for each batch of images, the first of which has the logical number `first_image`.

    Image j*batch + lane travels in round j, in its lane; in the last round some lanes may be empty. stream: the images
    are pieces of one recording, one a round, and states carry on from one to the next. at_once: time steps that every
    process takes at each command of Lava's runtime service. generator: of the network.
    """

    directory: Path
    steps: int
    images: int
    first_image: int
    master: int
    batch: int = 1
    stream: bool = False
    generator: GeneratorKind = "register"
    at_once: int = 1

    @property
    def total(self) -> int:
        """Logical steps of the whole run."""
        return self.steps * -(-self.images // self.batch)

    def place(self, step: int) -> tuple[slice, int]:
        """The images that are in the lanes at a logical step, and the step within their T."""
        first = step // self.steps * self.batch
        return slice(first, min(first + self.batch, self.images)), step % self.steps

    def lanes(self, step: int) -> int:
        """How many lanes hold an image at a logical step."""
        images, _ = self.place(step)
        return images.stop - images.start


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One layer in one run.

    index: its number in the network; top: largest value it reads, its own spikes included, as the engine's bit planes
    see it; source and wire: message formats it reads and writes; delay: steps by which its output lags the input;
    probed: it sends membranes.
    """

    run: Run
    layer: Layer
    index: int
    shape_in: Shape
    shape: Shape
    top: int
    source: Wire
    wire: Wire
    delay: int
    probed: bool

    @property
    def name(self) -> str:
        """The layer's."""
        return self.layer.name

    @property
    def sends_membranes(self) -> bool:
        """Whether its neurons send their membrane potentials instead of spikes."""
        return self.layer.sends_potential

    @property
    def cells(self) -> Shape:
        """Shape of a state: (batch, pixels, channels)."""
        return (self.wire.batch, self.wire.pixels, self.wire.channels)

    def membranes(self, floating: bool) -> Wire:
        """The message format of membranes."""
        return Wire(self.wire.batch, self.shape, 64 if floating else 32)

    def logical(self, time_step: int) -> int | None:
        """The logical step that is computed at a 1-based time step; None before the first and after the last."""
        step = time_step - self.delay
        return step if 0 <= step < self.run.total else None
