"""The process models: fixed point, equal to the reference bit for bit, and floating point beside it."""

from __future__ import annotations

from collections import deque
from math import prod
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from fixed_point import events, integer, reference
from fixed_point.generator import core_seed, core_starts, jump
from fixed_point.network import Accumulate, Conv, Cuba, Dense, Het, Lif, RandomTau
from lava_runtime.guard import report
from lava_runtime.plan import LayerPlan
from lava_runtime.processes.process import (
    ConstantTauLayer,
    CubaLayer,
    GradedInput,
    Pool,
    RandomTauLayer,
    ReadOut,
    Recorder,
    ResidualSum,
    words,
)

SPIKES_IN = LavaPyType(PyInPort.VEC_DENSE, np.int32)
SPIKES_OUT = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
FLOATS_IN = LavaPyType(PyInPort.VEC_DENSE, np.float64)
FLOATS_OUT = LavaPyType(PyOutPort.VEC_DENSE, np.float64)
STATE = LavaPyType(np.ndarray, np.int32)
WIDE_STATE = LavaPyType(np.ndarray, np.int64)
FLOAT_STATE = LavaPyType(np.ndarray, np.float64)


class Guarded(PyLoihiProcessModel):
    """Sets up at the first step rather than in __init__, where an error would hang Lava, and says what failed."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.params = proc_params
        self.ready = False

    def run_spk(self) -> None:
        try:
            if not self.ready:
                self.setup()
                self.ready = True
            self.advance()
        except Exception as error:
            run = self.params["run"] if "run" in self.params._parameters else self.params["plan"].run
            report(run.directory, self.params["name"], error)
            raise

    def setup(self) -> None:
        """Everything that can fail and that the constructor must not do."""

    def advance(self) -> None:
        """One time step."""
        raise NotImplementedError


@implements(proc=GradedInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class InputModel(Guarded):
    """Streams from a memory map, so that memory does not grow with the number of images."""

    s_out: PyOutPort = SPIKES_OUT

    def setup(self) -> None:
        self.pixels = np.load(self.params["run"].directory / "pixels.npy", mmap_mode="r")

    def advance(self) -> None:
        run, step = self.params["run"], self.time_step - 1
        image = self.pixels[step // run.steps] if step < run.total else np.zeros(self.params["shape"])
        self.s_out.send(np.ascontiguousarray(image, np.int32))


class LayerModel(Guarded):
    """What all layers with weights share: send the last step's spikes, receive, integrate, reset per image."""

    s_in: PyInPort = SPIKES_IN
    s_out: PyOutPort = SPIKES_OUT
    m_out: PyOutPort = SPIKES_OUT
    membrane: np.ndarray = STATE
    tally: np.ndarray = STATE

    def setup(self) -> None:
        self.plan: LayerPlan = self.params["plan"]
        operation = self.plan.operation
        assert isinstance(operation, (Conv, Dense))
        self.sums = events.sums(operation, self.plan.shape_in)
        assert self.plan.neuron is not None
        self.bias = reference.per_channel(self.plan.neuron.bias, self.plan.shape)
        self.buffer = np.zeros(self.plan.shape, np.int32)
        self.before = self.membrane.copy()
        self.spikes = self.saturations = 0

    def advance(self) -> None:
        self.s_out.send(self.buffer)
        received = self.s_in.recv()
        step = self.plan.logical(self.time_step)
        if step is not None:
            if step % self.plan.run.steps == 0:
                self.reset(step // self.plan.run.steps)
            output, self.before = self.integrate(self.sums(received).astype(np.int64))
            self.buffer = output.astype(np.int32)
            self.tally[:] = words(self.spikes) + words(self.saturations)
        self.m_out.send(self.before.astype(self.membrane.dtype))

    def reset(self, image: int) -> None:
        """Start of an image."""
        self.membrane[:] = 0

    def integrate(self, total: integer.Int) -> tuple[np.ndarray, np.ndarray]:
        """Synaptic sums to (output, membrane before the reset)."""
        raise NotImplementedError


class LifModel(LayerModel):
    """The LIF family in fixed point; where decays come from differs."""

    def setup(self) -> None:
        super().setup()
        neuron = self.plan.neuron
        assert isinstance(neuron, (RandomTau, Lif, Het))
        self.neuron: RandomTau | Lif | Het = neuron
        self.threshold = reference.per_channel(neuron.threshold, self.plan.shape)

    def decays(self) -> integer.Int:
        """The decay mantissas of this step, of the layer's shape or one number."""
        raise NotImplementedError

    def integrate(self, total: integer.Int) -> tuple[np.ndarray, np.ndarray]:
        x, clipped = integer.current(total, self.bias, self.neuron.f)
        before, saturated = integer.leak(self.membrane.astype(np.int64), x, self.decays(), self.neuron.k)
        spike, after = integer.fire(before, self.threshold)
        self.membrane[:] = after
        self.spikes += int(spike.sum())
        self.saturations += clipped + saturated
        return spike, before


class FloatLif:
    """The same neurons in float64: no rounding, no saturation; tau = A / 2^k, membranes in the same units."""

    def integrate(self: Any, total: integer.Int) -> tuple[np.ndarray, np.ndarray]:
        x = total * 2.0**self.neuron.f + self.bias
        before = x + self.decays() / 2.0**self.neuron.k * (self.membrane - x)
        spike = before > self.threshold
        self.membrane[:] = np.where(spike, 0.0, before)
        self.spikes += int(spike.sum())
        return spike.astype(np.int64), before


class Registers:
    """The shift registers of a layer's cores: the state is the Var `register`, the order is the core's own."""

    def setup(self: Any) -> None:
        super().setup()  # type: ignore[misc]
        plan, neuron = self.plan, self.neuron
        neurons, per_core = prod(plan.shape), neuron.neurons_per_core
        self.sizes = np.array([min(per_core, neurons - start) for start in core_starts(neurons, per_core)], np.int64)
        rounds = plan.run.first_image * (plan.run.steps if neuron.sampling == "step" else 1)
        seeds = [core_seed(plan.run.master, plan.index, core) for core in range(len(self.sizes))]
        self.register[:] = [jump(seed, rounds * int(size)) for seed, size in zip(seeds, self.sizes)]
        self.table = neuron.table.astype(np.int64)

    def reset(self: Any, image: int) -> None:
        super().reset(image)  # type: ignore[misc]
        if self.neuron.sampling == "forward":
            self.held = self.draw()

    def draw(self: Any) -> np.ndarray:
        """One draw of every neuron; the registers run on through steps and images."""
        return events.advance(self.register, self.sizes, self.table).reshape(self.plan.shape)

    def decays(self: Any) -> np.ndarray:
        return self.held if self.neuron.sampling == "forward" else self.draw()


@implements(proc=RandomTauLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RandomTauFixed(Registers, LifModel):
    """Random-tau LIF in fixed point."""

    register: np.ndarray = WIDE_STATE


@implements(proc=RandomTauLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class RandomTauFloat(Registers, FloatLif, LifModel):
    """Random-tau LIF in floating point, with the same draws."""

    m_out: PyOutPort = FLOATS_OUT
    membrane: np.ndarray = FLOAT_STATE
    register: np.ndarray = WIDE_STATE


class Constant:
    """Decays that never change."""

    def decays(self: Any) -> np.ndarray:
        return np.asarray(self.neuron.decay, np.int64)


@implements(proc=ConstantTauLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ConstantTauFixed(Constant, LifModel):
    """Vanilla and heterogeneous LIF in fixed point."""


@implements(proc=ConstantTauLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ConstantTauFloat(Constant, FloatLif, LifModel):
    """Vanilla and heterogeneous LIF in floating point."""

    m_out: PyOutPort = FLOATS_OUT
    membrane: np.ndarray = FLOAT_STATE


@implements(proc=CubaLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class CubaFixed(LayerModel):
    """Loihi's CUBA LIF; membrane is the voltage v."""

    current: np.ndarray = STATE

    def reset(self, image: int) -> None:
        super().reset(image)
        self.current[:] = 0

    def integrate(self, total: integer.Int) -> tuple[np.ndarray, np.ndarray]:
        neuron = self.plan.neuron
        assert isinstance(neuron, Cuba)
        state = self.current.astype(np.int64), self.membrane.astype(np.int64)
        u, before, saturated = integer.cuba(
            *state, total, self.bias, neuron.current_decay, neuron.voltage_decay, neuron.f
        )
        spike, v = integer.fire(before, reference.per_channel(neuron.threshold, self.plan.shape))
        self.current[:], self.membrane[:] = u, v
        self.spikes += int(spike.sum())
        self.saturations += saturated
        return spike, before


@implements(proc=ReadOut, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadOutFixed(LayerModel):
    """Sums over the steps of an image."""

    def integrate(self, total: integer.Int) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self.plan.neuron, Accumulate)
        added = total + self.bias
        self.membrane[:] += added.astype(self.membrane.dtype)
        return added, self.membrane.copy()


@implements(proc=ReadOut, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadOutFloat(ReadOutFixed):
    """The classifier behind floating-point layers: its sums are integers all the same."""

    m_out: PyOutPort = FLOATS_OUT
    membrane: np.ndarray = FLOAT_STATE


@implements(proc=ResidualSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class ResidualSumModel(Guarded):
    """Adds in the step it receives; the earlier branch waits in a queue of zeros."""

    a_in: PyInPort = SPIKES_IN
    b_in: PyInPort = SPIKES_IN
    s_out: PyOutPort = SPIKES_OUT

    def setup(self) -> None:
        shape = self.params["shape"]
        self.lines = [deque(np.zeros(shape, np.int32) for _ in range(wait)) for wait in self.params["wait"]]

    def advance(self) -> None:
        total = np.zeros(self.params["shape"], np.int32)
        for port, line in zip((self.a_in, self.b_in), self.lines):
            line.append(port.recv())
            total += line.popleft()
        self.s_out.send(total)


@implements(proc=Pool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PoolModel(Guarded):
    """The reference's own sum over windows."""

    s_in: PyInPort = SPIKES_IN
    s_out: PyOutPort = SPIKES_OUT

    def advance(self) -> None:
        total = reference.operate(self.params["plan"].operation, [self.s_in.recv()[None].astype(np.int64)])
        self.s_out.send(np.ascontiguousarray(total[0], np.int32))


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RecorderFixed(Guarded):
    """Files (images, T, *shape); spikes of a logical step arrive one time step after its membranes."""

    s_in: PyInPort = SPIKES_IN
    m_in: PyInPort = SPIKES_IN
    dtype: type = np.int32

    def setup(self) -> None:
        self.plan: LayerPlan = self.params["plan"]
        self.spikes = self._file("spikes", np.int32)
        self.membranes = self._file("membranes", self.dtype) if self.params["membranes"] else None
        self.lag = int(self.plan.neuron is not None)

    def _file(self, kind: str, dtype: type) -> np.ndarray:
        run = self.plan.run
        path = run.directory / f"{self.plan.index}.{kind}.npy"
        shape = (run.images, run.steps, *self.plan.shape)
        return np.lib.format.open_memmap(path, "w+", dtype, shape)

    def advance(self) -> None:
        self._keep(self.spikes, self.s_in.recv(), self.plan.logical(self.time_step - self.lag))
        if self.membranes is not None:
            self._keep(self.membranes, self.m_in.recv(), self.plan.logical(self.time_step))

    def _keep(self, file: np.ndarray, value: np.ndarray, step: int | None) -> None:
        if step is None:
            return
        file[step // self.plan.run.steps, step % self.plan.run.steps] = value
        if self.params["counts"]:
            (self.plan.run.directory / "steps").write_bytes((step + 1).to_bytes(8, "little"))


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class RecorderFloat(RecorderFixed):
    """The same for membranes in floating point."""

    m_in: PyInPort = FLOATS_IN
    dtype = np.float64
