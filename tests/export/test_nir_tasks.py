"""Networks of the shapes of known tasks, built and run live in the tools that their users train in, through NIR.

SHD (Cramer et al. 2020), and the Braille and N-MNIST networks of the NIR paper (Pedersen et al. 2024). Weights lie on
the 8 bit grid, as in `test_nir_tools`, so that the integers give every spike that the tool gives; all backends then
give the integers of the reference.
"""

# ruff: noqa: E402  (what needs NIR is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from equality import assert_equal
from nir_live import on_grid, watched

torch = pytest.importorskip("torch")
nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")
pytest.importorskip("onnxruntime")

from torch import nn

from randhet.export import inputs
from randhet.export.graph import ExportError, FloatGraph
from randhet.export.nir import network as nir_network
from randhet.export.nir import read as nir_read
from randhet.export.nir.steps import TOOLS
from randhet.export.onnx import float_graph
from randhet.export.onnx.run import session
from randhet.export.passes.quantise import QuantSettings
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.network import Network

EXACT = QuantSettings(k=12, f=8)
RECORDINGS = 2


@dataclass(frozen=True)
class Task:
    """A tool's graph, the recordings that it was shown, the spikes (T, N, ...) of its neurons, and how it is read."""

    graph: Any
    tool: str
    recordings: np.ndarray
    spikes: list[np.ndarray]
    given: dict[str, Any]


def events(*shape: int, share: float) -> np.ndarray:
    """Recordings with so many values that hold an event."""
    return (np.random.default_rng(4).random((RECORDINGS, *shape)) < share).astype(np.uint8)


def in_snntorch(net: nn.Sequential, cells: list[nn.Module], recordings: np.ndarray, **given: Any) -> Task:
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    frames = torch.from_numpy(recordings).float()
    graph = export_to_nir(net, frames[:1, 0], ignore_dims=[0])
    utils.reset(net)
    seen = watched(cells, lambda: [net(frames[:, t]) for t in range(recordings.shape[1])])
    return Task(graph, "snntorch", recordings, seen, given)


def shd() -> Task:
    """700 inputs, 128 recurrent neurons and 20 classes, T = 100, in snnTorch's defaults."""
    snn = pytest.importorskip("snntorch")
    hidden = snn.RLeaky(0.75, linear_features=128, threshold=5.0, init_hidden=True)
    out = snn.Leaky(torch.full((20,), 0.75), torch.full((20,), 2.5), init_hidden=True)
    on_grid(hidden.recurrent)
    net = nn.Sequential(on_grid(nn.Linear(700, 128)), hidden, on_grid(nn.Linear(128, 20)), out)
    return in_snntorch(net, [hidden, out], events(100, 700, share=0.03), reset="subtract", reset_delay=1)


class Synaptic:
    """Neurons whose current and potential leak, in float64."""

    def __init__(self, count: int, threshold: float) -> None:
        self.current, self.potential, self.spikes = np.zeros((3, RECORDINGS, count))
        self.threshold = threshold

    def step(self, given: np.ndarray) -> None:
        self.current = 0.5 * self.current + given
        potential = 0.75 * self.potential + self.current
        self.spikes = (potential > self.threshold).astype(float)
        self.potential = potential * (1 - self.spikes)


def braille() -> Task:
    """12 taxels of two polarities, 38 recurrent neurons with synapses and 7 letters, T = 256, reset to zero.

    As `RSynaptic` of snnTorch writes itself. Its version 1.0 ends in an error where it is to reset at once, so that the
    graph is made of nodes, and its spikes are those of NIR's equations.
    """
    dense = lambda *sizes: on_grid(nn.Linear(*sizes, bias=False)).weight.detach().numpy()
    first, again, last = dense(24, 38), dense(38, 38), dense(38, 7)
    level = {38: 4.0, 7: 5.0}

    def neurons(count: int) -> Any:
        """i <- i / 2 + I and v <- 3 v / 4 + i in steps of 0.1 ms."""
        full = lambda value: np.full(count, value)
        return nir.CubaLIF(
            full(2e-4), full(4e-4), r=full(4.0), v_leak=full(0.0), v_reset=full(0.0), v_threshold=full(level[count]),
            w_in=full(2.0),
        )  # fmt: skip

    inner = {"input": nir.Input({"input": np.array([38])}), "lif": neurons(38), "w_rec": nir.Linear(again)}
    inner["output"] = nir.Output({"output": np.array([38])})
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    nodes = {"input": nir.Input({"input": np.array([24])}), "fc1": nir.Linear(first)}
    nodes["hidden"] = nir.NIRGraph(inner, edges, type_check=False)
    nodes |= {"fc2": nir.Linear(last), "out": neurons(7), "output": nir.Output({"output": np.array([7])})}
    recordings = events(256, 24, share=0.1)
    hidden, out, seen = Synaptic(38, level[38]), Synaptic(7, level[7]), []
    for frame in recordings.swapaxes(0, 1):
        hidden.step(frame @ first.T + hidden.spikes @ again.T)
        out.step(hidden.spikes @ last.T)
        seen.append((hidden.spikes, out.spikes))
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)
    return Task(graph, "snntorch", recordings, [np.stack(layer) for layer in zip(*seen)], {"reset": "zero"})


