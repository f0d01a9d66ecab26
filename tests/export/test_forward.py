"""What stands between spikes and the next weights goes into these, at the border as well: against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError, FloatConv, FloatDense
from randhet.export.passes import fold
from randhet.export.passes.convolve import conv
from randhet.export.passes.linear import composed
from randhet.export.trace import trace
from randhet.train.layers import AvgPool2d, BatchNorm2d, Conv2d, Encode, Flatten, Linear, MaxPool2d, MeanOverTime
from randhet.train.neurons import LIF

RNG = np.random.default_rng(4)
SHAPE = (2, 7, 6)


def norm(channels: int, positive: bool = False) -> BatchNorm2d:
    made = BatchNorm2d(channels).double()
    nn.init.uniform_(made.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
    nn.init.uniform_(made.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    nn.init.normal_(made.weight, 0.0, 1.0)
    nn.init.uniform_(made.bias, -0.5, 0.5)
    if positive:
        made.weight.data.abs_()
    return made.eval()


def second(between: list[nn.Module], layer: nn.Module) -> FloatConv | FloatDense:
    """The folded layer that reads spikes (3, 7, 6) through what stands between."""
    flat = [] if isinstance(layer, nn.Linear) else [Flatten()]
    tail = (LIF(), *flat, nn.LazyLinear(2), MeanOverTime())
    model = nn.Sequential(Conv2d(2, 3, 3, padding=1), Encode(2), LIF(0.5, 0.2), *between, layer, *tail).double().eval()
    with torch.no_grad():
        model(torch.zeros(1, *SHAPE, dtype=torch.float64))
    graph = fold(trace(model, SHAPE))
    found = graph.node(str(3 + len(between))).operation
    assert isinstance(found, (FloatConv, FloatDense))
    return found


GEOMETRY = {
    "same": {"padding": 1},
    "stride": {"padding": 1, "stride": 2},
    "wide": {"padding": 3, "dilation": 2},
    "groups": {"padding": 1, "groups": 3},
    "valid": {},
}


@pytest.mark.parametrize("geometry", GEOMETRY.values(), ids=GEOMETRY)
def test_batch_norm_behind_a_neuron_is_right_at_every_pixel(geometry: dict[str, int]) -> None:
    torch.manual_seed(1)
    own, layer = norm(3), Conv2d(3, 6, 3, **geometry).double()
    folded = second([own], layer)
    assert isinstance(folded, FloatConv)
    spikes = RNG.integers(0, 2, (3, 7, 6)).astype(np.float64)
    with torch.no_grad():
        expected = layer(own(torch.from_numpy(spikes)[None]))[0].numpy()
    bias = folded.bias if folded.bias.ndim == 3 else folded.bias.reshape(-1, 1, 1)
    assert np.abs(conv(folded, spikes) + bias - expected).max() < 1e-12
    padded = geometry.get("padding", 0) > 0
    assert (folded.bias.ndim == 3) == padded
    if padded:  # one bias a channel, the interior one, would be wrong at the border: the map is no decoration
        y, x = bias.shape[1] // 2, bias.shape[2] // 2
        assert np.abs(bias - bias[:, y : y + 1, x : x + 1]).max() > 0.05


def test_pools_and_two_batch_norms_go_into_a_dense_layer() -> None:
    torch.manual_seed(2)
    first, other = norm(3, positive=True), norm(3, positive=True)
    between = [first, MaxPool2d(2), other, AvgPool2d((3, 1)), Flatten()]
    dense = Linear(9, 4).double()
    folded = second([*between], dense)
    assert isinstance(folded, FloatDense)
    spikes = torch.from_numpy(RNG.integers(0, 2, (1, 1, 3, 7, 6)).astype(np.float64))
    sums = 3 * AvgPool2d((3, 1))(MaxPool2d(2)(spikes)).flatten().numpy()  # what the integers pool
    with torch.no_grad():
        expected = nn.Sequential(*between, dense)(spikes).flatten().numpy()
    assert np.abs(folded.weight @ sums + folded.bias - expected).max() < 1e-12


class Branches(nn.Module):
    """Two branches, one of them normalised, joined and read by a convolution that pads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.encode, self.first = Conv2d(2, 3, 3, padding=1), Encode(2), LIF(0.5, 0.2)
        self.conv, self.second, self.norm = Conv2d(3, 2, 1), LIF(0.5, 0.2), norm(2)
        self.read, self.third = Conv2d(5, 4, 3, padding=1), LIF()
        self.end = nn.Sequential(Flatten(), Linear(168, 2), MeanOverTime())

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(self.encode(self.stem(x)))
        joined = torch.cat([self.norm(self.second(self.conv(spikes))), spikes], dim=2)
        return self.end(self.third(self.read(joined)))


