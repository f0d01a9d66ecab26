"""Write a network for SANA-FE: `arch.yaml`, the chip, and `snn.yaml`, neurons, synapses and where they are mapped.

Format: SANA-FE 2.2 (Boyle et al., IEEE TCAD 44(8), 2025, doi 10.1109/TCAD.2025.3537971), its examples and
src/yaml_snn.cpp. Its spikes are binary, so that a still image enters as the current that it gives the neurons which
read it, as on Loihi; events of a recording enter as spikes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.base.files import replacing
from randhet.export.sana_fe.chip import Placement, architecture, place, synapse_of
from randhet.export.sana_fe.neurons import Somas, somas
from randhet.export.sana_fe.wiring import Projection, projections
from randhet.fixed_point.chips.mapping import Mapping
from randhet.fixed_point.network import Network


@dataclass(frozen=True, eq=False)
class Deployed:
    """What is written: group names, neurons, synapses and cores, by layer index; image: what enters, None for nothing.

    wired: synapses between neurons; entering: those of a still image, whose currents are in the biases.
    """

    network: Network
    mapping: Mapping
    names: dict[int, str]
    neurons: dict[int, Somas]
    wired: tuple[Projection, ...]
    placement: Placement
    image: NDArray[np.integer] | None


def deployed(network: Network, mapping: Mapping, image: NDArray[np.integer] | None = None) -> Deployed:
    """Lay out a network for SANA-FE; RandhetError names the layer that its files cannot hold.

    image: one image or recording (`network.image_shape`); without it nothing enters.
    """
    found = projections(network)
    indices = [layer.population.index for layer in mapping.layers]
    neurons = {i: somas(network.layers[i], network.shapes[i]) for i in indices}
    sequence = network.input.sequence
    if sequence and image is not None and not np.isin(image, (0, 1)).all():
        raise RandhetError(f"the recording has values of {int(np.abs(image).max())}, SANA-FE's inputs send 0 or 1")
    if not sequence:
        neurons = _with_currents(neurons, [one for one in found if not one.sender], image)
        found = [one for one in found if one.sender]
    size = int(np.prod(network.shapes[0])) if sequence else 0
    names = _names(network, ([0] if sequence else []) + indices)
    return Deployed(network, mapping, names, neurons, tuple(found), place(mapping, size), image)


def _with_currents(
    neurons: dict[int, Somas], entering: Sequence[Projection], image: NDArray[np.integer] | None
) -> dict[int, Somas]:
    """Add to the biases what the image gives: sum w*pixel, shifted by f."""
    changed = dict(neurons)
    for one in entering if image is not None else ():
        assert image is not None
        soma = changed[one.reader]
        pixels = image.ravel().astype(np.int64)
        sums = np.bincount(one.targets, one.weights * pixels[one.sources], minlength=len(soma.bias))
        changed[one.reader] = Somas(
            soma.threshold, soma.bias + sums * soma.gain, soma.leak, soma.gain, soma.reset, soma.spikes
        )
    return changed


def _names(network: Network, indices: Sequence[int]) -> dict[int, str]:
    """Name groups after layers; a dot would end a group's name, and two groups must not share one."""
    names: dict[int, str] = {}
    for i in indices:
        name = re.sub(r"\W", "_", network.layers[i].name, flags=re.ASCII) or "layer"
        names[i] = name if name not in names.values() else f"{name}__{i}"
    return names


def write(folder: Path, found: Deployed) -> tuple[Path, Path]:
    """Write arch.yaml and snn.yaml, each whole or not at all."""
    with replacing(folder / "arch.yaml") as temporary:
        temporary.write_text(architecture(found.placement))
    with replacing(folder / "snn.yaml") as temporary, open(temporary, "w") as file:
        file.writelines(f"{line}\n" for line in lines(found))
    return folder / "arch.yaml", folder / "snn.yaml"


def lines(found: Deployed) -> Iterator[str]:
    """The lines of snn.yaml."""
    yield "network:"
    yield "  name: randhet"
    yield "  groups:"
    for i in found.names:
        yield from _inputs(found) if not i else _group(found, i)
    yield "  edges:"
    for projection in found.wired:
        yield from _edges(found, projection)
    if not found.wired:
        yield "    []"
    yield "mappings:"
    for i in found.names:
        yield from _mappings(found, i)


def _number(value: float) -> str:
    """Write a number exactly: a whole one without a point, one with an exponent with it, or YAML 1.1 reads a text."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    digits, exponent, power = repr(float(value)).partition("e")
    return f"{digits}.0e{power}" if exponent and "." not in digits else f"{digits}{exponent}{power}"


def runs(*values: NDArray[np.float64] | NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last numbers of stretches of neurons whose values are all the same."""
    changes = np.zeros(len(values[0]), bool)
    for value in values:
        changes[1:] |= value[1:] != value[:-1]
    starts = [0, *np.flatnonzero(changes).tolist()]
    yield from zip(starts, [*(start - 1 for start in starts[1:]), len(values[0]) - 1])


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}..{last}"


def _group(found: Deployed, i: int) -> Iterator[str]:
    soma = found.neurons[i]
    log = "log_spikes: true" if soma.spikes else "log_potential: true"
    yield f"    - name: {found.names[i]}"
    yield f"      attributes: {{{log}, reset_mode: {soma.reset}, force_soma_update: true}}"
    yield "      neurons:"
    for first, last in runs(soma.threshold, soma.bias, soma.leak):
        values = (("threshold", soma.threshold), ("bias", soma.bias), ("leak_decay", soma.leak))
        said = ", ".join(f"{name}: {_number(value[first])}" for name, value in values)
        yield f"        - {_span(first, last)}: {{{said}}}"


def _inputs(found: Deployed) -> Iterator[str]:
    """Neurons that send the events of a recording (T, ...)."""
    size = int(np.prod(found.network.shapes[0]))
    yield f"    - name: {found.names[0]}"
    yield "      attributes: {log_spikes: true}"
    yield "      neurons:"
    if found.image is None:
        yield f"        - {_span(0, size - 1)}: {{spikes: []}}"
        return
    for number, train in enumerate(found.image.reshape(len(found.image), size).T.astype(int).tolist()):
        yield f"        - {number}: {{spikes: {train}}}"


def _edges(found: Deployed, one: Projection) -> Iterator[str]:
    """One line per synapse: it gets the weight in units of the membrane potential, w*2^f."""
    sender, reader = found.names[one.sender], found.names[one.reader]
    weights = one.weights * found.neurons[one.reader].gain
    for source, target, weight in zip(one.sources.tolist(), one.targets.tolist(), weights.tolist()):
        yield f"    - {sender}.{source} -> {reader}.{target}: {{weight: {weight}}}"


def _mappings(found: Deployed, i: int) -> Iterator[str]:
    cores, name = found.placement.core[i], found.names[i]
    address = lambda core: f'core: "{core // 4}.{core % 4}"'
    if not i:
        for number, core in enumerate(cores.tolist()):
            yield f'  - {name}.{number}: {{{address(core)}, soma: "loihi_inputs[{number % 1024}]"}}'
        return
    layer = next(layer for layer in found.mapping.layers if layer.population.index == i)
    units = f"soma: loihi_lif, dendrite: loihi_dendrites, synapse: loihi_{synapse_of(layer)}_synapse"
    for first, last in runs(cores):
        yield f"  - {name}.{_span(first, last)}: {{{address(int(cores[first]))}, {units}}}"
