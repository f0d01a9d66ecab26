"""Calls of torch's functions and methods in a traced forward: what each is, told by what it does to values.

The traced graph is run in float64 on random images. A call that only moves values (`torch.flatten`, `view`, `reshape`,
`unsqueeze` with `expand`) or averages them (`mean`) is known by its result, whatever it is called and however its sizes
are computed; pools and dropout as functions are known by their names and arguments.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from randhet.export.graph import (
    AveragePool,
    Encoding,
    ExportError,
    FloatConcat,
    FloatFlatten,
    FloatOperation,
    TimeMean,
    TimeRead,
)
from randhet.train.layers import Encode, Frames, MeanOverTime

IMAGES = 3
"""Random images that the graph is run on; no number of time steps makes them look like anything else."""
Form = Literal["image", "time", "merged", "lone"]
"""How a value begins: (N, ...), (T, N, ...), (T*N, ...), or (1, N, ...), which is about to be repeated T times."""
STATIC = {
    "flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze", "expand", "repeat", "contiguous", "clone",
    "detach", "float", "double", "to", "mean", "amax", "cat", "concat", "stack", "getitem", "dropout", "dropout2d",
    "adaptive_avg_pool2d",
}  # fmt: skip
"""Names of what moves or averages values whatever they are: a function that leaves these alone may change others."""
LAYERS: dict[Any, type[nn.Module]] = {
    F.avg_pool2d: nn.AvgPool2d,
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
"""Functions that a module of torch computes, with the same arguments behind the tensor."""
INSTEAD = {
    "relu": "put a neuron there",
    "relu_": "put a neuron there",
    "sigmoid": "put a neuron there",
    "softmax": "leave it out, the class is the same",
    "log_softmax": "leave it out, the class is the same",
    "sum": "write mean(0) over the time steps, the class is the same",
    "mul": "put the factor into the weights of the layer before",
    "truediv": "put the factor into the weights of the layer before",
    "sub": "put a minus into the weights of the layer before, and write a + b",
    "matmul": "use nn.Linear",
    "linear": "use nn.Linear",
    "conv2d": "use nn.Conv2d",
    "batch_norm": "use nn.BatchNorm2d",
}
"""What to write in place of a function, by its name."""


class Meant(NamedTuple):
    """What a call is: operations one after another, none where it changes nothing, and the form of its result."""

    operations: tuple[FloatOperation, ...]
    form: Form


@dataclass(eq=False)
class Values:
    """What every node of a traced graph gave on random images, and the form of it; begins: of the images."""

    results: dict[fx.Node, Any]
    forms: dict[fx.Node, Form]
    begins: Form

    def tensors(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that a node reads tensors from, in order; others only give sizes."""
        return [read for read in node.all_input_nodes if isinstance(self.results[read], Tensor)]

    def static(self, argument: Any) -> Any:
        """An argument with the values of the nodes in it."""
        return fx.node.map_arg(argument, lambda read: self.results[read])

    def form_of(self, node: fx.Node, module: nn.Module) -> Form:
        """The form of what a module gives."""
        if isinstance(module, (Encode, Frames)):
            return "time"
        return "image" if isinstance(module, MeanOverTime) else self.forms[self.tensors(node)[0]]


