"""Train a MODEL that is no checkpoint: a module of a user's own file, of another library, or a NIR graph.

What is trained is the module that images go through; what is written is the state dict that `--weights` takes. Of a
module of another library its counterpart of ours is trained (`randhet.export.readers`), and convolutions, linear layers
and batch norms go back into it; its neurons keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export.float_model import FloatModel
from randhet.export.folds import of_graph, of_module
from randhet.export.graph import FloatConv, FloatDense, FloatGraph, FloatNeuron
from randhet.export.in_time import InTime
from randhet.export.model import Drawn, Integers, Model
from randhet.export.python_file import FromFile
from randhet.train import weights as weight_files
from randhet.train.checkpoint import weights_hash
from randhet.train.data.images import Images
from randhet.train.qat import Rounded
from randhet.train.settings import TrainSettings
from randhet.train.subject import Saved, copied
from randhet.train.weights import Weights

TRAINED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
"""Layers of a counterpart that are trained and go back into the module of another library."""


@dataclass(eq=False)
class Tuned:
    """A model that is trained: `module` from images to logits, `owner` whose state dict is written.

    shared: layers of the module and those of the owner that take their weights, where the two are not the same.
    data: what it is trained on; shape: of its images. source: hash of the weights that training began with.
    """

    model: Model
    module: nn.Module
    owner: nn.Module
    data: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    shared: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)
    source: str = ""

    @classmethod
    def begin(cls, model: Model, data: Images, name: str) -> Tuned:
        """Build what is trained; RandhetError where a model cannot be, or does not fit the images."""
        shape = tuple(data.pixels.shape[1:])
        made = cls(model, *_parts(model, shape), name, data.classes, shape)
        if made.module is not made.owner and not isinstance(made.module, InTime):
            made.shared = _shared(made.module, made.owner)
        made.source = weights_hash(made.state())
        _try(made, data)
        return made

    def prepare(self, settings: TrainSettings, processes: int) -> None:
        """Raise RandhetError for settings that only checkpoints can be trained with."""
        if processes > 1:
            raise RandhetError(
                f"{processes} processes share a batch of a checkpoint only: train {self.model.name} in one"
            )
        if settings.short_epochs:
            raise RandhetError(
                f"short_epochs is {settings.short_epochs}, only checkpoints can be shown images for half of their time "
                "steps: leave it out"
            )
        if settings.qat_bits:
            self.rounded()

    def rounded(self) -> Sequence[Rounded]:
        """Return the layers with weights, each with what export multiplies its weights by."""
        if isinstance(self.module, FloatModel):
            assert self.model.graph is not None
            return of_graph(self.model.graph, self.module)
        return of_module(self.module, self.shape)

    def shorten(self, half: bool) -> None:
        """Leave the steps as they are (`prepare`)."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of the weights of the module that was given."""
        for ours, theirs in self.shared:
            theirs.load_state_dict(ours.state_dict())
        return copied(self.owner)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights that `state` gave."""
        self.owner.load_state_dict(dict(state), strict=False)
        for ours, theirs in self.shared:
            ours.load_state_dict(theirs.state_dict())

    def saved(self, state: Mapping[str, Tensor], record: Mapping[str, Any], resume: Mapping[str, Any]) -> Weights:
        """Return a state dict with its record."""
        return Weights(Path(), state, self.data, self.classes, record, resume=resume)

    def write(self, path: str | Path, saved: Saved) -> None:
        """Write a state dict."""
        assert isinstance(saved, Weights)
        weight_files.save(replace(saved, path=Path(path)))

    def read(self, path: str | Path) -> tuple[Weights, bool]:
        """Read a state dict, and tell whether it has the weights of this model."""
        found, own = weight_files.load(path), copied(self.owner)
        shapes = {name: tensor.shape for name, tensor in found.state.items()}
        return found, shapes == {name: tensor.shape for name, tensor in own.items()}


def _parts(model: Model, shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """The module that images go through, and the one whose state dict is written."""
    make = model.make
    match make:
        case FromFile():
            owner = make.module()
            return make.through(owner, shape), owner
        case Drawn():
            module = make(shape)
            assert isinstance(module, FloatModel)
            _only(module, _weights(make.graph, module))
            return module, module
        case Integers():
            raise RandhetError(
                f"{model.name} holds integers and no float weights that could be trained: train the model that it was "
                "exported from"
            )
        case _:
            raise RandhetError(f"{model.name} cannot be trained: give a checkpoint, FILE.py:NAME or a NIR graph")


def _weights(graph: FloatGraph, model: FloatModel) -> Iterator[nn.Parameter]:
    """Weights and biases of a graph's layers; not a bias that would pass through a synapse (`passes.quantise`)."""
    layers = dict(model.named_modules())
    for node in graph.nodes:
        if isinstance(node.operation, (FloatConv, FloatDense)):
            read_by = [reader.operation for reader in graph.readers(node.name)]
            late = any(isinstance(reader, FloatNeuron) and reader.synapse for reader in read_by)
            for name, parameter in layers[node.name].named_parameters():
                if not (late and name.rpartition(".")[2] == "bias"):
                    yield parameter


def _only(module: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Freeze everything else."""
    kept = {id(parameter) for parameter in trained}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in kept)


def _shared(module: nn.Module, owner: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """The layers of a counterpart that are trained, each with that of the module; everything else is frozen."""
    theirs = dict(owner.named_modules())
    for name, part in theirs.items():
        if type(part).__module__.partition(".")[0] == "brevitas":
            raise RandhetError(
                f"{name} is a layer of brevitas, whose own training finds its integers: train it in a loop of your own"
            )
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (part, theirs[name])
        for name, part in module.named_modules()
        if isinstance(part, TRAINED) and isinstance(theirs.get(name), TRAINED)
    ]
    _only(module, [parameter for part, _ in pairs for parameter in part.parameters()])
    return pairs


def _try(made: Tuned, data: Images) -> None:
    """Show one image; RandhetError where it gives no logits of these classes, or no gradients."""
    name, image = made.model.name, torch.from_numpy(data.pixels[:1]).float() / 255
    try:
        logits = made.module.eval()(image)
    except RandhetError:
        raise
    except Exception as error:  # of the user's module, of any kind
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RandhetError(f"{name} cannot be run on images of {data.name}, of shape {made.shape}: {first}") from None
    if not isinstance(logits, Tensor) or logits.shape != (1, len(data.classes)):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RandhetError(
            f"{name} gives {given} for one image of {data.name}, which has {len(data.classes)} classes: it must give "
            f"(1, {len(data.classes)})"
        )
    if not logits.requires_grad:
        raise RandhetError(f"{name} has no weights that its output has a gradient by: nothing of it can be trained")
