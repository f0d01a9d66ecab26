"""From a checkpoint, or any model of supported layers, to a checked integer network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from randhet.export.graph import Encoding, ExportError, FloatGraph, TimeMean, TimeRead
from randhet.export.inputs import fitted, for_images
from randhet.export.model import Model, as_model, recorded
from randhet.export.passes import fold, refine
from randhet.export.passes.activity import Activity, watch
from randhet.export.passes.calibrate import Calibration, calibrate, representable
from randhet.export.passes.correct import told
from randhet.export.passes.quantise import Plan, QuantSettings
from randhet.export.trace import trace
from randhet.export.verify import verify
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Exported:
    """The integer network, the float graph as traced and folded, what calibration saw; activity: if passes ran."""

    network: Network
    traced: FloatGraph
    graph: FloatGraph
    calibration: Calibration
    activity: Activity


def export(
    model: Model | Checkpoint | nn.Module,
    images: np.ndarray,
    settings: QuantSettings | None = None,
    *,
    seed: int | None = None,
    generator: GeneratorKind = "register",
    classes: tuple[str, ...] = (),
    data: str = "",
    progress: Progress | None = None,
) -> Exported:
    """Fold, calibrate on images (N, C, Y, X) uint8, quantise, check. seed: written into the file, None for none.

    generator: where random decays come from, shift registers ("register") or ChaCha20 ("chacha").

    settings: None for those that the model was trained for, or the defaults. classes, data: names of the classes and of
    the images, for the file, where the model does not know them.
    """
    if images.ndim not in (2, 4, 5) or images.dtype != np.uint8 or not len(images):
        raise ExportError(
            f"calibration images are {images.dtype} of shape {images.shape}, they must be (N, C, Y, X) uint8, "
            "recordings (N, T, C, Y, X)"
        )
    if seed is not None and not 0 <= seed < 2**64:
        raise ExportError(f"seed is {seed}, the limits are 0 to 2^64 - 1")
    model = as_model(model)
    if model.checkpoint and model.checkpoint.settings.baseline != "none":
        raise ExportError(
            f"{model.name} is the baseline {model.checkpoint.settings.baseline!r}, which has no spiking neurons: it "
            "can be trained and attacked, not exported"
        )
    if model.network:
        return _drawing(_integers(model.network, seed, data), generator)
    graph = model.graph or _verified(model, images)
    exported = export_graph(
        graph,
        fitted(graph, images) if model.graph else images,
        settings or settings_for(model),
        seed=seed,
        classes=model.classes or classes,
        metadata=recorded(model, graph, data),
        progress=progress,
    )
    if model.graph:
        exported = replace(exported, network=for_images(exported.network, images.shape[1:]))
    return _drawing(exported, generator)


def _drawing(exported: Exported, generator: GeneratorKind) -> Exported:
    """The network with its random decays from this generator."""
    return replace(exported, network=replace(exported.network, generator=generator))


def _integers(network: Network, seed: int | None, data: str) -> Exported:
    """A network that has integers already, with what its file says beside them."""
    metadata = {**network.metadata, "data": data}
    nothing = FloatGraph(())
    return Exported(replace(network, seed=seed, metadata=metadata), nothing, nothing, Calibration(0, (), 0), {})


def _verified(model: Model, images: np.ndarray) -> FloatGraph:
    """The traced graph of a module, held against the module."""
    module = model.make(images.shape[1:])
    graph = trace(module, images.shape[1:])
    _decides_by_mean(graph)
    verify(module, graph, images)
    return graph


def export_checkpoint(
    checkpoint: Checkpoint,
    images: np.ndarray,
    settings: QuantSettings | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Export a checkpoint, as `export` does."""
    return export(checkpoint, images, settings, seed=seed, progress=progress)


def settings_for(model: Model | Checkpoint, **chosen: Any) -> QuantSettings:
    """Quantisation settings: chosen ones that are not None; weight bits and scales else as the training had them."""
    model = as_model(model)
    trained = dict(model.settings)
    if bits := model.trained.get("qat_bits"):
        trained |= {"weight_bits": bits, "scales": model.trained["qat_scales"]}
    return QuantSettings(**trained | {name: value for name, value in chosen.items() if value is not None})


def export_model(
    model: nn.Module,
    images: np.ndarray,
    settings: QuantSettings | None = None,
    *,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Exported:
    """Export a module of images (N, C, Y, X) in 0..1, as `export` does."""
    return export(model, images, settings, seed=seed, classes=classes, progress=progress)


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
    """T, which all encoders in the model say alike."""
    steps = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
    if len(steps) != 1:
        said = ", ".join(map(str, sorted(steps))) or "no number of"
        raise ExportError(f"the model's Encode layers say {said} time steps, it needs exactly one number T")
    return steps.pop()
