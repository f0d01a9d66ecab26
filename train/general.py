"""The leaky neuron as other libraries have it, step by step under autograd, and leaky read-outs.

    u[t] = a*u[t-1] + x[t]                      a the synapse: what the current keeps; 0, so that u = x, unless given
    m[t] = tau*m[t-1] + g*u[t]                  g = 1 - tau, or the drive where one is given (1: u enters whole)
    s[t] = 1 if m[t] > theta else 0             m[t] >= theta where the threshold is inclusive
    reset "zero": m <- 0 where s;  reset "subtract": m <- m - theta*s;  detached
    reset_delay 0: at once; 1: the spike of step t acts at t+1, on tau*m[t] + g*u[t+1]
    recurrent: x[t] + U s[t-1] + b in place of x[t], s[-1] = 0

With a synapse and a reset to zero it is the current-based (CUBA) neuron of NIR, Norse and Loihi.
Sources: snnTorch 1.0 (`Leaky`, `Lapicque`, `RLeaky`), SpikingJelly 2.0 (`LIFNode`, `IFNode`, `ParametricLIFNode`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks.spiking import Given, Site, TimeMean
from randhet.train.neurons import Neuron, Reset, surrogate


class Spike(torch.autograd.Function):
    """1 where the distance to the threshold is above 0 (or 0, where that is included); the arctan surrogate behind."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, alpha: float, inclusive: bool) -> Tensor:
        ctx.alpha = alpha
        ctx.save_for_backward(distance)
        return (distance >= 0 if inclusive else distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * surrogate(ctx.saved_tensors[0], ctx.alpha), None, None


def held(module: nn.Module, decay: float | Tensor, learn: bool) -> None:
    """Give a module its decay: a number, a buffer, or a parameter where it learns."""
    if learn:
        module.decay = nn.Parameter(torch.as_tensor(decay, dtype=torch.get_default_dtype()).clone())
    elif isinstance(decay, Tensor) and decay.dim():
        module.register_buffer("decay", decay.detach().clone())
    else:
        setattr(module, "decay", float(decay))  # noqa: B010 (a number on a module whose type does not declare it)


def leaked(m: Tensor, x: Tensor, decay: Tensor, drive: float | None) -> Tensor:
    """tau*m + g*x."""
    if drive is None:
        return decay * m + (1 - decay) * x
    return decay * m + (x if drive == 1 else drive * x)


def through_synapse(x: Tensor, synapse: float) -> Tensor:
    """Currents u[t] = a*u[t-1] + x[t] of (T, N, ...); x itself where nothing is kept."""
    if not synapse:
        return x
    kept, currents = torch.zeros_like(x[0]), []
    for given in x:
        kept = synapse * kept + given
        currents.append(kept)
    return torch.stack(currents)


def share(name: str, value: float) -> float:
    """A number in 0..1; RandhetError for others."""
    if not 0 <= value <= 1:
        raise RandhetError(f"{name} is {value}, the limits are 0 to 1")
    return float(value)


class GeneralLIF(Neuron):
    """Integrate currents (T, N, ...) leakily and spike; the module's equations with every choice open.

    decay: tau in 0..1, a number or a tensor that broadcasts against (N, ...), learned where `learn`. drive: what x is
    multiplied by, None for 1 - tau. synapse: a in 0..1, what its current keeps. reset_delay: 0 or 1 steps. inclusive:
    m = theta spikes. RandhetError for others. recurrent: a layer from the spikes of one step, (N, F) to (N, F), to what
    is added to x at the next; None for none.
    """

    decay: float | Tensor
    recurrent: nn.Linear | None

    def __init__(
        self,
        decay: float | Tensor,
        threshold: float = 1.0,
        *,
        drive: float | None = None,
        synapse: float = 0.0,
        reset: Reset = "zero",
        reset_delay: int = 0,
        inclusive: bool = False,
        learn: bool = False,
        alpha: float = 2.0,
        recurrent: nn.Linear | None = None,
    ) -> None:
        super().__init__(threshold, alpha, reset)
        self.recurrent = recurrent
        if reset_delay not in (0, 1):
            raise RandhetError(f"reset_delay is {reset_delay}, the limits are 0 to 1")
        self.drive, self.reset_delay, self.inclusive = drive, reset_delay, inclusive
        self.synapse = share("synapse", synapse)
        held(self, decay, learn)

    def forward(self, x: Tensor) -> Tensor:
        site = self.surrogate_rule if x.requires_grad and torch.is_grad_enabled() else None
        spikes, membranes = self.stepped(x) if site is None else self._attacked(x, site)
        if self.recorded is not None:
            self.recorded.append((spikes.detach(), membranes.detach()))
        return spikes

    def stepped(self, x: Tensor, slopes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes and membrane potentials before the reset; slopes: d spike / d m of every step in place of its own."""
        decay = torch.as_tensor(self.decay, dtype=x.dtype, device=x.device).clamp(0, 1)
        m = u = fired = spike = torch.zeros_like(x[0])
        spikes, membranes = [], []
        for t, current in enumerate(x):
            current = current if self.recurrent is None else current + self.recurrent(spike)
            u = current if not self.synapse else self.synapse * u + current
            m = leaked(m, u, decay, self.drive)
            m = self.after_reset(m, fired) if self.reset_delay else m
            spike = self._spike(m, None if slopes is None else slopes[t])
            fired = spike.detach()
            spikes.append(spike)
            membranes.append(m)
            m = m if self.reset_delay else self.after_reset(m, fired)
        return torch.stack(spikes), torch.stack(membranes)

    def _spike(self, m: Tensor, slope: Tensor | None) -> Tensor:
        distance = m - self.threshold
        if slope is None:
            own: Tensor = Spike.apply(distance, self.alpha, self.inclusive)
            return own
        fired = (distance >= 0 if self.inclusive else distance > 0).to(m.dtype)
        replaced: Tensor = Given.apply(m, fired.detach(), slope)
        return replaced

    def _attacked(self, x: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """The same under an attack's surrogate, which sees the potentials of all steps before it gives slopes."""
        with torch.no_grad():
            spikes, membranes = self.stepped(x)
            slopes = self._by_rate(x, site) if site.time == "rate" else site(membranes - self.threshold)
        if site.time == "carried":
            return self.stepped(x, slopes)
        return Given.apply(TimeMean.apply(x) if site.time == "mean" else x, spikes, slopes), membranes

    def _by_rate(self, x: Tensor, site: Site) -> Tensor:
        """d s[t] / d x[t] of a spike taken for the neuron's rate, a function of the mean of g*x[t] / theta."""
        if self.threshold <= 0 or self.synapse or self.recurrent is not None:
            raise RandhetError(
                f"layer {site.layer!r} has a current, spikes that return to it, or a threshold of 0 or less, of which "
                "there is no rate gradient approximation: choose a surrogate such as assg"
            )
        decay = torch.as_tensor(self.decay, dtype=x.dtype, device=x.device).clamp(0, 1).expand_as(x[:1])
        passed = (1 - decay if self.drive is None else torch.full_like(decay, self.drive)) / self.threshold
        return site.by_current((passed * x).mean(0, keepdim=True), decay) * passed.expand_as(x)

    def after_reset(self, m: Tensor, fired: Tensor) -> Tensor:
        """What spikes leave of a membrane potential."""
        return m - fired * self.threshold if self.reset == "subtract" else m * (1 - fired)

    def extra_repr(self) -> str:
        size = tuple(self.decay.shape) if isinstance(self.decay, Tensor) else ()
        decay = f"decays of shape {size}" if size else f"decay={float(self.decay):.4g}"
        decay += f", synapse={self.synapse}" if self.synapse else ""
        limit = f"{'inclusive ' if self.inclusive else ''}threshold={self.threshold}"
        own = ", which read their own spikes" * (self.recurrent is not None)
        return f"{decay}, drive={self.drive}, {limit}, reset={self.reset}, reset_delay={self.reset_delay}{own}"


class LeakyReadOut(nn.Module):
    """Membrane potentials (T, N, ...) of neurons that never spike: m[t] = tau*m[t-1] + g*u[t], as in `GeneralLIF`."""

    decay: float | Tensor

    def __init__(
        self, decay: float | Tensor, *, drive: float | None = None, synapse: float = 0.0, learn: bool = False
    ) -> None:
        super().__init__()
        self.drive, self.synapse = drive, share("synapse", synapse)
        held(self, decay, learn)

    def forward(self, x: Tensor) -> Tensor:
        decay = torch.as_tensor(self.decay, dtype=x.dtype, device=x.device).clamp(0, 1)
        m, membranes = torch.zeros_like(x[0]), []
        for current in through_synapse(x, self.synapse):
            m = leaked(m, current, decay, self.drive)
            membranes.append(m)
        return torch.stack(membranes)

    def extra_repr(self) -> str:
        size = tuple(self.decay.shape) if isinstance(self.decay, Tensor) else ()
        return (
            (f"decays of shape {size}" if size else f"decay={float(self.decay):.4g}")
            + f", drive={self.drive}"
            + (f", synapse={self.synapse}" if self.synapse else "")
        )


class LastStep(nn.Module):
    """(T, N, classes) to (N, classes): the last step."""

    def forward(self, x: Tensor) -> Tensor:
        return x[-1]


class MaxOverTime(nn.Module):
    """(T, N, classes) to (N, classes): the largest of all steps."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(0)
