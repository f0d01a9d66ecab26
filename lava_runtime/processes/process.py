"""The Lava processes. Synapse and neuron of a layer are one process: a declared fusion, as on a Loihi core.

Every layer with weights sends at step t what it computed at t - 1, one step of delay per synapse, as Loihi does. A
message is the spikes of one step of all images of a batch, as `wire` packs them. What lasts from step to step is a Var.
"""

from __future__ import annotations

from math import prod

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.calls import reset_differs
from randhet.fixed_point.generator import core_starts
from randhet.lava_runtime import warm
from randhet.lava_runtime.plan import LayerPlan, Run
from randhet.lava_runtime.wire import Wire


class GradedInput(AbstractProcess):
    """Sends graded spikes: images, each for T steps, or the frames of recordings, one a step (sequence).

    They are read from `pixels.npy` of the run when it is time.
    """

    def __init__(self, run: Run, wire: Wire, sequence: bool) -> None:
        super().__init__(run=run, wire=wire, sequence=sequence, name="input")
        self.s_out = OutPort(shape=wire.packet)


class Layer(AbstractProcess):
    """Weights and neurons; decay: where the decays of LIF neurons come from.

    Port r_in receives the layer's own messages where it is recurrent: sent at the step after they were computed, they
    arrive in time by themselves. Vars: membrane (batch, pixels, channels); outgoing, the message of the next step;
    tally (spikes and saturations, each as low and high 30 bits).
    """

    def __init__(
        self, plan: LayerPlan, neuron: ir.Neuron | None, floating: bool, decay: ir.Decay | None = None
    ) -> None:
        super().__init__(plan=plan, neuron=neuron, decay=decay, name=plan.name)
        self.plan = plan
        self.s_in = InPort(shape=plan.source.packet)
        self.r_in = InPort(shape=plan.wire.packet)
        self.s_out = OutPort(shape=plan.wire.packet)
        self.m_out = OutPort(shape=plan.membranes(floating).packet)
        self.membrane = Var(shape=plan.cells, init=0)
        self.outgoing = Var(shape=plan.wire.packet, init=0)
        self.tally = Var(shape=(4,), init=0)

    warm_up: warm.Warm
    """Calls the kernels of its model once."""


class DrawnLayer(Layer):
    """LIF neurons that draw their decays. Var register (batch, cores): the registers before the next draw."""

    def __init__(self, plan: LayerPlan, neuron: ir.Lif, decay: ir.Drawn, floating: bool) -> None:
        super().__init__(plan, neuron, floating, decay)
        self.warm_up = warm.of(neuron)
        cores = len(core_starts(prod(plan.shape), decay.neurons_per_core))
        self.register = Var(shape=(plan.run.batch, cores), init=0)


class KeyedLayer(Layer):
    """LIF neurons whose decays a cipher draws from the numbers of image and step: nothing lasts from draw to draw."""

    def __init__(self, plan: LayerPlan, neuron: ir.Lif, floating: bool, decay: ir.Drawn) -> None:
        super().__init__(plan, neuron, floating, decay)
        self.warm_up = warm.keyed_late if reset_differs(neuron) else warm.keyed


class GivenLayer(Layer):
    """LIF neurons with decays that are never drawn: one for the layer, or one per neuron."""

    def __init__(self, plan: LayerPlan, neuron: ir.Lif, decay: ir.Constant | ir.PerNeuron, floating: bool) -> None:
        super().__init__(plan, neuron, floating, decay)
        self.warm_up = warm.of(neuron)


class CubaLayer(Layer):
    """Loihi's current-based LIF neurons. Var current: the synaptic current u."""

    warm_up = staticmethod(warm.cuba)

    def __init__(self, plan: LayerPlan, neuron: ir.Cuba, floating: bool) -> None:
        super().__init__(plan, neuron, floating)
        self.current = Var(shape=plan.cells, init=0)


class ReadOutLayer(Layer):
    """The classifier: adds sums and bias over the T steps of an image, never spikes."""

    warm_up = staticmethod(warm.sums)


class SumsLayer(Layer):
    """Weights without neurons: sends their sums."""

    warm_up = staticmethod(warm.sums)


class Junction(AbstractProcess):
    """Joins two branches: their sum, AND, IAND or concatenation.

    wait: steps of delay for a and b. Var line: the messages that wait, a ring for each branch.
    """

    def __init__(self, run: Run, layer: ir.Layer, a: Wire, b: Wire, out: Wire, wait: tuple[int, int]) -> None:
        super().__init__(run=run, operation=layer.operation, a=a, b=b, out=out, wait=wait, name=layer.name)
        self.a_in = InPort(shape=a.packet)
        self.b_in = InPort(shape=b.packet)
        self.s_out = OutPort(shape=out.packet)
        self.a_line = Var(shape=(max(wait[0], 1), *a.packet), init=0)
        self.b_line = Var(shape=(max(wait[1], 1), *b.packet), init=0)


class Grid(AbstractProcess):
    """Pools or spreads rows and columns of graded spikes, without delay."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan=plan, name=plan.name)
        self.s_in = InPort(shape=plan.source.packet)
        self.s_out = OutPort(shape=plan.wire.packet)


class Recorder(AbstractProcess):
    """A sink: writes spikes, and membranes where there are any, of one layer to files of the run.

    counts: also keep the number of the last step written in the file `steps`, for the progress display.
    """

    def __init__(self, plan: LayerPlan, source: Wire, membranes: Wire | None, counts: bool) -> None:
        super().__init__(plan=plan, source=source, membranes=membranes, counts=counts, name=f"{plan.name}.recorder")
        self.s_in = InPort(shape=source.packet)
        self.m_in = InPort(shape=membranes.packet if membranes else (1,))


def words(count: int) -> list[int]:
    """A count as low and high 30 bits, which fit Lava's 32 bit integers."""
    return [count & 0x3FFFFFFF, count >> 30]


def count(pair: np.ndarray) -> int:
    """The inverse of `words`."""
    return int(pair[0]) + (int(pair[1]) << 30)