class _Keeping(fx.Interpreter):
    """Keeps what every node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.kept: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.kept[n] = result.clone() if isinstance(result, Tensor) else result  # what follows may change it in place
        return self.kept[n] if isinstance(result, Tensor) else result


def ran(traced: fx.Graph, model: nn.Module, shape: tuple[int, ...], steps: int | None = None) -> Values:
    """Run a traced graph on random images (N, *shape), or (T, N, *shape); ExportError where it fails."""
    twin = copy.deepcopy(model).cpu().double().eval()
    whole = (IMAGES, *shape) if steps is None else (steps, IMAGES, *shape)
    images = torch.rand(whole, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    keeping = _Keeping(fx.GraphModule(twin, traced))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            keeping.run(images)
    except Exception as error:  # whatever the user's forward does wrong
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ExportError(f"the model cannot be run on images of shape {shape}: {first}") from None
    return Values(keeping.kept, {}, "image" if steps is None else "time")


def meant(node: fx.Node, values: Values, convert: Callable[[nn.Module], FloatOperation | None]) -> Meant:
    """What a call of a function or method is; ExportError, behind its name, for what is not known."""
    reads, result = values.tensors(node), values.results[node]
    layer = LAYERS.get(node.target)
    if layer is not None:
        arguments = values.static(node.args[1:])
        operation = convert(layer(*arguments, **values.static(node.kwargs)))
        assert operation is not None
        return Meant((operation,), values.forms[reads[0]])
    if name_of(node) not in STATIC or not _whole(node):
        raise ExportError(_refused(node))
    given = [values.results[read] for read in reads]
    form = values.forms[reads[0]] if reads else "image"
    if given and len({values.forms[read] for read in reads}) == 1:
        for expected, operations, then in _candidates(given, result, form):
            if expected.shape == result.shape and torch.allclose(expected, result, rtol=1e-12, atol=1e-12):
                return Meant(operations, then)
    raise ExportError(_refused(node))


Candidate = tuple[Tensor, tuple[FloatOperation, ...], Form]


def _candidates(given: list[Tensor], result: Tensor, form: Form) -> Iterator[Candidate]:
    """All that a call may be, as what it would give, its operations and the form of that."""
    value, lead = given[0], 2 if form in ("time", "lone") else 1
    if len(given) > 1:
        if len({one.dim() for one in given}) == 1:
            yield from _joined(given, form, lead)
        return
    yield value, (), form
    if value.dim() - lead == 3:
        yield value.flatten(lead), (FloatFlatten(),), form
        means = value.mean((-2, -1), keepdim=True)
        yield means, (AveragePool(),), form
        yield means.flatten(lead), (AveragePool(), FloatFlatten()), form
        if value.shape[-2] == 1:
            yield value.squeeze(-2), (), form
    if value.dim() - lead == 2:  # a row, which the graph has as an image of one row
        yield value.unsqueeze(-2), (), form
        yield value.flatten(lead), (FloatFlatten(),), form
    if form == "image":
        yield value[None], (), "lone"
        yield from _repeated(value, result)
    if form == "lone":
        yield from _repeated(value[0], result)
    if form == "time":
        yield from _over_time(value)
    if form == "merged":
        yield from _apart(value, result)


def _joined(given: list[Tensor], form: Form, lead: int) -> Iterator[Candidate]:
    sizes = {(*one.shape[:lead], *one.shape[lead + 1 :]) for one in given}
    if len(sizes) == 1 and given[0].dim() > lead:
        yield torch.cat(given, lead), (FloatConcat(),), form


def _repeated(value: Tensor, result: Tensor) -> Iterator[Candidate]:
    """The same image at each step."""
    if result.dim() == value.dim() + 1:
        yield value.expand(len(result), *value.shape), (Encoding(len(result)),), "time"


def _over_time(value: Tensor) -> Iterator[Candidate]:
    yield value.mean(0), (TimeMean(),), "image"
    yield value[-1], (TimeRead("last"),), "image"
    yield value.amax(0), (TimeRead("max"),), "image"
    yield value.flatten(0, 1), (), "merged"
    if value.dim() == 5:
        yield value.flatten(0, 1).flatten(1), (FloatFlatten(),), "merged"


def _apart(value: Tensor, result: Tensor) -> Iterator[Candidate]:
    """Steps and images as two axes again."""
    steps = len(value) // IMAGES
    yield value.unflatten(0, (steps, IMAGES)), (), "time"
    if value.dim() == 4:
        yield value.unflatten(0, (steps, IMAGES)).flatten(2), (FloatFlatten(),), "time"
    yield value.unflatten(0, (steps, IMAGES)).mean(0), (TimeMean(),), "image"


def name_of(node: fx.Node) -> str:
    """The name of what a node calls."""
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def _whole(node: fx.Node) -> bool:
    """Whether indices take one value or all: a part of the images would be all of them here."""
    index = node.args[1] if name_of(node) == "getitem" else ()
    parts = index if isinstance(index, tuple) else (index,)
    return all(part == slice(None) for part in parts if isinstance(part, slice))


def _refused(node: fx.Node) -> str:
    instead = INSTEAD.get(
        name_of(node), "only calls that move values or average them are known: use a supported module"
    )
    return f", which has no counterpart: {instead}"
