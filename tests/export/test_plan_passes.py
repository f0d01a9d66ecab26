"""Clipping against the closed form for a normal density, bias correction by hand, calibration against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from randhet.base.errors import RandhetError
from randhet.export.graph import FloatDense, FloatGraph, FloatInput, FloatNeuron, FloatNode
from randhet.export.passes import FLOAT_PASSES, PLAN_PASSES, refine
from randhet.export.passes.activity import Read, chunks, watch, weighted
from randhet.export.passes.calibrate import measure
from randhet.export.passes.clip import clip, clipped
from randhet.export.passes.correct import correct_bias
from randhet.export.passes.quantise import PASSES, Plan, QuantSettings, channel_scales, quantise
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.network import Conv, Layer, ReadOut
from randhet.train.checkpoint import random_init
from randhet.train.models import ModelSettings
from randhet.train.scales import RATIOS

SMALL = ModelSettings(3, 5, (9, 8), (4, 6), (1, 1), steps=3)
IMAGES = np.random.default_rng(5).integers(0, 256, (6, 3, 9, 8), dtype=np.uint8)
EYE = Read(np.zeros(3), np.eye(2000)[:, None])
"""Windows that see one weight at a time: the error of a sum is that of the weights."""


def error(step: float, top: int) -> float:
    """E[(w - s*clip(round(w/s), -M, M))^2], w ~ N(0, 1), by the normal's partial moments up to each edge."""
    edges = np.r_[-np.inf, (np.arange(-top, top) + 0.5) * step, np.inf]
    levels = np.arange(-top, top + 1) * step
    p, d = np.diff(stats.norm.cdf(edges)), -np.diff(stats.norm.pdf(edges))
    second = p - np.diff(np.nan_to_num(edges) * stats.norm.pdf(edges))
    return float((second - 2 * levels * d + levels**2 * p).sum())


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_clipping_of_normal_weights_is_at_the_closed_form(bits: int) -> None:
    """The candidate that errs least by the integral; Max (1960) has the same optimum in his table."""
    weight = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[None]
    top = 2 ** (bits - 1) - 1
    steps = np.abs(weight).max() / top * np.array(RATIOS)
    expected = steps[np.argmin([error(step, top) for step in steps])]
    found = clipped(weight, EYE, QuantSettings(bits), corrected=False)
    assert found[0] == pytest.approx(expected)
    if bits == 4:
        finest = min(np.linspace(0.2, 0.6, 401), key=lambda step: error(step, top))
        assert finest == pytest.approx(0.3534, abs=1e-3)  # Max's step for 15 levels
        assert abs(found[0] - finest) <= np.abs(weight).max() / top / 20


def test_an_outlier_that_reads_nothing_is_clipped_and_one_that_reads_all_is_not() -> None:
    weight = np.array([[10.0, 3.0, -2.0, 1.0, 0.4, 2.6]])
    silent, loud = np.ones((50, 1, 6)), np.ones((50, 1, 6))
    rng = np.random.default_rng(0)
    silent[:, 0, 1:], silent[:, 0, 0] = rng.normal(size=(50, 5)), 0
    loud[:, 0, 1:], loud[:, 0, 0] = 0, rng.normal(size=50)
    settings = QuantSettings(4)
    assert clipped(weight, Read(np.zeros(6), silent), settings)[0] < 0.7 * 10 / 7
    assert clipped(weight, Read(np.zeros(6), loud), settings)[0] == pytest.approx(10 / 7)
    assert clipped(weight, Read(np.zeros(6), silent), replace(settings, scales="power-of-two"))[0] in (0.5, 1.0)


def test_groups_see_their_own_windows() -> None:
    """Two groups with the same weights: the outlier is clipped only in the group that never reads it."""
    weight = np.tile([[10.0, 3.0, -2.0, 1.0]], (2, 1))
    windows = np.random.default_rng(0).normal(size=(50, 2, 4))
    windows[:, 1, 0] = 0
    found = clipped(weight, Read(np.zeros(8), windows), QuantSettings(4))
    assert found[1] < found[0]


def dense(weight: np.ndarray, bias: np.ndarray) -> FloatGraph:
    """Two inputs, a neuron layer, a classifier."""
    return FloatGraph(
        (
            FloatNode("input", FloatInput((2,))),
            FloatNode("fc", FloatDense(weight, bias), ("input",)),
            FloatNode("cell", FloatNeuron("vanilla", 0.5), ("fc",)),
            FloatNode("out", FloatDense(np.eye(2), np.zeros(2)), ("cell",)),
        )
    )


def test_bias_correction_by_hand() -> None:
    """2 bits, M = 1: (1, 0.4) becomes (1, 0) and loses 0.4 * 5 at mean input (3, 5); (-2, 2) loses nothing."""
    graph = dense(np.array([[1.0, 0.4], [-2.0, 2.0]]), np.array([0.25, 0.0]))
    activity = {"cell": Read(np.array([3.0, 5.0]), np.zeros((1, 1, 2))), "out": Read(np.ones(2), np.zeros((1, 1, 2)))}
    plan = correct_bias(graph, Plan(QuantSettings(weight_bits=2)), activity)
    assert plan.shifts["cell"].tolist() == pytest.approx([2.0, 0.0])
    assert plan.shifts["out"].tolist() == [0.0, 0.0]
    neuron = quantise(graph, plan, 1).layers[1].neuron
    assert neuron is not None
    assert neuron.bias.tolist() == [round(2.25 * 64), 0]


