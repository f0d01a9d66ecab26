"""From a float graph read from NIR to the integer network: the same passes that a trained model goes through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from math import prod

import numpy as np

from randhet.export.graph import Encoding, ExportError, FloatGraph, FloatInput
from randhet.export.passes import fold
from randhet.export.passes.calibrate import HEADROOM, Calibration, LayerRange, calibrate
from randhet.export.passes.quantise import Plan, QuantSettings
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.network import Cuba, Input, Layer, Network, Shape

FINE = QuantSettings(k=12)
"""Foreign time constants are arbitrary, so their decays get all 12 bits that a neuron has."""


def network(
    graph: FloatGraph,
    images: np.ndarray,
    settings: QuantSettings = FINE,
    *,
    inclusive: bool = False,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Network, Calibration]:
    """Fold, calibrate on images (N, *shape) uint8, quantise, check. inclusive: neurons spike at m = theta already."""
    settings = replace(settings, passes=())  # they need a float model's own activity, which a foreign graph has not
    steps = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
    if len(steps) != 1:
        raise ExportError(f"the graph encodes images {len(steps)} times, it needs exactly one encoding")
    quantised, calibration = _calibrated(fold(graph), Plan(settings), steps.pop(), images, progress)
    if inclusive:
        quantised = replace(quantised, layers=tuple(_inclusive(layer) for layer in quantised.layers))
    notes = {
        "quantisation": json.dumps(asdict(settings), sort_keys=True),
        "calibration": json.dumps(asdict(calibration), sort_keys=True),
        **(metadata or {}),
    }
    return replace(quantised, seed=seed, classes=classes, metadata=notes), calibration


def fitted(graph: FloatGraph, images: np.ndarray) -> np.ndarray:
    """Images (N, C, Y, X) as the graph takes them: in one row where its input is one; ExportError where none fits."""
    (wanted,) = (node.operation.shape for node in graph.nodes if isinstance(node.operation, FloatInput))
    if images.shape[1:] != wanted and (prod(images.shape[1:]),) != wanted:
        raise ExportError(f"the graph takes images of {wanted}, these are {images.shape[1:]}")
    return images.reshape(-1, *wanted)


def for_images(flat_network: Network, shape: Shape) -> Network:
    """The network with an input of this shape; a dense layer reads its values in the order of a row."""
    image = flat_network.layers[0]
    assert isinstance(image.operation, Input)
    return replace(
        flat_network, layers=(replace(image, operation=replace(image.operation, shape=shape)), *flat_network.layers[1:])
    )


def _calibrated(
    graph: FloatGraph, plan: Plan, steps: int, images: np.ndarray, progress: Callable[[str], None] | None
) -> tuple[Network, Calibration]:
    """Lower f also where what a CUBA neuron gathers over the steps could leave 24 bits: it is no convex combination."""
    while True:
        quantised, calibration = calibrate(graph, plan, steps, images, progress)
        cells = {layer.name: layer.cuba for layer in quantised.layers if layer.cuba}
        cuba_ranges = [layer_range for layer_range in calibration.layers if layer_range.layer in cells]
        tight = [
            layer_range
            for layer_range in cuba_ranges
            if _gathered(layer_range, cells[layer_range.layer], steps) * HEADROOM > STATE_MAX
        ]
        if not tight:
            return quantised, calibration
        if stuck := [layer_range.layer for layer_range in tight if layer_range.f == 0]:
            raise ExportError(f"layer {stuck[0]} does not fit 24 bits even without fractional bits")
        known = {
            layer_range.layer: layer_range.f for layer_range in calibration.layers if layer_range.f != plan.settings.f
        }
        plan = replace(
            plan, lowered={**plan.lowered, **known, **{layer_range.layer: layer_range.f - 1 for layer_range in tight}}
        )


def _gathered(layer_range: LayerRange, neuron: Cuba, steps: int) -> float:
    """The larger of the membrane seen and the current, which wraps: at most x * (1 + a + a^2 + ...) over the steps."""
    kept = 1 - (neuron.current_decay + 1) / (1 << DECAY_BITS)
    return max(layer_range.membrane, layer_range.current * float(sum(kept**t for t in range(steps))))


def _inclusive(layer: Layer) -> Layer:
    """m >= theta in integers is m > theta - 1."""
    neuron = layer.spiking
    if neuron is None:
        return layer
    if neuron.threshold.min() < 2:
        raise ExportError(f"layer {layer.name}: threshold 1 cannot be lowered to include itself")
    return replace(layer, neuron=replace(neuron, threshold=neuron.threshold - 1))
