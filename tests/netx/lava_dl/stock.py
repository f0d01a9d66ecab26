"""Networks run by lava-dl's own `netx.hdf5.Network` on stock Lava: `stock.py DIRECTORY`, cases in its `cases.json`.

Of each case: file, images (N, *shape), or recordings (N, T, *shape) where it is a sequence, steps T of each, message
bits of the input, its shape where the file has no input layer (else null), and the values of black and white where the
input layer's transform applies to them (else null). Spikes and voltages of every layer (N, T, *shape) go to NAME.npz.
What lava-dl says to `wordless.net` and `looped.net` goes to `wordless.txt` and `looped.txt`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import loaded  # noqa: F401  # isort: skip
import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source


def turned(values: np.ndarray) -> np.ndarray:
    """Between (channel, y, x) and Lava's (x, y, channel), on the last axes."""
    return np.swapaxes(values, -1, -3) if values.ndim > 2 else values


def run(case: dict[str, Any], images: np.ndarray) -> dict[str, np.ndarray]:
    steps, shape = case["steps"], case["shape"]
    late = int(case["delayed"])
    network = netx.hdf5.Network(
        net_config=case["file"],
        input_message_bits=case["bits"],
        input_shape=tuple(shape[::-1]) if shape else None,
        reset_interval=steps,
        reset_offset=late,
    )
    depth = len(network.layers)
    total = steps * len(images) + depth
    if case["levels"]:
        low, high = case["levels"]
        transform = network.in_layer.transform
        values = (low + (high - low) * (images / 255)) * transform["weight"] + transform["bias"]
        images = values.astype(np.int32)
    shown = images.reshape(-1, *images.shape[2:]) if case["sequence"] else images.repeat(steps, axis=0)
    shown = turned(shown).astype(np.int32)
    shown = np.concatenate([shown, np.zeros((depth, *shown.shape[1:]), np.int32)])
    source = Source(data=np.moveaxis(shown, 0, -1))
    sinks = [Sink(shape=layer.out.shape, buffer=total) for layer in network.layers]
    # lava-dl leaves the port of an input layer with neurons unconnected: currents go to its neurons themselves
    source.s_out.connect(network.inp if late else network.in_layer.neuron.a_in)
    for layer, sink in zip(network.layers, sinks):
        layer.out.connect(sink.a_in)
    voltages: list[list[np.ndarray]] = [[] for _ in network.layers]
    for _ in range(total):
        network.run(condition=RunSteps(1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        for kept, layer in zip(voltages, network.layers):
            kept.append(layer.neuron.v.get())
    found = {}
    for i, (sink, voltage) in enumerate(zip(sinks, voltages)):
        for kind, value in (("spikes", np.moveaxis(sink.data.get(), -1, 0)), ("voltages", np.stack(voltage))):
            logical = turned(value)[i + late :][: steps * len(images)]
            found[f"{kind}{i}"] = logical.reshape(len(images), steps, *logical.shape[1:])
    network.stop()
    return found


def main(directory: Path) -> None:
    for case in json.loads((directory / "cases.json").read_text()):
        name = case["name"]
        np.savez(directory / f"{name}.npz", **run(case, np.load(directory / f"{name}.npy")))
    for name in ("wordless", "looped"):
        try:
            netx.hdf5.Network(net_config=str(directory / f"{name}.net"), input_message_bits=8)
        except Exception as error:
            (directory / f"{name}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
