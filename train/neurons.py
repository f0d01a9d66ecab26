"""Leaky integrate-and-fire neurons over T steps as one autograd function.

    m[t] = tau*m[t-1] + (1 - tau)*x[t];  s[t] = 1 if m[t] > theta
    reset "zero": m[t] <- m[t]*(1 - s[t]);  reset "subtract": m[t] <- m[t] - theta*s[t];  both detached, at once

tau is the decay of the membrane potential; other libraries call it beta, and call a time constant tau. Random decays
are sigmoid(sigma*n), n ~ N(0, 1), per neuron and image, drawn at every step or held for a forward pass; the backward
pass draws them again from the same seed instead of storing them. Source: Wang et al., iScience 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import log, pi
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train import cpu, gpu
from randhet.train.attacks.spiking import Given, Site, TimeMean
from randhet.train.cpu import CpuLif
from randhet.train.kernels import Cell

Reset = Literal["zero", "subtract"]
RESETS: tuple[str, ...] = get_args(Reset)
"""What a spike does to the membrane potential: sets it to 0, or lowers it by the threshold."""
Decay = Callable[[int], Tensor]
"""Step t to the decays of that step, broadcastable to (N, ...)."""
Decays = cpu.Decays | gpu.Decays
"""Where the compiled kernels take decays from, on the CPU or on a GPU."""
Slope = Callable[[Tensor], Tensor]
"""Decays to their derivative by the learned parameter; none where the decays are learned themselves."""
Sampler = Callable[[tuple[int, ...]], Tensor]
"""Shape (T, N, ...), or (N, ...) for per-forward sampling, to taus: drives a network with given draws."""


def on_cpu(x: Tensor) -> bool:
    """Whether currents lie in the processor's memory."""
    return x.device.type == "cpu"


def fixed(decay: Tensor, x: Tensor) -> Decays | None:
    """Constant decays for the compiled kernels that take these currents; None where there are none."""
    if on_cpu(x):
        return cpu.constant_decays(decay)
    return gpu.constant_decays(decay) if gpu.supported(x) else None


def surrogate(distance: Tensor, alpha: float) -> Tensor:
    """d spike / d membrane = alpha/2 / (1 + (pi/2 * alpha * (m - theta))^2), the arctan family."""
    return (alpha / 2) / (distance.mul(pi / 2 * alpha).square_().add_(1))


def logit(p: float) -> float:
    """The inverse of the sigmoid, for p in (0, 1)."""
    return log(p / (1 - p))


