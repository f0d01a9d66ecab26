"""Compare backends with the oracle on random networks, and reduce a network on which one differs to a small case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hardware_tests import oracle
from hardware_tests.cases import Case
from hardware_tests.random_networks import Run
from hardware_tests.targets import Observed
from hardware_tests.test_conformance import differences
from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir
from randhet.fixed_point.backends import runner
from randhet.fixed_point.result import Result

Runner = Callable[..., Result]
CONTENDERS: dict[str, Callable[[], Runner]] = {
    "reference": lambda: runner("reference"),
    "engine": lambda: runner("engine", threads=1),
    "engine, 2 threads": lambda: half_probed(runner("engine", threads=2, batch=3)),
    "add-only": lambda: runner("add-only", threads=1),
    "add-only, 2 threads": lambda: half_probed(runner("add-only", threads=2, batch=1)),
    "onnx": lambda: runner("onnx", batch=2),
    "lava": lambda: runner("lava"),
    "c": lambda: runner("c"),
    "cuda": lambda: runner("cuda"),
}
"""The backends, with the settings under which they are compared."""
SLOW = {"lava", "c", "cuda"}
"""Contenders that take seconds for each network, processes that start, a program that is compiled; or a GPU."""


def half_probed(contender: Runner) -> Runner:
    """Probe every second layer only: what is not recorded may be computed in another way."""
    return lambda network, images, *, probes, **options: contender(network, images, probes=probes[::2], **options)


@dataclass
class Counts:
    """Count networks and compared integers of each contender, the kinds in them, and list networks that differ."""

    networks: Counter[str] = field(default_factory=Counter)
    integers: Counter[str] = field(default_factory=Counter)
    different: dict[str, list[int]] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)


def contenders(names: Iterable[str]) -> dict[str, Runner]:
    """Import the run functions of these contenders."""
    return {name: CONTENDERS[name]() for name in names}


def compare(number: int, run: Run, runners: dict[str, Runner], counts: Counts) -> Iterator[str]:
    """Yield a sentence for each contender whose integers are not the oracle's; add to the counts."""
    right = oracle.run(run.network, run.images.tolist(), run.seed, run.first_image)
    counts.held.update(contents(run))
    for name, contender in runners.items():
        difference, size = judge(run, contender, right)
        counts.networks[name] += 1
        counts.integers[name] += size
        if difference:
            counts.different.setdefault(name, []).append(number)
            yield f"{name}: {difference}"


def judge(run: Run, contender: Runner, right: oracle.Expected) -> tuple[str, int]:
    """Return what differs, or the error raised, as a sentence; and how many integers were compared."""
    try:
        result = contender(run.network, run.images, seed=run.seed, first_image=run.first_image, probes=run.names)
    except Exception as error:  # whatever a backend does, the others are still compared
        return f"{type(error).__name__}: {str(error)[:300]}", 0
    observed = observe(run, result)
    size = sum(values.size for values in (*observed.outputs.values(), *observed.membranes.values()))
    case = Case("random", run.network, run.images, run.seed, run.first_image)
    return "; ".join([*differences(case, observed, right), *totals(run, result, right)]), size


def observe(run: Run, result: Result) -> Observed:
    """Return what a result shows of the layers that it recorded."""
    flat = lambda values: np.asarray(values).reshape(len(run.images), run.network.steps, -1)
    outputs = {name: flat(trace.output) for name, trace in result.traces.items()}
    membranes = {name: flat(trace.membrane) for name, trace in result.traces.items() if trace.membrane is not None}
    return Observed(outputs, membranes, result.saturations, result.predictions)


def totals(run: Run, result: Result, right: oracle.Expected) -> Iterator[str]:
    """Compare sums over the steps and numbers of spikes, which are counted whether a layer is probed or not."""
    last = right.outputs[run.names[-1]]
    sums = [oracle.read(run.network.layers[-1].neuron, steps) for steps in last]
    if result.sums.tolist() != sums:
        yield f"sums {result.sums.tolist()}, {sums} expected"
    spiking = [layer.name for layer in run.network.layers if layer.spikes]
    spikes = {name: sum(sum(step) for steps in right.outputs[name] for step in steps) for name in spiking}
    if dict(result.spikes) != spikes:
        yield f"spikes {dict(result.spikes)}, {spikes} expected"


def contents(run: Run) -> Iterator[str]:
    """List the kinds in a network, a word each."""
    network = run.network
    yield "signed input" if network.input.signed else "unsigned input"
    for layer in network.layers[1:]:
        yield from (type(component).__name__ for component in (layer.operation, layer.neuron) if component)
        if isinstance(layer.neuron, ir.Lif):
            yield f"{type(layer.neuron.decay).__name__}, {layer.neuron.reset}"
        if network.ranges[layer.inputs[0]].signed:
            yield f"{type(layer.operation).__name__} of signed values"


# --- a small case -----------------------------------------------------------------------------------------------------


def reduced(run: Run, differs: Callable[[Run], bool]) -> Run:
    """Return the smallest run that still differs: fewer images, layers and steps, one change after another."""
    while True:
        smaller = next((candidate for candidate in _smaller(run) if differs(candidate)), None)
        if smaller is None:
            return run
        run = smaller


def _smaller(run: Run) -> Iterator[Run]:
    network, images = run.network, run.images
    if len(images) > 1:
        yield from (replace(run, images=images[i : i + 1], first_image=run.first_image + i) for i in range(len(images)))
    if run.first_image:
        yield replace(run, first_image=0)
    for steps in range(1, network.steps):
        yield replace(run, network=replace(network, steps=steps))
    for i in range(len(network.layers) - 1, 0, -1):
        yield from (replace(run, network=smaller) for smaller in _without(network, i))


def _without(network: ir.Network, i: int) -> Iterator[ir.Network]:
    """Yield the network without layer i, whose readers read its source, if that is still a network."""
    source = network.layers[i].inputs[0]
    moved = lambda j: source if j == i else j - (j > i)
    kept = [layer for j, layer in enumerate(network.layers) if j != i]
    try:
        yield replace(network, layers=tuple(replace(layer, inputs=tuple(map(moved, layer.inputs))) for layer in kept))
    except NetworkError:
        return


def described(run: Run) -> dict[str, Any]:
    """Describe a small run in words and numbers, enough to build it again by hand."""
    layers = [
        {"name": layer.name, "inputs": layer.inputs, "operation": repr(layer.operation), "neuron": repr(layer.neuron)}
        for layer in run.network.layers
    ]
    return {
        "steps": run.network.steps, "seed": run.seed, "first_image": run.first_image,
        "images": run.images.tolist(), "layers": layers,
    }  # fmt: skip
