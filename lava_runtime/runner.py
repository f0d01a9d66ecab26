"""Run a network on Lava, guarded: in a session of its own that is watched, limited in time, and always cleaned up."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.netx import read, write
from fixed_point.check import check, check_images
from fixed_point.errors import NetworkError, RandhetError
from fixed_point.network import Accumulate, Cuba, Network
from fixed_point.reference import master_seed
from fixed_point.result import Result, Trace
from lava_runtime.available import require_lava

Progress = Callable[[int], None]
Model = Literal["fixed_pt", "floating_pt"]

STALL_SECONDS = 120.0
"""How long a run may go without finishing a step of an image before it counts as hung."""
POLL_SECONDS = 0.05
SHARED_MEMORY = Path("/dev/shm")


class LavaRunError(RandhetError):
    """A Lava run that failed; the message names the layer whose process failed."""


def run(
    network: Network | str | Path,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    model: Model = "fixed_pt",
    progress: Progress | None = None,
    stall: float = STALL_SECONDS,
) -> Result:
    """Run images (N, C, Y, X) uint8 back to back through Lava processes; arguments and result as the reference's.

    probes: layers whose spikes and membranes are recorded through sinks. model "floating_pt" gives float membranes.
    """
    require_lava()
    network = network if isinstance(network, Network) else read(network)
    check(network)
    check_images(network, images)
    _check_model(network, model)
    if unknown := set(probes) - {layer.name for layer in network.layers}:
        raise NetworkError(f"no layer is called {', '.join(sorted(unknown))}")
    if not len(images):
        raise NetworkError("a Lava run needs at least one image")
    master = master_seed(network, seed)
    token = f"rh{secrets.token_hex(3)}"  # Python allows segment names of 14 characters
    directory = Path(tempfile.mkdtemp(prefix="randhet-lava-"))
    try:
        write(directory / "network.net", replace(network, seed=None))
        np.save(directory / "pixels.npy", images)
        job = {
            "token": token,
            "master": master,
            "images": len(images),
            "first_image": first_image,
            "probes": sorted(probes),
            "model": model,
        }
        (directory / "job.json").write_text(json.dumps(job))
        done = _supervise(directory, token, network, len(images), progress, stall)
        return _collect(directory, network, probes, done)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_model(network: Network, model: str) -> None:
    if model not in ("fixed_pt", "floating_pt"):
        raise NetworkError(f"model is {model!r}, it must be 'fixed_pt' or 'floating_pt'")
    for layer in network.layers:
        if model == "floating_pt" and isinstance(layer.neuron, Cuba):
            raise NetworkError(f"layer {layer.name}: CUBA neurons have no floating-point model")


def _supervise(
    directory: Path, token: str, network: Network, images: int, progress: Progress | None, stall: float
) -> dict[str, Any]:
    """Start the driver, follow it, and end its whole session whatever happens."""
    home = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))}
    with open(directory / "log", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "lava_runtime.driver", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        _follow(directory, child, network, images, progress, stall)
        return dict(json.loads((directory / "done.json").read_text()))
    finally:
        _end(child, token)


def _follow(
    directory: Path,
    child: subprocess.Popen[bytes],
    network: Network,
    images: int,
    progress: Progress | None,
    stall: float,
) -> None:
    counter = _Counter(directory / f"{len(network.layers) - 1}.spikes.npy", images * network.steps)
    reported, moved, last = 0, time.monotonic(), -1
    while not (directory / "done.json").exists():
        if (directory / "fault").exists():
            raise LavaRunError(f"Lava run failed in {_first_line(directory / 'fault')}")
        if child.poll() is not None:
            raise LavaRunError(f"Lava run ended unexpectedly: {_last_line(directory / 'log')}")
        steps = counter.steps()
        if steps != last:
            last, moved = steps, time.monotonic()
        if time.monotonic() - moved > stall:
            raise LavaRunError(f"Lava run stood still for {stall:.0f} s after {max(steps, 0)} steps and was ended")
        if progress and steps // network.steps > reported:
            progress(steps // network.steps - reported)
            reported = steps // network.steps
        time.sleep(POLL_SECONDS)
    if progress and images > reported:
        progress(images - reported)


class _Counter:
    """How many steps the last layer's recorder has written: it keeps the number in `steps` beside its file."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total = path.with_name("steps"), total

    def steps(self) -> int:
        try:
            return min(int.from_bytes(self.path.read_bytes(), "little"), self.total)
        except FileNotFoundError:
            return -1


def _first_line(path: Path) -> str:
    time.sleep(POLL_SECONDS)
    return path.read_text(errors="replace").strip().split("\n")[0]


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().split("\n")
    return lines[-1] or "no message"


def _end(child: subprocess.Popen[bytes], token: str) -> None:
    """Kill everything in the driver's session and remove the shared memory that carries the run's token."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if SHARED_MEMORY.is_dir():
        for segment in SHARED_MEMORY.glob(f"{token}*"):
            segment.unlink(missing_ok=True)


def _collect(directory: Path, network: Network, probes: Collection[str], done: dict[str, Any]) -> Result:
    index = {layer.name: i for i, layer in enumerate(network.layers)}
    last = network.layers[-1]
    trace = _trace(directory, index[last.name])
    outputs = trace.output.reshape(*trace.output.shape[:2], -1)
    sums = outputs.sum(axis=1)
    spiking = [layer.name for layer in network.layers if layer.neuron and not isinstance(layer.neuron, Accumulate)]
    return Result(
        predictions=sums.argmax(axis=1),
        sums=sums,
        spikes={name: done["spikes"][name] for name in spiking},
        saturations=done["saturations"],
        traces={name: _trace(directory, index[name]) for name in index if name in probes},
    )


def _trace(directory: Path, index: int) -> Trace:
    spikes = np.load(directory / f"{index}.spikes.npy").astype(np.int64)
    path = directory / f"{index}.membranes.npy"
    membranes = np.load(path) if path.exists() else None
    if membranes is not None and membranes.dtype.kind == "i":
        membranes = membranes.astype(np.int64)
    return Trace(spikes, membranes)
