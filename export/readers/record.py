"""Run a model on a few images and record what its layers are, in whatever way its forward is written.

Every tensor that depends on the images is a `Traced`: it computes as any tensor, and tells the `Recorder` which
function it goes through. Layers whose kind is known tell it themselves. What is not understood is kept, and refused at
the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.export.readers import functions
from randhet.export.readers.plain import Votes
from randhet.export.readers.signals import Node, Signal, Template
from randhet.train.general import GeneralLIF, LeakyReadOut
from randhet.train.neurons import Neuron

TOLERANCE = 1e-9
"""Of values of order one in float64."""
ODD = "an unknown tensor"
"""The node of what was refused: whatever is made of it is refused with it, once."""


class Traced(Tensor):
    """A tensor that depends on the images, with what it is."""

    signal: Signal
    recorder: Recorder

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on plain tensors, and let the recorder say what the result is."""
        traced = found((args, kwargs))
        return traced[0].recorder.function(func, args, kwargs or {})


def found(value: Any) -> list[Traced]:
    """Every traced tensor in nested arguments."""
    if isinstance(value, Traced):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [traced for one in inner for traced in found(one)]


def plain(value: Any) -> Any:
    """Nested arguments with plain tensors in place of traced ones."""
    if isinstance(value, Traced):
        return value.as_subclass(Tensor)
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value)) if type(value) in (tuple, list) else tuple(map(plain, value))
    return value


def doubled(value: Any) -> Any:
    """Nested arguments in float64, where a forward makes states of its own in float32."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: doubled(one) for key, one in value.items()}
    return tuple(map(doubled, value)) if isinstance(value, tuple) else value


def double_states(module: object) -> None:
    """Buffers of a module in float64, where it keeps a state in the float32 that it sends."""
    for name, kept in dict(module.named_buffers(recurse=False)).items() if isinstance(module, nn.Module) else ():
        if kept.dtype == torch.float32:
            setattr(module, name, kept.double())


@dataclass(eq=False)
class Calls:
    """What a neuron was called with and gave: its node, its spikes of each step.

    returning: the linear layer whose values of its spikes of the step before are added to its currents, "" for none.
    """

    node: str
    spikes: list[Tensor] = field(default_factory=list)
    returning: str = ""


class Recorder:
    """The template of a model that is run within it.

    counterparts: our module for each module of the model that is a layer, None for one that changes nothing.
    """

    def __init__(self, model: nn.Module, counterparts: Mapping[str, nn.Module | None]) -> None:
        self.template, self.counterparts = Template(), counterparts
        self.refused: list[str] = []
        self.calls: dict[str, Calls] = {}
        self.checked: set[str] = set()
        self.started: dict[str, Tensor] = {}
        """What linear layers gave of zeros, before there were spikes that they could read."""
        self.own = {name for name, module in model.named_modules() if type(module).__module__.startswith("randhet.")}
        self.kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        for name, module in model.named_modules():
            if name in counterparts:
                module.forward = partial(self.called, name, module.forward)

    def traced(self, value: Tensor, signal: Signal) -> Traced:
        """A tensor with its signal."""
        tensor = value.as_subclass(Traced)
        tensor.signal, tensor.recorder = signal, self
        return tensor

    def refuse(self, what: str, value: Tensor) -> Traced:
        """Keep what is not understood, once, and go on."""
        if what not in self.refused:
            self.refused.append(what)
        return self.traced(value, Signal(ODD))

    # --- layers -------------------------------------------------------------------------------------------------------

    def called(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A layer's forward: its own result on plain tensors, traced."""
        double_states(getattr(forward, "__self__", None))
        with torch.no_grad():
            result = forward(*doubled(plain(args)), **doubled(plain(kwargs)))
        if not found((args, kwargs)):
            if self._starts(name, args, result):
                return result
            what = f"{name} ({self.kinds[name]}), which reads what does not depend on the images"
            return _each(result, lambda value: self.refuse(what, value))
        ours, values = self.counterparts[name], (*args, *kwargs.values())
        if isinstance(ours, Votes):
            ours = ours.sized(values[0].shape[-1])
        try:
            if not isinstance(values[0], Traced):
                raise ExportError(", which does not read a layer first")
            if isinstance(ours, (Neuron, LeakyReadOut)):
                return self._neuron(name, ours, values, result)
            return self.layer(name, ours, values[0], result)
        except ExportError as error:
            what = f"{name} ({self.kinds[name]}){error}"
            return _each(result, lambda value: self.refuse(what, value))

    def _starts(self, name: str, args: Any, result: Any) -> bool:
        """Whether a linear layer reads zeros, as one that reads a neuron's spikes of the step before does at first."""
        zeros = len(args) == 1 and isinstance(args[0], Tensor) and not args[0].count_nonzero()
        if zeros and isinstance(self.counterparts[name], nn.Linear):
            self.started[name] = result
            return True
        return False

    @torch.no_grad()
    def layer(
        self, name: str, ours: nn.Module | None, given: Traced, result: Tensor, settings: tuple[str, ...] = ()
    ) -> Traced:
        """The result of a layer without a state, which our module must give too.

        settings: of a function, which is called by another name wherever it stands.
        """
        signal = given.signal
        if signal.node == ODD:
            return self.traced(result, signal)
        if ours is None:
            _same(plain(given), result)
            return self.traced(result, signal)
        if signal.state or signal.form in ("sum", "max"):
            raise ExportError(", which reads what was gathered over the steps: it must be the output of the model")
        node = self.template.layer(name, ours, (signal.node,), settings)
        if node.name not in self.checked:
            self.checked.add(node.name)
            _same(ours(plain(given)), result)
        return self.traced(result, signal.of(node.name))

    def _neuron(self, name: str, ours: nn.Module, values: tuple[Any, ...], result: Any) -> Any:
        # snnTorch gives spikes in float32, whatever it reads
        outputs = tuple(output.double() for output in (result if isinstance(result, tuple) else (result,)))
        signal = values[0].signal
        if signal.node == ODD:
            marked = tuple(self.traced(output, signal) for output in outputs)
            return marked if isinstance(result, tuple) else marked[0]
        signal = self._without_return(name, ours, signal)
        node = self.template.layer(name, ours, (signal.node,), moving=True)
        calls = self.calls.setdefault(name, Calls(node.name))
        number = len(calls.spikes)
        _in_time(signal, calls, node.name, number)
        for state in values[1:]:
            _own_state(state, node.name, number, spikes=getattr(ours, "recurrent", None) is not None)
        steps = tuple(range(number, number + len(signal.at)))
        calls.spikes += _by_step(outputs[0], signal)
        base = replace(signal.of(node.name), steps=steps, count=len(steps))
        if len(outputs) > 1 or name not in self.own:
            self.template.sending.add(node.name)
        marked = tuple(self.traced(output, replace(base, state=i)) for i, output in enumerate(outputs))
        return marked if isinstance(result, tuple) else marked[0]

    def _without_return(self, name: str, ours: nn.Module, signal: Signal) -> Signal:
        """The currents without what the neuron's own spikes of the step before add to them, which it adds itself."""
        calls = self.calls.get(name)
        added = self.template.nodes.get(signal.node)
        if calls is None or added is None or added.module is not None or len(added.inputs) != 2:
            return signal
        for source, arm in (added.inputs, added.inputs[::-1]):
            back = self.template.nodes.get(arm)
            if back and isinstance(back.module, nn.Linear) and back.inputs == (calls.node,):
                self._returns(name, ours, calls, back)
                return replace(signal, node=source, steps=tuple(step + 1 for step in signal.at))
        return signal

    def _returns(self, name: str, ours: nn.Module, calls: Calls, back: Node) -> None:
        """Give the neuron its recurrent weights, at its second step."""
        if not calls.returning and len(calls.spikes) == 1 and isinstance(ours, GeneralLIF) and not ours.recurrent:
            assert isinstance(back.module, nn.Linear)
            calls.returning, ours.recurrent = back.target, back.module
        if calls.returning != back.target:
            raise ExportError(
                f", to which its spikes return through {back.target} at its step {len(calls.spikes)} only"
            )

    # --- functions ----------------------------------------------------------------------------------------------------

    def function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a torch function, with what it is."""
        name = functions.name_of(func)
        if name in functions.BRANCHING:
            raise ExportError(f"the model's forward reads values of a tensor ({name}): it must not branch on its data")
        if name in functions.SAME:  # a change of type would end the comparison in float64
            value = plain(args[0])
            return self.traced(value, args[0].signal)
        with torch.no_grad():
            result = func(*plain(args), **plain(kwargs))
        if not _tensors(result):
            return result
        try:
            if any(traced.signal.node == ODD for traced in found((args, kwargs))):
                return _each(result, lambda value: self.traced(value, Signal(ODD)))
            return functions.meaning(self, name, func, args, kwargs, result)
        except ExportError as error:
            what = f"function {name} {error}"
            return _each(result, lambda value: self.refuse(what, value))


def _tensors(result: Any) -> bool:
    return isinstance(result, Tensor) or (isinstance(result, (tuple, list)) and any(map(_tensors, result)))


def _each(result: Any, change: Callable[[Tensor], Any]) -> Any:
    """A function of each tensor of a result."""
    return change(result) if isinstance(result, Tensor) else tuple(map(change, result))


def _same(ours: Tensor, result: Any) -> None:
    """ExportError where our layer gives something else than the model's."""
    if not isinstance(result, Tensor) or ours.shape != result.shape:
        raise ExportError(", which gives values of another shape than its kind")
    gap = float((ours - result).abs().max()) if result.numel() else 0.0
    if not gap <= TOLERANCE * (1 + float(result.abs().max())):
        raise ExportError(f", which computes something else than its kind (differences up to {gap:.3g})")


