"""Every kind of operation, neuron, decay and reset, everywhere that one is asked for; an unknown kind raises there.

The kinds are those of the types (`Operation`, `Neuron`, `Decay`, `Reset`): one that is added has no specimen here, and
this test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from equality import assert_equal

from hardware_tests import oracle
from hardware_tests.agreement import judge
from hardware_tests.random_networks import Run
from randhet.base.errors import RandhetError
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.chips.chip import names as chips
from randhet.fixed_point.chips.inspection import inspect
from randhet.fixed_point.diagnosis.cause import explain
from randhet.fixed_point.layers import declared
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.result import Trace
from randhet.netx.read import read
from randhet.netx.write import write

SEED = 5


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-60, 121, shape).astype(np.int8)


def lif(channels: int, **fields: Any) -> ir.Lif:
    """Fires now and then behind a few spikes."""
    return ir.Lif(ints(3000, channels), ints(70, channels), **fields)


# --- a network for each kind, which is found in the layer called "it" -------------------------------------------------


def with_operation(operation: ir.Operation, inputs: tuple[int, ...]) -> Network:
    """The operation behind a spiking convolution, and a read-out behind all."""
    conv = Layer("conv", ir.Conv(weights(2, 2, 2, 2), padding=(1, 1)), (0,), lif(2))
    neuron = lif(len(operation.weight)) if isinstance(operation, ir.Weighted) else None
    layers = (Layer("input", ir.Input((2, 2, 3))), conv, Layer("it", operation, inputs, neuron))
    (*_, shape) = Network(layers, 1).shapes
    last = Layer("read", ir.Dense(weights(3, int(np.prod(shape)))), (2,), ir.ReadOut(ints(4, 3)))
    return Network((*layers, last), 4)


def gated(operation: ir.Operation) -> Network:
    """The operation on the spikes of two convolutions."""
    network = with_operation(operation, (1, 1))
    first, conv, gate, last = network.layers
    other = Layer("other", ir.Conv(-weights(2, 2, 2, 2), padding=(1, 1)), (0,), lif(2))
    return replace(network, layers=(first, conv, other, replace(gate, inputs=(1, 2)), replace(last, inputs=(3,))))


def with_neuron(neuron: ir.Neuron) -> Network:
    """A dense layer of such neurons behind a spiking one."""
    first = Layer("first", ir.Dense(weights(4, 12)), (0,), lif(4))
    return Network((Layer("input", ir.Input((2, 2, 3))), first, Layer("it", ir.Dense(weights(3, 4)), (1,), neuron)), 4)


def with_input() -> Network:
    """The input itself is called "it"."""
    network = with_neuron(lif(3))
    first, *rest = network.layers
    named = (replace(first, name="it"), *(replace(layer, name=f"l{i}") for i, layer in enumerate(rest)))
    return replace(network, layers=named)


SPECIMENS: dict[Any, Callable[[], Network]] = {
    ir.Input: with_input,
    ir.Conv: lambda: with_operation(ir.Conv(weights(2, 2, 1, 2)), (1,)),
    ir.Dense: lambda: with_operation(ir.Dense(weights(3, 24)), (1,)),
    ir.Add: lambda: with_operation(ir.Add(), (1, 1)),
    ir.And: lambda: with_operation(ir.And(), (1, 1)),
    ir.Iand: lambda: gated(ir.Iand()),
    ir.Concat: lambda: with_operation(ir.Concat(), (1, 1)),
    ir.MaxPool: lambda: with_operation(ir.MaxPool((2, 2), (1, 2), (1, 0)), (1,)),
    ir.Spread: lambda: with_operation(ir.Spread((2, 1), (0, 1)), (1,)),
    ir.SumPool: lambda: with_operation(ir.SumPool((2, 2), (1, 2)), (1,)),
    ir.Flatten: lambda: with_operation(ir.Flatten(), (1,)),
    ir.Lif: lambda: with_neuron(lif(3)),
    ir.Cuba: lambda: with_neuron(ir.Cuba(ints(900, 3), ints(7, 3), 3000, 40)),
    ir.ReadOut: lambda: with_neuron(ir.ReadOut(ints(-8, 3))),
    ir.Leaky: lambda: with_neuron(ir.Leaky(ir.Lif(ints(2**23 - 1, 3), ints(70, 3)), "max")),
    ir.Constant: lambda: with_neuron(lif(3, decay=ir.Constant(200))),
    ir.PerNeuron: lambda: with_neuron(lif(3, decay=ir.PerNeuron(np.array([0, 100, 255], np.uint16)))),
    ir.Drawn: lambda: with_neuron(lif(3, decay=ir.Drawn(neurons_per_core=2))),
    "zero": lambda: with_neuron(lif(3, reset="zero")),
    "subtract": lambda: with_neuron(lif(3, reset="subtract")),
}
UNIONS = {"operation": ir.Operation, "neuron": ir.Neuron, "decay": ir.Decay, "reset": ir.Reset}


def test_every_kind_has_a_specimen() -> None:
    assert set(SPECIMENS) == {kind for union in UNIONS.values() for kind in get_args(union)}


# --- everywhere -------------------------------------------------------------------------------------------------------

Use = Callable[[Network, np.ndarray, Path], None]


def on(backend: str) -> Use:
    """The backend gives the oracle's integers."""

    def use(network: Network, images: np.ndarray, folder: Path) -> None:
        run = Run(network, images, SEED, 0)
        found = runner(backend)(network, images, seed=SEED, first_image=0, probes=run.names)
        right = oracle.run(network, images.tolist(), SEED)
        said, size = judge(run, lambda *_, **options: found, right)
        assert not said and size

    return use