def n_mnist() -> Task:
    """Three convolutions, two sum pools and two dense layers of IF neurons on 2 x 34 x 34, in Sinabs."""
    sl, module = pytest.importorskip("sinabs.layers"), pytest.importorskip("sinabs.nir")
    from sinabs.activation import MembraneReset, SingleSpike

    neuron = lambda level: sl.IAF(spike_threshold=torch.tensor(level), reset_fn=MembraneReset(), spike_fn=SingleSpike)
    parts = [
        on_grid(nn.Conv2d(2, 16, 5, stride=2, padding=1, bias=False)), neuron(2.0),
        on_grid(nn.Conv2d(16, 16, 3, padding=1, bias=False)), neuron(3.0), sl.SumPool2d(2),
        on_grid(nn.Conv2d(16, 8, 3, padding=1, bias=False)), neuron(3.0), sl.SumPool2d(2), nn.Flatten(),
        on_grid(nn.Linear(128, 256, bias=False)), neuron(3.0), on_grid(nn.Linear(256, 10, bias=False)), neuron(3.0),
    ]  # fmt: skip
    recordings = events(40, 2, 34, 34, share=0.03)
    value, seen = torch.from_numpy(recordings).float(), []
    with torch.no_grad():
        for part in parts:
            timed = isinstance(part, sl.IAF)
            value = part(value) if timed else part(value.flatten(0, 1)).unflatten(0, value.shape[:2])
            seen += [value.numpy().swapaxes(0, 1)] if timed else []
    nodes = {"input": nir.Input({"input": np.array([2, 34, 34])})}
    nodes |= {f"n{i}": module._extract_sinabs_module(part) for i, part in enumerate(parts)}
    nodes["output"] = nir.Output({"output": np.array([10])})
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)
    return Task(graph, "sinabs", recordings, seen, {"reset": "zero"})


TASKS: dict[str, Callable[[], Task]] = {"SHD": shd, "Braille": braille, "N-MNIST": n_mnist}


def imported(task: Task) -> tuple[FloatGraph, Network, np.ndarray]:
    """The float graph, the integer network, and the recordings as it takes them."""
    steps = task.recordings.shape[1]
    found = nir_read.from_nir(task.graph, replace(TOOLS[task.tool], **task.given), steps, scale=1.0, sequence=True)
    recordings = inputs.fitted(found, task.recordings)
    network, calibration = nir_network.network(found, recordings, EXACT)
    assert calibration.saturations == 0
    return found, network, recordings


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.timeout(240)
def test_a_task_runs_as_in_its_tool_and_alike_on_all_backends(name: str) -> None:
    torch.manual_seed(1)
    task = TASKS[name]()
    found, network, recordings = imported(task)
    neurons = [layer.name for layer in network.layers if layer.spikes]
    assert len(neurons) == len(task.spikes) and all(0.01 < spikes.mean() < 0.9 for spikes in task.spikes)
    assert any(layer.recurrent is not None for layer in network.layers) == (name != "N-MNIST")
    floats = session(float_graph.inference(found, probes=neurons)).run(
        [f"{neuron}/output" for neuron in neurons], {"images": recordings.astype(np.float32) / 255}
    )
    wanted = reference.run(network, recordings, probes=neurons)
    for neuron, spikes, given in zip(neurons, task.spikes, floats):
        assert np.array_equal(given, spikes), neuron
        assert np.array_equal(wanted.traces[neuron].output.swapaxes(0, 1), spikes), neuron
    for backend, entry in BACKENDS.items():
        if backend != "reference" and not entry.missing():
            probes = neurons[:1] if backend in ("lava", "c") else neurons
            result = runner(backend)(network, recordings, seed=None, first_image=0, probes=probes)
            traces = {neuron: wanted.traces[neuron] for neuron in probes}
            assert_equal(result, replace(wanted, operations=result.operations, traces=traces))


def test_recurrence_with_a_synapse_that_resets_late_is_refused() -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    full = lambda value: torch.full((8,), value)
    make = lambda **given: snn.RSynaptic(
        full(0.5), full(0.75), linear_features=8, threshold=full(1.0), init_hidden=True, reset_mechanism="zero", **given
    )
    graph = export_to_nir(nn.Sequential(nn.Linear(4, 8, bias=False), make()), torch.zeros(1, 4), ignore_dims=[0])
    late = replace(TOOLS["snntorch"], reset="zero", reset_delay=1)
    with pytest.raises(
        ExportError, match="resets by 'zero' one step late, its integer neuron, Cuba, only to zero at once"
    ):
        nir_read.from_nir(graph, late, 5, scale=1.0, sequence=True)
    with pytest.raises(TypeError):
        make(reset_delay=False)(torch.zeros(1, 8))
