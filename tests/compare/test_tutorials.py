"""Networks of other libraries' tutorials, as their authors write them: every command, every backend, and NIR."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tutorials
from equality import assert_equal
from scipy import stats
from torch import nn
from tutorials import NETWORKS, TRAINING, Trained, digits

import randhet
from randhet.export.graph import ExportError
from randhet.export.inputs import fitted
from randhet.export.nir import network as nir_network
from randhet.export.nir import read as nir_read
from randhet.export.nir import write as nir_write
from randhet.export.nir.steps import TOOLS
from randhet.export.passes.quantise import QuantSettings
from randhet.export.trace import timed, trace
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.network import Constant, Network

MARGIN = 0.02
"""Of accuracy, on 397 held-out images of which fewer than 20 are wrong."""


@dataclass(frozen=True, eq=False)
class Deployed:
    """A trained network and its integers."""

    trained: Trained
    network: Network


@pytest.fixture(scope="module", params=NETWORKS)
def deployed(request: pytest.FixtureRequest) -> Deployed:
    trained = NETWORKS[request.param]()
    return Deployed(trained, randhet.deploy(trained.model, digits()[0][:64], trained.steps))


def held_out(count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    pixels, classes = digits()
    return pixels[TRAINING:][:count], classes[TRAINING:][:count]


def test_integers_are_as_often_right(deployed: Deployed) -> None:
    """On all held-out images: the difference is within McNemar's exact test, and no state leaves 24 bits."""
    pixels, classes = held_out()
    own = deployed.trained.right(pixels, classes)
    result = runner("engine")(deployed.network, pixels, seed=0, first_image=0, probes=())
    integers = result.predictions == classes
    only_own, only_integers = int((own & ~integers).sum()), int((integers & ~own).sum())
    assert own.mean() > 0.8 and result.saturations == 0
    assert abs(own.mean() - integers.mean()) <= MARGIN
    if only_own + only_integers:
        assert stats.binomtest(only_own, only_own + only_integers).pvalue > 0.01


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
def test_every_backend_gives_the_same_integers(deployed: Deployed, backend: str) -> None:
    """Sums, spikes and every membrane potential of every layer of neurons, on four images; Lava too."""
    if missing := BACKENDS[backend].missing():
        pytest.skip(missing)
    network, pixels = deployed.network, held_out(4)[0]
    probes = tuple(layer.name for layer in network.layers if layer.spikes)
    run = lambda name: runner(name)(network, pixels, seed=0, first_image=0, probes=probes)
    assert_equal(run(backend), run("reference"))


def test_the_report_finds_nothing(deployed: Deployed, tmp_path: Path) -> None:
    """The model itself beside its integers: accuracy within the margin, predictions alike, backends equal."""
    report = randhet.compare_models(
        deployed.trained.model, deployed.network, *held_out(), backends=("engine", "add-only"), margin=MARGIN
    )
    # one image in twelve has two classes with the same count of spikes over 4 steps, between which one spike decides
    assert [failure for failure in report.found.failures if "of predictions agree" not in failure] == []
    assert report.found.agreement > 0.95
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert all(layer.name in page for layer in deployed.network.layers if layer.spikes)


def test_it_is_attacked_as_it_is(deployed: Deployed) -> None:
    """Gradients that a surrogate leads find more than uniform noise, and the examples fool the model itself."""
    trained, (pixels, classes) = deployed.trained, held_out(40)
    images, labels = torch.from_numpy(pixels).float() / 255, torch.from_numpy(classes)
    found = randhet.attack(trained.model, images, labels, "fgsm,pgd10+assg", eps=0.1, steps=trained.steps)
    noise = (images + 0.1 * torch.empty_like(images).uniform_(-1, 1).sign()).clamp(0, 1)
    with torch.no_grad():
        right = {
            name: float((trained.scores(shown).argmax(1) == labels).float().mean())
            for name, shown in {"clean": images, "noise": noise, "pgd10+assg": found.examples["pgd10+assg"]}.items()
        }
    assert found.clean.accuracy == pytest.approx(right["clean"])
    assert found.accuracy["pgd10+assg"] == pytest.approx(right["pgd10+assg"])
    assert right["pgd10+assg"] < right["noise"] - 0.1
    assert len(found.layers) == len([layer for layer in deployed.network.layers if layer.spikes])
    assert not found.stochastic


# --- through NIR ------------------------------------------------------------------------------------------------------


def through_nir(graph: Any, tool: str, steps: int, how: dict[str, Any] | None = None) -> Network:
    """The integer network of a graph that another library wrote."""
    time = replace(TOOLS[tool], **(how or {}))
    float_graph = nir_read.from_nir(graph, time, steps)
    settings, images = QuantSettings(), digits()[0][:64]
    return nir_network.network(float_graph, fitted(float_graph, images), settings)[0]


