"""How a tool turns NIR's continuous time into steps: NIR has equations and no step, every tool has its own.

    tau dv/dt = (v_leak - v) + R I   becomes   v <- d*v + g*I + (1 - d)*v_leak

euler: d = 1 - dt/tau, g = (1 - d)*R. exponential: d = exp(-dt/tau), g = (1 - d)*R, exact for a constant input.
A tool may also differ from NIR's strict threshold. Sources: the NIR import and export code of each tool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from randhet.export.graph import Array, ExportError


@dataclass(frozen=True)
class Discretisation:
    """dt in the graph's unit of time; exponential or Euler decay; inclusive: spikes at v = theta already.

    unit_drive: an LIF has g = 1, whatever R is. unit_integrator: an IF adds I, not dt*R*I.
    """

    dt: float
    exponential: bool = False
    unit_drive: bool = False
    unit_integrator: bool = False
    inclusive: bool = False

    def __post_init__(self) -> None:
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


TOOLS: dict[str, Discretisation] = {
    "snntorch": Discretisation(1e-4),
    "spikingjelly": Discretisation(1e-4, inclusive=True),
    "norse": Discretisation(1e-3, unit_integrator=True),
    "norse-export": Discretisation(1e-6, unit_integrator=True),
    "sinabs": Discretisation(1.0, exponential=True, unit_drive=True, unit_integrator=True, inclusive=True),
}
"""What each tool assumes of NIR, as of snnTorch 1.0, SpikingJelly 2.0, Norse 1.1, Sinabs 3.1. Norse runs a graph with
dt = 1 ms but writes tau multiplied by dt, hence its second entry, for graphs that come from it."""

OURS = TOOLS["snntorch"]
"""What our own files are written with: Euler is the training neuron's own equation, tau = dt / (1 - decay)."""
