"""Modules that are not what their kind says are refused by name, and every export is held against its model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.trace import trace
from randhet.export.verify import verify
from randhet.train.layers import AvgPool2d, BatchNorm2d, Conv2d, Encode, Flatten, Linear, MeanOverTime
from randhet.train.neurons import LIF, HetLIF, RandomTauLIF

SHAPE = (2, 6, 6)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)


class Louder(Conv2d):
    """A known layer with another forward."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Named(Linear):
    """A subclass that computes the same."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__(inside, out)
        self.note = "mine"

    def extra_repr(self) -> str:
        return self.note


class Net(nn.Module):
    """Convolution, batch norm, a random neuron, a residual sum, pool and read-out."""

    def __init__(self, neuron: Callable[[], nn.Module] = RandomTauLIF) -> None:
        super().__init__()
        self.conv, self.norm, self.encode = Conv2d(2, 3, 3, padding=1), BatchNorm2d(3), Encode(3)
        self.node, self.other, self.twin = neuron(), Conv2d(3, 3, 3, padding=1), neuron()
        self.pool, self.flatten, self.fc, self.mean = AvgPool2d(2), Flatten(), Named(27, 4), MeanOverTime()

    def forward(self, x: Tensor) -> Tensor:
        x = self.node(self.encode(self.norm(self.conv(x))))
        x = self.add(x, self.twin(self.other(x)))
        return self.mean(self.fc(self.flatten(self.pool(x))))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def made(neuron: Callable[[], nn.Module] = RandomTauLIF) -> Net:
    torch.manual_seed(0)
    net = Net(neuron)
    for norm in (module for module in net.modules() if isinstance(module, BatchNorm2d)):
        norm.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.05, 0.2)  # type: ignore[union-attr]
    return net.eval()


NEURONS = {
    "random": RandomTauLIF,
    "forward": lambda: RandomTauLIF(sampling="forward"),
    "subtract": lambda: RandomTauLIF(reset="subtract"),
    "vanilla": lambda: LIF(0.7),
    "het": lambda: HetLIF((3, 6, 6)),
}


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_a_model_of_plain_layers_is_what_was_traced(neuron: Callable[[], nn.Module]) -> None:
    net = made(neuron)
    verify(net, trace(net, SHAPE), IMAGES)


def hook(net: Net) -> None:
    net.conv.register_forward_hook(lambda module, inputs, output: output * 2)


def pre_hook(net: Net) -> None:
    nn.utils.weight_norm(net.other)


def parametrised(net: Net) -> None:
    parametrizations.weight_norm(net.other)


def subclass(net: Net) -> None:
    net.other = Louder(3, 3, 3, padding=1)


def own_forward(net: Net) -> None:
    net.other.forward = lambda x: x  # type: ignore[method-assign]


def louder_sum(net: Net) -> None:
    net.add = lambda a, b: torch.add(a, b, alpha=2)  # type: ignore[method-assign]


def number(net: Net) -> None:
    net.add = lambda a, b: a + b + 1  # type: ignore[method-assign]


def in_place(net: Net) -> None:
    def add(a: Tensor, b: Tensor) -> Tensor:
        total = b.add_(a)
        return total + b

    net.add = add  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (hook, r"conv \(Conv2d\), which has forward hooks"),
        (pre_hook, r"other \(Conv2d\), which has forward hooks \(weight norm"),
        (parametrised, r"other \(ParametrizedConv2d\), whose weights are parametrised"),
        (subclass, r"other \(Louder\), which has its own forward: use Conv2d itself"),
        (own_forward, r"other \(Conv2d\), which has its own forward"),
        (louder_sum, r"\(function add\), which is no plain sum of two layers"),
        (number, r"\(function add\), which is no plain sum of two layers"),
        (in_place, r"changes in place what is read again later"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_what_is_not_its_kind_is_refused_by_name(change: Callable[[Net], None], sentence: str) -> None:
    net = made()
    change(net)
    with pytest.raises(ExportError, match=sentence):
        export_model(net, IMAGES)


def test_a_second_neuron_in_a_row_is_refused() -> None:
    """Version 0.1 dropped the first of the two."""
    net = nn.Sequential(Conv2d(2, 3, 3), Encode(3), LIF(), LIF(), Flatten(), Linear(48, 4), MeanOverTime())
    with pytest.raises(ExportError, match="neuron 3 reads 2, which has no weights"):
        export_model(net, IMAGES)


def test_no_time_steps_are_refused() -> None:
    net = nn.Sequential(Conv2d(2, 3, 3), Encode(0), LIF(), Flatten(), Linear(48, 4), MeanOverTime())
    with pytest.raises(ExportError, match=r"1 \(Encode\), which has 0 time steps, there must be at least 1"):
        export_model(net, IMAGES)


def test_a_sum_in_place_that_the_trace_cannot_see_is_found_too() -> None:
    """Tracing turns += into +; running the model does not."""

    def add(a: Tensor, b: Tensor) -> Tensor:
        total = b
        total += a
        return total + b

    net = made()
    net.add = add  # type: ignore[method-assign]
    with pytest.raises(ExportError, match="computes something else than what would be exported"):
        export_model(net, IMAGES)


def test_everything_that_is_not_supported_is_said_at_once() -> None:
    """Version 0.1 stopped at the first padding in words and hid the rest."""
    net = nn.Sequential(
        Conv2d(2, 3, 2, padding="same", dilation=3),
        Encode(2),
        LIF(),
        nn.Conv2d(3, 3, 3, padding_mode="reflect", padding=1),
        nn.ReLU(),
    )
    with pytest.raises(ExportError) as refusal:
        export_model(net, IMAGES)
    for part in (
        '0 (Conv2d), which pads with "same" at dilation (3, 3)',
        "3 (Conv2d), which pads with reflect",
        "4 (ReLU)",
    ):
        assert part in str(refusal.value)


def test_what_no_rule_foresaw_is_found_by_running_the_model() -> None:
    """A layer changed in a way that no attribute shows: the first that differs is named, later ones are not."""
    net = made()
    plain = net.other._conv_forward
    net.other._conv_forward = lambda x, w, b: 1.01 * plain(x, w, b)  # type: ignore[method-assign]
    with pytest.raises(ExportError, match="layer other computes something else"):
        export_model(net, IMAGES)


@pytest.mark.parametrize("name", ["conv", "norm", "node", "other", "fc"])
def test_a_changed_constant_of_any_kind_is_found(name: str) -> None:
    """The graph is of one model, the layers of another."""
    net = made(lambda: LIF(0.7))
    graph, changed = trace(net, SHAPE), copy.deepcopy(net)
    module = getattr(changed, name)
    if isinstance(module, LIF):
        module.threshold += 0.05
    else:
        with torch.no_grad():
            module.bias += 0.01
    with pytest.raises(ExportError, match=f"layer {name} computes something else"):
        verify(changed, graph, IMAGES)
