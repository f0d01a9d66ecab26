"""The Lava processes. Synapse and neuron of a layer are one process: a declared fusion, as on a Loihi core.

Every layer with weights sends at step t what it computed at t - 1, one step of delay per synapse, as Loihi does.
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from fixed_point.network import RandomTau, Shape
from lava_runtime.plan import LayerPlan, Run


class GradedInput(AbstractProcess):
    """Sends image after image as graded spikes, each for T steps; images are read from `pixels.npy` of the run."""

    def __init__(self, run: Run, shape: Shape) -> None:
        super().__init__(run=run, shape=shape, name="input")
        self.s_out = OutPort(shape=shape)


class Layer(AbstractProcess):
    """Weights and neurons. Vars: membrane, and tally (spikes and saturations, each as low and high 30 bits)."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan=plan, name=plan.name)
        self.s_in = InPort(shape=plan.shape_in)
        self.s_out = OutPort(shape=plan.shape)
        self.m_out = OutPort(shape=plan.shape)
        self.membrane = Var(shape=plan.shape, init=0)
        self.tally = Var(shape=(4,), init=0)


class RandomTauLayer(Layer):
    """Random-tau LIF neurons. Var register: the shift register of each core, advanced neuron by neuron."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        assert isinstance(plan.neuron, RandomTau)
        self.register = Var(shape=(ceil(prod(plan.shape) / plan.neuron.neurons_per_core),), init=0)


class ConstantTauLayer(Layer):
    """LIF neurons with decays that are never drawn: one for the layer, or one per neuron."""


class CubaLayer(Layer):
    """Loihi's current-based LIF neurons. Var current: the synaptic current u."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        self.current = Var(shape=plan.shape, init=0)


class ReadOut(Layer):
    """The classifier: adds sums and bias over the T steps of an image, never spikes."""


class ResidualSum(AbstractProcess):
    """Adds two branches; a delay line holds the one that arrives earlier. wait: steps of delay for a and b."""

    def __init__(self, name: str, shape: Shape, wait: tuple[int, int]) -> None:
        super().__init__(shape=shape, wait=wait, name=name)
        self.a_in = InPort(shape=shape)
        self.b_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class Pool(AbstractProcess):
    """Sums windows of graded spikes, without delay."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan=plan, name=plan.name)
        self.s_in = InPort(shape=plan.shape_in)
        self.s_out = OutPort(shape=plan.shape)


class Recorder(AbstractProcess):
    """A sink: writes spikes, and membranes where there are any, of one layer to files of the run.

    counts: also keep the number of the last step written in the file `steps`, for the progress display.
    """

    def __init__(self, plan: LayerPlan, membranes: bool, counts: bool) -> None:
        super().__init__(plan=plan, membranes=membranes, counts=counts, name=f"{plan.name}.recorder")
        self.s_in = InPort(shape=plan.shape)
        self.m_in = InPort(shape=plan.shape)


def words(count: int) -> list[int]:
    """A count as low and high 30 bits, which fit Lava's 32 bit integers."""
    return [count & 0x3FFFFFFF, count >> 30]


def count(pair: np.ndarray) -> int:
    """The inverse of `words`."""
    return int(pair[0]) + (int(pair[1]) << 30)
