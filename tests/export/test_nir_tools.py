"""NIR graphs that other tools wrote, against those tools' own spikes; and our graphs, run by those tools.

Weights lie on the 8 bit grid, so that quantisation changes nothing but what rounding does to a membrane.
"""

# ruff: noqa: E402  (what needs NIR is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from nir_live import on_grid, watched

torch = pytest.importorskip("torch")
nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")
pytest.importorskip("onnxruntime")

from torch import nn

from randhet.export.graph import ExportError, FloatNeuron
from randhet.export.nir import network as nir_network
from randhet.export.nir import read as nir_read
from randhet.export.nir import write as nir_write
from randhet.export.nir.steps import TOOLS
from randhet.export.onnx import float_graph as onnx_float
from randhet.export.onnx.run import session
from randhet.export.passes.quantise import QuantSettings
from randhet.export.trace import trace
from randhet.fixed_point import reference
from randhet.fixed_point.network import Reset
from randhet.train import layers
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.neurons import LIF

SPIKINGJELLY = "spikingjelly.activation_based.nir_exchange"
"""SpikingJelly before 2.0 has none of its own."""
STEPS = 5
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 2, 8, 8), dtype=np.uint8)
Spikes = dict[str, np.ndarray]
Make = Callable[[float, tuple[int, ...]], nn.Module]


@dataclass(frozen=True)
class Ran:
    """What a tool wrote and did: its NIR graph, which entry of TOOLS reads it, its images, spikes (T, N, ...), reset.

    The graphs of Norse and Sinabs hold what nir.write refuses (scalars, no shapes), so these stay in memory.
    """

    graph: nir.NIRGraph
    tool: str
    images: np.ndarray
    spikes: Spikes
    reset: Reset = "zero"


def neuron_names(graph: nir.NIRGraph) -> list[str]:
    return [name for name, node in graph.nodes.items() if isinstance(node, (nir.LIF, nir.IF, nir.CubaLIF))]


def pooled(make: Make, level: float, last: float, bias: bool, conv: type = nn.Conv2d, **kinds: type) -> nn.Sequential:
    """conv, neuron, average pool, flatten, linear, neuron: spikes are the output."""
    torch.manual_seed(0)
    pool, flatten, linear = (kinds.get(name, getattr(nn, name)) for name in ("AvgPool2d", "Flatten", "Linear"))
    first = on_grid(conv(2, 4, 3, padding=1, bias=bias))
    dense = on_grid(linear(64, 10, bias=bias))
    return nn.Sequential(first, make(level, (4, 8, 8)), pool(2, 2), flatten(), dense, make(last, (10,)))


def spikingjelly(kind: str) -> Ran:
    pytest.importorskip(SPIKINGJELLY)
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    makers: dict[str, Make] = {
        "LIF": lambda level, _: neuron.LIFNode(tau=2.0, v_threshold=level, v_reset=0.0),
        "LIF, undivided input": lambda level, _: neuron.LIFNode(4.0, decay_input=False, v_threshold=level),
        "IF": lambda level, _: neuron.IFNode(v_threshold=level, v_reset=0.0),
        "LIF, as it comes": lambda *_: neuron.LIFNode(),
        "IF, as it comes": lambda *_: neuron.IFNode(),
        "CUBA": lambda level, _: neuron.CUBALIFNode(0.5, 0.75, v_threshold=level, v_reset=0.0),
    }
    kinds = {name: getattr(layer, name) for name in ("AvgPool2d", "Flatten", "Linear")}
    net = pooled(makers[kind], 20.0, 0.5, kind != "CUBA", layer.Conv2d, **kinds)
    x = torch.from_numpy(IMAGES).float()
    graph = export_to_nir(net, x[:1])
    functional.reset_net(net)
    spikes = watched([net[1], net[5]], lambda: [net(x) for _ in range(STEPS)])
    return Ran(graph, "spikingjelly", IMAGES, dict(zip(neuron_names(graph), spikes)))


def snntorch(kind: str) -> Ran:
    snn = pytest.importorskip("snntorch")
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    zero = {"reset_mechanism": "zero", "reset_delay": False}
    common = {"init_hidden": True} | (
        {} if "defaults" in kind else {"reset_delay": False} if "subtract" in kind else zero
    )
    full = torch.full
    makers: dict[str, Make] = {
        "Leaky": lambda level, shape: snn.Leaky(full(shape, 0.75), full(shape, level), **common),
        "Synaptic": lambda level, shape: snn.Synaptic(
            full(shape, 0.5), full(shape, 0.75), threshold=full(shape, level), **common
        ),
    }
    net = pooled(makers[kind.partition(",")[0]], 60.0, 1.0, "Synaptic" not in kind)
    x = torch.from_numpy(IMAGES).float()
    graph = export_to_nir(net, x[:1], ignore_dims=[0])
    utils.reset(net)
    spikes = watched([net[1], net[5]], lambda: [net(x) for _ in range(STEPS)])
    names = sorted(neuron_names(graph))
    return Ran(graph, "snntorch", IMAGES, dict(zip(names, spikes)))


