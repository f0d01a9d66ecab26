"""Process models of layers with weights: fixed point, equal to the reference bit by bit, and floating point beside.

They run the engine's kernels, single threaded: Lava has a process per layer. Where the engine takes all steps of one
image, here the images of a batch take one step each.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import calls
from randhet.fixed_point.engine.keyed import make_keyed
from randhet.fixed_point.engine.plan import Tile, channels_last, make_synapse, with_own_spikes
from randhet.fixed_point.kernels.bundles import NO_RECORD, Decays, Output, State
from randhet.lava_runtime.plan import LayerPlan
from randhet.lava_runtime.processes.guarded import MESSAGE, MESSAGE_IN, MESSAGE_OUT, Guarded
from randhet.lava_runtime.processes.process import (
    CubaLayer,
    DrawnLayer,
    GivenLayer,
    KeyedLayer,
    ReadOutLayer,
    SumsLayer,
    words,
)
from randhet.lava_runtime.registers import CoreRegisters
from randhet.lava_runtime.wire import arranged

STATE = LavaPyType(np.ndarray, np.int32)
REGISTER = LavaPyType(np.ndarray, np.uint32)
FLOAT_STATE = LavaPyType(np.ndarray, np.float64)
NO_CURRENT = np.zeros((0, 0, 0), np.int32)


class LayerModel(Guarded):
    """What all layers with weights share: send the last step's spikes, receive, integrate, reset per image."""

    s_in: PyInPort = MESSAGE_IN
    r_in: PyInPort = MESSAGE_IN
    s_out: PyOutPort = MESSAGE_OUT
    m_out: PyOutPort = MESSAGE_OUT
    membrane: np.ndarray = STATE
    outgoing: np.ndarray = MESSAGE
    tally: np.ndarray = STATE
    floating: ClassVar[bool] = False
    carries: ClassVar[bool] = True
    """Whether states carry on from one piece of a recording to the next."""

    def setup(self) -> None:
        self.plan: LayerPlan = self.params["plan"]
        weighted = self.plan.layer.weighted
        assert weighted is not None
        self.recurrent = self.plan.layer.recurrent is not None
        self.synapse = make_synapse(with_own_spikes(weighted), self.plan.shape_in, self.plan.top)
        self.before = np.zeros(self.plan.cells, self.membrane.dtype)
        self.seen = self.plan.membranes(self.floating)
        self.spikes = self.saturations = 0

    def advance(self) -> None:
        # what was computed at the step before: one step of delay, and no process waits for another in a circle
        self.s_out.send(self.outgoing)
        message = self.s_in.recv()
        returned = self.r_in.recv() if self.recurrent else None
        step = self.plan.logical(self.time_step)
        if step is not None:
            if step % self.plan.run.steps == 0:
                self.begin(step // self.plan.run.steps, returned)
            lanes = self.plan.run.lanes(step)
            # lanes that hold no image in the last round send zeros
            self.outgoing[lanes:] = 0
            received = self.received(message[:lanes], None if returned is None else returned[:lanes])
            self.outgoing[:lanes] = self.plan.wire.encode(self.integrate(received))
            self.tally[:] = words(self.spikes) + words(self.saturations)
        if self.plan.probed and self.plan.layer.neuron is not None:
            self.m_out.send(self.seen.encode(self.before))

    def received(self, message: np.ndarray, returned: np.ndarray | None) -> np.ndarray:
        """Values (lanes, pixels, channels) of a message; behind them, where it is recurrent, those of its own."""
        values = arranged(self.plan.source.decode(message), 1 if self.recurrent else self.synapse.source[0])
        return values if returned is None else np.concatenate([values, self.plan.wire.decode(returned)], axis=-1)

    def begin(self, turn: int, returned: np.ndarray | None) -> None:
        """Start the images of a round: from zero, its own spikes included, unless they carry a recording on."""
        if turn and self.plan.run.stream and self.carries:
            return
        self.reset()
        if returned is not None:
            # spikes of the images before, which arrive one step late
            returned[:] = 0

    def reset(self) -> None:
        """Set all states to zero."""
        self.membrane[:] = 0

    def integrate(self, values: np.ndarray) -> np.ndarray:
        """Turn what arrives (lanes, pixels, channels) into output of the layer's shape; states move on."""
        raise NotImplementedError

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Make synaptic sums (lanes, pixels, channels) int32."""
        total = np.empty((len(values), *self.plan.cells[1:]), np.int32)
        for tile in self.synapse.tiles:
            total[:, :, tile.channels] = calls.sums(self.synapse, tile, values, len(values))
        return total


class Dynamics(LayerModel):
    """Neurons in fixed point, a tile of channels at a time: they send spikes, or their membrane potentials."""

    def update(self, tile: Tile, values: np.ndarray, output: Output) -> calls.Tally:
        """Step the neurons of a tile."""
        raise NotImplementedError

    def integrate(self, values: np.ndarray) -> np.ndarray:
        lanes = len(values)
        spikes = np.empty((lanes, *self.plan.cells[1:]), np.uint8)
        sends = self.plan.sends_membranes
        record = self.before[:lanes] if self.plan.probed or sends else NO_RECORD
        for tile in self.synapse.tiles:
            output = Output(spikes, record, tile.offset, 0, self.synapse.pixels)
            fired, clipped = self.update(tile, values, output)
            self.spikes += fired
            self.saturations += clipped
        return record if sends else spikes


class LifFixed(Dynamics):
    """The LIF family in fixed point; where decays come from differs."""

    def setup(self) -> None:
        super().setup()
        self.neuron: ir.Lif = self.params["neuron"]
        shape = self.plan.shape
        self.levels = {tile.offset: calls.lif_levels(self.neuron, shape, tile) for tile in self.synapse.tiles}

    def decays(self, tile: Tile) -> Decays:
        """Return those of this step."""
        raise NotImplementedError

    def update(self, tile: Tile, values: np.ndarray, output: Output) -> calls.Tally:
        state = State(self.membrane[: len(values)], NO_CURRENT)
        return calls.lif(self.synapse, tile, values, self.levels[tile.offset], self.decays(tile), state, output)


class LifFloat(LayerModel):
    """The LIF family in float64: no rounding, no saturation; tau = A / 2^k, membranes in the same units."""

    m_out: PyOutPort = MESSAGE_OUT
    membrane: np.ndarray = FLOAT_STATE
    floating = True

    def setup(self) -> None:
        super().setup()
        self.neuron: ir.Lif = self.params["neuron"]
        self.bias = channels_last(self.neuron.bias, self.plan.shape)
        self.threshold = channels_last(self.neuron.threshold, self.plan.shape)
        self.floor = channels_last(self.neuron.floor, self.plan.shape)

    def float_decays(self, lanes: int) -> np.ndarray:
        """The decay mantissas of this step, (lanes, pixels, channels) or (1 or pixels, channels)."""
        raise NotImplementedError

    def integrate(self, values: np.ndarray) -> np.ndarray:
        lanes = len(values)
        x = self.sums(values) * 2.0**self.neuron.f + self.bias
        moved = x + self.float_decays(lanes) / 2.0**self.neuron.k * (self.membrane[:lanes] - x)
        if self.neuron.reset_delay:
            # a spike of the step before acts on what its full membrane potential has become
            moved = self.after_spikes(self.membrane[:lanes] > self.threshold, moved)
        before = np.maximum(moved, self.floor) if self.neuron.floored else moved
        spike = before > self.threshold
        self.membrane[:lanes] = before if self.neuron.reset_delay else self.after_spikes(spike, before)
        self.before[:lanes] = before
        self.spikes += int(spike.sum())
        return spike

    def after_spikes(self, spike: np.ndarray, membrane: np.ndarray) -> np.ndarray:
        """Return what spikes leave of membrane potentials."""
        left = np.where(calls.kept(self.neuron.reset), membrane - self.threshold, 0.0)
        return np.where(spike, left, membrane)


class Drawn(LayerModel):
    """The shift registers of a layer's cores in each lane: their state is the Var `register`."""

    register: np.ndarray = REGISTER

    def setup(self) -> None:
        super().setup()
        self.decay: ir.Drawn = self.params["decay"]
        self.cores = CoreRegisters(self.plan, self.decay)
        self.register[:] = self.cores.begin()

    def begin(self, turn: int, returned: np.ndarray | None) -> None:
        super().begin(turn, returned)
        if turn:
            self.cores.skip(self.register)


@implements(proc=DrawnLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DrawnFixed(Drawn, LifFixed):
    """Random decays in fixed point. Registers jump to where each channel's draws begin, and over each step."""

    def setup(self) -> None:
        super().setup()
        self.visits = {tile.offset: self.cores.visits(tile) for tile in self.synapse.tiles}
        self.unfilled = {
            tile.offset: calls.drawn(self.decay, self.visits[tile.offset], self.plan.shape, tile)
            for tile in self.synapse.tiles
        }

    def begin(self, turn: int, returned: np.ndarray | None) -> None:
        super().begin(turn, returned)
        # a tile's neurons lie scattered over the cores: where its draws begin is found by jumps within the round
        self.states = self.cores.entries(self.register)

    def integrate(self, values: np.ndarray) -> np.ndarray:
        self.lanes = len(values)
        spikes = super().integrate(values)
        self.cores.next_step(self.register)
        self.cores.move_entries(self.states)
        return spikes

    def decays(self, tile: Tile) -> Decays:
        states = np.ascontiguousarray(self.states[: self.lanes, self.visits[tile.offset].number])
        return calls.with_states(self.unfilled[tile.offset], states)


@implements(proc=DrawnLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DrawnFloat(Drawn, LifFloat):
    """Random decays in floating point, with the same draws. Registers advance serially, neuron by neuron."""

    register: np.ndarray = REGISTER

    def float_decays(self, lanes: int) -> np.ndarray:
        return self.cores.draw(self.register)[:lanes]


class Keyed(LayerModel):
    """The cipher of a layer: the round of each lane follows from the logical step."""

    def setup(self) -> None:
        super().setup()
        self.source = make_keyed(self.params["decay"], self.plan.shape, self.plan.index, self.plan.run.master)

    def rounds(self, lanes: int) -> list[int]:
        """Return the numbers of the rounds that the images in the lanes draw at this step."""
        run, step = self.plan.run, self.plan.logical(self.time_step)
        assert step is not None  # neurons are only asked at logical steps
        images, t = run.place(step)
        first = run.first_image + images.start
        return [self.source.number(first + lane, t, run.steps) for lane in range(lanes)]


@implements(proc=KeyedLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class KeyedFixed(Keyed, LifFixed):
    """Decays of a cipher in fixed point."""

    def integrate(self, values: np.ndarray) -> np.ndarray:
        self.numbers = self.rounds(len(values))
        return super().integrate(values)

    def decays(self, tile: Tile) -> Decays:
        return calls.keyed(self.source.decays(tile, self.numbers), self.source.size(tile))


@implements(proc=KeyedLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class KeyedFloat(Keyed, LifFloat):
    """Decays of a cipher in floating point, with the same draws."""

    def float_decays(self, lanes: int) -> np.ndarray:
        drawn = np.empty((lanes, *self.plan.cells[1:]))
        for tile in self.synapse.tiles:
            decays = self.source.decays(tile, self.rounds(lanes)).reshape(lanes, self.source.pixels, -1)
            drawn[:, :, tile.channels] = decays[:, :, : tile.width]
        return drawn


@implements(proc=GivenLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class GivenFixed(LifFixed):
    """Decays that never change, in fixed point."""

    def setup(self) -> None:
        super().setup()
        decay, shape = self.params["decay"], self.plan.shape
        self.mantissas = {tile.offset: calls.given(decay, shape, tile) for tile in self.synapse.tiles}

    def decays(self, tile: Tile) -> Decays:
        return self.mantissas[tile.offset]


@implements(proc=GivenLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class GivenFloat(LifFloat):
    """Decays that never change, in floating point."""

    def float_decays(self, lanes: int) -> np.ndarray:
        return channels_last(np.asarray(self.params["decay"].mantissa), self.plan.shape)


@implements(proc=CubaLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class CubaFixed(Dynamics):
    """Loihi's CUBA LIF; membrane is the voltage v."""

    current: np.ndarray = STATE

    def setup(self) -> None:
        super().setup()
        neuron, shape = self.params["neuron"], self.plan.shape
        self.levels = {tile.offset: calls.cuba_levels(neuron, shape, tile) for tile in self.synapse.tiles}

    def reset(self) -> None:
        super().reset()
        self.current[:] = 0

    def update(self, tile: Tile, values: np.ndarray, output: Output) -> calls.Tally:
        state = State(self.membrane[: len(values)], self.current[: len(values)])
        return calls.cuba(self.synapse, tile, values, self.levels[tile.offset], state, output)


@implements(proc=SumsLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class SumsModel(LayerModel):
    """Sums that are sent as they are, integers behind floating-point layers too."""

    def integrate(self, values: np.ndarray) -> np.ndarray:
        return self.sums(values)


@implements(proc=ReadOutLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadOutFixed(LayerModel):
    """Sums over the steps of an image."""

    carries = False

    def setup(self) -> None:
        super().setup()
        self.bias = channels_last(self.params["neuron"].bias, self.plan.shape).astype(np.int32)

    def integrate(self, values: np.ndarray) -> np.ndarray:
        added = self.sums(values) + self.bias
        self.membrane[: len(values)] += added.astype(self.membrane.dtype)
        self.before[:] = self.membrane
        return added


@implements(proc=ReadOutLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadOutFloat(ReadOutFixed):
    """The classifier behind floating-point layers: its sums are integers all the same."""

    membrane: np.ndarray = FLOAT_STATE
    floating = True
