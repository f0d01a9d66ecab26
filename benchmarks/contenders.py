"""Who is timed: a table of names. A contender loads itself in a worker process and calls `turn` after every batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, Literal, Protocol

import numpy as np

from randhet.benchmarks import processors
from randhet.fixed_point.backends import BACKENDS

LAVA_BATCHES = 10
"""Enough for some during which every layer has work: the pipeline takes layers / T batches to fill and to drain."""


class Turn(Protocol):
    """Called after a batch; seconds on the clock and of the processor where the contender timed the batch itself.

    A contender of several processes whose processor time is not given has none: a process that is gone tells nothing.
    """

    def __call__(self, seconds: float | None = None, cpu: float | None = None) -> None: ...


@dataclass(frozen=True)
class Job:
    """What a worker is told: the case's files, and how many batches to run."""

    contender: str
    directory: str
    batch: int
    threads: int
    batches: int

    def file(self, name: str) -> Path:
        return Path(self.directory) / name

    def pixels(self) -> np.ndarray:
        """One batch of images (N, C, Y, X) uint8."""
        pixels: np.ndarray = np.load(self.file("pixels.npy"))
        return pixels


# --- our backends -----------------------------------------------------------------------------------------------------


def backend(name: str, taus: str = "random") -> Callable[[Job, Turn], None]:
    """All batches in one call, as a user with many images would; it tells its progress after each."""

    def contend(job: Job, turn: Turn) -> None:
        from randhet.fixed_point.backends import runner
        from randhet.netx.write import read

        pixels = job.pixels()
        run = runner(name, threads=job.threads, batch=job.batch)
        images = np.concatenate([pixels] * job.batches)
        run(read(job.file(f"{taus}.net")), images, seed=0, first_image=0, probes=(), progress=lambda count: turn())

    return contend


def reference(job: Job, turn: Turn) -> None:
    """One image, once, timed without loading; scaled to a batch."""
    from randhet.fixed_point.reference import run
    from randhet.netx.write import read

    network, image = read(job.file("random.net")), job.pixels()[:1]
    begin, spent = time.perf_counter(), time.process_time()
    run(network, image, seed=0)
    turn((time.perf_counter() - begin) * job.batch, (time.process_time() - spent) * job.batch)


