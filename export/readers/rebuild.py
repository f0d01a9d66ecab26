"""From a template to a model of ours: images (N, C, Y, X) to logits, with the encoding and the read-out in it."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from randhet.export.graph import ExportError
from randhet.export.readers.record import Recorder, Traced, found
from randhet.export.readers.signals import Joined, Node, Signal, Template, stacked
from randhet.train.general import LastStep, LeakyReadOut, MaxOverTime
from randhet.train.layers import Encode, MeanOverTime
from randhet.train.neurons import Neuron, recording

IMAGE = "input"
READ_OUTS: dict[str, type[nn.Module]] = {
    "sum": MeanOverTime,
    "sequence": MeanOverTime,
    "max": MaxOverTime,
    "step": LastStep,
}
"""What decides, by the form of the output."""
CLOSE = 1e-9
"""A membrane potential this close to its threshold may pass it in one order of sums and not in another."""


def output_of(result: object, recorder: Recorder) -> Traced:
    """The tensor that decides of what a model gives: the first; a list of steps is their sequence."""
    while isinstance(result, (tuple, dict)) and result:
        result = next(iter(result.values())) if isinstance(result, dict) else result[0]
    if isinstance(result, Traced):
        return result
    steps = found(result)
    if not isinstance(result, list) or not steps or len(steps) != len(result):
        raise ExportError("the model's output does not depend on the images")
    return recorder.traced(
        torch.stack([step.as_subclass(Tensor) for step in steps]), stacked([one.signal for one in steps])
    )


def neuron_steps(recorder: Recorder) -> int:
    """How many steps every neuron ran; ExportError where they ran different ones, or there are none."""
    counts = {name: len(calls.spikes) for name, calls in recorder.calls.items()}
    if not counts:
        raise ExportError("the model has no neurons that are known")
    if len(set(counts.values())) > 1:
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ExportError(f"the model's neurons run different numbers of time steps: {named}")
    return next(iter(counts.values()))


def stated(own: int, steps: int | None) -> int:
    """T; ExportError where nobody says it, or where the model and the caller say different ones."""
    if own == 1 and steps is None:
        raise ExportError("the model runs one time step a call and does not say how many: give steps")
    if own > 1 and steps not in (None, own):
        raise ExportError(f"the model runs {own} time steps, {steps} are given: leave the number out, or change it")
    return steps or own


def rebuilt(template: Template, output: Signal, steps: int) -> fx.GraphModule:
    """The model of the layers that an output depends on."""
    _readable(template, output, steps)
    needed = _needed(template, output.node)
    moving = {node.name for node in needed if node.moving}
    crossed = {read for node in needed if node.name in moving for read in node.inputs if read not in moving}
    if len(crossed) > 1:  # one encoding is left where the image is
        crossed, moving = {IMAGE}, {node.name for node in needed}
    graph, modules = fx.Graph(), {"encode": Encode(steps), "read_out": READ_OUTS[output.form]()}
    values, encoded = dict[str, fx.Node](), dict[str, fx.Node]()
    for node in [Node(IMAGE, IMAGE, None, (), False), *needed]:
        read = [encoded.get(one, values[one]) if node.name in moving else values[one] for one in node.inputs]
        values[node.name] = _call(graph, node, read, modules) if read else graph.placeholder("x")
        if node.name in crossed:
            encoded[node.name] = graph.call_module("encode", (values[node.name],))
    graph.output(graph.call_module("read_out", (values[output.node],)))
    return fx.GraphModule(modules, graph)


def _call(graph: fx.Graph, node: Node, read: Sequence[fx.Node], modules: dict[str, nn.Module]) -> fx.Node:
    if node.module is None:
        return graph.call_function(operator.add, tuple(read))
    if isinstance(node.module, Joined):
        return graph.call_function(torch.cat, (tuple(read), node.module.axis))
    modules[node.target] = node.module
    return graph.call_module(node.target, tuple(read))


def _needed(template: Template, output: str) -> list[Node]:
    """The nodes that one depends on, in order."""
    needed, waiting = set[str](), [output]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in template.nodes:
            needed.add(name)
            waiting += template.nodes[name].inputs
    return [node for node in template.nodes.values() if node.name in needed]


def _readable(template: Template, output: Signal, steps: int) -> None:
    """ExportError unless the output is a layer behind a neuron, read at all steps or at the last one."""
    node = template.nodes.get(output.node)
    if node is None or not node.moving:
        raise ExportError(f"the model's output, {output.node}, does not come behind a neuron")
    silent = isinstance(node.module, LeakyReadOut)
    if output.state and not silent:
        raise ExportError(
            f"the model gives the membrane potential of {node.name}, which its resets change: give its spikes first, "
            "or use a last layer without a reset"
        )
    if silent and not output.state and output.node in template.sending:
        raise ExportError(f"the model gives the spikes of {node.name}, which has no reset: give its membrane potential")
    every = output.form in ("sum", "max", "sequence") and output.at == tuple(range(steps))
    if not every and (output.form, output.at) != ("step", (steps - 1,)):
        raise ExportError(f"the model's output reads {node.name} at step {output.at} of {steps}: all, or the last one")


def compared(recorder: Recorder, ours: fx.GraphModule, pixels: Tensor, output: Traced) -> None:
    """Run our model on the same images; ExportError that names the first neuron whose spikes differ, or the output."""
    with torch.no_grad(), recording(ours) as logs:
        logits = ours(pixels)
    for name, calls in recorder.calls.items():
        if logs.get(name):
            spikes, membranes = logs[name][0]
            if not _equal(name, torch.stack(calls.spikes), spikes, membranes, ours.get_submodule(name)):
                return  # what follows a spike that rounding decides is decided by rounding
    _same_output(logits, output)


def _equal(name: str, given: Tensor, spikes: Tensor, membranes: Tensor, neuron: nn.Module) -> bool:
    """Whether spikes are equal; ExportError where they differ although no membrane potential was at its threshold."""
    assert isinstance(neuron, Neuron)
    if given.shape != spikes.shape:
        raise ExportError(f"{name} gives spikes {tuple(given.shape)}, what was understood {tuple(spikes.shape)}")
    different = given != spikes
    if not different.any():
        return True
    step = int(different.flatten(1).any(1).nonzero()[0])
    if ((membranes[step] - neuron.threshold).abs() > CLOSE)[different[step]].any():
        raise ExportError(
            f"{name} gives other spikes than what was understood of it, from step {step} on: it computes something "
            "else than its kind"
        )
    return False


def _same_output(logits: Tensor, output: Traced) -> None:
    """ExportError where the logits differ; a sum over steps is T times our mean."""
    given, signal = output.as_subclass(Tensor), output.signal
    if signal.form == "sequence":
        given = given.mean(0)
    if signal.form == "sum":
        given = given / (signal.scale * len(signal.at))
    if given.shape != logits.shape or not torch.allclose(given, logits, rtol=1e-9, atol=1e-9):
        raise ExportError("the model's output is not what was understood of it: it reads its layers in another way")