def test_one_branch_of_a_concatenation_is_normalised() -> None:
    torch.manual_seed(3)
    model = Branches().double().eval()
    folded = fold(trace(model, SHAPE)).node("read").operation
    assert isinstance(folded, FloatConv)
    spikes = RNG.integers(0, 2, (5, 7, 6)).astype(np.float64)
    shown = torch.from_numpy(spikes)[None]
    with torch.no_grad():
        expected = model.read(torch.cat([model.norm(shown[:, :2]), shown[:, 2:]], 1))[0].numpy()
    assert np.abs(conv(folded, spikes) + folded.bias - expected).max() < 1e-12


def operation(layer: nn.Conv2d) -> FloatConv:
    assert layer.bias is not None and not isinstance(layer.padding, str)
    weight, bias = (values.detach().numpy() for values in (layer.weight, layer.bias))
    return FloatConv(weight, bias, *(pair(v) for v in (layer.stride, layer.padding, layer.dilation)), layer.groups)


def pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[-1]


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_two_convolutions_are_one(stride: tuple[int, int], groups: int) -> None:
    torch.manual_seed(5)
    first = nn.Conv2d(2, 4, (3, 2), stride, padding=2, dilation=(1, 2), groups=groups).double()
    other = nn.Conv2d(4, 6, (2, 3), 2, groups=groups, dilation=(2, 1)).double()
    operations = (operation(layer) for layer in (first, other))
    whole = composed(*operations)
    image = RNG.normal(size=(2, 16, 19))
    with torch.no_grad():
        expected = other(first(torch.from_numpy(image)[None]))[0].numpy()
    assert np.abs(conv(whole, image) + whole.bias.reshape(-1, 1, 1) - expected).max() < 1e-11


def test_a_convolution_goes_into_the_dense_layer_behind_it() -> None:
    torch.manual_seed(6)
    layer, dense = Conv2d(3, 2, 3, stride=2, padding=1).double(), Linear(24, 4).double()
    folded = second([layer, Flatten()], dense)
    assert isinstance(folded, FloatDense)
    spikes = torch.from_numpy(RNG.integers(0, 2, (1, 1, 3, 7, 6)).astype(np.float64))
    with torch.no_grad():
        expected = dense(Flatten()(layer(spikes))).flatten().numpy()
    assert np.abs(folded.weight @ spikes.flatten().numpy() + folded.bias - expected).max() < 1e-12


@pytest.mark.parametrize(
    ("between", "sentence"),
    [
        ([Conv2d(3, 3, 3)], "4 reads 3 without a neuron between and pads it with zeros"),
        ([norm(3), MaxPool2d(2)], "max pool 4 reads 3, which has a gain of 0 or below"),
    ],
)
def test_what_has_no_exact_form_is_refused(between: list[nn.Module], sentence: str) -> None:
    if isinstance(between[0], BatchNorm2d):
        with torch.no_grad():
            between[0].weight[1] = -0.5
    with pytest.raises(ExportError, match=sentence):
        second(between, Conv2d(3, 4, 3, padding=1))