def test_corrected_stem_has_the_mean_current_of_the_float_stem() -> None:
    """Over the calibration images, per channel, to half a membrane unit; uncorrected it is off by more."""
    checkpoint = random_init(SMALL, seed=2, images=IMAGES)
    means = {}
    for passes in ((), ("correct_bias",)):
        made = export_checkpoint(checkpoint, IMAGES, QuantSettings(3, passes=passes))
        stem = made.network.layers[1]
        assert isinstance(stem.operation, Conv) and stem.scale is not None and stem.neuron is not None
        node = made.graph.node("conv1").operation
        exact, integer = [], []
        for image in IMAGES.astype(np.float64):
            exact.append(convolved(node.weight, image) + node.bias)  # type: ignore[union-attr]
            integer.append(convolved(stem.operation.weight * 64.0, image) + stem.neuron.bias)
        unit = stem.scale / 64
        means[passes] = (np.mean(integer, axis=(0, 2, 3)) * unit - np.mean(exact, axis=(0, 2, 3))) / unit
    assert np.abs(means["correct_bias",]).max() <= 0.5
    assert np.abs(means[()]).max() > 2


def convolved(weight: np.ndarray, image: np.ndarray) -> np.ndarray:
    """3x3, padding 1, by slices."""
    padded, (_, y, x) = np.pad(image, ((0, 0), (1, 1), (1, 1))), image.shape
    taps = [
        np.einsum("oc,cyx->oyx", weight[:, :, i, j], padded[:, i : i + y, j : j + x])
        for i in range(3)
        for j in range(3)
    ]
    return np.sum(taps, axis=0)


@pytest.mark.parametrize("passes", [(), ("clip",), ("correct_bias",), PASSES])
def test_what_is_exact_stays_exact(passes: tuple[str, ...]) -> None:
    """Weights that are integers times a scale are neither clipped nor corrected."""
    weight = np.array([[7.0, -3.0], [2.0, 7.0]]) / 16
    graph = dense(weight, np.array([0.25, 0.0]))
    rng = np.random.default_rng(1)
    activity = {name: Read(rng.random(2), rng.random((20, 1, 2))) for name in ("cell", "out")}
    settings = QuantSettings(weight_bits=4, passes=passes)
    plain, refined = (quantise(graph, plan, 1) for plan in (Plan(settings), refine(graph, Plan(settings), activity)))
    for one, other in zip(plain.layers[1:], refined.layers[1:]):
        assert np.array_equal(one.operation.weight, other.operation.weight)  # type: ignore[union-attr]
        assert np.array_equal(one.neuron.bias, other.neuron.bias)  # type: ignore[union-attr]


def test_clipping_goes_into_the_network_and_can_be_left_out() -> None:
    checkpoint = random_init(SMALL, seed=2, images=IMAGES)
    plain, refined = (export_checkpoint(checkpoint, IMAGES, QuantSettings(3, passes=it)) for it in ((), PASSES))
    widest = channel_scales(plain.graph.node("layer1.0.conv1").operation.weight, QuantSettings(3))  # type: ignore[union-attr]
    name = "layer1.0.node1"
    scale = {made: next(it.scale for it in made.network.layers if it.name == name) for made in (plain, refined)}
    assert np.array_equal(scale[plain], widest)
    assert (scale[refined] <= widest).all() and (scale[refined] < widest).any()
    assert '"passes": ["clip", "correct_bias"]' in refined.network.metadata["quantisation"]


def test_passes_are_listed_by_name() -> None:
    assert tuple(step.name for step in PLAN_PASSES) == PASSES
    assert {clip, correct_bias} == {step.run for step in PLAN_PASSES}
    assert not {step.name for step in FLOAT_PASSES} & set(PASSES)
    with pytest.raises(RandhetError, match="pass 'shave' is not one of clip, correct_bias"):
        QuantSettings(passes=("shave",))


def test_calibration_sees_what_the_reference_computes() -> None:
    """Largest |x|, largest |m| and spike rate by the reference's own observer, in one go."""
    network = export_checkpoint(random_init(SMALL, seed=2, images=IMAGES), IMAGES, QuantSettings(passes=())).network
    currents: dict[str, int] = {}

    def observe(layer: Layer, step: int, total: np.ndarray) -> None:
        if layer.neuron is not None and not isinstance(layer.neuron, ReadOut):
            x = (total << layer.neuron.f) + reference.per_channel(layer.neuron.bias, total.shape[1:])
            currents[layer.name] = max(currents.get(layer.name, 0), int(np.abs(x).max()))

    names = [layer.name for layer in network.layers]
    run = reference.run(network, IMAGES, seed=0, probes=names, observer=observe)
    for seen in measure(network, IMAGES).layers:
        trace = run.traces[seen.layer]
        assert trace.membrane is not None
        assert (seen.current, seen.membrane) == (currents[seen.layer], np.abs(trace.membrane).max())
        assert seen.rate == pytest.approx(trace.output.mean())


def test_activity_is_what_layers_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over all images and steps, chunk by chunk; every window occurs in what is read."""
    network = export_checkpoint(random_init(SMALL, seed=2, images=IMAGES), IMAGES, QuantSettings(passes=())).network
    run = reference.run(network, IMAGES, seed=0, probes=[layer.name for layer in network.layers])
    monkeypatch.setattr("randhet.export.passes.activity.TRACE_BYTES", 1)
    assert len(list(chunks(network, IMAGES))) == len(IMAGES)
    activity = watch(network, IMAGES)
    for layer in weighted(network):
        read = run.traces[network.layers[layer.inputs[0]].name].output
        np.testing.assert_allclose(activity[layer.name].mean, read.mean(axis=(0, 1)))
        if isinstance(layer.operation, Conv) and layer.operation.weight.shape[2:] == (1, 1):
            places = read[:, :, :, ::2, ::2].transpose(0, 1, 3, 4, 2).reshape(-1, read.shape[2])
            seen = {tuple(window) for window in activity[layer.name].windows[:, 0]}
            assert seen <= {tuple(place) for place in places.astype(float)}
