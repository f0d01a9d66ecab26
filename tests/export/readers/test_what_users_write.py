"""Every row of docs/interop.md's table of what users of other libraries write: read, or refused, as the row says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from braincog_live import braincog
from torch import Tensor, fx, nn

from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.readers.read import read
from randhet.export.trace import timed
from randhet.train.general import GeneralLIF, LeakyReadOut

SHAPE, STEPS = (1, 6, 6), 4
IMAGES = np.random.default_rng(5).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
PAGE = Path(__file__).parents[3] / "docs" / "interop.template"
ROWS = re.findall(r"^\| ((?:[\w-]+) [\d.]+) \| (`.*) \| ((?:read|refused).*) \|$", PAGE.read_text(), re.MULTILINE)


def around(neuron: nn.Module, *pool: nn.Module) -> fx.GraphModule:
    """A model of one neuron layer, read: of a loop where the neuron gives its state, else of T stated steps."""
    torch.manual_seed(0)
    width = 144 // 4 ** len(pool)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *pool, neuron, nn.Flatten(), nn.Linear(width, 3))
    return read(net, SHAPE, STEPS)


def one(neuron: nn.Module, **wanted: Any) -> None:
    """The neuron becomes ours with these settings."""
    ours = around(neuron).get_submodule("1")
    assert isinstance(ours, GeneralLIF)
    found = {name: getattr(ours, name) for name in wanted}
    assert {
        name: float(value.detach()) if isinstance(value, Tensor) else value for name, value in found.items()
    } == wanted


class Own(nn.Module):
    """A forward that a test writes."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.written(self, x)


def named(name: str) -> nn.Module:
    """A module of a package that is not installed."""
    return type(name.rpartition(".")[2], (nn.Module,), {"__module__": name.rpartition(".")[0]})()


# --- snnTorch ---------------------------------------------------------------------------------------------------------


def snn() -> Any:
    return pytest.importorskip("snntorch")


def leaky(**settings: Any) -> nn.Module:
    made: nn.Module = snn().Leaky(beta=0.9, init_hidden=True, **settings)
    return made


def last_layer() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        membrane, read_at = None, []
        for _ in range(STEPS):
            _, membrane = self.out(self.fc(self.lif(self.conv(x)).flatten(1)), membrane)
            read_at.append(membrane)
        return read_at[-1]

    out = snn().Leaky(beta=0.9, reset_mechanism="none")
    net = Own(forward, conv=nn.Conv2d(1, 4, 3), lif=leaky(), fc=nn.Linear(64, 3), out=out)
    assert isinstance(read(net, SHAPE).get_submodule("out"), LeakyReadOut)


def looped() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        mem, spikes = self.lif.reset_mem(), []
        for _step in range(STEPS):
            spike, mem = self.lif(self.conv(x), mem)
            spikes.append(self.fc(spike.flatten(1)))
        return torch.stack(spikes)

    net = Own(forward, conv=nn.Conv2d(1, 4, 3), lif=snn().Leaky(beta=0.9), fc=nn.Linear(64, 3))
    assert read(net, SHAPE).encode.steps == STEPS


def returning(**settings: Any) -> None:
    lif = snn().RLeaky(beta=0.9, init_hidden=True, **settings)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), lif, nn.Linear(4, 3))
    assert isinstance(read(net, SHAPE, STEPS).get_submodule("2.recurrent"), nn.Linear)


def returned() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        mem, spike, spikes = self.lif.reset_mem(), torch.zeros(len(x), 4), []
        for _step in range(STEPS):
            spike, mem = self.lif(self.fc(x.flatten(1)) + self.rec(spike), mem)
            spikes.append(self.out(spike))
        return torch.stack(spikes)

    parts = {"fc": nn.Linear(36, 4), "rec": nn.Linear(4, 4), "out": nn.Linear(4, 3)}
    net = Own(forward, lif=snn().Leaky(beta=0.9), **parts)
    assert isinstance(read(net, SHAPE).get_submodule("lif.recurrent"), nn.Linear)


def pooled() -> None:
    around(leaky(), nn.MaxPool2d(2))
    torch.manual_seed(0)
    front = (nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), leaky())
    network = export_model(timed(nn.Sequential(*front, nn.Flatten(), nn.Linear(36, 3)), SHAPE, STEPS), IMAGES).network
    assert network.layers[1].weighted is not None and network.layers[1].neuron is None


def learned() -> None:
    neuron = leaky(learn_beta=True, learn_threshold=True)
    with torch.no_grad():
        neuron.beta.fill_(0.625)
        neuron.threshold.fill_(0.75)
    one(neuron, decay=0.625, threshold=0.75)


def bernoulli() -> None:
    forward = lambda self, x: self.fc(self.lif(torch.bernoulli(x)).flatten(1))
    read(Own(forward, lif=leaky(), fc=nn.Linear(36, 3)), SHAPE, STEPS)


