"""What export multiplies the weights of each layer of any model by, for quantisation-aware training.

Export folds batch norm, normalisation, pools and factors of neurons into the weights of a layer: each weight w becomes
w * g, and g does not depend on w. So a graph whose weights are all 1 is folded, and what its weights become is g. What
a convolution sends into a pool is scaled to its largest weight first (`passes.pooled`): there g depends on that weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export.float_model import FloatModel, Shifted
from randhet.export.graph import (
    Affine,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    Normalisation,
)
from randhet.export.in_time import InTime
from randhet.export.passes import fold
from randhet.export.passes.pooled import sends_sums
from randhet.export.passes.quantise import weighted_nodes
from randhet.export.trace import convert, trace
from randhet.fixed_point.layers import WEIGHT_MAX
from randhet.train.scales import Scales

Weighted = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(eq=False)
class Folding:
    """A graph of weights of 1, and the modules whose numbers it holds beside them; folded again where these change."""

    graph: FloatGraph
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    _folded: tuple[tuple[tuple[int, int], ...], FloatGraph] | None = None

    def folded(self) -> FloatGraph:
        """The graph as it is exported, with what the modules hold now."""
        tensors = [tensor for module in self.modules.values() for tensor in module.state_dict(keep_vars=True).values()]
        now = tuple((id(tensor), tensor._version) for tensor in tensors if isinstance(tensor, Tensor))
        if self._folded is None or self._folded[0] != now:
            graph = self.graph
            for name, module in self.modules.items():
                operation = convert(module)
                assert operation is not None
                graph = graph.changed(name, _ones(operation))
            self._folded = now, fold(graph)
        return self._folded[1]


@dataclass(frozen=True, eq=False)
class Traced:
    """A layer of a graph that is trained: name of its node; pooled: it sends its sums into a pool."""

    name: str
    layer: Weighted
    folding: Folding
    read_out: bool
    pooled: bool

    @property
    def fold(self) -> Tensor:
        """What export multiplies each weight by, float64, of the shape of the weights."""
        operation = self.folding.folded().node(self.name).operation
        assert isinstance(operation, (FloatConv, FloatDense))
        weight, gain = self.layer.weight, torch.from_numpy(operation.weight.copy())
        gain = gain.squeeze(2) if isinstance(self.layer, nn.Conv1d) else gain
        for axis in range(2, weight.dim()):  # "same" lengthens an even kernel at its beginning
            gain = gain.narrow(axis, gain.shape[axis] - weight.shape[axis], weight.shape[axis])
        gain = gain.to(weight.device)
        if not self.pooled:
            return gain
        largest = (weight.detach().double() * gain).flatten(1).abs().amax(1)
        widest = torch.where(largest > 0, largest, torch.ones_like(largest))
        return gain * WEIGHT_MAX / widest.reshape(-1, *[1] * (weight.dim() - 1))

    def kind(self, scales: Scales) -> Scales:
        """The scales of this layer: classes are compared with each other, and sums in a pool, and share one."""
        return "layer" if self.read_out or self.pooled else scales


def of_module(module: nn.Module, shape: tuple[int, ...]) -> tuple[Traced, ...]:
    """Find the layers of a module of images of a shape; RandhetError where weights do not stay those of a layer."""
    training = module.training
    graph = trace(module, shape)
    module.train(training)
    modules = dict((module.model if isinstance(module, InTime) else module).named_modules())
    beside = {
        node.name: modules[node.name]
        for node in graph.nodes
        if isinstance(node.operation, (Affine, FloatNeuron, Normalisation)) and node.name in modules
    }
    return _layers(graph, Folding(_all_ones(graph), beside), modules)


def of_graph(graph: FloatGraph, model: FloatModel) -> tuple[Traced, ...]:
    """Find the layers of the module of a float graph, in which only layers with weights are trained."""
    inner = {name: part.layer if isinstance(part, Shifted) else part for name, part in model.named_modules()}
    return _layers(graph, Folding(_all_ones(graph)), inner)


def _layers(graph: FloatGraph, folding: Folding, modules: Mapping[str, nn.Module]) -> tuple[Traced, ...]:
    folded = folding.folded()
    owners = {node.name: name for name, node in weighted_nodes(folded).items()}
    found = []
    for node in graph.nodes:
        if isinstance(node.operation, (FloatConv, FloatDense)):
            layer = modules.get(node.name)
            _own(node, layer, owners)
            assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
            pooled = sends_sums(folded, folded.node(node.name))
            found.append(Traced(node.name, layer, folding, owners[node.name] == node.name, pooled))
    return tuple(found)


def _own(node: FloatNode, layer: nn.Module | None, owners: Mapping[str, str]) -> None:
    """RandhetError unless a node is a layer of its own before and after folding."""
    if layer is None:
        raise RandhetError(
            f"{node.name} is a layer that is called more than once, which quantisation-aware training cannot round: "
            "leave out the bits"
        )
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
        raise RandhetError(
            f"{node.name} is a {type(layer).__name__}, whose weights quantisation-aware training does not round: leave "
            "out the bits"
        )
    if node.name not in owners:
        raise RandhetError(
            f"{node.name} has no neuron behind it and becomes one layer with the next, whose weights are products: "
            "quantisation-aware training needs a neuron between, or leave out the bits"
        )


def _all_ones(graph: FloatGraph) -> FloatGraph:
    for node in graph.nodes:
        if isinstance(node.operation, (FloatDense, FloatNeuron)) and node.operation.recurrent is not None:
            raise RandhetError(
                f"{node.name} has weights on its own spikes, which share a scale with those of their layer: "
                "quantisation-aware training does not round them, leave out the bits"
            )
        graph = graph.changed(node.name, _ones(node.operation))
    return graph


def _ones(operation: FloatOperation) -> FloatOperation:
    """The operation with weights of 1 and nothing added: what is added does not change what weights become."""
    match operation:
        case FloatConv() | FloatDense():
            return replace(operation, weight=np.ones_like(operation.weight), bias=0 * operation.bias)
        case Affine():
            return replace(operation, shift=0 * operation.shift)
        case Normalisation():
            return replace(operation, mean=0 * operation.mean)
        case _:
            return operation
