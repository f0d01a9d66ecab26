"""onnxruntime on the float graphs against torch with the same taus, and what is drawn against the distribution."""

# ruff: noqa: E402  (what needs ONNX is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is the peer of this test")
torch = pytest.importorskip("torch")

from torch import nn

from randhet.export.graph import ExportError, FloatGraph
from randhet.export.onnx import float_graph as onnx_float
from randhet.export.onnx import meta as onnx_meta
from randhet.export.onnx.run import session
from randhet.export.trace import trace
from randhet.train import layers
from randhet.train.models import ModelSettings, NeuronKind, SEWResNet
from randhet.train.neurons import LIF, RandomTauLIF, Reset, neurons, recording, replaying

KINDS: list[NeuronKind] = ["randhet", "randhet-forward", "het", "vanilla"]


def small(kind: NeuronKind, reset: Reset = "zero") -> SEWResNet:
    """Two stages with a strided shortcut; batch norm has seen data, so that neurons fire."""
    torch.manual_seed(3)
    model = SEWResNet(ModelSettings(3, 5, (9, 8), (6, 8), (1, 2), 4, neuron=kind, reset=reset), (0.4,) * 3, (0.3,) * 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.normal_(module.bias, 0.3, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(16, 3, 9, 8))
    return model.eval()


class Plain(nn.Module):
    """Layers the ResNet has not: average pool, a dense hidden layer, a bias, groups, dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2)
        self.encode, self.node1 = layers.Encode(3), RandomTauLIF(threshold=0.05)
        self.pool, self.flatten = layers.AvgPool2d((2, 3), (2, 1)), layers.Flatten()
        self.hidden, self.node2 = layers.Linear(4 * 3 * 4, 9), LIF(0.7, 0.05)
        self.out, self.mean = layers.Linear(9, 3), layers.MeanOverTime()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.node1(self.encode(self.conv(x))))
        return self.mean(self.out(self.node2(self.hidden(self.flatten(x)))))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{kind: (lambda kind=kind: small(kind), (3, 9, 8)) for kind in KINDS},
    **{f"{kind} subtract": (lambda kind=kind: small(kind, "subtract"), (3, 9, 8)) for kind in ("randhet", "vanilla")},
    "plain": (lambda: Plain().eval(), (2, 6, 6)),
}


class Replay:
    """Taus for every random neuron, made on first use, the same for torch and for onnxruntime."""

    def __init__(self, model: nn.Module) -> None:
        self.rng, self.taus = np.random.default_rng(5), dict[str, np.ndarray]()
        self.names = [name for name, module in neurons(model).items() if isinstance(module, RandomTauLIF)]

    def samplers(self) -> dict[str, Callable[[tuple[int, ...]], torch.Tensor]]:
        return {name: lambda shape, name=name: self.make(name, shape) for name in self.names}

    def make(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        self.taus[name] = self.rng.random(shape, dtype=np.float32)
        return torch.from_numpy(self.taus[name])

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"{name}/tau": value for name, value in self.taus.items()}


ERROR = 5e-6
"""What two float32 runtimes may differ by in a membrane here, a few sums of some hundred terms of order 1."""


@dataclass(frozen=True)
class Run:
    """What torch did with given taus: images, taus, logits, and per neuron spikes and membranes, (T, N, *shape)."""

    images: np.ndarray
    feeds: dict[str, np.ndarray]
    logits: np.ndarray
    spikes: dict[str, np.ndarray]
    membranes: dict[str, np.ndarray]
    margins: np.ndarray
    """(T, N): the smallest |m - threshold| of all neurons until and with step t."""

    @property
    def clear(self) -> np.ndarray:
        """(T, N): until here no neuron came within the error of its threshold, so no spike may differ."""
        return self.margins > ERROR


def torch_run(model: nn.Module, images: np.ndarray) -> Run:
    replay = Replay(model)
    with torch.no_grad(), replaying(model, replay.samplers()), recording(model) as log:
        logits = model(torch.from_numpy(images)).numpy()
    spikes, membranes = ({name: records[0][i].numpy() for name, records in log.items()} for i in (0, 1))
    cells = neurons(model)
    away = [np.abs(value - cells[name].threshold).min(tuple(range(2, value.ndim))) for name, value in membranes.items()]
    margins = np.minimum.accumulate(np.min(away, axis=0), axis=0)
    return Run(images, replay.feeds(), logits, spikes, membranes, margins)


def pixels(shape: tuple[int, ...], count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, *shape), dtype=np.float32)


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("name", MODELS)
def test_inference_equals_torch_with_the_same_taus(name: str, count: int) -> None:
    """Spikes, membranes, logits, until a membrane comes so near its threshold that rounding decides about a spike."""
    make, shape = MODELS[name]
    model = make()
    ran = torch_run(model, pixels(shape, count))
    graph = session(onnx_float.inference(trace(model, shape), taus="input", probes=list(ran.spikes)))
    names = [output.name for output in graph.get_outputs()]
    found = dict(zip(names, graph.run(names, {"images": ran.images, **ran.feeds})))
    clear, whole = ran.clear, ran.clear[-1]
    assert clear.mean() > 0.6
    for layer, spikes in ran.spikes.items():
        assert 0.02 < spikes.mean() < 0.98, layer
        assert np.array_equal(found[f"{layer}/output"][clear], spikes[clear]), layer
        assert np.abs(found[f"{layer}/membrane"] - ran.membranes[layer])[clear].max() < ERROR, layer
    np.testing.assert_allclose(found["logits"][whole], ran.logits[whole], rtol=0, atol=ERROR)
    assert np.array_equal(found["prediction"][whole], ran.logits[whole].argmax(1))


@pytest.mark.parametrize("name", MODELS)
def test_steps_with_explicit_states_add_up_to_the_inference(name: str) -> None:
    make, shape = MODELS[name]
    model = make()
    ran = torch_run(model, pixels(shape, 12))
    graph = session(onnx_float.step(trace(model, shape), taus="input"))
    states = {f"{layer}/state": np.zeros_like(spikes[0]) for layer, spikes in ran.spikes.items()}
    thresholds = {layer: cell.threshold for layer, cell in neurons(model).items()}
    outputs = [output.name for output in graph.get_outputs()]
    total, clear = np.zeros_like(ran.logits), ran.clear
    for t in range(len(clear)):
        taus = {key: tau[t] if tau.ndim == 5 else tau for key, tau in ran.feeds.items()}
        found = dict(zip(outputs, graph.run(outputs, {"images": ran.images, **states, **taus})))
        states = {key.replace("/next", "/state"): value for key, value in found.items() if key != "output"}
        total += found["output"]
        for layer, membranes in ran.membranes.items():
            left = membranes[t] - thresholds[layer] if "subtract" in name else 0
            after = np.where(ran.spikes[layer][t] > 0, left, membranes[t])
            assert np.abs(states[f"{layer}/state"] - after)[clear[t]].max() < ERROR, (layer, t)
    assert clear[-1].mean() > 0.5
    np.testing.assert_allclose(total[clear[-1]] / len(clear), ran.logits[clear[-1]], rtol=0, atol=ERROR)


@pytest.mark.parametrize("sampling", ["step", "forward"])
def test_drawn_taus_follow_the_distribution(sampling: str) -> None:
    """A constant current of 1 shows tau: m[0] = 1 - tau; logit(tau)/sigma is standard normal, new in every draw."""
    conv, cell = layers.Conv2d(1, 1, 1, bias=False), RandomTauLIF(1.5, 10.0, sampling)
    nn.init.ones_(conv.weight)
    model = nn.Sequential(conv, layers.Encode(2), cell, layers.Flatten(), layers.MeanOverTime())
    graph = session(onnx_float.inference(trace(model, (1, 40, 50)), probes=["2"]))
    ones = np.ones((3, 1, 40, 50), np.float32)
    (first,), (second,) = (graph.run(["2/membrane"], {"images": ones}) for _ in range(2))
    taus = 1 - first[0].astype(np.float64)
    normal = np.log(taus / (1 - taus)) / 1.5
    assert abs(normal.mean()) < 4 / np.sqrt(normal.size)
    assert abs(normal.var() - 1) < 4 * np.sqrt(2 / normal.size)
    assert not np.array_equal(first, second)
    again = (1 - first[1].astype(np.float64)) / taus  # m[1] = 1 + tau[1] * (m[0] - 1) = 1 - tau[1] * tau[0]
    same = np.isclose(again, taus, atol=1e-4)
    assert same.all() if sampling == "forward" else same.mean() < 0.01


def test_a_step_that_draws_has_no_tau_to_give() -> None:
    graph = session(onnx_float.step(trace(small("randhet"), (3, 9, 8))))
    assert not [found.name for found in graph.get_inputs() if found.name.endswith("/tau")]
    feeds = {found.name: np.zeros((2, *found.shape[1:]), np.float32) for found in graph.get_inputs()}
    feeds["images"] = pixels((3, 9, 8), 2)
    one, other = (graph.run(["layer1.0.node2/next"], feeds)[0] for _ in range(2))
    assert not np.array_equal(one, other)


def test_checked_and_described(tmp_path: Path) -> None:
    graph = trace(small("randhet"), (3, 9, 8))
    onnx_float.write_inference(tmp_path / "whole.onnx", graph)
    onnx_float.write_step(tmp_path / "step.onnx", graph, taus="input")
    for name, kind in (("whole", "float inference"), ("step", "float step")):
        model = onnx.load(tmp_path / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        entries = onnx_meta.load_metadata(model)
        assert entries["randhet.kind"] == kind
        assert entries["randhet.steps"] == "4"
        assert entries["randhet.network_sha256"] == onnx_meta.digest(graph)
    session_ = onnxruntime.InferenceSession(tmp_path / "whole.onnx", providers=["CPUExecutionProvider"])
    assert session_.run(["prediction"], {"images": pixels((3, 9, 8), 3)})[0].shape == (3,)


def test_bad_input_is_refused() -> None:
    graph = trace(small("vanilla"), (3, 9, 8))
    with pytest.raises(ExportError, match="no neuron is named conv1"):
        onnx_float.inference(graph, probes=["conv1"])
    with pytest.raises(ExportError, match="not the mean over time"):
        onnx_float.inference(FloatGraph(graph.nodes[:-1]))