class FusedLif(torch.autograd.Function):
    """All T steps forward and backward. Keeps the membranes (T, N, ...) for backward, never the decays.

    site: gives the slopes of the spikes, d spike / d m, instead of `cell.alpha`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        learned: Tensor | None,
        decay: Decay,
        slope: Slope | None,
        cell: Cell,
        site: Site | None = None,
    ) -> Any:
        membranes = torch.empty_like(x, memory_format=torch.contiguous_format)
        spikes = torch.empty_like(membranes)
        m = torch.zeros_like(membranes[0])
        for t in range(len(x)):
            torch.lerp(x[t], m, decay(t).to(x.dtype).expand_as(m), out=membranes[t])
            spikes[t] = membranes[t] > cell.theta
            m = after_reset(membranes[t], cell)
        ctx.decay, ctx.slope, ctx.cell = decay, slope, cell
        slopes = None if site is None else site(membranes - cell.theta)
        ctx.save_for_backward(membranes, x if learned is not None else None, learned, slopes)
        ctx.mark_non_differentiable(membranes)
        return spikes, membranes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        membranes, x, learned, slopes = ctx.saved_tensors
        cell = ctx.cell
        grad_x, gradient = torch.empty_like(membranes), None if learned is None else torch.zeros_like(learned)
        carried = torch.zeros_like(membranes[0])
        for t in reversed(range(len(membranes))):
            m, decay = membranes[t], ctx.decay(t).to(membranes.dtype)
            if not cell.subtract:  # m - theta has the slope of m, a membrane potential set to 0 has none
                carried.masked_fill_(m > cell.theta, 0)
            carried.addcmul_(grads[0][t], surrogate(m - cell.theta, cell.alpha) if slopes is None else slopes[t])
            if gradient is not None:
                before = after_reset(membranes[t - 1], cell) if t else torch.zeros_like(m)
                by_tau = carried * (before - x[t])
                gradient += (by_tau * ctx.slope(decay) if ctx.slope else by_tau).sum_to_size(learned.shape)
            kept = carried * decay
            torch.sub(carried, kept, out=grad_x[t])
            carried = kept
        return grad_x, gradient, None, None, None, None


def after_reset(membrane: Tensor, cell: Cell) -> Tensor:
    """What a spike leaves of the membrane potential; itself where it does not exceed the threshold."""
    fired = membrane > cell.theta
    return torch.where(fired, membrane - cell.theta, membrane) if cell.subtract else membrane.masked_fill(fired, 0)


class Neuron(nn.Module):
    """What the neurons share: threshold, surrogate, reset, and an optional recording of spikes and membranes.

    surrogate_rule: what an attack puts in place of the surrogate (`randhet.train.attacks.spiking`); None in training.
    """

    stochastic = False
    """Whether two answers to the same current can differ."""

    def __init__(self, threshold: float = 0.5, alpha: float = 2.0, reset: Reset = "zero") -> None:
        super().__init__()
        self.threshold, self.alpha, self.reset = threshold, alpha, reset
        self.recorded: list[tuple[Tensor, Tensor]] | None = None
        self.surrogate_rule: Site | None = None

    @property
    def reset(self) -> Reset:
        """What a spike does to the membrane potential."""
        return self._reset

    @reset.setter
    def reset(self, value: Reset) -> None:
        if value not in RESETS:
            raise RandhetError(f"reset {value!r} is not one of {', '.join(RESETS)}")
        self._reset = value

    def integrate(
        self,
        x: Tensor,
        decay: Decay,
        decays: Decays | None = None,
        learned: Tensor | None = None,
        slope: Slope | None = None,
    ) -> Tensor:
        """Currents (T, N, ...) to spikes of the same shape; compiled where that is possible and nobody records."""
        cell = Cell(float(self.threshold), float(self.alpha), self.reset == "subtract")
        site = self.surrogate_rule if x.requires_grad and torch.is_grad_enabled() else None
        if site is not None and site.time != "carried":
            return self._without_time(x, decay, cell, site)
        if isinstance(decays, cpu.Decays) and self.recorded is None and cpu.supported(x):
            spikes: Tensor = CpuLif.apply(x, learned, decays, cell, site)
            return spikes
        if isinstance(decays, gpu.Decays) and self.recorded is None and site is None:
            spikes = gpu.GpuLif.apply(x, learned, decays, cell)
            return spikes
        spikes, membranes = FusedLif.apply(x, learned, decay, slope, cell, site)
        if self.recorded is not None:
            self.recorded.append((spikes.detach(), membranes))
        return spikes

    def _without_time(self, x: Tensor, decay: Decay, cell: Cell, site: Site) -> Tensor:
        """Spikes whose gradient passes to the currents past the membrane potential, mixed over time or not."""
        with torch.no_grad():
            spikes, membranes = FusedLif.apply(x, None, decay, None, cell)
            slopes = _by_rate(x, decay, cell, site) if site.time == "rate" else site(membranes - cell.theta)
        given: Tensor = Given.apply(TimeMean.apply(x) if site.time == "mean" else x, spikes, slopes)
        return given


def _by_rate(x: Tensor, decay: Decay, cell: Cell, site: Site) -> Tensor:
    """d s[t] / d x[t] of a spike taken for the neuron's rate, a function of the mean of (1 - tau[t])*x[t] / theta."""
    if cell.theta <= 0:
        raise RandhetError(
            f"layer {site.layer!r} has the threshold {cell.theta}, the rate gradient approximation needs one above 0: "
            "choose a surrogate such as assg"
        )
    taus = torch.stack([decay(t).to(x.dtype).expand_as(x[t]) for t in range(len(x))])
    passed = (1 - taus) / cell.theta
    return site.by_current((passed * x).mean(0, keepdim=True), taus.mean(0, keepdim=True)) * passed


