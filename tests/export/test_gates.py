"""AND and IAND blocks go from the model as it is trained to the integer network, and every backend computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from equality import assert_equal
from torch import Tensor, nn

from randhet.base.errors import NetworkError
from randhet.export.c import run as c
from randhet.export.graph import ExportError
from randhet.export.pipeline import export_checkpoint, export_model
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.netx.read import read
from randhet.netx.write import write
from randhet.train.checkpoint import random_init
from randhet.train.layers import Conv2d, Encode, Flatten, Linear, MeanOverTime
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6), np.uint8)
KINDS = {"and": ir.And, "iand": ir.Iand}
TRUTH = {"and": lambda shortcut, branch: shortcut & branch, "iand": lambda shortcut, branch: shortcut & ~branch & 1}


def exported(connect: str, neuron: str = "randhet") -> ir.Network:
    settings = ModelSettings(1, 3, (6, 6), (5, 4), (2, 1), steps=3, neuron=neuron, connect=connect)  # type: ignore[arg-type]
    return export_checkpoint(random_init(settings, seed=4), PIXELS).network


@pytest.mark.parametrize("neuron", ["randhet", "vanilla"])
@pytest.mark.parametrize("connect", KINDS)
def test_a_block_s_gate_is_the_one_that_was_trained(connect: str, neuron: str) -> None:
    """Each gate from the spikes of the neurons that its name says: shortcut and branch."""
    net = exported(connect, neuron)
    found = reference.run(net, PIXELS, seed=2, probes=[layer.name for layer in net.layers])
    spikes = {name: trace.output for name, trace in found.traces.items()}
    sources = {
        "layer1.0": ("node1", "layer1.0.node2"),
        "layer1.1": ("layer1.0.gate", "layer1.1.node2"),
        "layer2.0": ("layer2.0.downsample_sn", "layer2.0.node2"),
    }
    for block, (shortcut, branch) in sources.items():
        layer = next(layer for layer in net.layers if layer.name == f"{block}.gate")
        assert isinstance(layer.operation, KINDS[connect])
        assert np.array_equal(spikes[layer.name], TRUTH[connect](spikes[shortcut], spikes[branch]))
    assert any(spikes[f"{block}.gate"].any() for block in sources), "gates that let something through"
    assert any(not np.array_equal(spikes[f"{block}.gate"], spikes[pair[0]]) for block, pair in sources.items())


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("connect", KINDS)
def test_backends_and_the_file_give_the_reference_s_integers(connect: str, backend: str, tmp_path: Any) -> None:
    if reason := BACKENDS[backend].missing():
        pytest.skip(str(reason))
    write(tmp_path / "a.net", exported(connect))
    net = read(tmp_path / "a.net")
    options: dict[str, Any] = {"seed": 3, "probes": [layer.name for layer in net.layers]}
    found = runner(backend, threads=1)(net, PIXELS[:2], first_image=0, **options)
    assert_equal(found, reference.run(net, PIXELS[:2], **options))


class Gated(nn.Module):
    """A convolution's spikes combined with those of another in a given way."""

    def __init__(self, combine: Any) -> None:
        super().__init__()
        self.encode, self.mean, self.flat, self.linear = Encode(2), MeanOverTime(), Flatten(), Linear(72, 2)
        self.conv1, self.node1, self.conv2, self.node2 = Conv2d(1, 2, 1), LIF(0.1), Conv2d(1, 2, 1), LIF(0.1)
        self.combine = combine

    def forward(self, images: Tensor) -> Tensor:
        x = self.encode(images)
        return self.mean(self.linear(self.flat(self.combine(self.node1(self.conv1(x)), self.node2(self.conv2(x))))))


def gated(combine: Any) -> ir.Network:
    torch.manual_seed(1)
    return export_model(Gated(combine), PIXELS).network


@pytest.mark.parametrize(
    ("combine", "kind", "first"),
    [
        (lambda a, b: a * b, ir.And, "node1"),
        (torch.mul, ir.And, "node1"),
        (lambda a, b: a.mul(b), ir.And, "node1"),
        (lambda a, b: (1 - a) * b, ir.Iand, "node1"),
        (lambda a, b: b * (1.0 - a), ir.Iand, "node1"),
        (lambda a, b: torch.mul(a, 1 - b), ir.Iand, "node2"),
    ],
)
def test_products_of_a_user_s_model_are_gates(combine: Any, kind: type, first: str) -> None:
    """first: the layer whose spikes are inverted, which `Iand` reads first."""
    net = gated(combine)
    (gate,) = (layer for layer in net.layers if isinstance(layer.operation, ir.And | ir.Iand))
    assert isinstance(gate.operation, kind)
    assert net.layers[gate.inputs[0]].name == first


@pytest.mark.parametrize(
    ("combine", "sentence"),
    [
        (lambda a, b: a * 2, "mul.*, which is no plain product of two layers"),
        (lambda a, b: a * a, "mul.*, which is no plain product of two layers"),
        (lambda a, b: a * b * 0.5, "mul.*, which is no plain product of two layers"),
        (lambda a, b: (1 - a) * (1 - b), "mul.*, whose factors are both 1 - a"),
        (lambda a, b: (1 - a) + b, "sub.*, which is read by something else than a product"),
        (lambda a, b: (2 - a) * b, "sub.*, which has no counterpart"),
        (lambda a, b: (a - 1) * b, "sub.*, which has no counterpart"),
    ],
)
def test_what_is_no_gate_is_refused(combine: Any, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        gated(combine)


def test_a_product_of_other_values_than_spikes_is_refused() -> None:
    with pytest.raises((ExportError, NetworkError), match=r"gate.*0\.\.2"):
        gated(lambda a, b: (a + b) * b)


@pytest.mark.skipif(c.compiler() is None, reason=str(c.missing()))
def test_the_c_program_has_the_gates() -> None:
    net = exported("iand")
    assert "randhet_iand(" in c.files(net)["network.c"]
