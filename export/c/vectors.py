"""Test vectors for people who write their own hardware or firmware: every integer of a run, as arrays and as hex words.

Beside `manifest.json`, which says what each file holds, every array is written twice: as `.npy`, and as `.hex` for
Verilog's `$readmemh`, one word a line, in the array's order, last axis fastest, two's complement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from randhet.base.errors import NetworkError
from randhet.base.files import replacing
from randhet.fixed_point import integer, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.generator import core_seed
from randhet.fixed_point.keyed import key_of
from randhet.fixed_point.layers import declared
from randhet.fixed_point.reference import make_generator

MAX_VALUES = 2**24
"""Integers of all arrays together; vectors of a large network are as large as its whole run."""

Arrays = dict[str, np.ndarray]


def vectors(network: ir.Network, images: np.ndarray, seed: int) -> Arrays:
    """Return every array of a run by name: "images", "sums", and those of each layer as "layerN/...".

    images: (N, *shape), or (N, T, *shape) of sequences. sums: what is read of each image. Per layer and where it has
    them: weight, recurrent, threshold, bias, floor and the decay's integers; registers (cores,), the start states; and
    per image and step sums, draws, before (the membrane potential that is compared), after (what is kept of it until
    the next step) and output.
    """
    count = len(images) * network.steps * sum(prod(shape) for shape in network.shapes)
    if count > MAX_VALUES:
        raise NetworkError(f"vectors of {len(images)} images have {count} outputs, the limit is {MAX_VALUES}")
    sums: dict[str, list[np.ndarray]] = {layer.name: [] for layer in network.layers}
    result = reference.run(
        network, images, seed=seed, probes=list(sums), batch=len(images),
        observer=lambda layer, t, total: sums[layer.name].append(total),
    )  # fmt: skip
    found: Arrays = {"images": images, "sums": result.sums}
    for i, layer in enumerate(network.layers):
        arrays = {**_constants(network, i, seed), "output": result.traces[layer.name].output}
        if layer.neuron is not None:
            arrays["sums"] = np.stack(sums[layer.name], 1)
            arrays |= _states(network, i, result.traces[layer.name].membrane)
        if layer.drawn:
            arrays["draws"] = _draws(network, i, seed, len(images))
        found |= {f"layer{i}/{name}": values for name, values in arrays.items()}
    return found


def _constants(network: ir.Network, i: int, seed: int) -> Arrays:
    """Weights, every declared array of the neuron and its decay, and the start states of the registers."""
    layer = network.layers[i]
    found: Arrays = {"weight": layer.weighted.weight} if layer.weighted else {}
    if layer.recurrent is not None:
        found["recurrent"] = layer.recurrent
    for _, part in _neuron_parts(layer):
        found |= {name: values for name, _, values in declared(part) if isinstance(values, np.ndarray)}
    if layer.drawn and network.generator == "chacha":
        found["key"] = key_of(seed)
    elif layer.drawn:
        cores = -(-prod(network.shapes[i]) // layer.drawn.neurons_per_core)
        found["registers"] = np.array([core_seed(seed, i, core) for core in range(cores)], np.uint32)
    return found


def _neuron_parts(layer: ir.Layer) -> Iterator[tuple[str, Any]]:
    """The neuron, the dynamics of a leaky read-out, the decay: each with the key under which its kind is told."""
    if layer.neuron is not None:
        yield "kind", layer.neuron
    if layer.dynamics is not None and layer.dynamics is not layer.neuron:
        yield "dynamics", layer.dynamics
    if layer.lif is not None:
        yield "decay", layer.lif.decay


def _states(network: ir.Network, i: int, before: np.ndarray | None) -> Arrays:
    """Membrane potentials that are compared and, where the layer spikes, kept: the same where the reset is late."""
    assert before is not None
    layer, shape = network.layers[i], network.shapes[i]
    if layer.spiking is None:
        return {"before": before}
    if layer.lif and layer.lif.reset_delay:
        return {"before": before, "after": before}
    threshold, reset = reference.per_channel(layer.spiking.threshold, shape), layer.lif.reset if layer.lif else "zero"
    return {"before": before, "after": integer.fire(before, threshold, reset)[1]}


def _draws(network: ir.Network, i: int, seed: int, images: int) -> np.ndarray:
    """The draw of every neuron at every step, (images, T, *shape)."""
    drawn, shape, steps = network.layers[i].drawn, network.shapes[i], network.steps
    assert drawn is not None
    generator = make_generator(network.generator, seed, i, prod(shape), drawn.neurons_per_core)
    rounds = [n if drawn.sampling == "forward" else n * steps + t for n in range(images) for t in range(steps)]
    return np.stack([generator.round(number) for number in rounds]).reshape(images, steps, *shape)


# --- files ------------------------------------------------------------------------------------------------------------


def width(values: np.ndarray) -> int:
    """Bits of a hex word: the least multiple of 4 that holds every value in two's complement, or unsigned."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    bits = max((-low - 1).bit_length() + 1, high.bit_length() + 1) if low < 0 else max(high.bit_length(), 1)
    return -(-bits // 4) * 4


def words(values: np.ndarray) -> Iterator[str]:
    """Lines of a `$readmemh` file."""
    bits = width(values)
    return (f"{int(value) % 2**bits:0{bits // 4}x}" for value in values.ravel())


def manifest(network: ir.Network, arrays: Arrays, seed: int) -> dict[str, object]:
    """What the files are: the network's layers with all their settings, and each array's shape, width and sign."""
    return {
        "steps": network.steps,
        "seed": seed,
        "first_image": 0,
        "layers": [_layer(network, i) for i in range(len(network.layers))],
        "arrays": {
            name: {
                "shape": list(values.shape), "bits": width(values), "signed": bool(values.min(initial=0) < 0),
                "order": "last axis fastest",
            }
            for name, values in arrays.items()
        },
    }  # fmt: skip


def _layer(network: ir.Network, i: int) -> dict[str, object]:
    layer, operation = network.layers[i], network.layers[i].operation
    arrays = ("weight", "recurrent")
    geometry = {name: value for name, value in vars(operation).items() if name not in arrays}
    neuron: dict[str, object] = {}
    for key, part in _neuron_parts(layer):
        plain = {name: value for name, _, value in declared(part) if not isinstance(value, np.ndarray)}
        neuron |= plain | {key: type(part).__name__}
    return {
        "name": layer.name, "operation": type(operation).__name__, "inputs": list(layer.inputs),
        "shape": list(network.shapes[i]), "geometry": geometry, "neuron": neuron or None,
    }  # fmt: skip


def save(folder: str | Path, network: ir.Network, arrays: Arrays, seed: int) -> None:
    """Write every array as .npy and .hex, and manifest.json last."""
    folder = Path(folder)
    for name, values in arrays.items():
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, values, allow_pickle=False)
        with replacing(folder / f"{name}.hex") as temporary:
            temporary.write_text("".join(f"{word}\n" for word in words(values)), "ascii")
    with replacing(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest(network, arrays, seed), indent=1) + "\n", "utf-8")