def through_a_file(network: Network, images: np.ndarray, folder: Path) -> None:
    """What is read is what was written, field by field, and runs alike."""
    write(folder / "it.net", network)
    again = read(folder / "it.net")
    for layer, other in zip(network.layers, again.layers, strict=True):
        assert type(layer.operation) is type(other.operation) and type(layer.neuron) is type(other.neuron)
        for part, of_other in zip(parts(layer), parts(other), strict=True):
            assert type(part) is type(of_other)
            for (name, _, value), (_, _, found) in zip(declared(part), declared(of_other), strict=True):
                assert np.array_equal(value, found), name
    probes = [layer.name for layer in network.layers]
    results = [reference.run(it, images, seed=SEED, probes=probes) for it in (network, again)]
    assert_equal(*results)


def parts(layer: Layer) -> list[Any]:
    """What of a layer declares fields."""
    decay = getattr(layer.neuron, "decay", None)
    return [part for part in (layer.neuron, decay) if part is not None]


def as_onnx(network: Network, images: np.ndarray, folder: Path) -> None:
    """The graph is written and passes ONNX's own checker."""
    onnx = pytest.importorskip("onnx")
    from randhet.export.onnx import integer_graph

    integer_graph.write(folder / "it.onnx", network)
    onnx.checker.check_model(str(folder / "it.onnx"), full_check=True)


def counted(network: Network, images: np.ndarray, folder: Path) -> None:
    """The add-only path counts what each kind costs: comparisons where there are thresholds, draws where drawn."""
    found = runner("add-only")(network, images, seed=SEED, first_image=0, probes=()).operations
    assert found is not None and found["add"] > 0 and found["multiply"] == 0
    assert (found["draw"] > 0) == any(layer.drawn for layer in network.layers)


def on_chips(network: Network, images: np.ndarray, folder: Path) -> None:
    """Rules, cores and the estimate of energy on every chip: each weighted layer has cores, every layer a row."""
    result = reference.run(network, images, seed=SEED, probes=[layer.name for layer in network.layers])
    for chip in chips():
        found = inspect(network, chip, images=images, result=result)
        rows = {row.layer: row for row in found.layers}
        assert list(rows) == [layer.name for layer in network.layers]
        assert all(rows[layer.name].cores > 0 for layer in network.layers if layer.weighted)
        assert found.rules and found.estimate and found.estimate.energy > 0
        assert "it" in str(found.as_json())


