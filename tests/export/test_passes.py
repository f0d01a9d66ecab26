"""Folding against torch in float64, quantisation against fractions, calibration against planted extremes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from randhet.export.graph import ExportError, FloatConv
from randhet.export.passes import FLOAT_PASSES, Pass, fold
from randhet.export.passes.convolve import conv
from randhet.export.passes.forward import fold_normalisation
from randhet.export.passes.quantise import Plan, QuantSettings, channel_scales, quantise, rounded, table_of
from randhet.export.pipeline import export_checkpoint, export_model, steps_of
from randhet.export.trace import trace
from randhet.fixed_point import reference
from randhet.fixed_point.generator import tau_table
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import Constant, Conv, Dense, Drawn, Lif, PerNeuron, Reset, SumPool
from randhet.train.checkpoint import build, random_init
from randhet.train.layers import AvgPool2d, BatchNorm2d, Conv2d, Encode, Flatten, Linear, MeanOverTime, Normalise
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, RESETS, RandomTauLIF

SMALL = ModelSettings(3, 5, (9, 8), (4, 6), (1, 2), steps=3)
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (6, 3, 9, 8), dtype=np.uint8)


def small(**change: object) -> nn.Module:
    """A trained-looking model: random batch-norm gains and shifts, normalisation that differs per channel."""
    checkpoint = random_init(replace(SMALL, **change), seed=2, images=IMAGES)
    model = build(replace(checkpoint, mean=(0.2, 0.5, 0.7), std=(0.1, 0.25, 0.4))).double()
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


@pytest.mark.parametrize("stride", [1, 2])
def test_folded_stem_equals_the_float_stem_everywhere(stride: int) -> None:
    """Every pixel of every channel, borders included, to 1e-6; and rounding errs no more at the border than inside."""
    model = small(stem_stride=stride)
    graph = fold(trace(model, IMAGES.shape[1:]))
    stem = graph.node("conv1").operation
    assert isinstance(stem, FloatConv) and stem.bias.ndim == 3
    with torch.no_grad():
        expected = model.bn1(model.conv1(model.normalise(torch.from_numpy(IMAGES).double() / 255))).numpy()
    folded = np.stack([conv(stem, image.astype(np.float64)) + stem.bias for image in IMAGES])
    assert np.abs(folded - expected).max() < 1e-6

    layer = quantise(graph, Plan(QuantSettings(f=2)), 3).layers[1]
    assert layer.neuron is not None and layer.scale is not None
    unit = (layer.scale * 2.0**-2)[:, None, None]
    error = np.abs(layer.neuron.bias * unit - stem.bias) / unit
    border = np.ones(error.shape[1:], bool)
    border[1:-1, 1:-1] = False
    assert error[:, border].max() <= 0.5 + 1e-9 and error[:, ~border].max() <= 0.5 + 1e-9


def test_border_needs_the_map() -> None:
    """One bias per channel, the interior one, would be wrong at the border: the map is not decoration."""
    graph = fold(trace(small(), IMAGES.shape[1:]))
    stem = graph.node("conv1").operation
    assert isinstance(stem, FloatConv)
    assert np.abs(stem.bias - stem.bias[:, 4:5, 4:5]).max() > 0.05
    assert np.abs(stem.bias[:, 1:-1, 1:-1] - stem.bias[:, 4:5, 4:5]).max() < 1e-12


@pytest.mark.parametrize("groups", [1, 3])
def test_normalisation_folds_into_grouped_and_unpadded_convolutions(groups: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        Normalise([0.1, 0.4, 0.8], [0.2, 0.3, 0.5]),
        Conv2d(3, 6, 3, 2, 0, groups=groups),
        Encode(2),
        LIF(),
        Flatten(),
        Linear(72, 2),
    ).double()
    graph = fold_normalisation(trace(model, IMAGES.shape[1:]))
    stem = graph.node("1").operation
    assert isinstance(stem, FloatConv) and stem.bias.ndim == 1
    with torch.no_grad():
        expected = model[1](model[0](torch.from_numpy(IMAGES).double() / 255)).numpy()
    found = np.stack([conv(stem, image.astype(np.float64)) + stem.bias[:, None, None] for image in IMAGES])
    assert np.abs(found - expected).max() < 1e-9


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("neuron", ["vanilla", "het"])
def test_a_fine_quantisation_follows_the_float_model(neuron: str, reset: Reset) -> None:
    """With constant decays the float model is deterministic: logits = sums * scale / T + rounding, so classes agree."""
    model = small(neuron=neuron, reset=reset).float()
    exported = export_model(model, IMAGES, QuantSettings(k=12))
    images = np.random.default_rng(1).integers(0, 256, (64, 3, 9, 8), dtype=np.uint8)
    with torch.no_grad():
        logits = model(torch.from_numpy(images) / 255.0).numpy()
    result = reference.run(exported.network, images)
    scale = exported.network.layers[-1].scale
    assert scale is not None
    close = result.sums * scale / SMALL.steps
    assert np.corrcoef(close.ravel(), logits.ravel())[0, 1] > 0.97
    assert (result.predictions == logits.argmax(1)).mean() > 0.85
    assert result.saturations == 0


def test_constants_are_the_nearest_integers() -> None:
    """theta, b and q against exact fractions of the folded float64 values."""
    graph = fold(trace(small(neuron="vanilla"), IMAGES.shape[1:]))
    network = quantise(graph, Plan(QuantSettings()), 3)
    layer = next(layer for layer in network.layers if layer.name == "layer1.0.node1")
    source = graph.node("layer1.0.conv1").operation
    assert isinstance(source, FloatConv) and isinstance(layer.neuron, Lif) and isinstance(layer.operation, Conv)
    assert layer.scale is not None
    for c in range(4):
        scale = Fraction(float(layer.scale[c]))
        assert abs(int(layer.neuron.threshold[c]) - Fraction(1, 2) / scale * 64) <= Fraction(1, 2)
        assert abs(int(layer.neuron.bias[c]) - Fraction(float(source.bias[c])) / scale * 64) <= Fraction(1, 2)
        for weight, whole in zip(source.weight[c].ravel(), layer.operation.weight[c].ravel()):
            assert abs(int(whole) - Fraction(float(weight)) / scale) <= Fraction(1, 2) + Fraction(1, 10**9)
        assert np.abs(layer.operation.weight[c]).max() == 127
    assert isinstance(layer.neuron.decay, Constant) and layer.neuron.decay.mantissa == 128


def test_pool_and_time_fold_into_the_classifier() -> None:
    """Sums of the classifier times its scale over T are the logits of a model that spikes always."""
    torch.manual_seed(0)
    model = nn.Sequential(
        Normalise([0.0], [1.0]), Conv2d(1, 4, 1), Encode(5), LIF(threshold=1e-3),
        AvgPool2d(2), Flatten(), Linear(16, 3), MeanOverTime(),
    )  # fmt: skip
    nn.init.constant_(model[1].weight, 1.0)
    nn.init.constant_(model[1].bias, 1.0)
    images = np.full((2, 1, 4, 4), 255, np.uint8)
    network = export_model(model, images).network
    result, scale = reference.run(network, images), network.layers[-1].scale
    assert scale is not None and isinstance(network.layers[2].operation, SumPool)
    with torch.no_grad():
        logits = model(torch.ones(2, 1, 4, 4)).numpy()
    assert np.abs(result.sums * scale / 5 - logits).max() < 16 * 4 * float(scale[0])


def test_scales() -> None:
    weight = np.array([[1.0, -2.0], [1e-9, 0.0], [0.5, 0.25]])
    free = channel_scales(weight, QuantSettings())
    assert free.tolist() == pytest.approx([2 / 127, 2 / 64 / 127, 0.5 / 127])
    assert channel_scales(weight, QuantSettings(scales="layer")).tolist() == pytest.approx([2 / 127] * 3)
    powers = channel_scales(weight, QuantSettings(scales="power-of-two"))
    assert (np.log2(powers) == np.rint(np.log2(powers))).all() and (powers >= free).all() and (powers < 2 * free).all()
    assert (
        np.abs(
            rounded(weight, channel_scales(weight, QuantSettings(weight_bits=4)), QuantSettings(weight_bits=4))
        ).max()
        == 7
    )
    assert channel_scales(np.zeros((2, 2)), QuantSettings()).tolist() == [1.0, 1.0]


def test_tables_with_fewer_random_bits() -> None:
    assert np.array_equal(table_of(1.0, QuantSettings()), tau_table(8, 1.0))
    coarse = table_of(1.0, QuantSettings(tau_bits=2))
    assert len(set(coarse.tolist())) == 4 and all(len(set(coarse[i : i + 64].tolist())) == 1 for i in (0, 64, 128, 192))
    assert coarse[0] == round(tau_table(8, 1.0)[:64].astype(float).mean())


def test_a_threshold_that_rounds_to_zero_is_refused_by_layer_channel_and_number() -> None:
    model = small()
    with torch.no_grad():
        model.layer1[0].conv1.weight[2] *= 1e7
    with pytest.raises(ExportError, match=r"layer layer1\.0\.node1, channel 2: threshold .* rounds to 0"):
        export_model(model.float(), IMAGES, QuantSettings(f=0))


def test_a_dead_channel_stays_within_24_bits() -> None:
    model = small()
    with torch.no_grad():
        model.layer1[0].conv1.weight[1] *= 1e-12
    exported = export_model(model.float(), IMAGES)
    assert exported.calibration.saturations == 0
    assert max(seen.current for seen in exported.calibration.layers) * 1.25 <= STATE_MAX


def test_f_is_lowered_where_currents_leave_24_bits_and_the_file_says_so() -> None:
    exported = export_model(small().float(), IMAGES, QuantSettings(f=12))
    lowered = [layer.neuron.f for layer in exported.network.layers if isinstance(layer.neuron, Lif)]
    assert min(lowered) < 12 and '"node1"' in exported.network.metadata["lowered_f"]
    assert exported.calibration.saturations == 0


@pytest.mark.parametrize("reset", RESETS)
def test_calibration_covers_a_membrane_that_stays_above_its_threshold(reset: Reset) -> None:
    """m is a convex combination of currents and of what a reset left, which lies between 0 and m: |m| <= max|x|."""
    model = small(neuron="randhet", reset=reset, threshold=0.05).float()
    exported = export_model(model, IMAGES, QuantSettings(f=12))
    assert {layer.neuron.reset for layer in exported.network.layers if isinstance(layer.neuron, Lif)} == {reset}
    assert all(seen.membrane <= seen.current for seen in exported.calibration.layers)
    assert exported.calibration.saturations == 0
    images = np.random.default_rng(1).integers(0, 256, (16, 3, 9, 8), dtype=np.uint8)
    result = reference.run(exported.network, images, probes=["node1"])
    assert result.saturations == 0
    threshold = reference.per_channel(exported.network.layers[1].neuron.threshold, (4, 9, 8))
    left = result.traces["node1"].membrane - threshold > threshold
    assert left.any()  # with reset "subtract" these stay above the threshold


def test_the_resets_are_those_of_the_training_neurons() -> None:
    assert get_args(Reset) == RESETS


@pytest.mark.parametrize(
    ("neuron", "kind"), [("randhet", Drawn), ("randhet-forward", Drawn), ("het", PerNeuron), ("vanilla", Constant)]
)
def test_every_neuron_kind_exports(neuron: str, kind: type) -> None:
    exported = export_checkpoint(random_init(replace(SMALL, neuron=neuron)), IMAGES, seed=7)  # type: ignore[arg-type]
    decays = {layer.name: getattr(layer.neuron, "decay", None) for layer in exported.network.layers}
    assert isinstance(decays["layer2.1.node2"], kind) and exported.network.seed == 7
    if isinstance(found := decays["node1"], Drawn):
        assert found.sampling == ("forward" if neuron == "randhet-forward" else "step")
    assert len(exported.network.metadata["source"]) == 64 and exported.network.steps == 3


def test_a_model_of_ones_own_exports() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(Conv2d(3, 4, 3, padding=1, bias=False), BatchNorm2d(4), Encode(4))
            self.spike = RandomTauLIF(sigma=0.5)
            self.conv, self.spike2 = Conv2d(4, 4, 3, padding=1), RandomTauLIF()
            self.pool, self.flatten, self.read = AvgPool2d(2), Flatten(), Linear(64, 5)
            self.mean = MeanOverTime()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.spike(self.stem(x))
            return self.mean(self.read(self.flatten(self.pool(x + self.spike2(self.conv(x))))))

    network = export_model(Mine(), IMAGES).network
    assert [type(layer.operation).__name__ for layer in network.layers] == [
        "Input", "Conv", "Conv", "Add", "SumPool", "Flatten", "Dense"
    ]  # fmt: skip
    assert isinstance(network.layers[-1].operation, Dense) and network.steps == 4


class WithFunction(nn.Module):
    """Traced to the bottom, as a container of the user's own is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