def norse(kind: str) -> Ran:
    norse_torch = pytest.importorskip("norse.torch")
    export_nir = pytest.importorskip("norse.torch.utils.export_nir")
    from norse.torch.functional.iaf import IAFParameters
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract
    from norse.torch.module.iaf import IAFCell
    from norse.torch.module.lif import LIFCell
    from norse.torch.module.lif_box import LIFBoxCell

    tensor = torch.tensor
    makers: dict[str, Callable[[float], nn.Module]] = {
        "LIFBox": lambda level: LIFBoxCell(
            LIFBoxParameters(tau_mem_inv=tensor(250.0), v_th=tensor(level), v_leak=tensor(0.0))
        ),
        "LIFBox, subtract": lambda level: LIFBoxCell(
            LIFBoxParameters(
                tau_mem_inv=tensor(250.0), v_th=tensor(level), v_leak=tensor(0.0), reset_method=reset_subtract
            )
        ),
        "IAF": lambda level: IAFCell(IAFParameters(v_th=tensor(level))),
        "LIF": lambda level: LIFCell(LIFParameters(v_th=tensor(level))),
        "LIF, as it comes": lambda _: LIFCell(),
        "LIFBox, as it comes": lambda _: LIFBoxCell(),
        "IAF, as it comes": lambda _: IAFCell(),
    }
    reset: Reset = "subtract" if "subtract" in kind else "zero"
    torch.manual_seed(0)
    make = makers[kind]
    bias = not kind.startswith("LIF,") and kind != "LIF"  # a bias would pass through the synapse
    first, second = on_grid(nn.Linear(128, 40, bias=bias)), on_grid(nn.Linear(40, 10, bias=bias))
    net = norse_torch.SequentialState(first, make(20.0), second, make(0.2 if kind == "LIF" else 1.0))
    images = IMAGES.reshape(6, -1)
    x = torch.from_numpy(images).float()
    graph = export_nir.to_nir(net, x[:1])

    def run() -> None:
        state = None
        for _ in range(STEPS):
            _, state = net(x, state)

    spikes = watched([net[1], net[3]], run)
    return Ran(graph, "norse-export", images, dict(zip(sorted(neuron_names(graph)), spikes)), reset)


def sinabs(kind: str) -> Ran:
    """Sinabs keeps time in its layers; its exporter is asked for one module at a time."""
    sl = pytest.importorskip("sinabs.layers")
    module = pytest.importorskip("sinabs.nir")
    from sinabs.activation import MembraneReset, SingleSpike

    divided = {"norm_input": False} if kind == "LIF" else {}
    common = {} if "defaults" in kind else {"reset_fn": MembraneReset(), "spike_fn": SingleSpike}
    makers: dict[str, Callable[[float], nn.Module]] = {
        "LIF": lambda level: sl.LIF(torch.tensor(3.0), spike_threshold=torch.tensor(level), **divided, **common),
        "IAF": lambda level: sl.IAF(spike_threshold=torch.tensor(level), **common),
    }
    torch.manual_seed(0)
    conv, linear = on_grid(nn.Conv2d(2, 4, 3, padding=1)), on_grid(nn.Linear(256, 10))
    make = makers[kind.partition(",")[0]]
    first, second = make(60.0), make(1.0)
    with torch.no_grad():
        hidden = first(torch.stack([conv(torch.from_numpy(IMAGES).float())] * STEPS, 1))
        out = second(linear(hidden.flatten(2)))
    parts = [module._extract_sinabs_module(part) for part in (conv, first, nn.Flatten(), linear, second)]
    names = ["conv", "first", "flatten", "linear", "second"]
    nodes = {"input": nir.Input({"input": np.array([2, 8, 8])}), **dict(zip(names, parts))}
    nodes["output"] = nir.Output({"output": np.array([10])})
    order = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(order)), type_check=False)
    return Ran(graph, "sinabs", IMAGES, {"first": hidden.numpy().swapaxes(0, 1), "second": out.numpy().swapaxes(0, 1)})


