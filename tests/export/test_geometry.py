"""Transposed, one-dimensional and depthwise convolutions of torch, and other layers of a user's own, in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from randhet.export.float_model import FloatModel
from randhet.export.geometry import spread_before, transposed
from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.trace import trace
from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point.network import Conv, Input, Layer, Network, ReadOut, Spread
from randhet.train import layers
from randhet.train.general import GeneralLIF
from randhet.train.layers import Encode, Flatten, MeanOverTime, Normalise
from randhet.train.neurons import LIF, recording

RNG = np.random.default_rng(7)
GEOMETRIES = [
    {"stride": stride, "padding": padding, "output_padding": extra, "dilation": gap, "groups": groups}
    for stride, padding, extra, gap, groups in (
        (1, 0, 0, 1, 1), (1, 1, 0, 1, 2), (2, 0, 0, 1, 1), (2, 1, 1, 1, 2), ((2, 3), (1, 0), (0, 2), 1, 1),
        (3, 2, 0, 2, 1), ((1, 2), (2, 1), (0, 1), (1, 2), 4),
    )
]  # fmt: skip


def kernel(groups: int) -> torch.Tensor:
    """Weights (in, out/groups, 3, 2) of a transposed convolution, whole numbers."""
    return torch.from_numpy(RNG.integers(-127, 128, (4, 8 // groups, 3, 2))).double()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_transposed_convolution_is_one_on_spread_values(geometry: dict[str, object]) -> None:
    """Integers against torch's own transposed convolution, equal: spread, flipped, padded, in groups."""
    module = nn.ConvTranspose2d(4, 8, (3, 2), bias=False, **geometry).double()  # type: ignore[arg-type]
    module.weight.data = kernel(module.groups)
    operation, spread = transposed(module), spread_before(module)
    assert (spread is None) == (geometry["stride"] == 1)
    whole = operation.weight.astype(np.int8)
    conv = Conv(whole, operation.stride, operation.padding, operation.dilation, operation.groups)
    images = RNG.integers(0, 256, (3, 4, 5, 4)).astype(np.uint8)
    zeros = [] if spread is None else [Layer("spread", Spread(spread.stride, spread.extra), (0,))]
    made = (
        Layer("input", Input((4, 5, 4))),
        *zeros,
        Layer("conv", conv, (len(zeros),), ReadOut(np.zeros(8, np.int32))),
    )
    wanted = module(torch.from_numpy(images).double()).detach().numpy()
    for run in (reference.run, engine.run, add_only.run):
        assert np.array_equal(run(Network(made, 1), images).sums.reshape(wanted.shape), wanted)


def tail(features: int) -> tuple[nn.Module, ...]:
    return Flatten(), nn.Linear(features, 3), MeanOverTime()


def gate(kind: str) -> nn.Module:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
            self.encode, self.a, self.b = Encode(3), LIF(0.6, 0.1), LIF(0.6, 0.1)
            self.tail = nn.Sequential(*tail(324))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.a(self.encode(self.first(x))), self.b(self.encode(self.second(x)))
            joined: torch.Tensor = self.tail(a * b if kind == "and" else b * (1 - a))
            return joined

    return Gate()


