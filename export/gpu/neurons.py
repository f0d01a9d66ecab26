"""The neurons of a loaded layer: their constants and state on the device, and the launches of their kernels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from randhet.base.kinds import assert_never
from randhet.export.gpu import kernels
from randhet.export.gpu.cipher import Cipher, make_cipher
from randhet.export.gpu.launch import BLOCK, blocks, empty, placed, zeros
from randhet.export.gpu.registers import Registers, make_registers, order_of
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.plan import Span, channels_last
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.network import Drawn, Shape


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer stands: its number, shape, master seed, kind of generator; T and the number of the first image."""

    index: int
    shape: Shape
    master: int
    generator: GeneratorKind
    steps: int
    first: int


class Moved(NamedTuple):
    """What neurons send in some steps (images, steps, pixels, channels), potentials too, saturations (images, size)."""

    values: Tensor
    membranes: Tensor | None = None
    clipped: Tensor | None = None


class Neurons:
    """The neurons of a loaded layer."""

    def begin(self, images: int, carry: bool) -> None:
        """Make ready for the next images of the run: at rest, or with `carry` as the last image left them."""

    def prepare(self, span: Span) -> None:
        """Make ready for a span of these images."""

    def move(self, sums: Tensor, steps: int, t: int, record: bool) -> Moved:
        """Take steps t..t + steps - 1 of a span from sums (images, steps or 1, pixels, channels)."""
        raise NotImplementedError


class ReadOut(Neurons):
    """Sums with their bias."""

    def __init__(self, neuron: ir.ReadOut, place: Place) -> None:
        self.bias = placed(channels_last(neuron.bias, place.shape).astype(np.int32))

    def move(self, sums: Tensor, steps: int, t: int, record: bool) -> Moved:
        return Moved(sums + self.bias)


class Spiking(Neurons):
    """What Lif and Cuba share: shape, state, and where a span's values are written."""

    fires = True
    """Whether spikes are sent; else membrane potentials are."""

    def __init__(self, neuron: ir.Spiking, shape: Shape) -> None:
        self.size, self.shape = prod(shape), (prod(shape[1:]), shape[0])
        bias = channels_last(neuron.bias, shape).astype(np.int32).reshape(-1)
        self.bias, self.threshold = placed(bias), placed(neuron.threshold.astype(np.int32))
        self.state = self.current = zeros(0)

    def begin(self, images: int, carry: bool) -> None:
        if not (carry and len(self.state)):
            self.state, self.current = zeros(images, self.size), zeros(images, self.size)

    def move(self, sums: Tensor, steps: int, t: int, record: bool) -> Moved:
        images, record = len(sums), record or not self.fires
        sums = sums.contiguous()
        size = (images, steps, *self.shape)
        out = empty(*(size if self.fires else (0,)), kind=torch.int8)
        membranes = empty(*(size if record else (0,)))
        programs = blocks(images * self.size)
        clipped = empty(images, self.size)
        per_step = self.size if sums.shape[1] > 1 else 0
        work = kernels.Steps(
            images, steps, self.size, sums, sums.shape[1] * self.size, per_step, out, membranes, clipped
        )  # fmt: skip
        self.launch(programs, work, t, record)
        return Moved(out if self.fires else membranes, membranes if record else None, clipped)

    def launch(self, programs: tuple[int], work: kernels.Steps, t: int, record: bool) -> None:
        """Launch the kernel for steps from step t of the span on."""
        raise NotImplementedError


class Lif(Spiking):
    """Lif neurons and where their decays come from."""

    def __init__(self, neuron: ir.Lif, place: Place) -> None:
        super().__init__(neuron, place.shape)
        self.neuron, self.decays = neuron, decays_of(neuron, place)
        floor = np.broadcast_to(neuron.floor, place.shape[:1]).astype(np.int32)
        self.floor = placed(floor)

    def begin(self, images: int, carry: bool) -> None:
        super().begin(images, carry)
        self.decays.begin(images)

    def prepare(self, span: Span) -> None:
        self.decays.prepare(span)

    def launch(self, programs: tuple[int], work: kernels.Steps, t: int, record: bool) -> None:
        neuron = self.neuron
        levels = kernels.Levels(
            self.threshold, self.floor, self.bias, len(self.bias), neuron.k, neuron.f, self.state, self.current, 0, 0
        )  # fmt: skip
        mode, held = self.decays.mode, self.decays.held
        subtract, late = neuron.reset == "subtract", bool(neuron.reset_delay)
        kernels.lif_steps[programs](
            work, levels, self.decays.bundle(t), mode, held, subtract, late, self.fires, record, BLOCK
        )


