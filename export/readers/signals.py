"""What the tensors of a running model are, and the network of one step that follows from it.

A model is run once on a few images. Each tensor that depends on them carries a `Signal`: which layer's values it holds,
at which time steps, in which arrangement. A layer that is called again on what another step of the same layer gave is
the same layer, so that a loop over time, in whatever form it is written, becomes one `Template`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.train.general import LeakyReadOut

Form = Literal["step", "sequence", "merged", "sum", "max"]
"""(N, ...) of one step; (T, N, ...); (T*N, ...); a sum over steps; the largest of several steps."""


@dataclass(frozen=True)
class Signal:
    """Values of a layer: node, its name; steps, which ones, None where all steps are equal, `count` of them.

    state: 0 for what the layer gives, 1, 2, ... for its states. scale: what a sum over steps is multiplied by.
    """

    node: str
    form: Form = "step"
    steps: tuple[int, ...] | None = None
    count: int = 1
    state: int = 0
    scale: float = 1.0

    @property
    def axes(self) -> int:
        """Axes before those of one image's values."""
        return 2 if self.form == "sequence" else 1

    @property
    def at(self) -> tuple[int, ...]:
        """The steps; the numbers 0.. where all are equal."""
        return tuple(range(self.count)) if self.steps is None else self.steps

    def of(self, node: str) -> Signal:
        """The same steps and arrangement of another layer."""
        return replace(self, node=node)


@dataclass(frozen=True)
class Joined:
    """The channels of what is read, one after another; axis: theirs, -3 of (C, Y, X), -1 of (C,)."""

    axis: int


@dataclass(frozen=True, eq=False)
class Node:
    """A layer of the template: our module, or what joins what it reads, None for a sum; the names of what it reads.

    target: the module's name in the result, which several nodes may share.
    """

    name: str
    target: str
    module: nn.Module | Joined | None
    inputs: tuple[str, ...]
    moving: bool
    """Whether its values differ from step to step."""


@dataclass(eq=False)
class Template:
    """The layers of one step, in the order of their first call."""

    nodes: dict[str, Node] = field(default_factory=dict)
    keys: dict[tuple[str, ...], str] = field(default_factory=dict)
    sending: set[str] = field(default_factory=set)
    """Neurons whose first output are spikes, with a reset or without; a read-out of ours gives its potential."""

    def layer(
        self,
        target: str,
        module: nn.Module | Joined | None,
        inputs: tuple[str, ...],
        settings: tuple[str, ...] = (),
        moving: bool = False,
    ) -> Node:
        """The node of a module (a sum, where there is none) that reads these nodes: the known one, or a new one.

        settings: what tells functions of one name from each other; each stands for itself in the result. ExportError,
        behind the name of what reads it, for a leaky read-out.
        """
        for read in inputs:
            if read in self.nodes and isinstance(self.nodes[read].module, LeakyReadOut):
                raise ExportError(f", which reads {read}, neurons without a reset: only the last layer may have none")
        key = (target, *settings, *inputs)
        if key not in self.keys:
            name = self.free(target)
            target = name if settings else target
            moving = moving or any(self.nodes[read].moving for read in inputs if read in self.nodes)
            self.nodes[name] = Node(name, target, module, inputs, moving)
            self.keys[key] = name
        return self.nodes[self.keys[key]]

    def free(self, base: str) -> str:
        """A name that is not taken: base, base_2, ..."""
        name, number = base, 1
        while name in self.nodes:
            number += 1
            name = f"{base}_{number}"
        return name


def arrangements(signal: Signal, shape: tuple[int, ...]) -> Iterator[tuple[Signal, Tensor, bool]]:
    """What values of a signal may be arranged as: (signal, the numbers 0.. of a tensor of `shape` so, flattened)."""
    tags = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    for flat in (False, True):
        ordered = tags.flatten(signal.axes) if flat and tags.dim() > signal.axes else tags
        for arranged, numbers in _forms(signal, ordered):
            yield arranged, numbers, flat


def _forms(signal: Signal, tags: Tensor) -> Iterator[tuple[Signal, Tensor]]:
    yield signal, tags
    if signal.form == "step":
        yield replace(signal, form="sequence", count=1), tags.unsqueeze(0)
    if signal.form == "sequence":
        yield replace(signal, form="merged"), tags.flatten(0, 1)
        for number, step in enumerate(signal.at):
            steps = None if signal.steps is None else (step,)
            yield replace(signal, form="step", steps=steps, count=1), tags[number]
    if signal.form == "merged":
        count = len(signal.at)
        yield replace(signal, form="sequence"), tags.unflatten(0, (count, -1))


def moved(signal: Signal, shape: tuple[int, ...], result: Tensor) -> tuple[Signal, bool] | None:
    """(signal, flattened) after a function that only moves values; result: what it makes of the numbers 0...

    None where the values are in no order that has a name.
    """
    for arranged, numbers, flat in arrangements(signal, shape):
        if result.shape == numbers.shape and torch.equal(result, numbers):
            return arranged, flat
        if repeated := _repeated(arranged, numbers, result):
            return repeated, flat
    return None


def _repeated(signal: Signal, numbers: Tensor, result: Tensor) -> Signal | None:
    """The sequence that shows what is the same at every step `count` times."""
    if signal.steps is not None or signal.form not in ("step", "sequence") or len(signal.at) != 1:
        return None
    one = numbers if signal.form == "step" else numbers[0]
    if result.dim() == one.dim() + 1 and torch.equal(result, one.expand(len(result), *one.shape)):
        return replace(signal, form="sequence", count=len(result))
    return None


def alike(signals: Sequence[Signal], what: str) -> Signal:
    """The arrangement of layers that are added or joined, which must be that of the same steps.

    A layer that does not change from step to step fits any. what: is done with them, for the message.
    """
    head = next((one for one in signals if one.steps is not None), signals[0])
    for one in signals:
        if one.form != head.form or one.form not in ("step", "sequence", "merged") or one.state:
            raise ExportError(f"{what} what is not layers of the same steps")
        if None not in (one.steps, head.steps) and one.steps != head.steps:
            raise ExportError(f"{what} step {head.at[0]} of {head.node} and step {one.at[0]} of {one.node}")
    return head


def stacked(signals: list[Signal]) -> Signal:
    """A sequence of steps of one layer; ExportError where they are not its steps 0, 1, ... in order."""
    head = signals[0]
    if any((one.node, one.state, one.form) != (head.node, head.state, "step") for one in signals):
        raise ExportError("puts together what is not the steps of one layer")
    if head.steps is None:
        return replace(head, form="sequence", count=len(signals))
    steps = tuple(step for one in signals for step in one.at)
    return replace(head, form="sequence", steps=steps, count=len(steps))


def gathered(a: Signal, b: Signal) -> Signal | None:
    """The running sum of two parts of one layer's steps; None where they are something else."""
    alike = (a.node, a.state) == (b.node, b.state) and a.scale == b.scale == 1
    if not alike or None in (a.steps, b.steps) or not {a.form, b.form} <= {"step", "sum"} or set(a.at) & set(b.at):
        return None
    return replace(a, form="sum", steps=tuple(sorted((*a.at, *b.at))))
