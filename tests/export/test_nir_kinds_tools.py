"""Graphs of other tools with late resets, floors, recurrence, read-outs, one dimension and sequences, run live by them.

Weights lie on the 8 bit grid, as in `test_nir_tools`, so that the integers give every spike that the tool gives.
"""

# ruff: noqa: E402  (what needs NIR is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
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
from randhet.export.nir.foreign import ReadOutOf
from randhet.export.nir.steps import TOOLS
from randhet.export.onnx import float_graph
from randhet.export.onnx.run import session
from randhet.export.passes.quantise import QuantSettings
from randhet.fixed_point import reference
from randhet.fixed_point.network import Network

STEPS = 6
IMAGES = np.random.default_rng(0).integers(0, 12, (6, 32), dtype=np.uint8)
ONE = 127 * 2.0**-7
"""The largest weight of the grid."""
EXACT = QuantSettings(k=12, f=8)


def imported(graph: Any, images: np.ndarray, tool: str, **given: Any) -> tuple[FloatGraph, Network]:
    """The float graph and the integer network; given: fields of the discretisation, read_out, sequence."""
    how = {name: given.pop(name) for name in ("read_out", "sequence") if name in given}
    found = nir_read.from_nir(graph, replace(TOOLS[tool], **given), STEPS, scale=1.0, **how)
    network, calibration = nir_network.network(found, inputs.fitted(found, images), EXACT)
    assert calibration.saturations == 0
    return found, network


def spikes_equal(found: FloatGraph, network: Network, images: np.ndarray, wanted: dict[str, np.ndarray]) -> None:
    """Floats in onnxruntime and integers in the reference give the tool's spikes (T, N, ...)."""
    assert all(0.05 < spikes.mean() < 0.95 for spikes in wanted.values())
    whole = session(float_graph.inference(found, probes=list(wanted)))
    floats = whole.run([f"{name}/output" for name in wanted], {"images": images.astype(np.float32) / 255})
    traces = reference.run(network, images, probes=list(wanted)).traces
    for (name, spikes), given in zip(wanted.items(), floats):
        assert np.array_equal(given, spikes), name
        assert np.array_equal(traces[name].output.swapaxes(0, 1), spikes), name


# --- snnTorch: its defaults -------------------------------------------------------------------------------------------


def snntorch_net(cells: list[nn.Module], bias: bool = True) -> nn.Sequential:
    first, second = on_grid(nn.Linear(32, 20, bias=bias)), on_grid(nn.Linear(20, 10, bias=bias))
    return nn.Sequential(first, cells[0], second, cells[1])


LATE: dict[str, Callable[[Any, float, int], nn.Module]] = {
    "Leaky, as it comes": lambda snn, level, size: snn.Leaky(
        torch.full((size,), 0.75), torch.full((size,), level), init_hidden=True
    ),
    "Leaky, zero": lambda snn, level, size: snn.Leaky(
        torch.full((size,), 0.75), torch.full((size,), level), init_hidden=True, reset_mechanism="zero"
    ),
    "RLeaky, as it comes": lambda snn, level, size: snn.RLeaky(
        0.75, linear_features=size, threshold=level, init_hidden=True
    ),
    "RLeaky, one to one": lambda snn, level, size: snn.RLeaky(
        0.75, torch.full((size,), -ONE), all_to_all=False, threshold=level, init_hidden=True
    ),
    "RLeaky, zero": lambda snn, level, size: snn.RLeaky(
        0.75, linear_features=size, threshold=level, init_hidden=True, reset_mechanism="zero"
    ),
}


@pytest.mark.parametrize("kind", LATE)
def test_snntorchs_late_resets_and_recurrence(kind: str) -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(1)
    cells = [LATE[kind](snn, level, size) for level, size in ((6.0, 20), (1.0, 10))]
    for cell in cells:
        if isinstance(getattr(cell, "recurrent", None), nn.Linear):
            on_grid(cell.recurrent)
    net = snntorch_net(cells)
    x = torch.from_numpy(IMAGES).float()
    graph = export_to_nir(net, x[:1], ignore_dims=[0])
    utils.reset(net)
    seen = watched(cells, lambda: [net(x) for _ in range(STEPS)])
    reset = "zero" if "zero" in kind else "subtract"
    delay = 0 if kind == "Leaky, zero" else 1  # before the decay is at once
    found, network = imported(graph, IMAGES, "snntorch", reset=reset, reset_delay=delay)
    names = [layer.name for layer in network.layers if layer.spikes]
    assert all(layer.recurrent is not None for layer in network.layers if layer.spikes) == ("RLeaky" in kind)
    spikes_equal(found, network, IMAGES, dict(zip(names, seen)))
    if kind == "Leaky, zero":
        with pytest.raises(ExportError, match="resets to zero at once in snnTorch 1.0 at any reset_delay: leave out"):
            imported(graph, IMAGES, "snntorch", reset="zero", reset_delay=1)


# --- Sinabs: floors ---------------------------------------------------------------------------------------------------


def sinabs_graph(*parts: nn.Module) -> Any:
    module = pytest.importorskip("sinabs.nir")
    nodes = {"input": nir.Input({"input": np.array([32])})}
    nodes |= {f"n{i}": module._extract_sinabs_module(part) for i, part in enumerate(parts)}
    nodes["output"] = nir.Output({"output": np.array([10])})
    return nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)


