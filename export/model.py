"""One notion of a trained model, wherever it comes from: what makes it, what it computes, which network is its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import numpy as np
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export import readers
from randhet.export.float_model import FloatModel
from randhet.export.graph import Encoding, FloatGraph, FloatNeuron, FloatOperation, Normalisation
from randhet.export.trace import timed, trace
from randhet.fixed_point.network import Network, Shape
from randhet.train.checkpoint import Checkpoint, build, weights_hash

Make = Callable[[Shape], nn.Module]
"""From the shape of an image to a module of images in 0..1, in evaluation mode."""
LAYERS = "model"
"""The metadata entry that says, as JSON, a digest of what each layer of the float model is."""
PUBLISHED = "published"
"""The metadata entry that holds, as JSON, what a published state dict could not say and was read as."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, as a checkpoint, a module or a graph: images in 0..1 to logits (N, classes).

    name: as the user calls it. make: builds the module, and can be sent to other processes. source: SHA-256 of its
    weights. data, classes: what it was trained on, where that is known. trained: the record of its training.
    notes: what its network's file says of it. settings: fields of `QuantSettings` that differ from the defaults.
    graph: its float graph, where it has no module that could be traced. checkpoint: what it was read from. network:
    itself, where it is one of integers and there is no float model.
    """

    name: str
    make: Make
    source: str
    data: str = ""
    classes: tuple[str, ...] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    graph: FloatGraph | None = None
    checkpoint: Checkpoint | None = None
    network: Network | None = None

    def traced(self, shape: Shape) -> FloatGraph:
        """Return the float graph for images of this shape."""
        return self.graph or trace(self.make(shape), shape)

    def twin(self, shape: Shape) -> nn.Module:
        """Return a module of this project's neurons, each by the name of its layer: the model itself, or the graph."""
        return build(self.checkpoint) if self.checkpoint else FloatModel(self.traced(shape)).eval()

    def neurons(self, shape: Shape) -> str:
        """Return the kinds of its neurons, in words."""
        if self.checkpoint:
            return self.checkpoint.settings.neuron
        kinds = (node.operation.kind for node in self.traced(shape).nodes if isinstance(node.operation, FloatNeuron))
        return ", ".join(dict.fromkeys(kinds))


@dataclass(frozen=True, eq=False)
class Built:
    """Makes the module of a checkpoint."""

    checkpoint: Checkpoint

    def __call__(self, shape: Shape) -> nn.Module:
        return build(self.checkpoint)


