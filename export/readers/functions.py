"""What torch's functions and methods do in a recorded forward: move values, gather steps, add layers, or be a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.export.readers.signals import Joined, Signal, alike, gathered, moved, stacked
from randhet.train import layers

if TYPE_CHECKING:
    from randhet.export.readers.record import Recorder, Traced

BRANCHING = {
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "item",
    "tolist",
    "numpy",
    "equal",
    "allclose",
    "is_nonzero",
}
"""What asks for values, so that the forward could take another way for other images."""
SAME = {"contiguous", "clone", "detach", "detach_", "float", "double", "to", "cpu", "cuda", "type", "type_as", "data",
        "requires_grad_", "alias"}  # fmt: skip
"""What changes no value."""
MOVES = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "repeat", "__getitem__",
         "unflatten", "permute", "transpose", "movedim", "view_as", "reshape_as", "select", "narrow",
         "swapaxes"}  # fmt: skip
"""What changes where values stand, but no value."""
ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
SCALES = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__", "__itruediv__", "true_divide"}
RANDOM = {"rand_like", "randn_like", "randint_like", "bernoulli", "bernoulli_", "poisson", "normal_", "uniform_"}
CONSTANT = {"zeros_like", "new_zeros", "ones_like", "new_ones", "full_like", "new_full", "empty_like", "new_empty",
            "new_tensor"}  # fmt: skip
"""What takes a tensor's shape alone."""


def name_of(func: Any) -> str:
    """A function's name; that of the attribute where one is read."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return str(func.__self__.__name__)
    return "max_pool2d" if name == "fn" and "max_pool2d" in str(getattr(func, "__module__", "")) else str(name)


def meaning(recorder: Recorder, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """The result with its signal; ExportError, behind the function's name, for what is not understood."""
    if name in RANDOM:
        raise ExportError("draws random numbers: encode images directly, as currents")
    if name in CONSTANT:
        return result
    if name == "unbind":
        return tuple(_move(recorder, args[0], result_i, i) for i, result_i in enumerate(result))
    for names, understand in UNDERSTOOD:
        if name in names:
            return understand(recorder, func, args, kwargs, result)
    layer = LAYERS.get(name)
    if layer is None:
        raise ExportError("has no counterpart: use a supported module, or do it outside of the model")
    return as_layer(recorder, name, layer(*args[1:], **kwargs), args[0], result)


def as_layer(recorder: Recorder, name: str, module: nn.Module | None, given: Traced, result: Tensor) -> Any:
    """The result of a function that a module of ours computes as well; None for one that changes nothing."""
    return recorder.layer(name.strip("_"), module, given, result, () if module is None else (repr(module),))


def _move(recorder: Recorder, given: Traced, result: Tensor, number: int) -> Any:
    return _moved(recorder, lambda tags: tags.unbind()[number], (given,), {}, result)


def _moved(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Tensor) -> Any:
    """Find out where values went by moving the numbers 0, 1, ... the same way."""
    given = args[0]
    tags = torch.arange(given.numel(), dtype=torch.float64).reshape(given.shape)
    way = moved(given.signal, tuple(given.shape), func(tags, *args[1:], **kwargs))
    if way is None:
        raise ExportError(f"arranges {tuple(given.shape)} as {tuple(result.shape)}, which has no counterpart")
    signal, flat = way
    if not flat:
        return recorder.traced(result, signal)
    flatten = recorder.template.layer("flatten", layers.Flatten(), (signal.node,))
    return recorder.traced(result, signal.of(flatten.name))


def _added(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Tensor) -> Any:
    """A running sum over steps, zero plus a layer, or the residual sum of two layers."""
    from randhet.export.readers.record import Traced

    a, b = args[:2]
    if kwargs.get("alpha", 1) != 1:
        raise ExportError("has a factor: write a + b")
    for one, other in ((a, b), (b, a)):
        if not isinstance(other, Traced):
            first = any(other is given for given in recorder.started.values())
            if (torch.as_tensor(other).count_nonzero() and not first) or result.shape != one.shape:
                raise ExportError("adds a constant: make it the bias of a layer")
            return recorder.traced(result, one.signal)
    if total := gathered(a.signal, b.signal):
        return recorder.traced(result, total)
    return recorder.traced(result, _residual(recorder, a.signal, b.signal))


def _residual(recorder: Recorder, a: Signal, b: Signal) -> Signal:
    """Two layers at the same steps, as one; at those of the earlier where a neuron's spikes may return to it."""
    signal = _returned(recorder, a, b) or _returned(recorder, b, a) or alike((a, b), "adds")
    return signal.of(recorder.template.layer("add", None, (a.node, b.node)).name)


def _returned(recorder: Recorder, early: Signal, late: Signal) -> Signal | None:
    """The earlier of two signals, where a linear layer made it of the step before."""
    node = recorder.template.nodes.get(early.node)
    linear = node is not None and isinstance(node.module, nn.Linear) and (early.form, late.form) == ("step", "step")
    before = linear and None not in (early.steps, late.steps) and late.at == (early.at[0] + 1,)
    return early if before and not (early.state or late.state) else None


