"""From the integer network to connected Lava processes. Kinds are asked for here, and nowhere else in this room."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod
from typing import TYPE_CHECKING

from randhet.base.errors import RandhetError
from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.calls import kept
from randhet.fixed_point.engine.plan import own_span, top
from randhet.fixed_point.network import Network
from randhet.lava_runtime.plan import LayerPlan, Run
from randhet.lava_runtime.processes import process
from randhet.lava_runtime.wire import Wire, wires

if TYPE_CHECKING:  # Lava itself is imported by `processes`, which takes care how
    from lava.magma.core.process.ports.ports import OutPort
    from lava.magma.core.process.process import AbstractProcess


class BuildError(RandhetError):
    """A layer whose processes could not be made or connected."""

    def __init__(self, layer: str, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.layer, self.error = layer, error


@dataclass
class Built:
    """Processes under construction: each layer's out port, message and delay so far, neuron layers by name."""

    run: Run
    floating: bool
    late: tuple[int, ...]
    wires: list[Wire]
    ports: list[OutPort] = field(default_factory=list)
    neurons: dict[str, process.Layer] = field(default_factory=dict)
    processes: list[AbstractProcess] = field(default_factory=list)

    def keep(self, lava_process: AbstractProcess) -> AbstractProcess:
        """Note a process, so that it lives as long as the run; returns it."""
        self.processes.append(lava_process)
        return lava_process


def build(network: Network, run: Run, probes: Collection[str], floating: bool = False) -> Built:
    """All processes of a network, connected; layers in `probes` and the last one have a recorder."""
    last = len(network.layers) - 1
    built = Built(run, floating, network.delays, wires(network, run.batch))
    for i, layer in enumerate(network.layers):
        try:
            plan = _plan(built, network, i, layer.name in probes or i == last)
            built.ports.append(_port(built, plan, layer))
            if plan.probed:
                _record(built, plan, counts=i == last)
        except Exception as error:
            # Lava's own errors about shapes and ports name no process
            raise BuildError(layer.name, error) from error
    return built


def _plan(built: Built, network: Network, i: int, probed: bool) -> LayerPlan:
    layer, shape = network.layers[i], network.shapes
    source = layer.inputs[0] if layer.inputs else i
    return LayerPlan(
        built.run, layer, i, shape[source], shape[i],
        top(own_span(layer, network.ranges[source])), built.wires[source], built.wires[i], built.late[i], probed,
    )  # fmt: skip


def _port(built: Built, plan: LayerPlan, layer: ir.Layer) -> OutPort:
    """The out port of the process, or processes, made for a layer."""
    match layer.operation:
        case ir.Input():
            return _input(built, plan, layer.operation)
        case ir.Conv() | ir.Dense():
            return _weights(built, plan, layer)
        case ir.Add() | ir.And() | ir.Iand() | ir.Concat():
            return _junctions(built, plan, layer)
        case ir.SumPool() | ir.MaxPool() | ir.Spread():
            return _grid(built, plan, layer)
        case ir.Flatten():
            # no process: a message has no shape, its reader knows the order
            return built.ports[layer.inputs[0]]
        case _:
            assert_never(layer.operation)


def _neurons(plan: LayerPlan, neuron: ir.Neuron | None, floating: bool) -> process.Layer:
    """The process of a layer's neurons."""
    match neuron:
        case ir.Lif():
            return _lif(plan, neuron, floating)
        case ir.Cuba():
            return process.CubaLayer(plan, neuron, floating)
        case ir.ReadOut():
            return process.ReadOutLayer(plan, neuron, floating)
        case None:
            return process.SumsLayer(plan, None, floating)
        case ir.Leaky():
            return _neurons(plan, neuron.dynamics, floating)
        case _:
            assert_never(neuron)


def _lif(plan: LayerPlan, neuron: ir.Lif, floating: bool) -> process.Layer:
    kept(neuron.reset)  # an unknown one raises here rather than in a process of its own
    match neuron.decay:
        case ir.Drawn():
            return _drawn(plan, neuron, neuron.decay, floating)
        case ir.Constant() | ir.PerNeuron():
            return process.GivenLayer(plan, neuron, neuron.decay, floating)
        case _:
            assert_never(neuron.decay)


def _drawn(plan: LayerPlan, neuron: ir.Lif, decay: ir.Drawn, floating: bool) -> process.Layer:
    match plan.run.generator:
        case "register":
            return process.DrawnLayer(plan, neuron, decay, floating)
        case "chacha":
            return process.KeyedLayer(plan, neuron, floating, decay)
        case _:
            assert_never(plan.run.generator)


def _record(built: Built, plan: LayerPlan, counts: bool) -> None:
    # An operation without a delay of its own sends logical step t - delay at t, so its recorder counts one step later
    shifted = plan if plan.layer.weighted else replace(plan, delay=plan.delay + 1)
    moves = plan.layer.neuron is not None
    recorder = process.Recorder(shifted, plan.wire, plan.membranes(built.floating) if moves else None, counts)
    built.keep(recorder)
    built.ports[-1].connect(recorder.s_in)
    if moves:
        built.neurons[plan.name].m_out.connect(recorder.m_in)


def _input(built: Built, plan: LayerPlan, operation: ir.Input) -> OutPort:
    graded_input = process.GradedInput(built.run, plan.wire, operation.sequence)
    built.keep(graded_input)
    return graded_input.s_out


def _weights(built: Built, plan: LayerPlan, layer: ir.Layer) -> OutPort:
    layer_process = _neurons(plan, layer.neuron, built.floating)
    built.keep(layer_process)
    built.neurons[layer.name] = layer_process
    built.ports[layer.inputs[0]].connect(layer_process.s_in)
    if layer.recurrent is not None:
        layer_process.s_out.connect(layer_process.r_in)
    return layer_process.s_out


Branch = tuple["OutPort", Wire, int]
"""Where a branch comes from, its messages, its delay."""


def _junctions(built: Built, plan: LayerPlan, layer: ir.Layer) -> OutPort:
    """A chain of junctions of two branches; each branch waits for the latest one."""

    def join(first: Branch, second: Branch) -> Branch:
        latest = max(first[2], second[2])
        wait = latest - first[2], latest - second[2]
        made = _joined_wire(layer, first[1], second[1], plan.wire)
        junction = process.Junction(built.run, layer, first[1], second[1], made, wait)
        built.keep(junction)
        first[0].connect(junction.a_in)
        second[0].connect(junction.b_in)
        return junction.s_out, made, latest

    return reduce(join, [(built.ports[i], built.wires[i], built.late[i]) for i in layer.inputs])[0]


def _joined_wire(layer: ir.Layer, first: Wire, second: Wire, last: Wire) -> Wire:
    """The messages of a junction in a chain whose last one sends `last`; channels of a concatenation add up."""
    if not isinstance(layer.operation, ir.Concat):
        return last
    # a branch that was flattened has its own rows and columns, all of which are channels here
    channels = (prod(first.shape) + prod(second.shape)) // last.pixels
    return replace(last, shape=(channels, *last.shape[1:]))


def _grid(built: Built, plan: LayerPlan, layer: ir.Layer) -> OutPort:
    grid = process.Grid(plan)
    built.keep(grid)
    built.ports[layer.inputs[0]].connect(grid.s_in)
    return grid.s_out