CASES: list[tuple[Callable[[str], Ran], str]] = [
    *((spikingjelly, kind) for kind in ("LIF", "LIF, undivided input", "IF", "CUBA")),
    *((spikingjelly, f"{kind}, as it comes") for kind in ("LIF", "IF")),
    *((snntorch, kind) for kind in ("Leaky", "Synaptic")),
    *((norse, kind) for kind in ("LIF", "LIFBox", "LIFBox, subtract", "IAF")),
    *((norse, f"{kind}, as it comes") for kind in ("LIF", "LIFBox", "IAF")),
    *((sinabs, kind) for kind in ("LIF", "IAF")),
]


@pytest.mark.parametrize(("tool", "kind"), CASES, ids=[f"{tool.__name__}-{kind}" for tool, kind in CASES])
def test_a_tools_graph_spikes_as_in_the_tool(tool: Callable[[str], Ran], kind: str, tmp_path: Path) -> None:
    """The float graph in onnxruntime and the integer network in the reference give every spike the tool gave."""
    ran = tool(kind)
    time = replace(TOOLS[ran.tool], reset=ran.reset)
    if tool in (spikingjelly, snntorch):
        nir.write(tmp_path / "graph.nir", ran.graph)
        graph = nir_read.read(tmp_path / "graph.nir", time, STEPS, scale=1.0)
    else:
        graph = nir_read.from_nir(ran.graph, time, STEPS, scale=1.0)
    names = [node.name for node in graph.nodes if isinstance(node.operation, FloatNeuron)]
    assert names == list(ran.spikes)
    assert all(0.05 < spikes.mean() < 0.95 for spikes in ran.spikes.values())
    whole = session(onnx_float.inference(graph, probes=names))
    floats = whole.run([f"{name}/output" for name in names], {"images": ran.images.astype(np.float32) / 255})
    settings = QuantSettings(k=12, f=8)
    network, calibration = nir_network.network(graph, ran.images, settings)
    assert calibration.saturations == 0
    result = reference.run(network, ran.images, probes=names)
    for name, found in zip(names, floats):
        assert np.array_equal(found, ran.spikes[name]), name
        assert np.array_equal(result.traces[name].output.swapaxes(0, 1), ran.spikes[name]), name


NOT_READ = [
    (snntorch, "Leaky, defaults"),
    (snntorch, "Leaky, subtract"),
    (snntorch, "Synaptic, defaults"),
    (sinabs, "LIF, defaults"),
    (sinabs, "LIF, divided input"),
    (sinabs, "IAF, defaults"),
]


@pytest.mark.parametrize(("tool", "kind"), NOT_READ, ids=[f"{tool.__name__}-{kind}" for tool, kind in NOT_READ])
def test_what_a_tool_does_by_default_and_the_integers_do_not_is_refused(tool: Callable[[str], Ran], kind: str) -> None:
    """The graph is that of neurons that reset to zero at once, which spike otherwise: only the user can tell."""
    ran = tool(kind)
    with pytest.raises(ExportError, match=r"--reset zero reads neurons with .* not supported$"):
        nir_read.from_nir(ran.graph, TOOLS[ran.tool], STEPS, scale=1.0)
    with pytest.raises(ExportError, match=r"--reset zero reads neurons with .* not supported$"):
        replace(TOOLS[ran.tool], reset="subtract")
    time = replace(TOOLS[ran.tool], reset="zero")
    graph = nir_read.from_nir(ran.graph, time, STEPS, scale=1.0)
    network, _ = nir_network.network(graph, ran.images, QuantSettings(k=12, f=8))
    found = reference.run(network, ran.images, probes=list(ran.spikes)).traces
    assert any((found[name].output.swapaxes(0, 1) != spikes).any() for name, spikes in ran.spikes.items())


# --- our graphs in their runtimes -------------------------------------------------------------------------------------


