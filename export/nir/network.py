"""From a float graph read from NIR to the integer network: the same passes that a trained model goes through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from randhet.export.graph import Encoding, ExportError, FloatGraph
from randhet.export.passes import fold
from randhet.export.passes.calibrate import Calibration, calibrate
from randhet.export.passes.quantise import Plan, QuantSettings
from randhet.fixed_point.network import Network

FINE = QuantSettings(k=12)
"""Foreign time constants are arbitrary, so their decays get all 12 bits that a neuron has."""


def network(
    graph: FloatGraph,
    images: np.ndarray,
    settings: QuantSettings = FINE,
    *,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Network, Calibration]:
    """Fold, calibrate on images (N, *shape) uint8, recordings (N, T, *shape) for a sequence, quantise, check."""
    settings = replace(settings, passes=())  # they need a float model's own activity, which a foreign graph has not
    steps = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
    if len(steps) != 1:
        raise ExportError(f"the graph encodes images {len(steps)} times, it needs exactly one encoding")
    quantised, calibration = calibrate(fold(graph), Plan(settings), steps.pop(), images, progress)
    notes = {
        "quantisation": json.dumps(asdict(settings), sort_keys=True),
        "calibration": json.dumps(asdict(calibration), sort_keys=True),
        **(metadata or {}),
    }
    return replace(quantised, seed=seed, classes=classes, metadata=notes), calibration
