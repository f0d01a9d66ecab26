"""Neurons with a current of their own (CUBA): their equation in float, integers and ONNX, and in every command."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call, parsed
from torch import nn

from randhet.base.errors import RandhetError
from randhet.export.float_model import FloatModel
from randhet.export.graph import ExportError, FloatNeuron
from randhet.export.model import of_graph
from randhet.export.pipeline import export, export_model
from randhet.export.trace import trace
from randhet.export.verify import verify
from randhet.fixed_point import reference
from randhet.netx.write import read
from randhet.train import weights
from randhet.train.general import GeneralLIF, LeakyReadOut
from randhet.train.layers import Conv2d, Encode, Flatten, Linear, MeanOverTime
from randhet.train.neurons import recording

SHAPE, STEPS = (1, 6, 6), 7
IMAGES = np.random.default_rng(2).integers(0, 256, (16, *SHAPE), dtype=np.uint8)
TAIL = (Flatten(), Linear(144, 3), MeanOverTime())


def model(neuron: nn.Module, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(Conv2d(1, 4, 3, padding=1, bias=bias), Encode(STEPS), neuron, *TAIL).eval()


NEURONS = {
    "driven": lambda: GeneralLIF(0.75, 0.9, drive=1.0, synapse=0.5),
    "divided": lambda: GeneralLIF(0.75, 0.3, synapse=0.5),
    "half": lambda: GeneralLIF(0.875, 0.5, drive=0.5, synapse=0.25),
    "integrating": lambda: GeneralLIF(1.0, 1.5, drive=1.0, synapse=0.5),
    "inclusive": lambda: GeneralLIF(0.75, 0.9, drive=1.0, synapse=0.5, inclusive=True),
}


@pytest.mark.parametrize("name", NEURONS)
def test_the_equation_by_hand(name: str) -> None:
    """Plain numbers in Python, on currents that are multiples of 1/64, for which float32 is exact."""
    neuron = NEURONS[name]()
    currents = np.random.default_rng(3).integers(-40, 90, (STEPS, 2, 5)) / 64
    factor = 1 - neuron.decay if neuron.drive is None else neuron.drive
    u, m, wanted = np.zeros((2, 5)), np.zeros((2, 5)), []
    for x in currents:
        u = neuron.synapse * u + x
        m = neuron.decay * m + factor * u
        fired = m >= neuron.threshold if neuron.inclusive else m > neuron.threshold
        wanted.append((fired, m.copy()))
        m = np.where(fired, 0, m)
    with recording(neuron) as log:
        neuron(torch.from_numpy(currents))
    spikes, membranes = log[""][0]
    assert 0.02 < spikes.mean() < 0.9
    assert np.array_equal(spikes.numpy(), np.stack([fired for fired, _ in wanted]))
    np.testing.assert_allclose(membranes.numpy(), np.stack([m for _, m in wanted]), rtol=1e-12)


@pytest.mark.parametrize("name", NEURONS)
def test_integers_spike_as_the_module_does(name: str) -> None:
    """Except where rounding moves a membrane potential across the threshold: under 2 % of spikes."""
    net = model(NEURONS[name]())
    verify(net, trace(net, SHAPE), IMAGES)
    network = export_model(net, IMAGES).network
    assert network.layers[1].cuba is not None
    with torch.no_grad():
        pixels = torch.from_numpy(IMAGES).float() / 255
        expected, logits = net[:3](pixels).transpose(0, 1).numpy(), net(pixels)
        again = FloatModel(trace(net, SHAPE)).eval()(pixels)
    torch.testing.assert_close(again, logits, rtol=1e-5, atol=1e-6)
    found = reference.run(network, IMAGES, seed=0, probes=("2",)).traces["2"].output
    assert 0.02 < expected.mean() < 0.98
    assert np.mean(found != expected) < 0.02


def test_a_leaky_read_out_with_a_synapse() -> None:
    torch.manual_seed(5)
    end = (Flatten(), Linear(144, 3, bias=False), LeakyReadOut(0.75, drive=1.0, synapse=0.5), MeanOverTime())
    net = nn.Sequential(Conv2d(1, 4, 3, padding=1), Encode(STEPS), GeneralLIF(0.5, 0.2), *end).eval()
    network = export_model(net, IMAGES).network
    with torch.no_grad():
        logits = net(torch.from_numpy(IMAGES).float() / 255).numpy()
    last, result = network.layers[-1], reference.run(network, IMAGES, seed=0)
    assert last.scale is not None and last.cuba is not None
    # 12-bit decays and truncation of a few units over 7 steps
    np.testing.assert_allclose(result.sums * last.scale * 2.0**-last.cuba.f / STEPS, logits, atol=0.05)
    assert (result.predictions == logits.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("name", ["driven", "divided"])
def test_float_onnx_is_torch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from randhet.export.onnx import float_graph

    net = model(NEURONS[name]())
    float_graph.write_inference(tmp_path / "a.onnx", trace(net, SHAPE))
    pixels = IMAGES.astype(np.float32) / 255
    found = onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).run(["logits"], {"images": pixels})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(pixels)).numpy(), rtol=1e-5, atol=1e-6)


REFUSED = [
    (lambda: model(GeneralLIF(0.75, 0.5, synapse=0.5), bias=True), "the bias of its weights would pass through"),
    (lambda: model(GeneralLIF(0.75, 0.5, synapse=0.5, reset="subtract")), "it can be reset to zero at once only"),
    (
        lambda: model(GeneralLIF(torch.linspace(0.3, 0.9, 4).view(4, 1, 1), 0.5, synapse=0.5)),
        "which has a synapse and decays that differ",
    ),
]


@pytest.mark.parametrize(("made", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_integers_cannot_represent_is_refused(made: object, words: str) -> None:
    with pytest.raises(ExportError, match=words) as caught:
        export_model(made(), IMAGES)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_synapse_lies_between_0_and_1() -> None:
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(RandhetError, match=r"synapse is .*, the limits are 0 to 1"):
            GeneralLIF(0.5, synapse=wrong)


def test_a_graph_of_such_neurons_is_a_model() -> None:
    """Its twin has neurons, gradients by the image, and the same digest as before it had a module."""
    graph = trace(model(NEURONS["driven"]()), SHAPE)
    (neuron,) = (node.operation for node in graph.nodes if isinstance(node.operation, FloatNeuron))
    assert (neuron.kind, neuron.synapse, float(neuron.decay), neuron.drive) == ("cuba", 0.5, 0.75, None)
    twin = of_graph(graph).twin(SHAPE)
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    twin(image).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert export(of_graph(graph), IMAGES).network.layers[1].cuba is not None


# --- from NIR to every command ----------------------------------------------------------------------------------------

FEW = ("--data", "digits", "--samples", 16)
NORSE = ("--tool", "norse", "--time-steps", 6)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nir = pytest.importorskip("nir")
    rng, ones = np.random.default_rng(0), np.ones(20)
    nodes = {
        "input": nir.Input({"input": np.array([64])}),
        "fc1": nir.Linear(rng.normal(0, 0.3, (20, 64))),
        "cell": nir.CubaLIF(2e-3 * ones, 4e-3 * ones, ones, 0 * ones, 0.2 * ones, 0 * ones, w_in=ones),
        "fc2": nir.Affine(rng.normal(0, 0.5, (10, 20)), rng.normal(0, 0.1, 10)),
        "output": nir.Output({"output": np.array([10])}),
    }
    path = tmp_path_factory.mktemp("cuba") / "cuba.nir"
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes))))
    done = call("export", path, *NORSE, "-o", path.with_suffix(".net"), "--onnx-float", path.with_suffix(".onnx"), *FEW)
    assert done.exit_code == 0, done.stderr
    return path


def test_compare_and_attack_take_it(graph: Path) -> None:
    net = graph.with_suffix(".net")
    done = call("compare", graph, net, "--samples", 16, "--backends", "engine,add-only", "--json")
    assert done.exit_code in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert all(backend["identical"] for backend in found["backends"].values())
    (layer,) = found["layers"]
    assert layer["layer"] == "cell" and layer["same_spikes"] > 0.98 and layer["float_rate"] > 0.02
    attacks = ("--attacks", "fgsm", "--threads", 1, "--net", net, "--draws", 2, "--redraws", 2)
    attacked = parsed(call("attack", graph, *NORSE, *attacks, *FEW, "--json"))
    assert set(attacked["attacks"]) == {"fgsm"} and attacked["deployed"]


def test_budget_refuses_it_by_name(graph: Path) -> None:
    done = call("budget", graph, graph.with_suffix(".net"), *FEW, "--calibration", 8, "--draws", 1)
    assert done.exit_code == 2
    assert "layer cell: neurons of kind Cuba have no error budget" in " ".join(done.stderr.split())


def test_training_leaves_out_a_bias_before_a_synapse(graph: Path, tmp_path: Path) -> None:
    once = ("--epochs", 1, "--samples", 60, "--objective", "plain", "--qat-bits", 4)
    tuned = tmp_path / "tuned.pt"
    done = call("train", "--from", graph, *NORSE, "--data", "digits", *once, "-o", tuned)
    assert done.exit_code == 0, done.stderr
    state = weights.load(tuned).state
    assert not state["fc1.bias"].any() and state["fc2.bias"].any()
    made = call("export", graph, *NORSE, "--weights", tuned, "-o", tmp_path / "tuned.net", "--samples", 16)
    assert made.exit_code == 0, made.stderr
    whole = [layer.weighted.weight for layer in read(tmp_path / "tuned.net").layers if layer.weighted]
    assert [int(np.abs(weight.astype(int)).max()) for weight in whole] == [7, 7]