def refused(*modules: nn.Module) -> str:
    with pytest.raises(ExportError) as caught:
        export_model(nn.Sequential(*modules), IMAGES)
    return str(caught.value)


def test_what_cannot_be_exported_is_named_all_at_once() -> None:
    message = refused(Conv2d(3, 4, 3), nn.ReLU(), Encode(2), nn.LPPool2d(2, 2), LIF(), Flatten(), Linear(1, 1))
    assert "1 (ReLU)" in message and "3 (LPPool2d)" in message and "Conv2d" in message


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ((Conv2d(3, 4, 3), LIF(), Flatten(), Linear(168, 2)), "does not say its number of time steps"),
        (
            (Conv2d(3, 4, 3), Encode(2), Conv2d(4, 4, 3, padding=1), LIF()),
            "2 reads 0 without a neuron between and pads",
        ),
        ((Conv2d(3, 4, 3, padding_mode="reflect"), Encode(2), LIF()), "reflect"),
        ((Conv2d(5, 4, 3), Encode(2), LIF()), "0: takes 5 channels of (y, x), its input has shape (3, "),
        (
            (Conv2d(3, 4, 3), Encode(2), LIF(), WithFunction()),
            "relu (function relu), which has no counterpart: put a neuron there",
        ),
    ],
)
def test_structures_that_do_not_fit_are_refused(modules: tuple[nn.Module, ...], words: str) -> None:
    assert words in refused(*modules, MeanOverTime())