class Rows(nn.Module):
    """Layers along one row: before time and in time, in groups, dilated, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.encode = nn.Conv1d(2, 4, 5, 2, 2), nn.BatchNorm1d(4), Encode(3)
        self.lif1, self.pool = LIF(0.6, 0.1), layers.MaxPool1d(2)
        self.conv = layers.Conv1d(4, 6, 3, dilation=2, padding="same", groups=2)
        self.lif2, self.mean, self.fc, self.over = LIF(0.6, 0.1), layers.AvgPool1d(2), nn.Linear(30, 3), MeanOverTime()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.lif1(self.encode(self.norm(self.stem(x.squeeze(-2))))))
        out: torch.Tensor = self.over(self.fc(self.mean(self.lif2(self.conv(x))).flatten(-2)))
        return out


GREY = ((0.3, 0.4), (0.3, 0.4))
SQUARE, ROW = (2, 9, 9), (2, 1, 40)


def models() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    conv, transposed2d, lif = layers.Conv2d, layers.ConvTranspose2d, lambda: LIF(0.6, 0.1)
    by_channel = GeneralLIF(torch.linspace(0.3, 0.9, 4).view(4, 1, 1), 0.3, drive=1.0)
    front = lambda: (Normalise(*GREY), Encode(3))
    deep = (conv(2, 8, 3, groups=2), lif(), conv(8, 8, 3, padding=1, groups=8), layers.BatchNorm2d(8), lif())
    up = (conv(2, 4, 3), lif(), transposed2d(4, 6, 3, 2, 1, 1, groups=2), layers.BatchNorm2d(6), lif())
    return {
        "and": (gate("and"), SQUARE),
        "iand": (gate("iand"), SQUARE),
        "decay of each channel": (nn.Sequential(nn.Conv2d(2, 4, 3), Encode(3), by_channel, *tail(196)), SQUARE),
        "unpadded, pooled": (nn.Sequential(*front(), conv(2, 4, 2), layers.MaxPool2d(2), lif(), *tail(64)), SQUARE),
        "padded, pooled": (
            nn.Sequential(Encode(3), conv(2, 4, 3, padding=1), layers.MaxPool2d(3), lif(), *tail(36)), SQUARE
        ),
        "depthwise": (nn.Sequential(*front(), *deep, conv(8, 4, 1), lif(), *tail(196)), SQUARE),
        "transposed": (nn.Sequential(*front(), *up, *tail(1176)), SQUARE),
        "transposed image": (nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2), Encode(3), lif(), *tail(1083)), SQUARE),
        "rows": (Rows(), ROW),
    }  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_integers_spike_as_the_module_does(name: str) -> None:
    """Of every neuron, except where rounding moves a membrane potential across the threshold: under 2 % of spikes."""
    model, shape = models()[name]
    images = np.random.default_rng(2).integers(0, 256, (16, *shape), dtype=np.uint8)
    pixels = torch.from_numpy(images).float() / 255
    with torch.no_grad():
        model(pixels)  # batch norm sees some images
        network = export_model(model.eval(), images).network
        with recording(model) as log:
            logits = model(pixels)
        twin = FloatModel(trace(model, shape)).eval()(pixels)
    torch.testing.assert_close(twin, logits, rtol=1e-4, atol=1e-5)
    found = reference.run(network, images, seed=0, probes=tuple(log))
    for neuron, calls in log.items():
        expected = calls[0][0].transpose(0, 1).numpy()
        output = found.traces[neuron].output.reshape(expected.shape)
        assert 0.01 < expected.mean() < 0.99
        assert np.mean(output != expected) < 0.02
    assert np.array_equal(engine.run(network, images, seed=0).sums, found.sums)


@pytest.mark.parametrize("name", ["transposed", "rows"])
def test_float_onnx_gives_torchs_logits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from randhet.export.onnx import float_graph

    model, shape = models()[name]
    model.eval()
    float_graph.write_inference(tmp_path / "a.onnx", trace(model, shape))
    pixels = RNG.random((4, *shape), np.float32)
    found = onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).run(["logits"], {"images": pixels})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, model(torch.from_numpy(pixels)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("made", "shape", "words"),
    [
        (lambda: nn.ConvTranspose2d(2, 3, 3, padding=3), SQUARE, r"which cuts \(3, 3\) at its sides"),
        (lambda: nn.Conv1d(2, 3, 2, padding="same"), ROW, 'pads with "same" at a kernel of 2'),
        (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), ROW, "pads with circular: pad with zeros"),
        (lambda: nn.AvgPool1d(2, padding=1), ROW, "which has padding or ceil_mode"),
        (lambda: nn.MaxPool1d(2, dilation=2), ROW, "which has dilation, ceil_mode or return_indices"),
    ],
)
def test_other_geometry_is_refused(made: object, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        trace(nn.Sequential(made(), Encode(2), LIF()), shape)  # type: ignore[operator]


def test_zeros_between_shifted_values_are_refused() -> None:
    """The zeros that a transposed convolution puts between are not those of the normalisation's black."""
    net = nn.Sequential(Normalise(*GREY), Encode(2), layers.ConvTranspose2d(2, 3, 3, 2), LIF(0.6, 0.1), *tail(1083))
    with pytest.raises(ExportError, match=r"2.spread puts zeros between values of 0, to which it adds something"):
        export_model(net.eval(), RNG.integers(0, 256, (4, *SQUARE), dtype=np.uint8))


def test_spread_is_torchs_transposed_convolution_with_ones() -> None:
    values = torch.from_numpy(RNG.random((2, 3, 4, 5)))
    ones = torch.ones(3, 1, 1, 1, dtype=torch.float64)
    for stride, extra in (((2, 3), (1, 2)), ((1, 2), (0, 0))):
        wanted = F.pad(F.conv_transpose2d(values, ones, stride=stride, groups=3), (0, extra[1], 0, extra[0]))
        assert torch.equal(layers.spread(values, stride, extra), wanted)
