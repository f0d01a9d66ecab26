"""Random networks of snnTorch, SpikingJelly and torch: deployed with equal spikes and equal integers, or refused.

What decides is independent of the readers: hooks on the source module, run in float64 on images that no reader has
seen, tell its spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from equality import assert_equal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

snn = pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly.activation_based.functional.neuron")

from snntorch import utils  # noqa: E402
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402

import randhet  # noqa: E402
from randhet.base.errors import RandhetError  # noqa: E402
from randhet.export.trace import timed  # noqa: E402
from randhet.fixed_point import add_only, engine, reference  # noqa: E402
from randhet.train.neurons import recording  # noqa: E402

EXAMPLES = 60
CLOSE = 1e-9
"""A membrane potential this close to its threshold may pass it in one order of sums and not in another."""
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Net(nn.Module):
    """Layers in a row; "fork": the channels of two branches joined; "skip": spikes added to spikes.

    over_time: T where the forward repeats the images itself; a network of one step is called T times by its user.
    """

    def __init__(self, parts: list[tuple[str, nn.Module]], loop: int, over_time: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.loop, self.over_time = loop, over_time

    def forward(self, x: Tensor) -> Tensor:
        if self.loop:
            utils.reset(self)
            return torch.stack([self.step(x) for _ in range(self.loop)])
        if self.over_time:
            functional.reset_net(self)
            return self.step(x.unsqueeze(0).repeat(self.over_time, *[1] * x.dim())).mean(0)
        return self.step(x)

    def step(self, x: Tensor) -> Tensor:
        before = branch = x
        for name, part in self.parts.items():
            kind = name.partition("_")[0]
            if kind == "fork":
                before, branch = x, part(x)
            elif kind == "join":
                x = torch.cat((branch, part(before)), dim=-3 if x.dim() > 3 else -1)
            elif kind == "skip":
                x = x + part(x)
            else:
                x = part(x)
        return x


@dataclass
class Built:
    """A network under construction: channels and size of the image so far; one row where size is 0."""

    draw: Draw
    library: str
    channels: int
    size: int
    parts: list[tuple[str, nn.Module]] = field(default_factory=list)

    def add(self, kind: str, module: nn.Module) -> None:
        self.parts.append((f"{kind}_{len(self.parts)}", module))

    def made(self, name: str, *given: Any, **named: Any) -> nn.Module:
        """A layer of torch, or SpikingJelly's of the same name."""
        made: nn.Module = getattr(layer if self.library == "spikingjelly" else nn, name)(*given, **named)
        return made

    def spiking(self) -> nn.Module:
        return NEURONS[self.library](self.draw, self.channels, self.size)

    # --- layers -------------------------------------------------------------------------------------------------------

    def conv(self, out: int, kernel: int, padding: int, stride: int = 1) -> nn.Module:
        made = self.made("Conv2d", self.channels, out, kernel, stride, padding, bias=self.draw(st.booleans()))
        made.weight.data *= 2
        return made

    def block(self) -> None:
        """A convolution, perhaps batch norm and a pool, a neuron, perhaps a pool and dropout."""
        kernel, padding = self.draw(st.sampled_from([(3, 1), (3, 0), (2, 0), (1, 0)]))
        if self.size < 3:
            kernel, padding = 1, 0
        stride, out = self.draw(st.sampled_from([1, 1, 2])), self.draw(st.integers(1, 4))
        self.add("conv", self.conv(out, kernel, padding, stride))
        self.channels, self.size = out, (self.size + 2 * padding - kernel) // stride + 1
        self.maybe_norm("BatchNorm2d")
        self.maybe_pool()
        self.add("spikes", self.spiking())
        self.maybe_pool()
        if self.draw(st.booleans()):
            self.add("dropout", self.made("Dropout", 0.5))
        self.maybe_branch()

    def maybe_norm(self, name: str) -> None:
        if not self.draw(st.booleans()):
            return
        norm = self.made(name, self.channels)
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.05, 0.5)
        nn.init.uniform_(norm.weight, 0.3, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.4)
        self.add("norm", norm)

    def maybe_pool(self) -> None:
        kind = self.draw(st.sampled_from(["", "", "MaxPool2d", "AvgPool2d"]))
        if kind and self.size >= 2:
            self.add("pool", self.made(kind, 2))
            self.size //= 2

    def maybe_branch(self) -> None:
        """A residual block, or two branches whose channels are joined."""
        kind = self.draw(st.sampled_from(["", "", "skip", "fork"]))
        if kind == "skip":
            self.add("skip", nn.Sequential(self.conv(self.channels, 3, 1), self.spiking()))
        if kind == "fork":
            self.add("fork", nn.Sequential(self.conv(self.channels, 3, 1), self.spiking()))
            self.add("join", nn.Sequential(self.conv(self.channels, 1, 0), self.spiking()))
            self.channels *= 2

    def dense(self, out: int, spikes: bool) -> None:
        features = self.channels * max(self.size, 1) ** 2
        made = self.made("Linear", features, out, bias=self.draw(st.booleans()))
        made.weight.data *= 3
        self.add("fc", made)
        self.channels, self.size = out, 0
        if spikes:
            self.maybe_norm("BatchNorm1d")
            self.add("spikes", self.spiking())