def _by_step(spikes: Tensor, signal: Signal) -> list[Tensor]:
    """The spikes of each step."""
    if signal.form == "merged":
        return list(spikes.unflatten(0, (len(signal.at), -1)))
    return list(spikes) if signal.form == "sequence" else [spikes]


def _in_time(signal: Signal, calls: Calls, node: str, number: int) -> None:
    """ExportError unless the call is the next step of a neuron that always reads the same layer."""
    if calls.node != node:
        raise ExportError(", which is called for several layers: give each a neuron of its own")
    if signal.state or signal.form not in ("step", "sequence", "merged"):
        raise ExportError(", which reads what was gathered over the steps")
    steps = tuple(range(number, number + len(signal.at)))
    if signal.steps not in (None, steps):
        raise ExportError(f", which reads step {signal.at[0]} at its step {number}: it must read the same step")


def _own_state(state: Any, node: str, number: int, *, spikes: bool) -> None:
    """ExportError unless a state is none, zeros at the first step, or the neuron's own of the step before.

    spikes: whether its spikes are a state too.
    """
    if state is None:
        return
    if isinstance(state, Traced):
        signal = state.signal
        if (signal.node, signal.form, signal.steps) == (node, "step", (number - 1,)) and (signal.state or spikes):
            return
    elif isinstance(state, Tensor) and not number and not state.count_nonzero():
        return
    raise ExportError(", whose state is not zero at first and its own of the step before later")