def test_the_lowest_membrane_potential_of_sinabs() -> None:
    """Its floor changes spikes here; what else it does by default is refused by name."""
    sl = pytest.importorskip("sinabs.layers")
    from sinabs.activation import MembraneReset, SingleSpike

    torch.manual_seed(2)
    linear = on_grid(nn.Linear(32, 40))
    common = {"reset_fn": MembraneReset(), "spike_fn": SingleSpike, "norm_input": False}
    level, floor = torch.tensor(60.0), -20.0
    frames = np.random.default_rng(5).integers(0, 40, (6, STEPS, 32), dtype=np.uint8)
    x = linear(torch.from_numpy(frames).float())
    seen = {}
    with torch.no_grad():
        for lowest in (floor, None):
            cell = sl.LIF(torch.tensor(3.0), spike_threshold=level, min_v_mem=lowest, **common)
            seen[lowest] = cell(x).numpy().swapaxes(0, 1)
    assert (seen[floor] != seen[None]).any()
    graph = sinabs_graph(linear, cell)
    for lowest, spikes in seen.items():
        found, network = imported(graph, frames, "sinabs", reset="zero", floor=lowest, sequence=True)
        spikes_equal(found, network, frames, {"n1": spikes})
    with pytest.raises(ExportError, match="several spikes a step and divided input, are not supported"):
        imported(graph, frames, "sinabs", sequence=True)
    with pytest.raises(ExportError, match="several spikes a step and divided input, are not supported"):
        imported(graph, frames, "sinabs", sequence=True, reset="subtract")


# --- read-outs --------------------------------------------------------------------------------------------------------


def read(potentials: np.ndarray, how: ReadOutOf) -> np.ndarray:
    """One value of potentials (T, N, classes)."""
    return {"last": potentials[-1], "max": potentials.max(0), "mean": potentials.mean(0)}[how]


def read_outs_agree(graph: Any, tool: str, potentials: np.ndarray, **given: Any) -> None:
    """Floats agree with the tool; integers to what rounding does to m in T steps, and so do predictions."""
    for how in ("last", "max", "mean"):
        found, network = imported(graph, IMAGES, tool, read_out=how, **given)
        wanted = read(potentials, how)
        (logits,) = session(float_graph.inference(found)).run(["logits"], {"images": IMAGES.astype(np.float32) / 255})
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
        last = network.layers[-1]
        assert last.scale is not None and last.neuron is not None
        unit = float(last.scale[0]) * 2.0**-last.neuron.f
        result = reference.run(network, IMAGES)
        integers = result.sums * unit / (STEPS if how == "mean" else 1)
        # a step rounds down by less than a unit; A of 12 bits is off by 2^-13 at most, of what m and x differ
        bound = STEPS * (unit + 2.0**-13 * 2 * np.abs(potentials).max() * 4)
        assert np.abs(integers - wanted).max() <= bound
        gap = np.sort(wanted, axis=1)[:, -1] - np.sort(wanted, axis=1)[:, -2]
        assert np.array_equal(result.predictions[gap > 2 * bound], wanted.argmax(1)[gap > 2 * bound])
        assert (gap > 2 * bound).any()


def test_the_leaky_read_out_of_norse() -> None:
    norse_torch = pytest.importorskip("norse.torch")
    export_nir = pytest.importorskip("norse.torch.utils.export_nir")
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters
    from norse.torch.module.leaky_integrator_box import LIBoxCell

    torch.manual_seed(3)
    linear = on_grid(nn.Linear(32, 10))
    cell = LIBoxCell(LIBoxParameters(tau_mem_inv=torch.tensor(250.0), v_leak=torch.tensor(0.0)))
    net = norse_torch.SequentialState(linear, cell)
    x, state, seen = torch.from_numpy(IMAGES).float(), None, []
    graph = export_nir.to_nir(net, x[:1])
    with torch.no_grad():
        for _ in range(STEPS):
            out, state = net(x, state)
            seen.append(out.numpy())
    read_outs_agree(graph, "norse-export", np.stack(seen))


def test_the_leaky_read_out_of_sinabs() -> None:
    sl = pytest.importorskip("sinabs.layers")
    torch.manual_seed(4)
    linear, cell = on_grid(nn.Linear(32, 10)), sl.ExpLeak(torch.tensor(3.0))
    with torch.no_grad():
        x = linear(torch.from_numpy(IMAGES).float())
        potentials = cell(torch.stack([x] * STEPS, 1)).numpy().swapaxes(0, 1)
    graph = sinabs_graph(linear, cell)
    with pytest.raises(ExportError, match="nor norm_input"):
        imported(graph, IMAGES, "sinabs", read_out="last")
    read_outs_agree(graph, "sinabs", potentials, reset="zero")


# --- one dimension and sequences --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [False, True])
def test_a_one_dimensional_network_of_spikingjelly(sequence: bool) -> None:
    """Also on a sequence of frames, which its own `step_mode='m'` takes."""
    pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(5)
    conv, dense = on_grid(layer.Conv1d(2, 4, 3, padding=1)), on_grid(layer.Linear(64, 10))
    cells = [neuron.LIFNode(tau=2.0, v_threshold=level, v_reset=0.0) for level in (150.0, 0.5)]
    net = nn.Sequential(conv, cells[0], layer.Flatten(), dense, cells[1])
    frames = np.random.default_rng(6).integers(0, 256, (6, STEPS, 2, 16), dtype=np.uint8)
    images = frames if sequence else frames[:, 0]
    graph = export_to_nir(net, torch.from_numpy(frames[:1, 0]).float())
    functional.reset_net(net)
    shown = [torch.from_numpy(frames[:, t if sequence else 0]).float() for t in range(STEPS)]
    seen = watched(cells, lambda: [net(x) for x in shown])
    found, network = imported(graph, images, "spikingjelly", sequence=sequence)
    names = [layer.name for layer in network.layers if layer.spikes]
    spikes = {names[0]: seen[0][:, :, :, None, :], names[1]: seen[1]}
    spikes_equal(found, network, inputs.fitted(found, images), spikes)
