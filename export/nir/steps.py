"""How a tool turns NIR's continuous time into steps: NIR has equations and no step, every tool has its own.

    tau dv/dt = (v_leak - v) + R I   becomes   v <- d*v + g*I + (1 - d)*v_leak

euler: d = 1 - dt/tau, g = (1 - d)*R. exponential: d = exp(-dt/tau), g = (1 - d)*R, exact for a constant input.
A tool may also differ from NIR's strict threshold, and from its reset: NIR has no word for a subtracted threshold, so
that a tool either refuses such a neuron or writes v_reset = 0 all the same. Sources: the tools' NIR import and export.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from randhet.export.graph import Array, ExportError
from randhet.fixed_point.network import Reset


@dataclass(frozen=True)
class Discretisation:
    """dt in the graph's unit of time; exponential or Euler decay; inclusive: spikes at v = theta already.

    unit_drive: an LIF has g = 1, whatever R is. unit_integrator: an IF adds I, not dt*R*I. reset: what a spike does to
    the membrane potential, at once; None where the tool's graphs do not say. unsaid: why not, and what is not read.
    """

    dt: float
    exponential: bool = False
    unit_drive: bool = False
    unit_integrator: bool = False
    inclusive: bool = False
    reset: Reset | None = "zero"
    unsaid: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.reset == "subtract" and (self.unsaid or self.inclusive):
            raise ExportError(self.unsaid or "neurons that spike at m = theta already are read with reset zero only")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ExportError(f"dt is {self.dt}, it must be a positive number")

    def decay(self, tau: Array) -> Array:
        """d in 0..1 for time constants tau; Euler does not exist for tau < dt."""
        tau = np.asarray(tau, np.float64)
        if not (tau > 0).all():
            raise ExportError(f"time constant {tau.min()} is not positive")
        if self.exponential:
            return np.exp(-self.dt / tau)
        if (tau < self.dt * (1 - 1e-9)).any():
            raise ExportError(f"time constant {tau.min():.3g} is shorter than a step of {self.dt:.3g}")
        return np.maximum(1 - self.dt / tau, 0.0)

    def drive(self, r: Array, decay: Array) -> Array:
        """The factor x = drive * I of the form v <- d*v + (1 - d)*(x + v_leak)."""
        return 1 / (1 - decay) if self.unit_drive else np.asarray(r, np.float64)

    def integrator(self, r: Array) -> Array:
        """The factor of I that an IF adds in a step."""
        return np.ones_like(r, np.float64) if self.unit_integrator else np.asarray(r, np.float64) * self.dt


SNNTORCH = (
    "snnTorch writes v_reset = 0 for every reset_mechanism: --reset zero reads neurons with 'zero' and "
    "reset_delay=False; a subtracted threshold, which acts late (the default) or misses spikes there, is not supported"
)
# With reset_delay=False its next step still sees m - theta > theta as a reset that is due, and asks for one more theta
SINABS = (
    "Sinabs does not write what a spike does: --reset zero reads neurons with MembraneReset and SingleSpike; its "
    "defaults, several spikes a step and a lowest membrane potential, are not supported"
)
TOOLS: dict[str, Discretisation] = {
    "snntorch": Discretisation(1e-4, reset=None, unsaid=SNNTORCH),
    "spikingjelly": Discretisation(1e-4, inclusive=True),
    "norse": Discretisation(1e-3, unit_integrator=True),
    "norse-export": Discretisation(1e-6, unit_integrator=True),
    "sinabs": Discretisation(
        1.0, exponential=True, unit_drive=True, unit_integrator=True, inclusive=True, reset=None, unsaid=SINABS
    ),
}
"""What each tool assumes of NIR, as of snnTorch 1.0, SpikingJelly 2.0, Norse 1.1, Sinabs 3.1. Norse runs a graph with
dt = 1 ms but writes tau multiplied by dt, hence its second entry, for graphs that come from it."""

OURS = Discretisation(1e-4)
"""What our own files are written with: Euler is the training neuron's own equation, tau = dt / (1 - decay)."""
