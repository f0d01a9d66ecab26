"""Process models of layers with weights: fixed point, equal to the reference bit by bit, and floating point beside."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import kernels
from randhet.fixed_point.engine.plan import Tile, channels_last, make_synapse
from randhet.fixed_point.engine.run import bytes_of, kept, levels, padded, products
from randhet.lava_runtime import step as steps
from randhet.lava_runtime.plan import LayerPlan
from randhet.lava_runtime.processes.guarded import MESSAGE, MESSAGE_IN, MESSAGE_OUT, Guarded
from randhet.lava_runtime.processes.process import CubaLayer, DrawnLayer, GivenLayer, ReadOut, words
from randhet.lava_runtime.registers import CoreRegisters
from randhet.lava_runtime.wire import arranged

STATE = LavaPyType(np.ndarray, np.int32)
REGISTER = LavaPyType(np.ndarray, np.uint32)
FLOAT_STATE = LavaPyType(np.ndarray, np.float64)
NO_DECAYS = np.zeros((0, 0), np.int32)
NO_TABLE = np.zeros(512, np.uint8)


class LayerModel(Guarded):
    """What all layers with weights share: send the last step's spikes, receive, integrate, reset per image."""

    s_in: PyInPort = MESSAGE_IN
    s_out: PyOutPort = MESSAGE_OUT
    m_out: PyOutPort = MESSAGE_OUT
    membrane: np.ndarray = STATE
    outgoing: np.ndarray = MESSAGE
    tally: np.ndarray = STATE
    floating: ClassVar[bool] = False

    def setup(self) -> None:
        self.plan: LayerPlan = self.params["plan"]
        operation = self.plan.operation
        assert isinstance(operation, ir.Weighted) and self.plan.neuron is not None
        self.synapse = make_synapse(operation, self.plan.shape_in, self.plan.peak)
        self.bias = channels_last(self.plan.neuron.bias, self.plan.shape)
        self.before = np.zeros(self.plan.cells if self.plan.probed else (0, 1, 1), self.membrane.dtype)
        self.seen = self.plan.membranes(self.floating)
        self.spikes = self.saturations = 0

    def advance(self) -> None:
        self.s_out.send(self.outgoing)
        message = self.s_in.recv()
        step = self.plan.logical(self.time_step)
        if step is not None:
            if step % self.plan.run.steps == 0:
                self.reset(step // self.plan.run.steps)
            lanes = self.plan.run.lanes(step)
            self.outgoing[lanes:] = 0
            received = arranged(self.plan.source.decode(message[:lanes]), self.synapse.source[0])
            self.outgoing[:lanes] = self.plan.wire.encode(self.integrate(received))
            self.tally[:] = words(self.spikes) + words(self.saturations)
        if self.plan.probed:
            self.m_out.send(self.seen.encode(self.before))

    def reset(self, turn: int) -> None:
        """Start of the images of a round."""
        self.membrane[:] = 0

    def integrate(self, values: np.ndarray) -> np.ndarray:
        """What arrives (lanes, pixels, channels) to output of the layer's shape; states move on."""
        raise NotImplementedError

    def common(self, tile: Tile, values: np.ndarray) -> tuple[Any, ...]:
        """The arguments every kernel starts with."""
        synapse = self.synapse
        return values, tile.first, synapse.per_tap, synapse.planes, synapse.window, tile.weight, tile.packed

    def room(self, values: np.ndarray, dtype: type) -> np.ndarray:
        return np.empty((len(values), *self.plan.cells[1:]), dtype)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Synaptic sums (lanes, pixels, channels) int32."""
        total = self.room(values, np.int32)
        for tile in self.synapse.tiles:
            part = np.empty((*total.shape[:2], tile.weight.shape[1]), np.int32)
            given, *others = self.common(tile, values)
            kernels.sums_image(given, len(values), *others, part)
            total[:, :, tile.channels] = part
        return total


class LifModel(LayerModel):
    """The LIF family in fixed point; where decays come from differs."""

    def setup(self) -> None:
        super().setup()
        self.neuron = neuron = self.plan.lif
        self.levels = [levels(neuron, self.plan.shape, tile) for tile in self.synapse.tiles]

    def decays(self, tile: Tile) -> tuple[np.ndarray, ...]:
        """given, table, states, entry_pixel and entry_channel of `lif_step`."""
        raise NotImplementedError

    def integrate(self, values: np.ndarray) -> np.ndarray:
        spikes = self.room(values, np.uint8)
        for tile, (bias, threshold) in zip(self.synapse.tiles, self.levels):
            fired, clipped = steps.lif_step(
                *self.common(tile, values), *products(self.synapse, tile, values),
                bias, threshold, self.neuron.f, self.neuron.k, kept(self.neuron.reset), *self.decays(tile),
                self.membrane, spikes, tile.offset, self.before,
            )  # fmt: skip
            self.spikes += fired
            self.saturations += clipped
        return spikes


class FloatLif(LayerModel):
    """The same neurons in float64: no rounding, no saturation; tau = A / 2^k, membranes in the same units."""

    m_out: PyOutPort = MESSAGE_OUT
    membrane: np.ndarray = FLOAT_STATE
    floating = True

    def setup(self) -> None:
        super().setup()
        self.neuron = neuron = self.plan.lif
        self.threshold = channels_last(neuron.threshold, self.plan.shape)

    def float_decays(self, lanes: int) -> np.ndarray:
        """The decay mantissas of this step, (lanes, pixels, channels) or (1 or pixels, channels)."""
        raise NotImplementedError

    def integrate(self, values: np.ndarray) -> np.ndarray:
        lanes = len(values)
        x = self.sums(values) * 2.0**self.neuron.f + self.bias
        before = x + self.float_decays(lanes) / 2.0**self.neuron.k * (self.membrane[:lanes] - x)
        spike = before > self.threshold
        left = before - self.threshold if self.neuron.reset == "subtract" else 0.0
        self.membrane[:lanes] = np.where(spike, left, before)
        if self.plan.probed:
            self.before[:lanes] = before
        self.spikes += int(spike.sum())
        return spike


class Drawn(LayerModel):
    """The shift registers of a layer's cores in each lane: their state is the Var `register`."""

    register: np.ndarray = REGISTER

    def setup(self) -> None:
        super().setup()
        drawn = self.plan.lif.drawn
        assert drawn is not None
        self.cores = CoreRegisters(self.plan, drawn)
        self.register[:] = self.cores.begin()

    def reset(self, turn: int) -> None:
        super().reset(turn)
        if turn:
            self.cores.skip(self.register)


@implements(proc=DrawnLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DrawnFixed(Drawn, LifModel):
    """Random-tau LIF in fixed point. Registers jump to where each channel's draws begin, and over each step."""

    def setup(self) -> None:
        super().setup()
        self.table = bytes_of(self.cores.decay.table)

    def integrate(self, values: np.ndarray) -> np.ndarray:
        self.states = self.cores.entries(self.register[: len(values)])
        spikes = super().integrate(values)
        self.cores.next_step(self.register)
        return spikes

    def decays(self, tile: Tile) -> tuple[np.ndarray, ...]:
        return NO_DECAYS, self.table, *self.cores.of_tile(self.states, tile)


@implements(proc=DrawnLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DrawnFloat(Drawn, FloatLif):
    """Random-tau LIF in floating point, with the same draws. Registers advance serially, neuron by neuron."""

    register: np.ndarray = REGISTER

    def float_decays(self, lanes: int) -> np.ndarray:
        return self.cores.draw(self.register)[:lanes]


class Given(LayerModel):
    """Decays that never change."""

    def setup(self) -> None:
        super().setup()
        decay = self.plan.neuron.decay  # type: ignore[union-attr]
        self.decay = channels_last(np.asarray(decay.mantissa, np.int32), self.plan.shape)

    def decays(self, tile: Tile) -> tuple[np.ndarray, ...]:
        none = np.zeros(0, np.int64)
        return padded(self.decay[:, tile.channels], 0), NO_TABLE, np.zeros((1, 0), np.uint32), none, none

    def float_decays(self, lanes: int) -> np.ndarray:
        return self.decay


@implements(proc=GivenLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class GivenFixed(Given, LifModel):
    """Vanilla and heterogeneous LIF in fixed point."""


@implements(proc=GivenLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class GivenFloat(Given, FloatLif):
    """Vanilla and heterogeneous LIF in floating point."""


@implements(proc=CubaLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class CubaFixed(LayerModel):
    """Loihi's CUBA LIF; membrane is the voltage v."""

    current: np.ndarray = STATE

    def reset(self, turn: int) -> None:
        super().reset(turn)
        self.current[:] = 0

    def integrate(self, values: np.ndarray) -> np.ndarray:
        neuron, spikes = self.plan.cuba, self.room(values, np.uint8)
        kept = 4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay
        bias, threshold = self.bias.astype(np.int32), neuron.threshold.astype(np.int32)
        for tile in self.synapse.tiles:
            fired, clipped = steps.cuba_layer_step(
                *self.common(tile, values), np.ascontiguousarray(bias[:, tile.channels]), threshold[tile.channels],
                neuron.f, *kept, self.current, self.membrane, spikes, tile.offset, self.before,
            )  # fmt: skip
            self.spikes += fired
            self.saturations += clipped
        return spikes


@implements(proc=ReadOut, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadOutFixed(LayerModel):
    """Sums over the steps of an image."""

    def integrate(self, values: np.ndarray) -> np.ndarray:
        added = self.sums(values) + self.bias.astype(np.int32)
        self.membrane[: len(values)] += added.astype(self.membrane.dtype)
        if self.plan.probed:
            self.before[:] = self.membrane
        return added


@implements(proc=ReadOut, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadOutFloat(ReadOutFixed):
    """The classifier behind floating-point layers: its sums are integers all the same."""

    membrane: np.ndarray = FLOAT_STATE
    floating = True