def leaky(draw: Draw, channels: int, size: int) -> nn.Module:
    """`Leaky`, a beta for each channel now and then, `Lapicque`, and in dense layers `RLeaky`."""
    common = {
        "threshold": draw(st.sampled_from([0.3, 0.5, 1.0])),
        "reset_mechanism": draw(st.sampled_from(["subtract", "subtract", "zero", "zero", "none"])),
        "init_hidden": True,
    }
    if draw(st.integers(0, 3)) == 0:
        made: nn.Module = snn.Lapicque(R=draw(st.sampled_from([1.0, 2.0])), C=2.0, time_step=1, **common)
        return made
    beta = draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.95, 1.0]))
    if not size and draw(st.integers(0, 2)) == 0:
        delayed = draw(st.sampled_from([True, True, False]))
        made = snn.RLeaky(beta=beta, linear_features=channels, reset_delay=delayed, **common)
        return made
    if draw(st.integers(0, 4)) == 0:
        beta = torch.linspace(0.2, 0.9, channels).reshape(-1, *[1] * (2 if size else 0))
    made = snn.Leaky(beta=beta, reset_delay=draw(st.sampled_from([True, True, False])), **common)
    return made


def jelly(draw: Draw, channels: int, size: int) -> nn.Module:
    """`IFNode`, `LIFNode` and `ParametricLIFNode`."""
    common = {
        "v_threshold": draw(st.sampled_from([0.2, 0.5, 1.0])),
        "v_reset": draw(st.sampled_from([0.0, 0.0, None, -0.1])),
    }
    kind = draw(st.sampled_from(["IFNode", "LIFNode", "ParametricLIFNode"]))
    if kind == "IFNode":
        made: nn.Module = neuron.IFNode(**common)
        return made
    tau, decay_input = draw(st.sampled_from([1.5, 2.0, 5.0])), draw(st.booleans())
    name = "tau" if kind == "LIFNode" else "init_tau"
    made = getattr(neuron, kind)(**{name: tau}, decay_input=decay_input, **common)
    return made


NEURONS = {"snntorch": leaky, "spikingjelly": jelly}


@st.composite
def networks(draw: Draw) -> tuple[Net, tuple[int, int, int], int]:
    """(network, shape of an image, T)."""
    library, steps = draw(st.sampled_from(list(NEURONS))), draw(st.integers(2, 5))
    shape = (draw(st.integers(1, 2)), size := draw(st.integers(4, 7)), size)
    torch.manual_seed(draw(st.integers(0, 2**20)))
    built = Built(draw, library, shape[0], size)
    for _ in range(draw(st.integers(0, 2))):
        built.block()
    built.add("flatten", built.made("Flatten"))
    if draw(st.booleans()):
        built.dense(draw(st.integers(2, 6)), spikes=True)
    built.dense(draw(st.integers(2, 5)), spikes=draw(st.booleans()))
    own_time = draw(st.booleans())
    net = Net(built.parts, steps * (own_time and library == "snntorch"), steps * (own_time and library != "snntorch"))
    if library == "spikingjelly":
        functional.set_step_mode(net, "m" if own_time else "s")
    return net.eval(), shape, steps


def live(net: Net, pixels: Tensor, steps: int) -> dict[str, Tensor]:
    """Spikes (T, N, ...) of every neuron of the network itself, in float64, by its name."""
    heard: dict[str, list[Tensor]] = {}

    def hear(name: str, module: nn.Module, given: object, spikes: Tensor) -> Tensor:
        heard.setdefault(name, []).append(spikes.detach().double())
        return spikes.double()  # snnTorch sends float32 whatever it reads

    net = net.double()
    for name, module in neurons_of(net):
        module.register_forward_hook(partial(hear, name))
        if isinstance(module, snn.RLeaky):
            module.register_forward_pre_hook(lambda module, given: setattr(module, "spk", module.spk.double()))
    with torch.no_grad():
        for _ in range(1 if net.loop or net.over_time else steps):
            net(pixels)
    return {name: calls[0] if net.over_time else torch.stack(calls) for name, calls in heard.items()}


def forget(net: nn.Module) -> None:
    for _, module in neurons_of(net):
        utils.reset(module) if isinstance(module, snn.SpikingNeuron) else functional.reset_net(module)


def neurons_of(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net.named_modules():
        if isinstance(module, (snn.SpikingNeuron, neuron.BaseNode)):
            yield name, module


def same_spikes(net: Net, ours: nn.Module, shape: tuple[int, ...], steps: int) -> None:
    """Every spike of every neuron until, in some neuron before it, a potential came as close as rounding to theta."""
    pixels = torch.rand((3, *shape), dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    ours = ours.double()
    with torch.no_grad(), recording(ours) as logs:
        ours(pixels)
    forget(net)
    spikes = live(net, pixels, steps)
    for name, (recorded, membranes) in ((name, logs[name][0]) for name in spikes if logs.get(name)):
        if ((membranes - ours.get_submodule(name).threshold).abs() < CLOSE).any():
            return
        assert torch.equal(spikes[name], recorded), name


def one_sentence(error: RandhetError) -> None:
    said = str(error)
    assert said and "\n" not in said and "Traceback" not in said and not said.endswith(".")


def test_every_network_is_deployed_or_refused() -> None:
    """At least a third of them are deployed: a reader that refuses everything would be right too."""
    deployed = []

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(networks())
    def run(drawn: tuple[Net, tuple[int, int, int], int]) -> None:
        net, shape, steps = drawn
        stated = None if net.loop or net.over_time else steps
        images = np.random.default_rng(1).integers(0, 256, (4, *shape), dtype=np.uint8)
        try:
            network = randhet.deploy(net, images, stated)
        except RandhetError as error:
            one_sentence(error)
            return
        deployed.append(network)
        same_spikes(net, timed(net, shape, stated), shape, steps)
        probes = tuple(one.name for one in network.layers if one.spikes)
        wanted = reference.run(network, images, seed=0, probes=probes)
        for backend in (engine, add_only):
            assert_equal(backend.run(network, images, seed=0, first_image=0, probes=probes), wanted)

    run()
    assert len(deployed) >= EXAMPLES // 3