class RandomTauLIF(Neuron):
    """RandHet: tau = sigmoid(sigma*n) anew per neuron and image at every step, or per forward pass (RandHet*).

    With `bounds` (low, high), sigma = low + (high - low)*sigmoid(w) with w trained, its own or one shared by all.
    """

    def __init__(
        self,
        sigma: float = 1.0,
        threshold: float = 0.5,
        sampling: Literal["step", "forward"] = "step",
        alpha: float = 2.0,
        bounds: tuple[float, float] | None = None,
        shared: nn.Parameter | None = None,
        reset: Reset = "zero",
    ) -> None:
        super().__init__(threshold, alpha, reset)
        self.sampling, self.bounds = sampling, bounds
        self.sampler: Sampler | None = None
        self.w = shared if shared is not None or bounds is None else nn.Parameter(torch.zeros(()))
        self.fixed, self.sigma = sigma, sigma

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether decays are drawn; with a sampler they are given."""
        return self.sampler is None

    @contextmanager
    def at_mean(self) -> Iterator[None]:
        """Within the block tau = 1/2, the mean of sigmoid(sigma*n), n ~ N(0, 1), at any sigma."""
        before, self.sampler = self.sampler, torch.tensor(0.5).expand
        try:
            yield
        finally:
            self.sampler = before

    @property
    def sigma(self) -> float:
        """The spread of logit(tau)."""
        return self.fixed if self.w is None else float(self.bounded(self.w.detach()))

    @sigma.setter
    def sigma(self, value: float) -> None:
        self.fixed = value
        if self.w is not None and self.bounds is not None:
            low, high = self.bounds
            if not low < value < high:
                raise RandhetError(f"sigma {value} must lie between its bounds {low} and {high}")
            with torch.no_grad():
                self.w.fill_(logit((value - low) / (high - low)))

    def bounded(self, w: Tensor) -> Tensor:
        """The trained sigma of a parameter."""
        assert self.bounds is not None
        return self.bounds[0] + (self.bounds[1] - self.bounds[0]) * w.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        if self.sampler:
            return self.integrate(x, self._given(x))
        seed, sigma = int(torch.randint(2**62, ())), self.sigma
        if self.w is not None and self.training:
            slope = lambda tau: tau * (1 - tau) * torch.logit(tau, 1e-6) / sigma  # tau = sigmoid(sigma*n) by sigma
            return self.integrate(x, self.draws(x, seed), learned=self.bounded(self.w), slope=slope)
        return self.integrate(x, self.draws(x, seed), self._decays(x, seed))

    def _decays(self, x: Tensor, seed: int) -> Decays | None:
        """What a seed gives to the compiled kernels, of the CPU or of Triton; None where there are none."""
        if on_cpu(x):
            return cpu.random_decays(seed, len(x), self.sigma, self.sampling)
        if gpu.supported(x):
            return gpu.random_decays(seed, len(x), self.sigma, self.sampling, x.device)
        return None

    def _given(self, x: Tensor) -> Decay:
        assert self.sampler is not None
        per_step = self.sampling == "step"
        taus = self.sampler(tuple(x.shape) if per_step else tuple(x.shape[1:])).to(x)
        return lambda t: taus[t] if per_step else taus

    def draws(self, x: Tensor, seed: int) -> Decay:
        """The decays of each step for currents (T, N, ...), from the seed alone: what the kernels draw, if any."""
        sigma, held, decays = self.sigma, self.sampling == "forward", self._decays(x, seed)
        if isinstance(decays, cpu.Decays):
            return lambda t: cpu.drawn(decays, t, x)
        if isinstance(decays, gpu.Decays):
            return lambda t: gpu.drawn(decays, t, x)

        def draw(t: int) -> Tensor:
            generator = torch.Generator(x.device).manual_seed(seed + (0 if held else t))
            noise = torch.randn(x.shape[1:], generator=generator, device=x.device, dtype=torch.float32)
            return noise.mul_(sigma).sigmoid_()

        return draw

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, threshold={self.threshold}, sampling={self.sampling}, reset={self.reset}"


class LIF(Neuron):
    """The vanilla neuron: one constant decay."""

    def __init__(self, decay: float = 0.5, threshold: float = 0.5, alpha: float = 2.0, reset: Reset = "zero") -> None:
        super().__init__(threshold, alpha, reset)
        self.decay = decay

    def forward(self, x: Tensor) -> Tensor:
        constant = torch.full((), self.decay, dtype=x.dtype, device=x.device)
        return self.integrate(x, lambda t: constant, fixed(constant, x))

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}, reset={self.reset}"


class HetLIF(Neuron):
    """Het-SNN: decay = sigmoid(w), w trainable, one per neuron; starts as sigma*N(0, 1)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        sigma: float = 1.0,
        threshold: float = 0.5,
        alpha: float = 2.0,
        reset: Reset = "zero",
    ) -> None:
        super().__init__(threshold, alpha, reset)
        w = torch.empty(shape)
        # on the meta device shapes are all there is, and random numbers would import torch's compiler
        self.w = nn.Parameter(w if w.is_meta else sigma * torch.randn(shape))

    @property
    def decay(self) -> Tensor:
        """One per neuron, in 0..1."""
        return self.w.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        decay = self.decay
        constant = decay.detach()
        return self.integrate(x, lambda t: constant, fixed(constant, x), decay)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.w.shape)}, threshold={self.threshold}, reset={self.reset}"


def neurons(model: nn.Module) -> dict[str, Neuron]:
    """Every neuron module by its name, in order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Neuron)}


@contextmanager
def replaying(model: nn.Module, samplers: Mapping[str, Sampler]) -> Iterator[None]:
    """Within the block, the named random neurons take their taus from the samplers instead of drawing."""
    modules = neurons(model)
    with ExitStack() as stack:
        for name, sampler in samplers.items():
            module = modules[name]
            assert isinstance(module, RandomTauLIF)
            stack.callback(setattr, module, "sampler", module.sampler)
            module.sampler = sampler
        yield


class Forgotten(list[tuple[Tensor, Tensor]]):
    """A record that keeps nothing."""

    def append(self, value: tuple[Tensor, Tensor]) -> None:
        """Drop the value."""


@contextmanager
def recording(
    model: nn.Module, names: Collection[str] | None = None
) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Within the block, each neuron appends (spikes, membranes before reset), both (T, N, ...), per forward pass.

    names: of the neurons that do, None for all.
    """
    modules = neurons(model)
    logs: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modules}
    for name, module in modules.items():
        # the others record too, so that all of them compute as they do when they are recorded
        module.recorded = logs[name] if names is None or name in names else Forgotten()
    try:
        yield logs
    finally:
        for module in modules.values():
            module.recorded = None
