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
from randhet.fixed_point.layers import MAX_DECAY_BITS
from randhet.fixed_point.network import Reset

LEAK_ERROR = 0.05
"""By how much of itself the leak 1 - d may change where d is rounded to the bits that a neuron has."""


EVERY: tuple[tuple[Reset, int], ...] = (("zero", 0), ("zero", 1), ("subtract", 0), ("subtract", 1))
"""What a spike can do, and how many steps later."""
AT_ONCE: tuple[tuple[Reset, int], ...] = (("zero", 0), ("subtract", 0))


@dataclass(frozen=True)
class Discretisation:
    """dt in the graph's unit of time; exponential or Euler decay; inclusive: spikes at v = theta already.

    unit_drive: an LIF has g = 1, whatever R is. unit_integrator: an IF adds I, not dt*R*I. unit_synapse: a synapse adds
    I, not (1 - d)*w_in*I. starts_at_leak: neurons start at v_leak, not at 0. reset: what a spike does to the membrane
    potential, at once or with reset_delay 1 at the next step; None where the tool's graphs do not say. floor: the
    lowest membrane potential. resets: the pairs (reset, reset_delay) of the tool that are read. late_zero_returns: only
    neurons that read their own spikes reset to zero late. unsaid: why its graphs do not say what a spike does, and what
    is not read. version: the tool's, whose defaults are known.
    """

    dt: float
    exponential: bool = False
    unit_drive: bool = False
    unit_integrator: bool = False
    unit_synapse: bool = False
    starts_at_leak: bool = False
    inclusive: bool = False
    reset: Reset | None = "zero"
    reset_delay: int = 0
    floor: float | None = None
    resets: tuple[tuple[Reset, int], ...] = field(default=EVERY, repr=False)
    late_zero_returns: bool = field(default=False, repr=False)
    unsaid: str = field(default="", repr=False)
    version: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.reset is not None and (self.reset, self.reset_delay) not in self.resets:
            late = " one step late" * self.reset_delay
            raise ExportError(self.unsaid or f"{self.version} has no neurons with reset {self.reset}{late}")
        if self.reset is not None and not self.allows(self.reset):
            raise ExportError("neurons that spike at m = theta already are read with reset zero only")
        if self.floor is not None and not (np.isfinite(self.floor) and self.floor <= 0):
            raise ExportError(f"the lowest membrane potential is {self.floor}, it must be a number of at most 0")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ExportError(f"dt is {self.dt}, it must be a positive number")

    def allows(self, reset: Reset) -> bool:
        """Whether integers can reset so: a threshold that is one unit lower cannot be subtracted as a whole."""
        return reset == "zero" or not self.inclusive

    def decay(self, tau: Array) -> Array:
        """d in 0..1 for time constants tau; Euler does not exist for tau < dt, nor the bits for tau much above it."""
        tau = np.asarray(tau, np.float64)
        if not (tau > 0).all():
            raise ExportError(f"time constant {tau.min()} is not positive")
        if not self.exponential and (tau < self.dt * (1 - 1e-9)).any():
            raise ExportError(f"time constant {tau.min():.3g} is shorter than a step of {self.dt:.3g}")
        decay = np.exp(-self.dt / tau) if self.exponential else np.maximum(1 - self.dt / tau, 0.0)
        self._representable(tau, decay)
        return decay

    def _representable(self, tau: Array, decay: Array) -> None:
        """ExportError where a decay that is rounded to the bits there are would leak by another amount."""
        unity = 1 << MAX_DECAY_BITS
        rounded = np.minimum(np.rint(decay * unity), unity - 1)
        error = np.abs(rounded - decay * unity) / (unity - decay * unity + 1e-30)
        if (error > LEAK_ERROR).any():
            slow, leak = tau.flat[error.argmax()], (unity - rounded.flat[error.argmax()]) / unity
            raise ExportError(
                f"time constant {slow:.3g} leaks {self.dt / slow:.3g} in a step of {self.dt:.3g}, which in "
                f"{MAX_DECAY_BITS} bits is {leak:.3g}, another by more than {LEAK_ERROR:.0%}: a longer step (--dt) fits"
            )

    def start(self, leak: Array) -> None:
        """ExportError where neurons start at v_leak and that is not 0, where integer neurons start."""
        if self.starts_at_leak and np.any(leak != 0):
            level = np.ravel(leak)[np.flatnonzero(leak)[0]]
            raise ExportError(f"starts at v_leak = {level:.3g} in {self.version}, integer neurons start at 0")

    def synapse(self, w_in: Array, decay: Array) -> Array:
        """The factor of I that a synapse with this decay adds to its current in a step."""
        return np.ones_like(w_in, np.float64) if self.unit_synapse else (1 - decay) * w_in

    def drive(self, r: Array, decay: Array) -> Array:
        """The factor x = drive * I of the form v <- d*v + (1 - d)*(x + v_leak)."""
        return 1 / (1 - decay) if self.unit_drive else np.asarray(r, np.float64)

    def integrator(self, r: Array) -> Array:
        """The factor of I that an IF adds in a step."""
        return np.ones_like(r, np.float64) if self.unit_integrator else np.asarray(r, np.float64) * self.dt


SNNTORCH = (
    "snnTorch writes v_reset = 0 for every reset_mechanism: --reset zero reads neurons with 'zero' and "
    "reset_delay=False, and Leaky with 'zero' in any case; with --reset-delay 1 it reads RLeaky with 'zero', and "
    "--reset subtract those with 'subtract', where both have reset_delay=True, the default; 'subtract' with "
    "reset_delay=False, which misses spikes there, is not supported"
)
# With reset_delay=False its next step still sees m - theta > theta as a reset that is due, and asks for one more theta
SINABS = (
    "Sinabs does not write what a spike does, nor norm_input: --reset zero reads neurons with MembraneReset, "
    "SingleSpike and norm_input=False, and --floor those of LIF that have a min_v_mem; its defaults, several spikes a "
    "step and divided input, are not supported"
)
TOOLS: dict[str, Discretisation] = {
    "snntorch": Discretisation(
        1e-4,
        unit_integrator=True,
        reset=None,
        resets=(("zero", 0), ("zero", 1), ("subtract", 1)),
        late_zero_returns=True,
        unsaid=SNNTORCH,
        version="snnTorch 1.0",
    ),
    "spikingjelly": Discretisation(1e-4, inclusive=True, resets=AT_ONCE, version="SpikingJelly 2.0"),
    "norse": Discretisation(1e-3, unit_integrator=True, starts_at_leak=True, resets=AT_ONCE, version="Norse 1.1"),
    "norse-export": Discretisation(
        1e-6, unit_integrator=True, unit_synapse=True, starts_at_leak=True, resets=AT_ONCE, version="Norse 1.1"
    ),
    "sinabs": Discretisation(
        1.0,
        exponential=True,
        unit_drive=True,
        unit_integrator=True,
        inclusive=True,
        reset=None,
        resets=(("zero", 0),),
        unsaid=SINABS,
        version="Sinabs 3.1",
    ),
}
"""What each tool assumes of NIR. Norse runs a graph with dt = 1 ms but writes tau multiplied by dt and the current of a
synapse undivided, hence its second entry, for graphs that come from it. snnTorch writes no IF; read by it, one adds its
input as it is (1.0 leaks at 0.9 there)."""

OURS = Discretisation(1e-4)
"""What our own files are written with: Euler is the training neuron's own equation, tau = dt / (1 - decay)."""