@dataclass(frozen=True, eq=False)
class Given:
    """Gives a module that exists; steps: T, where the module does not say it; hint: T, where nobody else says it."""

    module: nn.Module
    steps: int | None = None
    hint: int | None = None

    def __call__(self, shape: Shape) -> nn.Module:
        return timed(self.module.eval(), shape, self.steps, self.hint)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Makes the module of a float graph."""

    graph: FloatGraph

    def __call__(self, shape: Shape) -> nn.Module:
        return FloatModel(self.graph).eval()


def as_model(model: Model | Checkpoint | nn.Module, steps: int | None = None, hint: int | None = None) -> Model:
    """Take a checkpoint or a module as a model; steps: T, where a module does not say it; hint: where nobody does."""
    if isinstance(model, Model):
        return model
    if isinstance(model, Checkpoint):
        return of_checkpoint(model)
    if not isinstance(model, nn.Module):
        raise RandhetError(f"a model is an nn.Module or a checkpoint, this is {type(model).__name__}")
    return of_module(model, steps, hint)


def of_checkpoint(checkpoint: Checkpoint, name: str = "the checkpoint") -> Model:
    """Take a checkpoint as a model."""
    read_as = checkpoint.record.get("published")
    options = {PUBLISHED: json.dumps(read_as, sort_keys=True)} if read_as else {}
    return Model(
        name,
        Built(checkpoint),
        weights_hash(checkpoint.state),
        checkpoint.data,
        checkpoint.classes,
        checkpoint.record,
        options | _versions(checkpoint.versions),
        checkpoint=checkpoint,
    )


def of_module(module: nn.Module, steps: int | None = None, hint: int | None = None, name: str = "the model") -> Model:
    """Take a module of images in 0..1 as a model."""
    readers.reset(module)
    return Model(name, Given(module, steps, hint), weights_hash(weights_of(module)))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module's state dict."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def of_graph(graph: FloatGraph, name: str = "the graph") -> Model:
    """Take a float graph as a model."""
    return Model(name, Drawn(graph), weights_hash(FloatModel(graph).state_dict()), graph=graph)


@dataclass(frozen=True)
class Integers:
    """Refuses to make a module of a network that has integers only."""

    name: str

    def __call__(self, shape: Shape) -> nn.Module:
        raise RandhetError(
            f"{self.name} holds integers and no float model, so that it can be exported and run, and nothing else: "
            "give the model that it was trained as"
        )


def of_network(network: Network, name: str) -> Model:
    """Take a network of integers as a model that can only be exported."""
    return Model(name, Integers(name), "", classes=network.classes, network=network)


def _versions(versions: Mapping[str, str]) -> dict[str, str]:
    return {f"trained_with_{name}": version for name, version in versions.items()}


# --- which network is its own -----------------------------------------------------------------------------------------


def recorded(model: Model, graph: FloatGraph, data: str = "") -> dict[str, str]:
    """Return what a network's file says of the model that it was exported from; data: what it was calibrated on."""
    return {
        "source": model.source,
        "data": model.data or data,
        LAYERS: json.dumps(digests(graph), sort_keys=True),
        **model.notes,
    }


def digests(graph: FloatGraph) -> dict[str, str]:
    """Return, for each node, 8 hex digits of what it is beside its weights, which `source` holds.

    Kind, inputs, numbers and names of its fields, the shapes of its arrays, and the values of a normalisation.
    """
    return {node.name: _digest(repr((node.inputs, said(node.operation)))) for node in graph.nodes}


def said(operation: FloatOperation) -> list[str]:
    """Return an operation's kind and fields in words that do not depend on the machine."""
    words = [type(operation).__name__]
    for entry in fields(operation):
        value = getattr(operation, entry.name)
        if _usual(entry, value):  # a field that comes later does not change what was recorded before it
            continue
        short = isinstance(value, np.ndarray) and (value.ndim == 0 or isinstance(operation, Normalisation))
        words.append(f"{entry.name}={_short(value) if short else getattr(value, 'shape', value)}")
    return words


def _usual(entry: Field[Any], value: Any) -> bool:
    default = entry.default if entry.default_factory is MISSING else entry.default_factory()
    return default is not MISSING and np.array_equal(np.asarray(default), np.asarray(value))


def _short(value: np.ndarray) -> str:
    return " ".join(f"{number:.6g}" for number in np.ravel(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_pair(model: Model, network: Network, graph: FloatGraph) -> None:
    """Require that a network was exported from this model; RandhetError says in which they differ first."""
    (steps,) = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)} or {network.steps}
    if steps != network.steps:
        raise RandhetError(
            f"the network runs {network.steps} time steps, {model.name} {steps}: export it again, or give the steps "
            "that it was exported with"
        )
    source = network.metadata.get("source")
    if source is not None and source != model.source:
        raise RandhetError(f"the network was exported from other weights than those of {model.name}: export it again")
    before, now = _recorded_layers(network), digests(graph)
    if before is not None and before != now:
        differing = next(name for name in {**now, **before} if before.get(name) != now.get(name))
        raise RandhetError(
            f"layer {differing} of {model.name} is not what the network was exported from, though the weights are: "
            "export it again"
        )


def _recorded_layers(network: Network) -> dict[str, str] | None:
    text = network.metadata.get(LAYERS)
    if text is None:
        return None
    try:
        return {str(name): str(digest) for name, digest in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise RandhetError(f"metadata {LAYERS} of the network is not JSON of layer names to digests") from None