def lava(job: Job, turn: Turn) -> None:
    """A batch once the pipeline is full: from the first progress told to the last, over the images in between."""
    from randhet.lava_runtime.runner import run
    from randhet.netx.write import read

    network, told = read(job.file("random.net")), [(time.perf_counter(), 0)]
    images = np.concatenate([job.pixels()] * LAVA_BATCHES)
    run(
        network,
        images,
        seed=0,
        batch=job.batch,
        progress=lambda count: told.append((time.perf_counter(), told[-1][1] + count)),
    )
    drained = len(images) - -(-len(network.layers) // network.steps) * job.batch
    full = [entry for entry in told[1:] if entry[1] <= drained]
    # a network so small that it was done at the first looks is timed with its start-up
    (first, before), (last, after) = (full[0], full[-1]) if len(full) > 1 else (told[0], told[-1])
    turn((last - first) / (after - before) * job.batch)


def lava_stock(job: Job, turn: Turn) -> None:
    """Lava's own Conv, each distinct convolution of the network by itself; the sum over the network and T."""
    from randhet.benchmarks.lava_stock import seconds_per_image
    from randhet.netx.write import read

    seconds, cpu = seconds_per_image(read(job.file("random.net")))
    turn(seconds * job.batch, cpu * job.batch)


# --- torch and its libraries ------------------------------------------------------------------------------------------


def torch_model(make: Callable[[Any], Any], taus: str = "random") -> Callable[[Job, Turn], None]:
    """A module made of the checkpoint, in inference mode, the same batch over and over."""

    def contend(job: Job, turn: Turn) -> None:
        import torch

        from randhet.train import checkpoint as checkpoints

        torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        images = torch.from_numpy(job.pixels()).float() / 255
        model = make(checkpoints.load(job.file(f"{taus}.pt")))
        with torch.inference_mode():
            for _ in range(job.batches):
                model(images)
                turn()

    return contend


def _peer(module: str, random: bool = True) -> Callable[[Any], Any]:
    def make(checkpoint: Any) -> Any:
        from importlib import import_module

        return import_module(f"randhet.benchmarks.peers.{module}").make(checkpoint, random)

    return make


def _compiled(checkpoint: Any) -> Any:
    import torch

    from randhet.benchmarks.peers import plain

    return torch.compile(plain.make(checkpoint, True, at_once=True))


def _own(checkpoint: Any) -> Any:
    from randhet.train import checkpoint as checkpoints

    return checkpoints.build(checkpoint)


# --- the same layers as an ANN ----------------------------------------------------------------------------------------


def relu(module: str) -> Callable[[Job, Turn], None]:
    """The 8-bit ReLU network of the same topology and weights in a library of `benchmarks.ann`: one pass an image."""

    def contend(job: Job, turn: Turn) -> None:
        from importlib import import_module

        from randhet.benchmarks.ann.network import load
        from randhet.netx.write import read

        network, pixels = read(job.file("random.net")), job.pixels()
        library = import_module(f"randhet.benchmarks.ann.{module}")
        forward = library.make(load(job.file("ann.npz"), network), network, job.batch, job.threads)
        for _ in range(job.batches):
            forward(pixels)
            turn()

    return contend


# --- the table --------------------------------------------------------------------------------------------------------


def _nothing() -> str | None:
    return None


def _needs(package: str) -> Callable[[], str | None]:
    return lambda: None if find_spec(package) else f"{package} is not installed: pip install 'randhet[peers]'"


def _onnxruntime() -> str | None:
    missing = [package for package in ("onnx", "onnxruntime") if not find_spec(package)]
    return f"{missing[0]} is not installed: pip install 'randhet[onnx]'" if missing else None


def _onednn() -> str | None:
    from randhet.benchmarks.ann import onednn

    return onednn.missing()


def _compiler() -> str | None:
    return None if any(map(which, ("c++", "g++", "clang++"))) else "torch.compile needs a C++ compiler, there is none"


@dataclass(frozen=True)
class Contender:
    """name of the row, what it is, how it runs, what stands in its way here; most: batches it runs at most.

    tree: its memory is that of all its processes. processor: one of `processors.LESSER`, for which it is compiled.
    as_ann: it runs the network as an 8-bit ReLU network, without neurons, steps and decay factors.
    """

    name: str
    about: str
    contend: Callable[[Job, Turn], None]
    obstacle: Callable[[], str | None] = _nothing
    taus: Literal["random", "constant"] = "random"
    most: int | None = None
    tree: bool = False
    deadline: float = 1800.0
    processor: str | None = None
    as_ann: bool = False

    def variables(self) -> dict[str, str]:
        """Return what its process needs in the environment."""
        return processors.settings(self.processor) if self.processor else {}


def _engine_on(processor: str) -> Contender:
    lesser = processors.LESSER[processor]
    about = f"the engine as on a processor with {lesser.about} at best"
    able = lambda: processors.obstacle(processor)
    return Contender(f"engine-{processor}", about, backend("engine"), able, processor=processor)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("torch-eager", "plain torch, float32, a loop over steps in each neuron", torch_model(_peer("plain"))),
        Contender(
            "torch-compile",
            "the same through torch.compile, numbers of all steps drawn at once",
            torch_model(_compiled),
            _compiler,
        ),
        Contender("torch-train", "torch's convolutions, our compiled neurons (train/)", torch_model(_own)),
        Contender(
            "spikingjelly",
            "multi-step layers, random decay factors in a custom node",
            torch_model(_peer("jelly")),
            _needs("spikingjelly"),
        ),
        Contender(
            "snntorch",
            "Leaky with a new beta tensor before each step",
            torch_model(_peer("snn_torch")),
            _needs("snntorch"),
        ),
        Contender("engine", "fast engine, 8-bit integers", backend("engine")),
        *(_engine_on(name) for name in processors.LESSER),
        Contender("add-only", "no multiplication; counts its operations", backend("add-only")),
        Contender(
            "reference", "the readable definition; one image, once", reference, BACKENDS["reference"].missing, most=1
        ),
        Contender(
            "lava",
            "our Lava runtime with its pipeline full, start-up left out",
            lava,
            BACKENDS["lava"].missing,
            most=1,
            tree=True,
        ),
        Contender(
            "lava-stock",
            "Lava's Conv alone, no neurons: extrapolated from single layers",
            lava_stock,
            BACKENDS["lava"].missing,
            most=1,
            tree=True,
        ),
        Contender(
            "ann-onnxruntime",
            "the same layers and int8 weights with ReLU, 8-bit integers, one pass: onnxruntime",
            relu("onnx_model"),
            _onnxruntime,
            as_ann=True,
        ),
        Contender("ann-onednn", "the same in oneDNN, through torch", relu("onednn"), _onednn, as_ann=True),
        Contender("engine-constant", "the engine, one tau for all", backend("engine", "constant"), taus="constant"),
        Contender(
            "torch-eager-constant",
            "plain torch, one tau for all",
            torch_model(_peer("plain", False), "constant"),
            taus="constant",
        ),
    )
}
