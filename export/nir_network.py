"""From a float graph read from NIR to the integer network: the same passes that a trained model goes through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil, log2

import numpy as np

from export.graph import Encoding, ExportError, FloatGraph
from export.passes import fold
from export.passes.calibrate import HEADROOM, Calibration, calibrate
from export.passes.quantise import Plan, QuantSettings
from fixed_point.check import check
from fixed_point.integer import DECAY_BITS, STATE_MAX
from fixed_point.network import Accumulate, Cuba, Layer, Network

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
    steps = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
    if len(steps) != 1:
        raise ExportError(f"the graph encodes images {len(steps)} times, it needs exactly one encoding")
    for node in graph.nodes:
        graph = graph.without(node.name) if isinstance(node.operation, Encoding) else graph
    made, calibration = _calibrated(fold(graph), Plan(settings), steps.pop(), images, progress)
    if inclusive:
        made = replace(made, layers=tuple(_inclusive(layer) for layer in made.layers))
    notes = {
        "quantisation": json.dumps(asdict(settings), sort_keys=True),
        "calibration": json.dumps(asdict(calibration), sort_keys=True),
        **(metadata or {}),
    }
    made = replace(made, seed=seed, classes=classes, metadata=notes)
    check(made)
    return made, calibration


def _calibrated(
    graph: FloatGraph, plan: Plan, steps: int, images: np.ndarray, progress: Callable[[str], None] | None
) -> tuple[Network, Calibration]:
    """Lower f also where the current of a CUBA neuron, which wraps, could leave 24 bits: x * (1 + a + a^2 + ...)."""
    while True:
        made, calibration = calibrate(graph, plan, steps, images, progress)
        tops = {seen.layer: seen.current for seen in calibration.layers}
        wide = {layer.name: _current(layer, tops, steps) for layer in made.layers if isinstance(layer.neuron, Cuba)}
        over = {name: top for name, top in wide.items() if top * HEADROOM > STATE_MAX}
        if not over:
            return made, calibration
        fs = {seen.layer: seen.f for seen in calibration.layers}
        lowered = {name: fs[name] - max(1, ceil(log2(top * HEADROOM / STATE_MAX))) for name, top in over.items()}
        if negative := [name for name, f in lowered.items() if f < 0]:
            raise ExportError(f"layer {negative[0]}: currents do not fit 24 bits even without fractional bits")
        plan = replace(plan, lowered={**plan.lowered, **_lowered(fs, plan), **lowered})


def _lowered(fs: dict[str, int], plan: Plan) -> dict[str, int]:
    """The layers whose f calibration has lowered already."""
    return {name: f for name, f in fs.items() if f != plan.settings.f}


def _current(layer: Layer, tops: dict[str, int], steps: int) -> float:
    """Largest current a CUBA neuron can gather over the steps from inputs as large as calibration saw."""
    assert isinstance(layer.neuron, Cuba)
    kept = ((1 << DECAY_BITS) - 1 - layer.neuron.current_decay) / (1 << DECAY_BITS)
    return tops[layer.name] * float(sum(kept**t for t in range(steps)))


def _inclusive(layer: Layer) -> Layer:
    """m >= theta in integers is m > theta - 1."""
    neuron = layer.neuron
    if neuron is None or isinstance(neuron, Accumulate):
        return layer
    if neuron.threshold.min() < 2:
        raise ExportError(f"layer {layer.name}: threshold 1 cannot be lowered to include itself")
    return replace(layer, neuron=replace(neuron, threshold=neuron.threshold - 1))
