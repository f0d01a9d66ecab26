"""The shift registers of a layer as a Lava process holds them: one per core and lane, moved by jumps or serially."""

from __future__ import annotations

import numpy as np

from randhet.fixed_point.engine.plan import Tile, Visits, columns, make_registers, visits
from randhet.fixed_point.kernels import registers as events
from randhet.fixed_point.network import Drawn
from randhet.lava_runtime.plan import LayerPlan


class CoreRegisters:
    """How registers (batch, cores) uint32 move. They hold the state before the next draw; lane is an image of a round.

    Lane l of round j is image j*batch + l, so from round to round a lane's registers jump over the other lanes' draws.
    """

    def __init__(self, plan: LayerPlan, decay: Drawn) -> None:
        self.plan = plan
        self.start = make_registers(decay, plan.shape, plan.index, plan.run.master)
        self.each_step = decay.sampling == "step"
        self.distances = {int(b): np.flatnonzero(self.start.before == b) for b in np.unique(self.start.before)}
        self.table = decay.table.astype(np.int64)

    def begin(self) -> np.ndarray:
        """The registers before the first image of each lane."""
        run, per_image = self.plan.run, self.plan.run.steps if self.each_step else 1
        rounds = [(run.first_image + lane) * per_image for lane in range(run.batch)]
        return np.stack([self.start.moved(number) for number in rounds])

    def move(self, registers: np.ndarray, rounds: int) -> None:
        """Over whole rounds, each one draw of every neuron; the last core may have fewer neurons."""
        near, far = self.start.round(rounds)
        # all move as if their cores were full; the last core, which may be smaller, then once more from where it was
        flat, last = registers.reshape(-1).copy(), registers[:, -1].copy()
        events.jump(flat, near)
        events.jump(last, far)
        registers[:] = flat.reshape(registers.shape)
        registers[:, -1] = last

    def next_step(self, registers: np.ndarray) -> None:
        """After a step's draws. Decays drawn once per image are drawn again from the same state each time."""
        if self.each_step:
            self.move(registers, 1)

    def skip(self, registers: np.ndarray) -> None:
        """From the end of an image to the start of the next in the same lane."""
        run = self.plan.run
        rounds = (run.batch - 1) * run.steps if self.each_step else run.batch
        if rounds:
            self.move(registers, rounds)

    def entries(self, registers: np.ndarray) -> np.ndarray:
        """States (lanes, entries) where each visit of a core to a channel begins, by jumps within the round."""
        # a copy: entries move within the round, the registers stay at its beginning
        states = registers[:, self.start.core]
        for before, which in self.distances.items():
            if before:
                states_of_core = states[:, which].reshape(-1)
                events.jump(states_of_core, columns(before))
                states[:, which] = states_of_core.reshape(len(states), -1)
        return states

    def move_entries(self, states: np.ndarray) -> None:
        """After a step's draws: each entry of a core is as many draws further on as the core itself."""
        if self.each_step:
            near, far = self.start.round()
            flat, last = states.reshape(-1).copy(), states[:, self.start.last].reshape(-1)
            events.jump(flat, near)
            events.jump(last, far)
            states[:] = flat.reshape(states.shape)
            states[:, self.start.last] = last.reshape(len(states), -1)

    def visits(self, tile: Tile) -> Visits:
        """The entries in the channels of a tile."""
        return visits(self.start, tile)

    def draw(self, registers: np.ndarray) -> np.ndarray:
        """The decays of a step, (batch, pixels, channels), drawn serially, core after core, neuron after neuron."""
        drawn = []
        for lane in registers:
            moved = lane.astype(np.int64)
            drawn.append(events.advance(moved, self.start.sizes.astype(np.int64), self.table))
            if self.each_step:
                lane[:] = moved
        return np.stack(drawn).reshape(len(registers), self.plan.wire.channels, -1).swapaxes(1, 2)
