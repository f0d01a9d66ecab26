"""What is in a network and how it fits a chip: everything `randhet inspect` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from randhet.fixed_point.chips.chip import Chip, load
from randhet.fixed_point.chips.energy import ASSUMPTIONS, Estimate, Term, estimate
from randhet.fixed_point.chips.mapping import LayerMap, Mapping, map_network
from randhet.fixed_point.chips.needs import needs
from randhet.fixed_point.chips.rules import Finding, broken, check_chip, unchecked
from randhet.fixed_point.layers import with_dynamics
from randhet.fixed_point.network import Layer, Network, Range, Shape
from randhet.fixed_point.result import Result


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    decay: where the decays come from; reset: what a spike does. bits: width of what it sends, its sign included. scale,
    threshold: least and largest. weights: bytes, one per weight. largest_sum: bound on |a|. Then its cores (0: none of
    its own) and the largest need of any of them: memory in bytes, axons.
    """

    layer: str
    operation: str
    neuron: str | None
    decay: str | None
    reset: str | None
    shape: Shape
    bits: int
    f: int | None
    k: int | None
    scale: tuple[float, float] | None
    threshold: tuple[int, int] | None
    weights: int
    largest_sum: int
    cores: int
    neurons_per_core: int
    memory_per_core: int
    fan_in_axons: int
    fan_out_axons: int


@dataclass(frozen=True, eq=False)
class Inspection:
    """A network against a chip. estimate: only where a run was given."""

    network: Network
    chip: Chip
    mapping: Mapping
    layers: tuple[LayerReport, ...]
    rules: tuple[Finding, ...]
    estimate: Estimate | None = None

    @property
    def synapse_bytes(self) -> int:
        """Bytes of weights, each stored once."""
        return sum(layer.weights for layer in self.layers)

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not broken(list(self.rules))

    def sentences(self) -> list[str]:
        """The fit in words: cores and chips, the largest need, what is broken, what was not checked."""
        return list(_sentences(self))

    def as_json(self) -> dict[str, Any]:
        """Return one object of plain values; its keys are those of the command line's --json."""
        content: dict[str, Any] = {
            "layers": [asdict(layer) for layer in self.layers],
            "cores": self.mapping.cores,
            "chips": self.mapping.chips,
            "synapse_bytes": self.synapse_bytes,
            "rules": [asdict(finding) for finding in self.rules],
            "chip": self.chip.name,
            "hungriest": self.mapping.hungriest.name,
            "steps": self.network.steps,
            "seed": self.network.seed,
            "classes": list(self.network.classes),
            "metadata": dict(self.network.metadata),
            "words": self.sentences(),
            "unknown": list(self.chip.unknown),
            "unchecked": unchecked(self.chip),
        }
        return content | ({"estimate": _estimate_json(self.estimate)} if self.estimate else {})


def inspect(
    network: Network, chip: str = "loihi2", *, images: np.ndarray | None = None, result: Result | None = None
) -> Inspection:
    """Look at a network for a chip (a name of `randhet.fixed_point.chips.chip.names`).

    images and result of a run, any backend, add the estimate of energy and time.
    """
    description = load(chip)
    mapping = map_network(network, description)
    measured = None if images is None or result is None else estimate(network, mapping, images, result)
    rules = tuple(check_chip(network, mapping))
    return Inspection(network, description, mapping, tuple(_reports(network, mapping)), rules, measured)


def _reports(network: Network, mapping: Mapping) -> list[LayerReport]:
    placed = {layer.population.index: layer for layer in mapping.layers}
    rows = zip(network.layers, network.shapes, network.ranges, network.bounds)
    return [_report(layer, shape, span, bound, placed.get(i)) for i, (layer, shape, span, bound) in enumerate(rows)]


