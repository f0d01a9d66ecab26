"""From the integer network to connected Lava processes. What has no entry in the tables is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess

from fixed_point import network as ir
from fixed_point.errors import NetworkError
from fixed_point.network import Network
from fixed_point.shape import delays, shapes
from lava_runtime.plan import LayerPlan, Run
from lava_runtime.processes import process

NEURONS: dict[type, Callable[[LayerPlan], process.Layer]] = {
    ir.RandomTau: process.RandomTauLayer,
    ir.Lif: process.ConstantTauLayer,
    ir.Het: process.ConstantTauLayer,
    ir.Cuba: process.CubaLayer,
    ir.Accumulate: process.ReadOut,
}

Made = TypeVar("Made")


class BuildError(Exception):
    """A layer whose processes could not be made or connected."""

    def __init__(self, layer: str, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.layer, self.error = layer, error


@dataclass
class Built:
    """Processes under construction: the out port of each layer so far, neuron layers and recorders by name."""

    run: Run
    ports: list[OutPort] = field(default_factory=list)
    neurons: dict[str, process.Layer] = field(default_factory=dict)
    processes: list[AbstractProcess] = field(default_factory=list)

    def keep(self, made: AbstractProcess) -> AbstractProcess:
        self.processes.append(made)
        return made


def build(network: Network, run: Run, probes: Collection[str]) -> Built:
    """All processes of a network, connected; layers in `probes` and the last one have a recorder."""
    built, late, shape = Built(run), delays(network), shapes(network)
    for i, layer in enumerate(network.layers):
        shape_in = shape[layer.inputs[0]] if layer.inputs else shape[i]
        plan = LayerPlan(run, layer.name, i, layer.operation, layer.neuron, shape_in, shape[i], late[i])
        try:
            built.ports.append(_entry(OPERATIONS, layer, layer.operation)(built, plan, layer, late))
            if layer.name in probes or i == len(network.layers) - 1:
                _record(built, plan, counts=i == len(network.layers) - 1)
        except Exception as error:
            # Lava's own errors about shapes and ports name no process
            raise BuildError(layer.name, error) from error
    return built


def _entry(table: Mapping[type, Made], layer: ir.Layer, kind: object) -> Made:
    if type(kind) not in table:
        raise NetworkError(f"layer {layer.name}: Lava has no process for {type(kind).__name__}")
    return table[type(kind)]


def _record(built: Built, plan: LayerPlan, counts: bool) -> None:
    # An operation without a delay of its own sends logical step t - delay at t, so its recorder counts one step later
    own = plan.neuron is not None
    shifted = plan if own else LayerPlan(**{**vars(plan), "delay": plan.delay + 1})
    recorder = process.Recorder(shifted, own, counts)
    built.keep(recorder)
    built.ports[-1].connect(recorder.s_in)
    if own:
        built.neurons[plan.name].m_out.connect(recorder.m_in)


def _input(built: Built, plan: LayerPlan, layer: ir.Layer, late: list[int]) -> OutPort:
    made = process.GradedInput(built.run, plan.shape)
    built.keep(made)
    return made.s_out


def _weights(built: Built, plan: LayerPlan, layer: ir.Layer, late: list[int]) -> OutPort:
    made = _entry(NEURONS, layer, layer.neuron)(plan)
    built.keep(made)
    built.neurons[layer.name] = made
    built.ports[layer.inputs[0]].connect(made.s_in)
    return made.s_out


def _sum(built: Built, plan: LayerPlan, layer: ir.Layer, late: list[int]) -> OutPort:
    """A chain of binary sums; each branch waits for the latest one."""

    def add(first: tuple[OutPort, int], second: tuple[OutPort, int]) -> tuple[OutPort, int]:
        latest = max(first[1], second[1])
        made = process.ResidualSum(layer.name, plan.shape, (latest - first[1], latest - second[1]))
        built.keep(made)
        first[0].connect(made.a_in)
        second[0].connect(made.b_in)
        return made.s_out, latest

    return reduce(add, [(built.ports[i], late[i]) for i in layer.inputs])[0]


def _pool(built: Built, plan: LayerPlan, layer: ir.Layer, late: list[int]) -> OutPort:
    made = process.Pool(plan)
    built.keep(made)
    built.ports[layer.inputs[0]].connect(made.s_in)
    return made.s_out


def _flatten(built: Built, plan: LayerPlan, layer: ir.Layer, late: list[int]) -> OutPort:
    return built.ports[layer.inputs[0]].reshape(plan.shape)


Maker = Callable[[Built, LayerPlan, ir.Layer, list[int]], OutPort]
OPERATIONS: dict[type, Maker] = {
    ir.Input: _input,
    ir.Conv: _weights,
    ir.Dense: _weights,
    ir.Add: _sum,
    ir.SumPool: _pool,
    ir.Flatten: _flatten,
}