def _scaled(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Tensor) -> Any:
    """What is gathered over the steps, times a positive number."""
    from randhet.export.readers.record import Traced

    given, other = (args[0], args[1]) if isinstance(args[0], Traced) else (args[1], args[0])
    if isinstance(other, Traced) or torch.as_tensor(other).numel() != 1:
        raise ExportError("multiplies layers: only sums of layers are supported")
    factor = float(func(torch.ones((), dtype=torch.float64), other))
    if factor == 1:
        return recorder.traced(result, given.signal)
    if given.signal.form != "sum" or factor <= 0:
        raise ExportError(f"multiplies by {factor:.3g}: put the factor into the weights of a layer")
    return recorder.traced(result, replace(given.signal, scale=given.signal.scale * factor))


def _over(args: Any, kwargs: Any) -> tuple[int, ...]:
    """The axes of a reduction, none where it takes all."""
    given = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", ()))
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _reduced(how: str) -> Callable[..., Any]:
    def understand(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        given, dims = args[0], _over(args, kwargs)
        signal = given.signal
        if dims == (0,) and signal.form == "sequence":
            form = "max" if how == "max" else "sum"
            scale = 1 / len(signal.at) if how == "mean" else 1.0
            reduced = replace(signal, form=form, scale=scale)
            if isinstance(result, Tensor):
                return recorder.traced(result, reduced)
            return (recorder.traced(result[0], reduced), result[1])  # torch.max also says where
        image = {given.dim() - 2, given.dim() - 1}
        if how == "mean" and given.dim() - signal.axes == 3 and {axis % given.dim() for axis in dims} == image:
            return _image_mean(recorder, given, result)
        raise ExportError(f"over axes {dims} of {tuple(given.shape)}: only the steps or the whole image are reduced")

    return understand


def _image_mean(recorder: Recorder, given: Traced, result: Tensor) -> Any:
    wide = given.as_subclass(Tensor).mean((-2, -1), keepdim=True)
    pooled = as_layer(recorder, "pool", layers.GlobalAveragePool(), given, wide)
    return pooled if result.dim() == given.dim() else pooled.flatten(-3)


def _stack(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Tensor) -> Any:
    from randhet.export.readers.record import Traced

    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    signals = [one.signal for one in args[0] if isinstance(one, Traced)]
    if dim != 0 or len(signals) != len(args[0]):
        raise ExportError(f"along axis {dim}: steps are stacked along axis 0")
    return recorder.traced(result, stacked(signals))


def _cat(recorder: Recorder, func: Any, args: Any, kwargs: Any, result: Tensor) -> Any:
    """Sequences of one step each, one behind the other; or the channels of several layers."""
    from randhet.export.readers.record import Traced

    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    signals = [one.signal for one in args[0] if isinstance(one, Traced)]
    if len(signals) != len(args[0]):
        raise ExportError("joins a layer with what does not depend on the images")
    if dim == 0:
        if any(one.form != "sequence" or len(one.at) != 1 for one in signals):
            raise ExportError("along axis 0: only single steps are put together there")
        return recorder.traced(result, stacked([replace(one, form="step") for one in signals]))
    signal, axis = alike(signals, "joins"), dim % result.dim()
    if axis != signal.axes:
        raise ExportError(f"along axis {dim}: steps are put together along axis 0, layers along their channels")
    joined = recorder.template.layer("cat", Joined(axis - result.dim()), tuple(one.node for one in signals))
    return recorder.traced(result, signal.of(joined.name))


UNDERSTOOD: tuple[tuple[set[str], Callable[..., Any]], ...] = (
    (MOVES, _moved),
    (ADDS, _added),
    (SCALES, _scaled),
    ({"sum"}, _reduced("sum")),
    ({"mean"}, _reduced("mean")),
    ({"max", "amax"}, _reduced("max")),
    ({"stack"}, _stack),
    ({"cat", "concat", "concatenate"}, _cat),
)


def _max_pool(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
              return_indices: bool = False) -> nn.Module:  # fmt: skip
    return layers.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _avg_pool(kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *more: Any,
              **named: Any) -> nn.Module:  # fmt: skip
    if padding not in (0, (0, 0)) or ceil_mode or more or named:
        raise ExportError("has padding, ceil_mode or a divisor of its own")
    return layers.AvgPool2d(kernel_size, stride)


def _adaptive(output_size: Any) -> nn.Module:
    if output_size not in (1, (1, 1)):
        raise ExportError(f"to {output_size}: only a mean over the whole image, to 1, is supported")
    return layers.GlobalAveragePool()


LAYERS: dict[str, Callable[..., nn.Module | None]] = {
    "max_pool2d": _max_pool,
    "_max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive,
    "dropout": lambda *given, **named: None,
    "dropout2d": lambda *given, **named: None,
}
"""Functions that one of our modules computes, and a function from their arguments behind the tensor to it."""