def _report(layer: Layer, shape: Shape, span: Range, bound: int, placed: LayerMap | None) -> LayerReport:
    neuron, spiking = layer.neuron, layer.spiking
    own = needs(neuron) if neuron else None
    threshold = spiking.threshold if spiking else None
    weights = [layer.weighted.weight] if layer.weighted else []
    most = (lambda resource: placed.largest(resource)) if placed else (lambda resource: 0)
    return LayerReport(
        layer=layer.name,
        operation=type(layer.operation).__name__,
        neuron=type(neuron).__name__ if neuron else None,
        decay=own.leak if own else None,
        reset=own.words if own else None,
        shape=shape,
        bits=max(1, span.bits),
        f=layer.dynamics.f if layer.dynamics else None,
        k=layer.lif.k if layer.lif else None,
        scale=None if layer.scale is None else (float(layer.scale.min()), float(layer.scale.max())),
        threshold=None if threshold is None else (int(threshold.min()), int(threshold.max())),
        weights=sum(weight.size for weight in (*weights, layer.recurrent) if weight is not None),
        largest_sum=bound,
        cores=len(placed.cores) if placed else 0,
        neurons_per_core=most("neurons"),
        memory_per_core=-(-most("memory_bits") // 8),
        fan_in_axons=most("in_axons"),
        fan_out_axons=most("out_axons"),
    )


def _sentences(inspection: Inspection) -> list[str]:
    mapping, chip = inspection.mapping, inspection.chip
    most, share = mapping.hungriest, chip.need("cores_per_chip")
    fits = "fits one chip" if mapping.chips == 1 else f"needs {mapping.chips} chips"
    said = [
        f"On {chip.name} the network takes {mapping.cores} cores and {fits} of {share} cores; layer {most.name} needs "
        f"most, {len(most.cores)} core(s), the fullest with {-(-most.largest('memory_bits') // 8):,} bytes.",
        _seed_sentence(inspection.network),
    ]
    if mapping.cores > (free := map_network(freed(inspection.network, chip), chip)).cores:
        said.append(
            f"Its random-tau layers are cut into cores of the file's choice; exported with --neurons-per-core "
            f"{chip.need('neurons_per_core')} it would take {free.cores} cores, {free.chips} chip(s)."
        )
    bad = broken(list(inspection.rules))
    for rule in dict.fromkeys(finding.rule for finding in bad):
        layers = [f"{finding.layer} ({finding.value})" for finding in bad if finding.rule == rule]
        limit = next(finding.limit for finding in bad if finding.rule == rule)
        said.append(f"Broken: {rule}, limit {limit}: {', '.join(layers)}.")
    if not_public := unchecked(chip):
        said.append(f"Not checked, because no limit is public: {', '.join(not_public)}.")
    if inspection.estimate:
        said.append(_estimate_sentence(inspection.estimate))
    said.append(f"Cannot be known without the hardware: {'; '.join(chip.unknown)}.")
    return said


def _seed_sentence(network: Network) -> str:
    if not any(layer.drawn for layer in network.layers):
        return "Nothing in it is drawn at random."
    if network.seed is None:
        return "The file carries no seed: the decays come from the system's entropy at every run."
    return f"The file carries seed {network.seed}: whoever has it knows every decay that will be drawn."


def freed(network: Network, chip: Chip) -> Network:
    """Return the network as if exported with as many neurons per core, where decays are drawn, as the chip has."""
    size = chip.need("neurons_per_core")
    return replace(network, layers=tuple(_freed(layer, size) for layer in network.layers))


def _freed(layer: Layer, size: int) -> Layer:
    if layer.lif is None or layer.drawn is None:
        return layer
    moves = replace(layer.lif, decay=replace(layer.drawn, neurons_per_core=size))
    return replace(layer, neuron=with_dynamics(layer.neuron, moves))


def engineering(value: float, unit: str) -> str:
    """Write a value with the prefix that leaves 1 to 999 before the point, such as 38.6 uJ."""
    for power, prefix in ((0, ""), (-3, "m"), (-6, "u"), (-9, "n")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}"


def _estimate_sentence(result: Estimate) -> str:
    return (
        f"Estimate from measured spikes: {engineering(result.energy, 'J')} per image beyond power at rest, "
        f"{engineering(result.latency, 's')} for one image, {result.images_per_second:.3g} images/s back to back; "
        f"layer {result.slowest} sets the pace. It assumes that {'; '.join(ASSUMPTIONS)}."
    )


def _estimate_json(result: Estimate) -> dict[str, Any]:
    return {
        "energy_joule": result.energy,
        "latency_seconds": result.latency,
        "step_seconds": result.step_time,
        "images_per_second": result.images_per_second,
        "slowest_layer": result.slowest,
        "steps_of_one_image": result.steps,
        "counted_one_by_one": list(result.exact),
        "assumptions": list(ASSUMPTIONS),
        "terms": [_term_json(term, "joule") for term in result.terms],
        "step_terms": [_term_json(term, "seconds") for term in result.times],
    }


def _term_json(term: Term, unit: str) -> dict[str, Any]:
    """Return the count times what one costs, and where that figure comes from."""
    value = {"what": term.what, "layer": term.layer, "count": term.count, unit: term.total}
    return value | {f"{unit}_each": term.unit.value, "source": term.unit.source, "checked": term.unit.checked}
