"""Process models of what has no weights: the input, sums of branches, pools and recorders."""

from __future__ import annotations

import os

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.lava_runtime.plan import LayerPlan
from randhet.lava_runtime.processes.guarded import MESSAGE, MESSAGE_IN, MESSAGE_OUT, Guarded
from randhet.lava_runtime.processes.process import GradedInput, Grid, Junction, Recorder
from randhet.lava_runtime.wire import KINDS, Wire, any_of, arranged, in_order, summed


@implements(proc=GradedInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class InputModel(Guarded):
    """Reads an image, or a frame, when it is due, so that memory grows neither with images nor with T."""

    s_out: PyOutPort = MESSAGE_OUT

    def setup(self) -> None:
        self.path = self.params["run"].directory / "pixels.npy"
        # only what the file says of itself is kept: pages of a map would add up while a run goes on
        pixels = np.load(self.path, mmap_mode="r")
        self.kind, self.begin = pixels.dtype, pixels.offset

    def advance(self) -> None:
        run, wire, step = self.params["run"], self.params["wire"], self.time_step - 1
        sequence = self.params["sequence"]
        if sequence or step % run.steps == 0:
            self.message = np.zeros(wire.packet, np.uint8)
            if step < run.total:
                images, t = run.place(step)
                frames = [n * run.steps + t if sequence else n for n in range(images.start, images.stop)]
                self.message[: len(frames)] = wire.encode(np.stack([self.frame(wire, n) for n in frames]))
        self.s_out.send(self.message)

    def frame(self, wire: Wire, number: int) -> np.ndarray:
        """Read values (pixels, channels) of the frame of this number in the file."""
        size = wire.channels * wire.pixels
        place = self.begin + number * size * self.kind.itemsize
        return np.fromfile(self.path, self.kind, size, offset=place).reshape(wire.channels, -1).T


@implements(proc=Junction, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class JunctionModel(Guarded):
    """Joins in the step it receives; the messages of the earlier branch wait in a ring."""

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
        first, second = (
            arranged(wire.decode(message), out.pixels)
            for wire, message in ((self.params["a"], a), (self.params["b"], b))
        )
        self.s_out.send(out.encode(joined(self.params["operation"], first, second, KINDS[out.bits])))


def joined(operation: ir.Operation, first: np.ndarray, second: np.ndarray, kind: type) -> np.ndarray:
    """Join values (lanes, pixels, channels) of two branches; kind holds every result."""
    match operation:
        case ir.Add():
            return np.add(first, second, dtype=kind)
        case ir.Concat():
            return np.concatenate([first, second], axis=-1)
        case _:
            # neuron by neuron: any order of the axes will do
            return reference.operate(operation, [first, second])


@implements(proc=Grid, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "floating_pt")
class GridModel(Guarded):
    """The reference's own pools and spreads."""

    s_in: PyInPort = MESSAGE_IN
    s_out: PyOutPort = MESSAGE_OUT

    def advance(self) -> None:
        plan: LayerPlan = self.params["plan"]
        operation, message = plan.layer.operation, self.s_in.recv()
        if isinstance(operation, ir.MaxPool) and plan.source.bits == 1:
            self.s_out.send(any_of(operation, message, plan.shape_in))
            return
        values = in_order(plan.source.decode(message), plan.shape_in).astype(np.int64)
        made = (
            summed(operation, values) if isinstance(operation, ir.SumPool) else reference.operate(operation, [values])
        )
        self.s_out.send(plan.wire.encode(made.reshape(len(made), plan.wire.channels, -1).swapaxes(1, 2)))


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
        self.lag = int(self.plan.layer.weighted is not None)
        self.opened = -1

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
            os.pwrite(self.progress(), done.to_bytes(8, "little"), 0)

    def progress(self) -> int:
        """The open file that says how many steps are done: opening it at every step would take longer than the step."""
        if self.opened < 0:
            self.opened = os.open(self.plan.run.directory / "steps", os.O_CREAT | os.O_WRONLY, 0o600)
        return self.opened