def diagnosed(network: Network, images: np.ndarray, folder: Path) -> None:
    """A cause is found where one value of the layer is wrong."""
    probes = [layer.name for layer in network.layers]
    right = reference.run(network, images, seed=SEED, probes=probes).traces
    output, membrane = right["it"].output.copy(), right["it"].membrane
    output[-1, -1].flat[0] += 1
    if membrane is not None:
        membrane = membrane.copy()
        membrane[-1, -1].flat[0] += 1
    cause = explain(network, images, right, dict(right) | {"it": Trace(output, membrane)}, "it", SEED)
    assert cause.kind in {"operation", "unexplained", "rounding", "bias", "weight", "tau", "threshold"} and cause.detail


def told_by_the_oracle(network: Network, images: np.ndarray, folder: Path) -> None:
    """And the layer in question does something."""
    found = np.array(oracle.run(network, images.tolist(), SEED).outputs["it"])
    assert found.any()


def as_lava_processes(network: Network, images: np.ndarray, folder: Path) -> None:
    """Each layer but a flattened one is a process, or several; the kernels of each neuron are run in advance."""
    from randhet.lava_runtime.builder import build
    from randhet.lava_runtime.plan import Run as LavaRun
    from randhet.lava_runtime.warm import warm

    built = build(network, LavaRun(folder, network.steps, len(images), 0, SEED), ["it"])
    warm(built.neurons.values())
    assert len(built.ports) == len(network.layers)
    assert set(built.neurons) == {layer.name for layer in network.layers if layer.weighted}


USES: dict[str, Use] = {
    **{name: on(name) for name in BACKENDS},
    "lava processes": as_lava_processes,
    "oracle": told_by_the_oracle,
    "file": through_a_file,
    "onnx file": as_onnx,
    "counts": counted,
    "chips": on_chips,
    "diagnosis": diagnosed,
}
EVERYWHERE = [pytest.param(name, marks=[pytest.mark.lava] if "lava" in name else []) for name in USES]


def images_for(network: Network) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (2, *network.input.shape)).astype(np.uint8)


@pytest.mark.parametrize("kind", SPECIMENS, ids=lambda kind: getattr(kind, "__name__", kind))
@pytest.mark.parametrize("use", EVERYWHERE)
def test_each_kind_is_known(use: str, kind: Any, tmp_path: Path) -> None:
    if use in BACKENDS and (reason := BACKENDS[use].missing()):
        pytest.skip(reason)
    network = SPECIMENS[kind]()
    USES[use](network, images_for(network), tmp_path)


# --- an unknown kind: it has all that the kind in its place has, and is none of them ----------------------------------


class Planted:
    """Answers as another object does, and is of no kind."""

    def __init__(self, real: Any) -> None:
        self.__dict__["real"] = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["real"], name)

    def __repr__(self) -> str:
        return "Planted()"


def planted(what: str, kind: Any) -> Network:
    """The specimen of a kind, made as ever, in which "it" then turns into something unknown."""
    network = SPECIMENS[kind]()
    layer = next(layer for layer in network.layers if layer.name == "it")
    owner = layer if what in ("operation", "neuron") else layer.neuron
    unknown = "planted" if what == "reset" else Planted(getattr(owner, what))
    object.__setattr__(owner, what, unknown)
    return network


CASES = [(what, kind) for what, union in UNIONS.items() for kind in get_args(union)]
UNKNOWN = (AssertionError, TypeError, ValueError, KeyError, RandhetError)


@pytest.mark.parametrize(("what", "kind"), CASES, ids=lambda it: getattr(it, "__name__", it))
@pytest.mark.parametrize("use", EVERYWHERE)
def test_an_unknown_kind_raises(use: str, what: str, kind: Any, tmp_path: Path) -> None:
    """It raises everywhere, and the error names it."""
    if use in BACKENDS and (reason := BACKENDS[use].missing()):
        pytest.skip(reason)
    network = planted(what, kind)
    with pytest.raises(UNKNOWN, match="(?i)planted"):
        USES[use](network, images_for(network), tmp_path)


@pytest.mark.parametrize(("what", "kind"), CASES, ids=lambda it: getattr(it, "__name__", it))
def test_a_network_of_an_unknown_kind_is_not_made(what: str, kind: Any) -> None:
    network = planted(what, kind)
    with pytest.raises(RandhetError, match="(?i)layer it: .*planted"):
        Network(network.layers, network.steps)
