"""Process models of what has no weights: the input, sums of branches, pools and recorders."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from randhet.fixed_point import reference
from randhet.lava_runtime.plan import LayerPlan
from randhet.lava_runtime.processes.guarded import MESSAGE, MESSAGE_IN, MESSAGE_OUT, Guarded
from randhet.lava_runtime.processes.process import GradedInput, Pool, Recorder, ResidualSum
from randhet.lava_runtime.wire import KINDS, Wire, arranged, in_order


@implements(proc=GradedInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class InputModel(Guarded):
    """Streams from a memory map, so that memory does not grow with the number of images."""

    s_out: PyOutPort = MESSAGE_OUT

    def setup(self) -> None:
        self.pixels = np.load(self.params["run"].directory / "pixels.npy", mmap_mode="r")

    def advance(self) -> None:
        run, wire, step = self.params["run"], self.params["wire"], self.time_step - 1
        if step % run.steps == 0:
            self.message = np.zeros(wire.packet, np.uint8)
            if step < run.total:
                images = self.pixels[run.place(step)[0]]
                self.message[: len(images)] = wire.encode(images.reshape(len(images), wire.channels, -1).swapaxes(1, 2))
        self.s_out.send(self.message)


@implements(proc=ResidualSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class ResidualSumModel(Guarded):
    """Adds in the step it receives; the messages of the earlier branch wait in a ring."""

    a_in: PyInPort = MESSAGE_IN
    b_in: PyInPort = MESSAGE_IN
    s_out: PyOutPort = MESSAGE_OUT
    a_line: np.ndarray = MESSAGE
    b_line: np.ndarray = MESSAGE

    def waited(self, message: np.ndarray, line: np.ndarray, wait: int) -> np.ndarray:
        """The message that arrived `wait` steps ago."""
        if not wait:
            return message
        slot = self.time_step % wait
        # the place in the ring was written `wait` steps ago, and is free once it is read
        arrived = line[slot].copy()
        line[slot] = message
        return arrived

    def advance(self) -> None:
        waits, out = self.params["wait"], self.params["out"]
        a = self.waited(self.a_in.recv(), self.a_line, waits[0])
        b = self.waited(self.b_in.recv(), self.b_line, waits[1])
        parts = (
            arranged(wire.decode(message), out.pixels)
            for wire, message in ((self.params["a"], a), (self.params["b"], b))
        )
        self.s_out.send(out.encode(np.add(*parts, dtype=KINDS[out.bits])))


@implements(proc=Pool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class PoolModel(Guarded):
    """The reference's own sum over windows."""

    s_in: PyInPort = MESSAGE_IN
    s_out: PyOutPort = MESSAGE_OUT

    def advance(self) -> None:
        plan: LayerPlan = self.params["plan"]
        values = in_order(plan.source.decode(self.s_in.recv()), plan.shape_in).astype(np.int64)
        total = reference.operate(plan.layer.operation, [values])
        self.s_out.send(plan.wire.encode(total.reshape(len(total), plan.wire.channels, -1).swapaxes(1, 2)))


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class RecorderModel(Guarded):
    """Files (images, T, *shape); spikes of a logical step arrive one time step after its membranes."""

    s_in: PyInPort = MESSAGE_IN
    m_in: PyInPort = MESSAGE_IN

    def setup(self) -> None:
        self.plan: LayerPlan = self.params["plan"]
        self.source, self.seen = self.params["source"], self.params["membranes"]
        self.spikes = self._file("spikes", np.int32)
        self.membranes = self._file("membranes", KINDS[self.seen.bits]) if self.seen else None
        self.lag = int(self.plan.layer.neuron is not None)

    def _file(self, kind: str, dtype: type) -> np.ndarray:
        run = self.plan.run
        path = run.directory / f"{self.plan.index}.{kind}.npy"
        shape = (run.images, run.steps, *self.plan.shape)
        return np.lib.format.open_memmap(path, "w+", dtype, shape)

    def advance(self) -> None:
        self._keep(self.spikes, self.source, self.s_in.recv(), self.plan.logical(self.time_step - self.lag))
        if self.membranes is not None:
            self._keep(self.membranes, self.seen, self.m_in.recv(), self.plan.logical(self.time_step))

    def _keep(self, file: np.ndarray, wire: Wire, message: np.ndarray, step: int | None) -> None:
        if step is None:
            return
        run = self.plan.run
        images, t = run.place(step)
        file[images, t] = in_order(wire.decode(message[: run.lanes(step)]), self.plan.shape)
        if self.params["counts"] and file is self.spikes:
            done = images.stop * run.steps if t == run.steps - 1 else images.start * run.steps + t + 1
            (run.directory / "steps").write_bytes(done.to_bytes(8, "little"))
