"""From a checkpoint, or any model of supported layers, to a checked integer network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from randhet.export.graph import Encoding, ExportError, FloatGraph, TimeMean, TimeRead
from randhet.export.passes import fold, refine
from randhet.export.passes.activity import Activity, watch
from randhet.export.passes.calibrate import Calibration, calibrate, representable
from randhet.export.passes.correct import told
from randhet.export.passes.quantise import Plan, QuantSettings
from randhet.export.trace import trace
from randhet.export.verify import verify
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint, build, weights_hash

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Exported:
    """The integer network, the float graph as traced and folded, what calibration saw; activity: if passes ran."""

    network: Network
    traced: FloatGraph
    graph: FloatGraph
    calibration: Calibration
    activity: Activity


def export_checkpoint(
    checkpoint: Checkpoint,
    images: np.ndarray,
    settings: QuantSettings | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Fold, calibrate on images (N, C, Y, X) uint8, quantise, check. seed: written into the file, None for none.

    settings: None for those that the checkpoint was trained for, or the defaults.
    """
    return export_model(
        build(checkpoint),
        images,
        settings or settings_for(checkpoint),
        seed=seed,
        classes=checkpoint.classes,
        metadata=_origin(checkpoint),
        progress=progress,
    )


def settings_for(checkpoint: Checkpoint, **chosen: Any) -> QuantSettings:
    """Quantisation settings: chosen ones that are not None; weight bits and scales else as the training had them."""
    trained = {}
    if bits := checkpoint.record.get("qat_bits"):
        trained = {"weight_bits": bits, "scales": checkpoint.record["qat_scales"]}
    return QuantSettings(**trained | {name: value for name, value in chosen.items() if value is not None})


def export_model(
    model: nn.Module,
    images: np.ndarray,
    settings: QuantSettings | None = None,
    *,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """The same for a module of supported layers that takes images (N, C, Y, X) in 0..1 and ends in MeanOverTime."""
    if images.ndim not in (4, 5) or images.dtype != np.uint8 or not len(images):
        raise ExportError(
            f"calibration images are {images.dtype} of shape {images.shape}, they must be (N, C, Y, X) uint8, "
            "recordings (N, T, C, Y, X)"
        )
    if seed is not None and not 0 <= seed < 2**64:
        raise ExportError(f"seed is {seed}, the limits are 0 to 2^64 - 1")
    traced = trace(model, images.shape[1:])
    _decides_by_mean(traced)
    verify(model, traced, images)
    return export_graph(
        traced,
        images,
        settings or QuantSettings(),
        seed=seed,
        classes=classes,
        metadata=metadata,
        progress=progress,
    )


def _decides_by_mean(traced: FloatGraph) -> None:
    """ExportError for outputs of every step: whoever reads the last step's would get another network than their own."""
    last, steps = traced.nodes[-1], steps_of(traced)
    if not isinstance(last.operation, (TimeMean, TimeRead)):
        raise ExportError(
            f"the model ends in {last.name} with an output for each of {steps} time steps: it must end in "
            "MeanOverTime() of randhet.train.layers, since the exported network decides by the sum over all steps"
        )


def export_graph(
    traced: FloatGraph,
    images: np.ndarray,
    settings: QuantSettings,
    *,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """The same for a float graph as it was traced."""
    graph = fold(traced)
    activity = watch(teacher(graph, settings, steps_of(traced)), images) if settings.passes else {}
    plan = refine(graph, Plan(settings), activity)
    network, calibration = calibrate(graph, plan, steps_of(traced), images, progress)
    notes = {
        "quantisation": json.dumps(asdict(settings), sort_keys=True),
        "calibration": json.dumps(asdict(calibration), sort_keys=True),
        "lowered_f": json.dumps(
            {layer_range.layer: layer_range.f for layer_range in calibration.layers if layer_range.f != settings.f}
        ),
        **told(network, plan.shifts),
        **(metadata or {}),
    }
    network = replace(network, seed=seed, classes=classes, metadata=notes)
    return Exported(network, traced, graph, calibration, activity)


def teacher(graph: FloatGraph, settings: QuantSettings, steps: int) -> Network:
    """The network at its finest, which shows what layers read in the float model: 8 bit weights and draws."""
    finest = replace(settings, weight_bits=8, tau_bits=8, f=QuantSettings.f, scales="channel", layer_bits=())
    return representable(graph, Plan(finest), steps)[1]


def steps_of(graph: FloatGraph) -> int:
    """T of the one encoder in the model."""
    steps = [node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)]
    if len(steps) != 1:
        raise ExportError(f"the model has {len(steps)} Encode layers, it needs exactly one to say T")
    return steps[0]


PUBLISHED = "published"
"""The metadata entry that holds, as JSON, what a published state dict could not say and was read as."""


def _origin(checkpoint: Checkpoint) -> dict[str, str]:
    """What the file says of the model that it was made from."""
    read_as = checkpoint.record.get("published")
    options = {PUBLISHED: json.dumps(read_as, sort_keys=True)} if read_as else {}
    return {"source": weights_hash(checkpoint.state), "data": checkpoint.data, **options, **_versions(checkpoint)}


def _versions(checkpoint: Checkpoint) -> dict[str, str]:
    return {f"trained_with_{name}": version for name, version in checkpoint.versions.items()}
