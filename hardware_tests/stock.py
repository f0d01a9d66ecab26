"""Networks of Loihi's own neuron as stock Lava processes: what a chip without microcode of ours can run.

RingBuffer -> Dense -> LIFReset -> Dense -> LIFReset ..., a sink at every layer. Every synapse takes one step: the
first layer sees step 0 of an image at Lava's step 2, layer l at step 2 + l, and is reset then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hardware_tests.board import Board
from randhet.base import child as interpreter
from randhet.base.errors import RandhetError
from randhet.fixed_point.network import Cuba, Dense, Input, Layer, Network
from randhet.lava_runtime.loading import load
from randhet.netx.write import read, write

SHIFT = 6
THRESHOLD_MANTISSA = 2**17
BIAS_MANTISSA, BIAS_EXPONENTS = 2**12, 8
TIMEOUT = 240.0
"""Seconds for one run: Lava waits for ever where one of its processes has failed."""


class StockRunError(RandhetError):
    """A run of stock Lava processes that failed or did not end."""


def obstacles(network: Network) -> Iterator[str]:
    """What of a network stock processes cannot do, integer by integer."""
    source, *layers = network.layers
    assert isinstance(source.operation, Input)
    if source.operation.bits > 1 or source.operation.signed:
        yield "its input is wider than one bit"
    if source.operation.sequence:
        yield "its input is a sequence"
    for i, layer in enumerate(layers):
        yield from (f"layer {layer.name} {what}" for what in _layer_obstacles(i, layer))


def _layer_obstacles(i: int, layer: Layer) -> Iterator[str]:
    neuron, operation = layer.neuron, layer.operation
    if layer.inputs != (i,) or not isinstance(operation, Dense):
        yield "is not one of a chain of dense layers"
    if layer.recurrent is not None:
        yield "has recurrent weights"
    if not isinstance(neuron, Cuba):
        yield f"has neuron {type(neuron).__name__}, stock processes have Cuba"
        return
    if isinstance(operation, Dense) and (operation.weight % 2).any():
        yield "has odd weights, and stock Dense keeps 7 bits of weights with mixed signs"
    if neuron.f != SHIFT or len(np.unique(neuron.threshold)) > 1:
        yield f"has f {neuron.f} and {len(np.unique(neuron.threshold))} thresholds, stock LIF has 6 and one"
    if (neuron.threshold % 2**SHIFT).any() or neuron.threshold.max() >= THRESHOLD_MANTISSA << SHIFT:
        yield "has a threshold that is no 17 bit mantissa times 64"
    if any(split(int(bias)) is None for bias in neuron.bias.ravel()):
        yield "has a bias that is no 12 bit mantissa times 2^0..2^7"


def split(bias: int) -> tuple[int, int] | None:
    """(mantissa, exponent) with mantissa * 2^exponent = bias, the smallest exponent; None where there is none."""
    for exponent in range(BIAS_EXPONENTS):
        if bias % 2**exponent == 0 and abs(bias) >> exponent < BIAS_MANTISSA:
            return bias >> exponent, exponent
    return None


def run(network: Network, images: np.ndarray, board: Board | None) -> dict[str, np.ndarray]:
    """Spikes of every layer, (images, T, neurons), images back to back; in a program of its own with a time limit."""
    with tempfile.TemporaryDirectory(prefix="randhet-stock-") as name:
        directory = Path(name)
        write(directory / "network.net", network)
        np.save(directory / "images.npy", images.reshape(len(images), -1))
        (directory / "board.json").write_text(json.dumps(asdict(board) if board else None))
        _supervise(directory)
        with np.load(directory / "spikes.npz") as spikes:
            return {layer.name: spikes[str(i)] for i, layer in enumerate(network.layers) if i}


def _supervise(directory: Path) -> None:
    home = str(Path(__file__).resolve().parent.parent)
    environment = interpreter.environment(home)
    with open(directory / "log", "w+") as log:
        command = [sys.executable, "-m", "hardware_tests.stock", str(directory)]
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=directory, start_new_session=True
        )
        try:
            code: int | None = child.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Lava's processes are of the child's session and may outlive it
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        log.seek(0)
        said = " ".join(log.read().strip().split("\n")[-3:])
    if code is None:
        raise StockRunError(f"a run of stock Lava processes did not end in {TIMEOUT:.0f} s: {said}")
    if code or not (directory / "spikes.npz").exists():
        raise StockRunError(f"a run of stock Lava processes failed with exit code {code}: {said}")


def main(directory: Path) -> None:
    """The run itself."""
    load()
    network, images = read(directory / "network.net"), np.load(directory / "images.npy")
    told = json.loads((directory / "board.json").read_text())
    spikes = execute(network, images, Board(**told) if told else None)
    named: dict[str, Any] = {str(i + 1): values for i, values in enumerate(spikes)}
    np.savez(directory / "spikes.part.npz", **named)
    os.replace(directory / "spikes.part.npz", directory / "spikes.npz")


def execute(network: Network, images: np.ndarray, board: Board | None) -> list[np.ndarray]:
    """Spikes of every layer but the input."""
    from lava.magma.core.run_conditions import RunSteps

    settings = _run_settings(board)
    layers, steps = network.layers[1:], network.steps
    # The last layer's sink hears of the last step one step after the layer saw it
    total = len(images) * steps + len(layers) + 1
    sinks = build(network, images, total, on_chip=board is not None)
    sinks[0].run(condition=RunSteps(total), run_cfg=settings)
    recorded = [sink.data.get() for sink in sinks]
    sinks[0].stop()
    return [_logical(values, 1 + i, len(images), steps) for i, values in enumerate(recorded)]


def _logical(recorded: np.ndarray, delay: int, images: int, steps: int) -> np.ndarray:
    """(neurons, Lava steps) to (images, T, neurons), the first `delay` steps left out."""
    useful = recorded[:, delay : delay + images * steps].astype(np.int64)
    return useful.reshape(-1, images, steps).transpose(1, 2, 0)


def _run_settings(board: Board | None) -> Any:
    from lava.magma.core import run_configs

    if board is None:
        return run_configs.Loihi2SimCfg(select_tag="fixed_pt")
    board.connect()
    return run_configs.Loihi2HwCfg(select_tag="fixed_pt")


def build(network: Network, images: np.ndarray, total: int, on_chip: bool) -> list[Any]:
    """Connected processes; returns the sink of every layer."""
    from lava.proc import io

    first, steps = images[0].size, network.steps
    shown = np.zeros((first, total), int)
    shown[:, : len(images) * steps] = np.repeat(images, steps, axis=0).T
    port = io.source.RingBuffer(data=shown).s_out
    if on_chip:
        port = _adapter("PyToNxAdapter", (first,), port)
    sinks = []
    for i, layer in enumerate(network.layers[1:]):
        port = _layer(layer, 2 + i, steps, port)
        sink = io.sink.RingBuffer(shape=port.shape, buffer=total)
        (_adapter("NxToPyAdapter", port.shape, port) if on_chip else port).connect(sink.a_in)
        sinks.append(sink)
    return sinks


def _adapter(kind: str, shape: tuple[int, ...], port: Any) -> Any:
    """Messages between Python processes and the chip; part of Intel's extension."""
    from lava.proc import embedded_io

    adapter = getattr(embedded_io.spike, kind)(shape=shape)
    port.connect(adapter.inp)
    return adapter.out


def _layer(layer: Layer, reset: int, steps: int, port: Any) -> Any:
    from lava.proc.dense.process import Dense as StockDense
    from lava.proc.lif.process import LIFReset

    assert isinstance(layer.operation, Dense) and isinstance(layer.neuron, Cuba)
    neuron, weight = layer.neuron, layer.operation.weight.astype(int)
    bias = [split(int(value)) or (0, 0) for value in np.broadcast_to(neuron.bias, len(weight))]
    synapse = StockDense(weights=weight, num_weight_bits=8)
    cells = LIFReset(
        shape=(len(weight),),
        du=neuron.current_decay,
        dv=neuron.voltage_decay,
        vth=int(neuron.threshold[0]) >> SHIFT,
        bias_mant=np.array([mantissa for mantissa, _ in bias]),
        bias_exp=np.array([exponent for _, exponent in bias]),
        reset_interval=steps,
        reset_offset=reset % steps,
    )
    port.connect(synapse.s_in)
    synapse.a_out.connect(cells.a_in)
    return cells.s_out


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Lava's runtime may leave threads behind that never end
    os._exit(0)