# --- SpikingJelly and others ------------------------------------------------------------------------------------------


def jelly() -> Any:
    pytest.importorskip("spikingjelly.activation_based.functional.neuron")
    from spikingjelly.activation_based import encoding, functional, layer, neuron

    return SimpleNamespace(encoding=encoding, functional=functional, layer=layer, neuron=neuron)


def both_read() -> None:
    node = braincog("node.node")
    one(node.LIFNode(), decay=0.5, drive=None, inclusive=False, reset="zero")
    one(node.IFNode(act_fun="SigmoidGrad"), decay=1.0, drive=1.0, inclusive=True)


def encoded() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.lif.n_reset()
        return self.fc(self.lif(self.conv(self.encoder(x))).flatten(1)).reshape(STEPS, -1, 3).mean(0)

    parts = {
        "encoder": braincog("encoder.encoder").Encoder(STEPS, "direct", layer_by_layer=True),
        "conv": nn.Conv2d(1, 4, 3),
        "lif": braincog("node.node").LIFNode(step=STEPS, layer_by_layer=True),
        "fc": nn.Linear(64, 3),
    }
    assert read(Own(forward, **parts), SHAPE).encode.steps == STEPS


def voted() -> None:
    parts = (
        nn.Flatten(),
        nn.Linear(36, 30),
        braincog("node.node").LIFNode(),
        braincog("connection.layer").VotingLayer(10),
    )
    linear = read(nn.Sequential(*parts), SHAPE, STEPS).get_submodule("3")
    assert isinstance(linear, nn.Linear) and linear.weight.shape == (3, 30)
    assert torch.equal(linear.weight.count_nonzero(1), torch.full((3,), 10)) and torch.all(linear.weight[0, :10] == 0.1)


def many_steps() -> None:
    j = jelly()
    parts = (j.layer.Conv2d(1, 4, 3), j.neuron.LIFNode(), j.layer.Flatten(), j.layer.Linear(64, 3))
    net = Own(lambda self, x: self.body(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0), body=nn.Sequential(*parts))
    j.functional.set_step_mode(net, "m")
    assert read(net, SHAPE).encode.steps == STEPS


def containers() -> None:
    j = jelly()
    front = j.layer.SeqToANNContainer(nn.Conv2d(1, 4, 3))
    back = j.layer.SeqToANNContainer(nn.Flatten(), nn.Linear(64, 3))
    net = nn.Sequential(front, j.layer.MultiStepContainer(j.neuron.LIFNode()), back)
    assert isinstance(read(net, SHAPE, STEPS).get_submodule("1.0"), GeneralLIF)


def quantised(**settings: Any) -> None:
    """The integers in the network are those of the layer, and the weights of ours its values."""
    brevitas = pytest.importorskip("brevitas.nn")
    torch.manual_seed(0)
    dense = brevitas.QuantLinear(36, 4, bias=True, **settings)
    integers = dense.eval().quant_weight().int().numpy()
    net = nn.Sequential(nn.Flatten(), dense, jelly().neuron.LIFNode(v_threshold=0.1), nn.Linear(4, 3))
    network = export_model(timed(net, SHAPE, STEPS), IMAGES).network
    weight = next(layer.weighted.weight for layer in network.layers if layer.weighted)
    assert np.array_equal(weight, integers)


def of_brevitas(name: str) -> Any:
    return getattr(pytest.importorskip("brevitas.quant"), name)


