"""Recordings of growing length on the engine, beside torch eager and Lava: `python -m randhet.benchmarks.recordings`.

A VGG-like network with four convolutions and random decay factors reads frames of 2 x 34 x 34 with 3 % events. Each
contender runs in a process of its own, one after another in every round, so that a drifting machine hits all alike. Its
memory is the peak of that process. For every T one line of JSON is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from randhet.base import child
from randhet.benchmarks.process import now_mb, peak_mb
from randhet.benchmarks.race import THREAD_VARIABLES
from randhet.fixed_point import engine
from randhet.fixed_point import network as ir
from randhet.fixed_point.network import Layer, Network
from randhet.netx.read import read
from randhet.netx.write import write

FRAME, CLASSES = (2, 34, 34), 10
CHANNELS = (32, 32, 64, 64)
POOLED = (1, 3)
"""A max pool of 2 x 2 stands behind these convolutions."""
EVENTS, RATE = 0.03, 0.1
"""Share of pixels with an event, and of neurons that fire at a step."""
HALVINGS, CALIBRATION = 10, 10


def frames(images: int, steps: int, seed: int = 0) -> np.ndarray:
    """Recordings (images, steps, 2, 34, 34) uint8 of independent events."""
    return (np.random.default_rng(seed).random((images, steps, *FRAME), np.float32) < EVENTS).astype(np.uint8)


def make_network(steps: int, seed: int = 0) -> Network:
    """Random weights, thresholds at which every layer fires at `RATE` on frames like those of the benchmark."""
    rng = np.random.default_rng(seed)
    layers: tuple[Layer, ...] = (Layer("input", ir.Input(FRAME, bits=1, sequence=True)),)
    channels = FRAME[0]
    for i, out in enumerate(CHANNELS):
        weight = rng.integers(-127, 128, (out, channels, 3, 3)).astype(np.int8)
        layers, channels = _settled(layers, ir.Conv(weight, padding=(1, 1)), f"conv{i}"), out
        if i in POOLED:
            layers = (*layers, Layer(f"pool{i}", ir.MaxPool((2, 2), (2, 2)), (len(layers) - 1,)))
    size = int(np.prod(Network(layers, 1).shapes[-1]))
    last = ir.Dense(rng.integers(-127, 128, (CLASSES, size)).astype(np.int8))
    read_out = Layer("read", last, (len(layers) - 1,), ir.ReadOut(np.zeros(CLASSES, np.int32)))
    return Network((*layers, read_out), steps, seed=0)


def _settled(layers: tuple[Layer, ...], conv: ir.Conv, name: str) -> tuple[Layer, ...]:
    """The layers and one more, whose threshold is bisected until it fires at the rate."""
    low, high, out = 1, 2**23 - 1, len(conv.weight)
    for _ in range(2 * HALVINGS):
        middle = (low + high) // 2
        neuron = ir.Lif(np.full(out, middle, np.int32), np.zeros(out, np.int32), ir.Drawn())
        network = Network((*layers, Layer(name, conv, (len(layers) - 1,), neuron)), CALIBRATION)
        fired = engine.run(network, frames(1, CALIBRATION), seed=0).spikes[name]
        low, high = (
            (middle, high) if fired > RATE * CALIBRATION * np.prod(network.shapes[-1]) else (low, middle)
        )  # fmt: skip
    return network.layers


# --- contenders -------------------------------------------------------------------------------------------------------


def with_engine(network: Network, recordings: np.ndarray, threads: int) -> Callable[[], Any]:
    """Our engine, all recordings as one batch."""
    return lambda: engine.run(network, recordings, seed=0, threads=threads, batch=len(recordings))


def with_torch(network: Network, recordings: np.ndarray, threads: int) -> Callable[[], Any]:
    """Plain torch: time and recordings as one batch, a loop over steps in each neuron."""
    import torch

    from randhet.benchmarks.peers.plain import Neuron

    torch.set_num_threads(threads)
    values = torch.from_numpy(recordings).float().transpose(0, 1).flatten(0, 1)
    layers = [_torch_layer(layer, network.steps, Neuron) for layer in network.layers[1:]]

    def run() -> Any:
        with torch.inference_mode():
            current = values
            for layer in layers:
                current = layer(current)
            return current.view(network.steps, len(recordings), -1).mean(0)

    return run


def _torch_layer(layer: Layer, steps: int, make: Callable[..., Any]) -> Callable[[Any], Any]:
    import torch
    from torch.nn import functional

    if layer.weighted is None:
        return lambda x: functional.max_pool2d(x, 2)
    weight = torch.from_numpy(layer.weighted.weight).float()
    if layer.lif is None:
        return lambda x: x.flatten(1) @ weight.T
    neuron = make(steps, float(layer.lif.threshold[0]) / 2**layer.lif.f, 1.0)
    return lambda x: neuron(functional.conv2d(x, weight, padding=1))


def with_lava(network: Network, recordings: np.ndarray, threads: int) -> Callable[[], Any]:
    """Our Lava runtime, all recordings as one batch; returns the seconds of a batch once the pipeline is full."""
    from randhet.lava_runtime.runner import run

    shown = np.concatenate([recordings] * LAVA_BATCHES)

    def steady() -> float:
        done: list[tuple[float, int]] = []
        progress = lambda count: done.append((time.perf_counter(), count))
        run(network, shown, seed=0, batch=len(recordings), progress=progress)
        return (done[-1][0] - done[0][0]) / sum(count for _, count in done[1:]) * len(recordings)

    return steady


CONTENDERS = {"engine": with_engine, "torch-eager": with_torch, "lava": with_lava}
LAVA_BATCHES = 8
"""Enough that the first one, whose time holds the start of all processes, can be left out."""


def contend(name: str, folder: Path, threads: int) -> dict[str, float]:
    """Run one contender: its second run's seconds and processor seconds, the peak of memory, and what it began with."""
    began, network = now_mb(), read(folder / "it.net")
    run = CONTENDERS[name](network, np.load(folder / "it.npy"), threads)
    run()  # loads and compiles
    start, spent = time.perf_counter(), time.process_time()
    own = run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - spent
    return {"seconds": own if isinstance(own, float) else seconds, "cpu": cpu, "peak_mb": peak_mb(), "began_mb": began}


