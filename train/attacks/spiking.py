"""What attacks know of spiking modules, and all that they know.

A spike is s = 1 if u > 0, u = m - theta, m the membrane potential before the reset. Its derivative is 0 almost
everywhere, so gradients pass it by a surrogate, a slope d s / d m per neuron, step and image. An attack may choose it:

    with replaced(model, rule) as layers:       # names of the modules whose surrogate is replaced
        rule.begin()                            # before every forward pass whose gradient is taken
        model(images)...

The forward pass never changes. A module of any library takes part in one of these ways:

| attribute | is | in |
| --- | --- | --- |
| `surrogate_rule` | None, or what the module calls with its u, (T, N, ...), for slopes when gradients are on | here |
| `spike_grad` | called with u, returns spikes | snnTorch |
| `surrogate_function` | a module called with u, returns spikes | SpikingJelly |

Two more attributes are optional. `stochastic`: whether two answers of the module can differ. `at_mean()`: a context in
which the module acts without randomness, at the mean of what it draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError

Time = Literal["carried", "cut", "mean", "rate"]
Key = Hashable
"""A layer and which of its calls of this forward pass it is."""


class Rule:
    """Slopes d s / d m that an attack chooses. A rule defines `slopes`; one with a memory also `forget`.

    time: how gradients pass through the steps of a neuron. carried: m[t] depends on m[t-1], as in training. cut: as if
    d m[t] / d x[t] = 1 and nothing else. mean: like cut, and every step gets the mean over the steps. rate: a spike is
    taken for the rate of the neuron, a function of its mean current, and the rule defines `rates` instead of `slopes`.
    """

    time: Time = "carried"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.learns = True

    def begin(self, learns: bool = True) -> None:
        """Say that a forward pass begins; one that does not learn, such as a further EOT sample, changes no memory."""
        self.calls.clear()
        self.learns = learns

    def forget(self) -> None:
        """Begin with other images: nothing of the earlier ones is kept."""

    def slopes(self, key: Key, u: Tensor, timed: bool) -> Tensor:
        """Return d s / d m for u, (T, N, ...) where it is timed, else (N, ...) of one step; u may be overwritten."""
        raise NotImplementedError

    def rates(self, current: Tensor, leak: Tensor) -> Tensor:
        """Return d rate / d current for mean currents (1, N, ...) in thresholds a step, leak the mean decay, 0..1."""
        raise NotImplementedError

    def at(self, layer: str, u: Tensor, timed: bool) -> Tensor:
        """Return the slopes of the next call of a layer in this forward pass."""
        call = self.calls[layer]
        self.calls[layer] += 1
        with torch.no_grad():
            return self.slopes((layer, call), u, timed)


class Site:
    """One layer under a rule: u to slopes."""

    def __init__(self, rule: Rule, layer: str, timed: bool) -> None:
        self.rule, self.layer, self.timed = rule, layer, timed

    @property
    def time(self) -> Time:
        """How gradients pass through the steps."""
        return self.rule.time

    def __call__(self, u: Tensor) -> Tensor:
        return self.rule.at(self.layer, u, self.timed)

    def by_current(self, current: Tensor, leak: Tensor) -> Tensor:
        """Return the slope of the rate for mean currents and decays, where the rule's time is "rate"."""
        with torch.no_grad():
            return self.rule.rates(current, leak)


class Given(torch.autograd.Function):
    """Spikes as they are, with gradient * slopes for whatever they came from."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, spikes: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slopes,) = ctx.saved_tensors
        return grads[0] * slopes, None, None


class TimeMean(torch.autograd.Function):
    """(T, ...) as it is; every step gets the mean gradient of the steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].mean(0, keepdim=True).expand_as(grads[0])


class Wrapped:
    """A function from u to spikes, with the slopes of a site in place of its own."""

    def __init__(self, own: Callable[[Tensor], Tensor], site: Site) -> None:
        self.own, self.site = own, site

    def __call__(self, u: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and u.requires_grad):
            return self.own(u)
        with torch.no_grad():
            spikes = self.own(u)
        replaced: Tensor = Given.apply(u, spikes, self.site(u.detach().clone()))
        return replaced


class WrappedModule(nn.Module):
    """The same for a function that is a module."""

    def __init__(self, own: nn.Module, site: Site) -> None:
        super().__init__()
        self.function = Wrapped(own, site)

    def forward(self, u: Tensor) -> Tensor:
        return self.function(u)


@contextmanager
def replaced(model: nn.Module, rule: Rule) -> Iterator[tuple[str, ...]]:
    """Put a rule in place of the surrogate of every spiking module; yield their names, none in a ReLU network."""
    found = spiking_modules(model)
    rule.forget()
    with ExitStack() as stack:
        for name, attribute in found.items():
            stack.enter_context(_exchanged(model.get_submodule(name), attribute, rule, name))
        yield tuple(found)


def spiking_modules(model: nn.Module) -> dict[str, str]:
    """The modules whose surrogate can be replaced, by name, and the attribute by which they take part."""
    return {name: attribute for name, module in model.named_modules() if (attribute := _attribute(module))}


def _attribute(module: nn.Module) -> str | None:
    """By which attribute a module takes part."""
    return next(
        (name for name, fits in ATTRIBUTES.items() if hasattr(module, name) and fits(getattr(module, name))), None
    )


ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    "surrogate_rule": lambda value: value is None or isinstance(value, Site),
    "spike_grad": callable,
    "surrogate_function": lambda value: isinstance(value, nn.Module),
}
"""The attributes of the table above, and what they must hold."""


@contextmanager
def _exchanged(module: nn.Module, attribute: str, rule: Rule, name: str) -> Iterator[None]:
    before = getattr(module, attribute)
    site = Site(rule, name, timed=attribute == "surrogate_rule")
    _set(module, attribute, site if site.timed else _wrapped(before, site))
    try:
        yield
    finally:
        _set(module, attribute, before)


def _wrapped(before: Any, site: Site) -> Any:
    if site.time != "carried":
        raise _no_time(site)
    return WrappedModule(before, site) if isinstance(before, nn.Module) else Wrapped(before, site)


def _no_time(site: Site) -> RandhetError:
    return RandhetError(
        f"layer {site.layer!r} spikes one step at a time, so that its gradient through time cannot be replaced: "
        "choose a surrogate such as assg"
    )


def _set(module: nn.Module, attribute: str, value: Any) -> None:
    """Set an attribute of a module, whatever kind it had; torch refuses a function where a module was."""
    module._modules.pop(attribute, None)
    module.__dict__.pop(attribute, None)
    setattr(module, attribute, value)


def stochastic_modules(model: nn.Module) -> list[str]:
    """Names of the modules that declare to be stochastic."""
    return [name for name, module in model.named_modules() if getattr(module, "stochastic", False) is True]


def declared_stochastic(model: nn.Module) -> bool:
    """Whether any module declares that two of its answers can differ."""
    return bool(stochastic_modules(model))


def can_act_at_mean(model: nn.Module) -> bool:
    """Whether every module that declares to be stochastic can act at its mean, and there is one."""
    names = stochastic_modules(model)
    return bool(names) and all(hasattr(model.get_submodule(name), "at_mean") for name in names)


@contextmanager
def mean_taus(model: nn.Module) -> Iterator[None]:
    """Within the block every stochastic module acts without randomness, at its mean."""
    with ExitStack() as stack:
        for module in model.modules():
            at_mean: Any = getattr(module, "at_mean", None)
            if getattr(module, "stochastic", False) is True and at_mean is not None:
                stack.enter_context(at_mean())
        yield