class Cuba(Spiking):
    """Cuba neurons."""

    def __init__(self, neuron: ir.Cuba, place: Place) -> None:
        super().__init__(neuron, place.shape)
        self.neuron = neuron

    def launch(self, programs: tuple[int], work: kernels.Steps, t: int, record: bool) -> None:
        neuron, period = self.neuron, len(self.bias)
        # the offset of 1 sits on the current's decay only
        keeps = (4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay)
        levels = kernels.Levels(
            self.threshold, self.threshold, self.bias, period, 0, neuron.f, self.state, self.current, *keeps
        )  # fmt: skip
        kernels.cuba_steps[programs](work, levels, self.shape[1], self.fires, record, BLOCK)


def make_neurons(neuron: ir.Neuron, place: Place) -> Neurons:
    """Load the neurons of a layer, once for a run."""
    match neuron:
        case ir.Lif():
            return Lif(neuron, place)
        case ir.Cuba():
            return Cuba(neuron, place)
        case ir.ReadOut():
            return ReadOut(neuron, place)
        case ir.Leaky():
            dynamics = make_neurons(neuron.dynamics, place)
            assert isinstance(dynamics, Spiking)
            dynamics.fires = False
            return dynamics
        case _:
            assert_never(neuron)


# --- decays -----------------------------------------------------------------------------------------------------------


class Given:
    """Decays that never change: one, or one for each neuron. What they do not need is a tensor of one 0."""

    held = True

    def __init__(self, mantissa: np.ndarray | int, shape: Shape) -> None:
        values = np.asarray(mantissa, np.int32)
        self.mode = kernels.PER_NEURON if values.ndim else kernels.CONSTANT
        self.mantissa = placed(channels_last(values, shape).reshape(-1) if values.ndim else values.reshape(1))
        self.order, self.nothing = order_of(shape), zeros(1)

    def begin(self, images: int) -> None:
        """Make ready for the next images."""

    def prepare(self, span: Span) -> None:
        """Make ready for a span of these images."""

    def bundle(self, t: int) -> kernels.Decays:
        """Return what the kernel reads from step t of the span on."""
        none = self.nothing
        return kernels.Decays(self.mantissa, none, none, none, 0, 0, self.order)


class Drawing(Given):
    """Decays that the registers draw in the neurons' own kernel."""

    mode: Any = kernels.REGISTER

    def __init__(self, decay: Drawn, registers: Registers) -> None:
        self.mantissa, self.held = placed(decay.table.astype(np.int32)), decay.sampling == "forward"
        self.registers, self.states, self.nothing = registers, zeros(1), zeros(1)

    def begin(self, images: int) -> None:
        self.states = self.registers.states(images)

    def bundle(self, t: int) -> kernels.Decays:
        registers = self.registers
        return kernels.Decays(self.mantissa, self.states, registers.step, self.nothing, 0, 0, registers.order)


class Keyed(Given):
    """Decays that the cipher draws before a span begins."""

    mode: Any = kernels.CIPHER

    def __init__(self, decay: Drawn, shape: Shape, cipher: Cipher) -> None:
        self.mantissa, self.held = placed(decay.table.astype(np.int32)), decay.sampling == "forward"
        self.cipher, self.order, self.nothing = cipher, order_of(shape), zeros(1)
        self.draws = zeros(1)

    def prepare(self, span: Span) -> None:
        images = range(span.first, span.first + span.images)  # Python's integers: times T they may pass 64 bits
        if self.held:
            rounds = list(images)
        else:
            rounds = [image * span.steps + t for image in images for t in range(span.start, span.stop)]
        self.draws = self.cipher.draws(rounds).reshape(span.images, len(rounds) // span.images, -1)

    def bundle(self, t: int) -> kernels.Decays:
        per_round = self.draws.shape[2]
        draws = self.draws if self.held else self.draws[:, t:]
        per_image = self.draws.shape[1] * per_round
        return kernels.Decays(
            self.mantissa, self.nothing, self.nothing, draws, per_image, per_round, self.order
        )  # fmt: skip


def decays_of(neuron: ir.Lif, place: Place) -> Given:
    """Load what a layer's decays come from."""
    decay, mantissa = neuron.drawn, neuron.given
    if decay is None:
        assert mantissa is not None
        return Given(mantissa, place.shape)
    match place.generator:
        case "register":
            rounds = (place.first, 1) if decay.sampling == "forward" else (place.first * place.steps, place.steps)
            return Drawing(decay, make_registers(decay, place.shape, place.index, place.master, rounds))
        case "chacha":
            return Keyed(decay, place.shape, make_cipher(place.shape, place.index, place.master))
        case _:
            assert_never(place.generator)