@pytest.mark.parametrize("end", [(), (LIF(threshold=0.05),), (nn.Identity(),)])
def test_a_model_without_its_mean_over_time_is_refused(end: tuple[nn.Module, ...]) -> None:
    """Its last step, which is what a user may read, often decides otherwise than the sum over all steps."""
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 6, 6), np.uint8)
    torch.manual_seed(0)
    stem = (Conv2d(1, 8, 3), Encode(4), LIF(threshold=0.3), Conv2d(8, 8, 3), LIF(threshold=0.3), Flatten())
    model = nn.Sequential(*stem, Linear(32, 5), *end)
    name = "7" if end and isinstance(end[0], LIF) else "6"
    words = rf"the model ends in {name} with an output for each of 4 time steps: it must end in MeanOverTime\(\) of"
    with pytest.raises(ExportError, match=words):
        export_model(model, images)
    with torch.no_grad():
        outputs = model(torch.from_numpy(images).float() / 255)
    assert (outputs[-1].argmax(1) != outputs.sum(0).argmax(1)).any()
    network = export_model(nn.Sequential(*model, MeanOverTime()), images).network
    assert network.layers[-1].name == name


def test_settings_have_limits() -> None:
    for change in ({"weight_bits": 9}, {"k": 13}, {"f": -1}, {"scales": "free"}, {"floor": 2.0}):
        with pytest.raises(ExportError, match=next(iter(change))):
            QuantSettings(**change)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="calibration images"):
        export_model(small(), IMAGES.astype(np.float32))
    with pytest.raises(ExportError, match="seed is -1"):
        export_model(small(), IMAGES, seed=-1)


def test_passes_state_what_they_build_on() -> None:
    names = [step.name for step in FLOAT_PASSES]
    assert all(names.index(before) < names.index(step.name) for step in FLOAT_PASSES for before in step.after)
    assert Pass(fold_normalisation).name == "fold_normalisation"
    assert steps_of(trace(small(), IMAGES.shape[1:])) == 3