def assert_same_network(found: Network, deployed: Network) -> None:
    """The same weights and decays; thresholds and biases within one unit, since NIR holds float32 time constants."""
    weights, expected = ([layer for layer in one.layers if layer.weighted] for one in (found, deployed))
    assert len(weights) == len(expected)
    for one, other in zip(weights, expected):
        assert one.weighted is not None and other.weighted is not None
        assert np.array_equal(one.weighted.weight, other.weighted.weight)
        if other.lif is None or one.lif is None:
            assert one.lif is other.lif
            continue
        assert isinstance(one.lif.decay, Constant) and isinstance(other.lif.decay, Constant)
        assert (one.lif.decay.mantissa, one.lif.k) == (other.lif.decay.mantissa, other.lif.k)
        assert (one.lif.reset, one.lif.reset_delay) == (other.lif.reset, other.lif.reset_delay)
        assert np.abs(one.lif.threshold - other.lif.threshold).max() <= 1
        assert np.abs(one.lif.bias - other.lif.bias).max() <= 1


def snntorch_graph(layers: list[nn.Module], shape: tuple[int, ...]) -> Any:
    """What snnTorch writes of layers that keep their states themselves."""
    export = pytest.importorskip("snntorch.export_nir").export_to_nir
    return export(nn.Sequential(*layers), torch.zeros(1, *shape), ignore_dims=[0])


def keeping(neuron: Any, *shape: int) -> nn.Module:
    """A `Leaky` with the same numbers that keeps its state, with one beta a neuron, as the exporter needs it."""
    beta, threshold = (torch.full(shape, float(value)) for value in (neuron.beta, neuron.threshold))
    kept: nn.Module = type(neuron)(beta=beta, threshold=threshold, init_hidden=True)
    return kept


LATE = {"reset": "subtract", "reset_delay": 1}
"""snnTorch's default, which NIR does not say."""


def test_the_dense_network_goes_through_nir() -> None:
    net: Any = tutorials.snntorch_dense().model
    graph = snntorch_graph([net.fc1, keeping(net.lif1, 100), net.fc2, keeping(net.lif2, 10)], (784,))
    found = through_nir(graph, "snntorch", net.num_steps, LATE)
    assert_same_network(found, randhet.deploy(net, digits()[0][:64]))


def test_the_convolutional_network_goes_through_nir_with_average_pools() -> None:
    """NIR has no max pool: snnTorch leaves it out with a warning, and its graph is none."""
    net: Any = tutorials.snntorch_convolutional(nn.AvgPool2d, 2).model
    conv1, pool1, lif1, conv2, pool2, lif2, flatten, dense, last = net
    layers = [conv1, pool1, keeping(lif1, 6, 12, 12), conv2, pool2, keeping(lif2, 16, 4, 4), flatten, dense]
    graph = snntorch_graph([*layers, keeping(last, 10)], (1, 28, 28))
    found = through_nir(graph, "snntorch", 4, LATE)
    assert_same_network(found, randhet.deploy(net, digits()[0][:64], 4))
    with pytest.raises(AttributeError):
        snntorch_graph([conv1, nn.MaxPool2d(2), keeping(lif1, 6, 12, 12)], (1, 28, 28))


@pytest.mark.parametrize("kind", ["IFNode", "LIFNode"])
def test_spikingjellys_network_goes_through_nir_with_average_pools(kind: str) -> None:
    """Its exporter writes neither max pool nor batch norm, which is folded here, and one step a call."""
    net: Any = tutorials.spikingjelly(kind, "AvgPool2d", 1).model
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    max_pool = pytest.importorskip("spikingjelly.activation_based.layer").MaxPool2d
    functional.set_step_mode(net, "s")
    functional.reset_net(net)
    conv1, norm1, if1, pool1, conv2, norm2, *rest = net.conv_fc
    fused = [nn.utils.fuse_conv_bn_eval(conv, norm) for conv, norm in ((conv1, norm1), (conv2, norm2))]
    folded = nn.Sequential(fused[0], if1, pool1, fused[1], *rest)
    found = through_nir(exchange.export_to_nir(folded, torch.zeros(1, 1, 28, 28)), "spikingjelly", 4)
    functional.reset_net(net)
    assert_same_network(found, randhet.deploy(folded, digits()[0][:64], 4))
    with pytest.raises(ValueError, match="only supported function is addition"):
        exchange.export_to_nir(nn.Sequential(fused[0], if1, max_pool(2)), torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("snnTorch, dense", "lif1: NIR cannot represent a reset one step late"),
        ("snnTorch, convolutional", "1: NIR cannot represent FloatMaxPool"),
        ("SpikingJelly, IF", "conv_fc.2: NIR cannot represent spikes at the threshold itself"),
    ],
)
def test_our_own_graphs_refuse_what_nir_cannot_represent(name: str, reason: str) -> None:
    trained = NETWORKS[name]()
    shape = (1, 28, 28)
    with pytest.raises(ExportError, match=reason):
        nir_write.to_nir(trace(timed(trained.model, shape, trained.steps), shape))