def measured(name: str, folder: Path, threads: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [*child.command("randhet.benchmarks.recordings"), "--contend", name, str(folder), str(threads)]
    environment = child.environment(**dict.fromkeys(THREAD_VARIABLES, str(threads)))
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(steps: int, images: int, threads: int, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """What a length gives: medians over the rounds, and of the ratios of each round, of the engine and others."""
    with TemporaryDirectory(prefix="randhet-bench-") as name:
        folder = Path(name)
        write(folder / "it.net", make_network(steps))
        np.save(folder / "it.npy", frames(images, steps, seed=1))
        times = [{one: measured(one, folder, threads) for one in names} for _ in range(rounds)]
    middle = lambda one, what: median(round_[one][what] for round_ in times)
    found: dict[str, Any] = {"steps": steps, "recordings": images, "threads": threads, "rounds": rounds}
    for one in names:
        ratios = [round_[one]["seconds"] / round_["engine"]["seconds"] for round_ in times]
        found[one] = {
            "ms": 1000 * middle(one, "seconds") / images, "ratio": median(ratios), "ratios": ratios,
            "cpu_ratio": median(round_[one]["cpu"] / round_["engine"]["cpu"] for round_ in times),
            "peak_mb": middle(one, "peak_mb"), "began_mb": middle(one, "began_mb"),
        }  # fmt: skip
    # the memory and the processor time of Lava are those of its processes, which are not watched here
    for what in ("cpu_ratio", "peak_mb", "began_mb"):
        found.get("lava", {}).pop(what, None)
    return found


def main() -> None:
    """Print a line for every T."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole.add_argument("--steps", default="30,100,300", help="numbers of steps T, separated by commas")
    whole.add_argument("--recordings", type=int, default=2, help="recordings at a time")
    whole.add_argument("--threads", type=int, default=2, help="threads of each contender")
    whole.add_argument("--rounds", type=int, default=3, help="runs of each contender")
    whole.add_argument(
        "--contenders", default="engine,torch-eager", help=f"engine and others, of {', '.join(CONTENDERS)}"
    )
    whole.add_argument("--contend", nargs=3, metavar=("NAME", "FOLDER", "THREADS"), help=argparse.SUPPRESS)
    asked = whole.parse_args()
    if asked.contend:
        name, folder, threads = asked.contend
        print(json.dumps(contend(name, Path(folder), int(threads))))
        return
    names = [name.strip() for name in asked.contenders.split(",")]
    if "engine" not in names or set(names) - set(CONTENDERS):
        raise SystemExit(
            f"--contenders are {asked.contenders}, they must be engine and others of {', '.join(CONTENDERS)}"
        )
    one = partial(row, images=asked.recordings, threads=asked.threads, rounds=asked.rounds, names=names)
    for steps in map(int, asked.steps.split(",")):
        print(json.dumps(one(steps)), flush=True)


if __name__ == "__main__":
    main()
