"""Run a network on Lava, guarded: in processes of its own that are watched, limited in time, and always cleaned up."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np

from randhet.base import child
from randhet.base.errors import NetworkError, RandhetError
from randhet.fixed_point.check import check_images
from randhet.fixed_point.network import Network, read_of
from randhet.fixed_point.reference import master_seed, read_on
from randhet.fixed_point.result import Result, Trace
from randhet.lava_runtime import guard
from randhet.lava_runtime.available import require_lava
from randhet.netx.write import read, write

Progress = Callable[[int], None]
Model = Literal["fixed_pt", "floating_pt"]

STALL_SECONDS = 120.0
"""How long a run may go without finishing a step of an image before it counts as hung."""
START_SECONDS = 300.0
"""How long it may take until the first step is finished, start of all processes included."""
POLL_SECONDS = 0.05
END_SECONDS = 5.0
CHUNK = 256
DRIVER = child.command("randhet.lava_runtime.driver")
"""The program that is the run; it is told its directory."""


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
    batch: int = 1,
    stall: float = STALL_SECONDS,
    stream: bool = False,
) -> Result:
    """Run images or recordings back to back through Lava processes; arguments and result as the reference's.

    probes: layers whose spikes and membranes are recorded through sinks. model "floating_pt" gives float membranes.
    batch: images that travel through the pipeline together, one where they are pieces of a recording (stream); the
    result does not depend on it. images may be anything that slices to arrays, such as a memory map: a few images, or
    frames of one recording, at a time are copied to disk, and read when it is their turn.
    """
    require_lava()
    network = network if isinstance(network, Network) else read(network)
    check_images(network.input, network.steps, images, first_image)
    _check_model(network, model)
    if unknown := set(probes) - {layer.name for layer in network.layers}:
        raise NetworkError(f"no layer is called {', '.join(sorted(unknown))}")
    if not len(images):
        raise NetworkError("a Lava run needs at least one image")
    if batch < 1:
        raise NetworkError(f"batch is {batch}, it must be at least 1")
    batch = 1 if stream else min(batch, len(images))
    master = master_seed(network, seed)
    token = f"rh{secrets.token_hex(3)}"  # Python allows segment names of 14 characters
    directory = Path(tempfile.mkdtemp(prefix="randhet-"))
    try:
        write(directory / "network.net", replace(network, seed=None))
        save(directory / "pixels.npy", images, network.input.sequence)
        job = {
            "token": token,
            "master": master,
            "images": len(images),
            "first_image": int(first_image),
            "probes": sorted(probes),
            "model": model,
            "batch": batch,
            "stream": stream,
        }
        (directory / "job.json").write_text(json.dumps(job))
        done = _supervise(directory, token, network, len(images), progress, stall)
        return _collect(directory, network, probes, done)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def save(path: Path, images: np.ndarray, sequence: bool) -> None:
    """Copy images, or recordings, to a file without having more than CHUNK images, or frames, in memory."""
    file = np.lib.format.open_memmap(path, "w+", images.dtype, images.shape)
    for source, target in zip(images, file) if sequence else [(images, file)]:
        for start in range(0, len(source), CHUNK):
            target[start : start + CHUNK] = source[start : start + CHUNK]
    file.flush()


def _check_model(network: Network, model: str) -> None:
    if model not in ("fixed_pt", "floating_pt"):
        raise NetworkError(f"model is {model!r}, it must be 'fixed_pt' or 'floating_pt'")
    for layer in network.layers:
        if model == "floating_pt" and layer.sends_potential:
            raise NetworkError(f"layer {layer.name}: leaky read-outs have no floating-point model")
        if model == "floating_pt" and layer.cuba:
            raise NetworkError(f"layer {layer.name}: CUBA neurons have no floating-point model")


def _supervise(
    directory: Path, token: str, network: Network, images: int, progress: Progress | None, stall: float
) -> dict[str, Any]:
    """Start the guard, follow the run, and have all of it ended whatever happens."""
    warden = subprocess.Popen(
        child.command("randhet.lava_runtime.guard", str(directory), token, *DRIVER),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child.environment(),
        cwd=directory,
        start_new_session=True,
    )
    try:
        _follow(directory, warden, network, images, progress, stall)
        return dict(json.loads((directory / "done.json").read_text()))
    finally:
        _end(warden, directory, token)


def _follow(
    directory: Path,
    warden: subprocess.Popen[bytes],
    network: Network,
    images: int,
    progress: Progress | None,
    stall: float,
) -> None:
    reported, moved, last = 0, time.monotonic(), -1
    while not (directory / "done.json").exists():
        gone = warden.poll() is not None
        if fault := _first_line(directory / "fault"):
            raise LavaRunError(f"Lava run failed in {fault}")
        if gone and not (directory / "done.json").exists():
            raise LavaRunError(f"Lava run ended unexpectedly: its guard ended ({guard.cause(warden.returncode)})")
        steps = _steps(directory)
        if steps != last:
            last, moved = steps, time.monotonic()
        limit = START_SECONDS if steps < 0 else stall
        if time.monotonic() - moved > limit:
            raise LavaRunError(f"Lava run stood still for {limit:.0f} s after {max(steps, 0)} steps and was ended")
        if progress and steps // network.steps > reported:
            progress(steps // network.steps - reported)
            reported = steps // network.steps
        time.sleep(POLL_SECONDS)
    if progress and images > reported:
        progress(images - reported)


def _steps(directory: Path) -> int:
    """How many steps the last layer's recorder has written, -1 before the first."""
    with suppress(FileNotFoundError):
        return int.from_bytes((directory / "steps").read_bytes(), "little")
    return -1


def _first_line(path: Path) -> str:
    """Empty where the file is not there."""
    with suppress(FileNotFoundError):
        return path.read_text(errors="replace").split("\n")[0]
    return ""


def _end(warden: subprocess.Popen[bytes], directory: Path, token: str) -> None:
    """Ask the guard to end the run; where the guard itself was killed, do it here."""
    assert warden.stdin is not None
    with suppress(BrokenPipeError):
        warden.stdin.write(guard.KEEP)
        warden.stdin.close()
    try:
        clean = warden.wait(END_SECONDS) == 0
    except subprocess.TimeoutExpired:
        warden.kill()
        clean = warden.wait() == 0
    if not clean:
        guard.end(directory, token)


def _collect(directory: Path, network: Network, probes: Collection[str], done: dict[str, Any]) -> Result:
    index = {layer.name: i for i, layer in enumerate(network.layers)}
    last = network.layers[-1]
    trace = _trace(directory, index[last.name])
    outputs = trace.output.reshape(*trace.output.shape[:2], -1)
    sums = reduce(partial(read_on, read=read_of(last.neuron)), outputs.swapaxes(0, 1))
    spiking = [layer.name for layer in network.layers if layer.spikes]
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