class Chain(nn.Module):
    """Nothing but layers with weights, LIF and flatten: what Norse can read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.encode, self.node1 = layers.Conv2d(2, 4, 3, 2), layers.Encode(STEPS), LIF(0.6, 0.1)
        self.flatten, self.hidden, self.node2 = layers.Flatten(), layers.Linear(36, 12), LIF(0.3, 0.1)
        self.out, self.mean = layers.Linear(12, 4), layers.MeanOverTime()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.flatten(self.node1(self.encode(self.conv(x))))
        return self.mean(self.out(self.node2(self.hidden(x))))


def residual() -> SEWResNet:
    """Two stages, a strided shortcut, sums of sums, a global pool."""
    settings = ModelSettings(2, 5, (8, 8), (6, 8), (1, 2), STEPS, neuron="vanilla")
    model = SEWResNet(settings, (0.4, 0.5), (0.3, 0.2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.normal_(module.bias, 0.3, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(16, 2, 8, 8))
    return model


def in_spikingjelly(graph: nir.NIRGraph, dt: float) -> Callable[..., tuple]:
    pytest.importorskip(SPIKINGJELLY)
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=dt)


def in_snntorch(graph: nir.NIRGraph, dt: float) -> Callable[..., tuple]:
    pytest.importorskip("snntorch")
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def in_norse(graph: nir.NIRGraph, dt: float) -> Callable[..., tuple]:
    module = pytest.importorskip("norse.torch.utils.import_nir")
    return module.from_nir(graph, dt=dt)


def foreign(kind: str, dt: float) -> nir.NIRGraph:
    """An affine layer and one kind of neuron, in equations that nobody wrote in steps yet: R = w_in = 1, v_leak = 0."""
    torch.manual_seed(1)
    layer, ones = on_grid(nn.Linear(128, 30, bias=kind != "CubaLIF")), np.ones(30)
    cells = {
        "LIF": lambda: nir.LIF(4 * dt * ones, ones, 0 * ones, 20 * ones, 0 * ones),
        "IF": lambda: nir.IF(ones, 60 * ones, 0 * ones),
        "CubaLIF": lambda: nir.CubaLIF(2 * dt * ones, 4 * dt * ones, ones, 0 * ones, 9 * ones, 0 * ones, w_in=ones),
    }
    weight = layer.weight.detach().numpy()
    affine = nir.Linear(weight) if layer.bias is None else nir.Affine(weight, layer.bias.detach().numpy())
    nodes = {"input": nir.Input({"input": np.array([128])}), "weights": affine, "cell": cells[kind]()}
    nodes["output"] = nir.Output({"output": np.array([30])})
    return nir.NIRGraph(nodes, list(pairwise(nodes)))


READ = [*((in_norse, "norse", kind) for kind in ("LIF", "IF", "CubaLIF"))]
READ += [(in_snntorch, "snntorch", "LIF"), (in_spikingjelly, "spikingjelly", "LIF")]


@pytest.mark.parametrize(("load", "tool", "kind"), READ, ids=[f"{tool}-{kind}" for _, tool, kind in READ])
def test_a_graph_spikes_as_in_the_tool_that_reads_it(
    load: Callable[[nir.NIRGraph, float], Callable[..., tuple]], tool: str, kind: str, tmp_path: Path
) -> None:
    """The table's row is what the tool makes of equations, all its own settings as they come."""
    time = replace(TOOLS[tool], reset="zero")
    nir.write(tmp_path / "a.nir", foreign(kind, time.dt))
    images = IMAGES.reshape(6, -1)
    wanted = np.zeros((6, STEPS, 30))
    with torch.no_grad():
        for i, image in enumerate(torch.from_numpy(images).float()):
            state, run = None, load(nir.read(tmp_path / "a.nir"), time.dt)
            for t in range(STEPS):
                out, state = _step(run, image[None] if load is in_spikingjelly else image, state)
                wanted[i, t] = out.reshape(-1)
    assert 0.05 < wanted.mean() < 0.95
    graph = nir_read.read(tmp_path / "a.nir", time, STEPS, scale=1.0)
    network, _ = nir_network.network(graph, images, QuantSettings(k=12, f=8))
    found = reference.run(network, images, probes=["cell"]).traces["cell"].output
    assert np.array_equal(found, wanted)


RUNS = [(in_spikingjelly, residual), (in_snntorch, residual), (in_spikingjelly, Chain), (in_snntorch, Chain)]
RUNS += [(in_norse, Chain)]


@pytest.mark.parametrize(("load", "make"), RUNS, ids=[f"{load.__name__}-{make.__name__}" for load, make in RUNS])
def test_our_graph_gives_torchs_logits_in_their_runtime(
    load: Callable[[nir.NIRGraph, float], Callable[..., tuple]], make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Image by image: NIR knows no batch axis, and what the tools make of one when they flatten differs."""
    torch.manual_seed(3)
    model, dt = make().eval(), 1e-3 if load is in_norse else 1e-4
    nir_write.write(tmp_path / "net.nir", trace(model, (2, 8, 8)), dt)
    images = torch.from_numpy(IMAGES[:3]).float() / 255
    with torch.no_grad():
        wanted = model(images)
        for image, logits in zip(images, wanted):
            total, state, run = 0.0, None, load(nir.read(tmp_path / "net.nir"), dt)
            for _ in range(STEPS):
                out, state = _step(run, image[None] if load is in_spikingjelly else image, state)
                total = total + out.reshape(-1)
            torch.testing.assert_close(total / STEPS, logits, rtol=1e-5, atol=1e-5)


def _step(run: Callable[..., tuple], image: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
    out = run(image, state)
    return out if isinstance(out, tuple) else (out, None)