DONE: dict[str, Callable[[], None]] = {
    "`snn.Leaky(beta=0.9)`": lambda: one(leaky(), reset="subtract", reset_delay=1, drive=1.0),
    '`snn.Leaky(beta=0.9, reset_mechanism="zero")`': lambda: one(
        leaky(reset_mechanism="zero"), reset="zero", reset_delay=0
    ),
    '`snn.Leaky(beta=0.9, reset_mechanism="none")` in the last layer': last_layer,
    "`snn.Leaky(beta=0.9, learn_beta=True, learn_threshold=True)`": learned,
    "`snn.Leaky(beta=0.9, reset_delay=False)`": lambda: one(leaky(reset_delay=False)),
    "`snn.Lapicque(R=2.0, C=3.0)`": lambda: one(snn().Lapicque(R=2.0, C=3.0, init_hidden=True), reset_delay=1),
    "`snn.Leaky(beta=1.0)`": lambda: one(snn().Leaky(beta=1.0, init_hidden=True)),
    "`snn.Synaptic(alpha=0.9, beta=0.8)`": lambda: one(snn().Synaptic(alpha=0.9, beta=0.8, init_hidden=True)),
    '`snn.Synaptic(alpha=0.9, beta=0.8, reset_mechanism="zero", reset_delay=False)`': lambda: one(
        snn().Synaptic(alpha=0.875, beta=0.75, reset_mechanism="zero", reset_delay=False, init_hidden=True),
        synapse=0.875,
        decay=0.75,
    ),
    "`snn.Alpha(alpha=0.9, beta=0.8)`": lambda: one(snn().Alpha(alpha=0.9, beta=0.8, init_hidden=True)),
    "`snn.RLeaky(beta=0.9, linear_features=4)`": lambda: returning(linear_features=4),
    "`snn.RLeaky(beta=0.9, conv2d_channels=4, kernel_size=3)`": lambda: returning(conv2d_channels=4, kernel_size=3),
    "`lif(fc(x) + rec(spk), mem)` in a loop": returned,
    "`for step in range(num_steps)` in the forward": looped,
    "`nn.Sequential` with `init_hidden=True`": lambda: one(leaky(), threshold=1.0),
    "`nn.MaxPool2d(2)` before the neuron": pooled,
    "`torch.bernoulli` of the image in the forward": bernoulli,
    "`neuron.IFNode()`": lambda: one(jelly().neuron.IFNode(), decay=1.0, drive=1.0, inclusive=True, reset="zero"),
    "`neuron.IFNode(v_reset=None)`": lambda: one(jelly().neuron.IFNode(v_reset=None)),
    "`neuron.LIFNode(tau=2.0)`": lambda: one(jelly().neuron.LIFNode(tau=2.0), decay=0.5, drive=None, reset="zero"),
    "`neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None)`": lambda: one(
        jelly().neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None), decay=0.5, drive=1.0, reset="subtract"
    ),
    "`neuron.ParametricLIFNode()`": lambda: one(jelly().neuron.ParametricLIFNode(), decay=0.5, inclusive=True),
    "`neuron.QIFNode()`": lambda: one(jelly().neuron.QIFNode()),
    '`functional.set_step_mode(net, "m")` with the repetition in the forward': many_steps,
    "`layer.SeqToANNContainer`, `layer.MultiStepContainer`": containers,
    "`encoding.PoissonEncoder()`": lambda: one(jelly().encoding.PoissonEncoder()),
    "`LIFNode()`, `IFNode()`": both_read,
    "`PLIFNode()`": lambda: one(braincog("node.node").PLIFNode(), decay=0.5, drive=None, reset="zero"),
    '`Encoder(4, "direct")`, `layer_by_layer=True`': encoded,
    "`BurstLIFNode()`": lambda: one(braincog("node.node").BurstLIFNode()),
    "`VotingLayer(10)`": voted,
    "`norse.torch.LIFBoxCell()`": lambda: one(pytest.importorskip("norse.torch").LIFBoxCell()),
    "`sinabs.layers.LIF(tau_mem=10.0)`": lambda: one(pytest.importorskip("sinabs.layers").LIF(tau_mem=10.0)),
    "`LIFTorch((4,))`": lambda: one(named("rockpool.nn.modules.torch.lif_torch.LIFTorch")),
    "`slayer.block.cuba.Dense`": lambda: one(named("lava.lib.dl.slayer.block.cuba.Dense")),
    "`QuantLinear(36, 4, weight_quant=Int8WeightPerChannelFloat)`": lambda: quantised(
        weight_quant=of_brevitas("Int8WeightPerChannelFloat")
    ),
    "`QuantLinear(36, 4)`": lambda: quantised(),
    "`QuantLinear(36, 4, input_quant=Int8ActPerTensorFloat)`": lambda: quantised(
        input_quant=of_brevitas("Int8ActPerTensorFloat")
    ),
}
WHY = {
    "it misses spikes": "misses spikes",
    "through linear layers only": "whose spikes return through a convolution",
    "random input": "draws random numbers",
    "no integer neuron subtracts": "without a leak there is a reset to",
    "with a current are reset": "integer neurons with a current are reset to zero at once only",
    "`--tool norse`": "NIR graph, and give that with --tool norse",
    "`--tool sinabs`": "NIR graph, and give that with --tool sinabs",
    "through NIR": "write the network as a NIR graph",
    "through the file": "write it with export_hdf5",
    "one scale a layer": "would round them again",
    "only weights": "which has input_quant: only weights are quantised here",
}
"""Words of a row that is refused to words of the message."""


def test_every_row_is_done() -> None:
    assert len(ROWS) == 38
    assert {written for _, written, _ in ROWS} == set(DONE)


@pytest.mark.parametrize(("library", "written", "happens"), ROWS)
def test_rows(library: str, written: str, happens: str) -> None:
    if happens.startswith("read"):
        DONE[written]()
        return
    words = next((message for said, message in WHY.items() if said in happens), "no counterpart")
    with pytest.raises(ExportError, match=re.escape(words)):
        DONE[written]()
