"""Backend `c`: compile a network's C here, run it, read its integers."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from math import prod
from pathlib import Path
from shutil import which
from threading import Lock

import numpy as np

from randhet.base import child
from randhet.base.errors import RandhetError
from randhet.export.c import chacha
from randhet.export.c.plan import channels_of, keyed, still_layers, value_type
from randhet.export.c.write import HERE, KERNELS, files
from randhet.fixed_point import network as ir
from randhet.fixed_point.check import check_images
from randhet.fixed_point.generator import core_seed, core_starts, jump
from randhet.fixed_point.reference import join, master_seed
from randhet.fixed_point.result import Result, Trace

COMPILERS = ("cc", "gcc", "clang")
STANDARD = ("-std=c99", "-fno-builtin")
MINUTES = 10
"""A compiler or a program that takes longer is stopped."""


class CompilerError(RandhetError):
    """No C compiler, or one that fails."""


@dataclass(frozen=True)
class Build:
    """How to make a program and start it: a compiler, its options, the system's side of the harness, an emulator."""

    compiler: tuple[str, ...]
    options: tuple[str, ...] = ("-O1",)
    system: tuple[str, ...] = ("system_host.c",)
    emulator: tuple[str, ...] = ()


def compiler() -> tuple[str, ...] | None:
    """The command of a C compiler: the system's, else that of the package ziglang; None where there is none."""
    for name in COMPILERS:
        if found := which(name):
            return (found,)
    return tuple(child.command("ziglang", "cc")) if find_spec("ziglang") else None


def missing() -> str | None:
    """Why the backend cannot run here, None where it can."""
    return None if compiler() else "there is no C compiler: install gcc or clang, or pip install ziglang"


def run(
    network: ir.Network,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    build: Build | None = None,
    stream: bool = False,
) -> Result:
    """Run images (N, C, Y, X), or recordings, as `reference.run` does, in the program that `randhet export --c` writes.

    build: another compiler or processor than this one's. stream: the images are pieces of one recording; they run in
    one batch, without a reset between them.
    """
    check_images(network.input, network.steps, images, first_image)
    master = master_seed(network, seed)
    program = Program(network, build or here(), trace=True)
    parts = []
    batch = max(len(images), 1) if stream else batch
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        parts.append(program.run(part, states(network, master, first_image + start), probes, stream))
        if progress:
            progress(len(part))
    return join(parts, network)


def here() -> Build:
    """The build for this computer; CompilerError where there is no compiler."""
    found = compiler()
    if found is None:
        raise CompilerError(f"the network cannot be compiled: {missing()}")
    return Build(found)


def states(network: ir.Network, master: int, first: int) -> np.ndarray:
    """Return the state of every register before image number `first`, layer by layer, or the cipher's."""
    if keyed(network):
        return chacha.state(network, master, first)
    found = []
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        if layer.drawn:
            rounds, size = first if layer.drawn.sampling == "forward" else first * network.steps, prod(shape)
            for core, start in enumerate(core_starts(size, layer.drawn.neurons_per_core)):
                neurons = min(layer.drawn.neurons_per_core, size - start)
                found.append(jump(core_seed(master, i, core), rounds * neurons))
    return np.array(found, "<u4")


# --- programs ---------------------------------------------------------------------------------------------------------

_lock = Lock()
_folder: tempfile.TemporaryDirectory[str] | None = None
_compiled: dict[str, Path] = {}


def compiled(network: ir.Network, build: Build, trace: bool) -> Path:
    """Return the harness with the network as a program; the same text is compiled once in a process."""
    texts = files(network)
    key = sha256(repr((sorted(texts.items()), build, trace)).encode()).hexdigest()
    if key not in _compiled:
        _compiled[key] = _compile(texts, build, trace, Path(_temporary()) / key[:32])
    return _compiled[key]


def _temporary() -> str:
    """A folder that lives as long as this process."""
    global _folder
    with _lock:
        if _folder is None:
            _folder = tempfile.TemporaryDirectory(prefix="randhet-c-")
        return _folder.name


def _compile(texts: Mapping[str, str], build: Build, trace: bool, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    shared = [str(HERE / name) for name in ("harness.c", *build.system)]
    own = [name for name in (*KERNELS, *chacha.FILES) if name.endswith(".c") and name in texts]
    sources = ["network.c", *own, *shared]
    macros = ["-DRANDHET_TRACE"] if trace else []
    command = [*build.compiler, *STANDARD, *build.options, *macros, "-I.", f"-I{HERE}", *sources, "-o", "program"]
    _child(command, folder, b"")
    return folder / "program"


def _child(command: list[str], folder: Path, data: bytes) -> bytes:
    """Run a command in a folder and return its output; CompilerError with its last lines where it fails."""
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, cwd=folder, env=child.environment(), timeout=60 * MINUTES
        )
    except subprocess.TimeoutExpired:
        raise CompilerError(f"{Path(command[0]).name} did not end within {MINUTES} minutes") from None
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()[-500:]
        raise CompilerError(f"{Path(command[0]).name} failed with status {done.returncode}: {text}")
    return done.stdout


class Program:
    """A compiled network."""

    def __init__(self, network: ir.Network, build: Build, trace: bool) -> None:
        self.network, self.build, self.trace = network, build, trace
        self.path = compiled(network, build, trace)
        self.still = still_layers(network)
        self.pixel = np.dtype(value_type(network).removesuffix("_t")).newbyteorder("<")

    def run(
        self, images: np.ndarray, registers: np.ndarray, probes: Collection[str] = (), stream: bool = False
    ) -> Result:
        """Run images from these states of the registers; stream: without a reset between them."""
        names = [layer.name for layer in self.network.layers]
        traced = np.array([name in probes for name in names], np.uint8)
        data = np.array([len(images), stream], "<u4").tobytes() + traced.tobytes() + registers.tobytes()
        data += np.ascontiguousarray(images.astype(self.pixel)).tobytes()
        out = _child([*self.build.emulator, str(self.path)], self.path.parent, data)
        record = self.record(traced)
        if len(out) != record.itemsize * len(images):
            raise CompilerError(f"the program gave {len(out)} bytes, {record.itemsize * len(images)} were expected")
        return self.result(np.frombuffer(out, record), probes)

    def record(self, traced: np.ndarray) -> np.dtype[np.void]:
        """Return the layout of what the program gives for one image, see harness.c."""
        sizes = list(map(prod, self.network.shapes))
        pairs = lambda still: [
            (f"layer{i}", "<i4", (sizes[i], 2)) for i in range(len(sizes)) if traced[i] and self.still[i] == still
        ]
        return np.dtype([
            ("image", np.dtype(pairs(True))), ("steps", np.dtype(pairs(False)), (self.network.steps,)),
            ("sums", "<i8", (sizes[-1],)), ("spikes", "<u8", (len(sizes),)), ("saturations", "<u4"),
        ])  # fmt: skip

    def result(self, records: np.ndarray, probes: Collection[str]) -> Result:
        """Return the integers of a run from the records of its images."""
        sums = records["sums"].astype(np.int64)
        layers = list(enumerate(self.network.layers))
        return Result(
            predictions=sums.argmax(axis=1),
            sums=sums,
            spikes={layer.name: int(records["spikes"][:, i].sum()) for i, layer in layers if layer.spikes},
            saturations=int(records["saturations"].sum()),
            traces={layer.name: self.traced(records, i) for i, layer in layers if layer.name in probes},
        )

    def traced(self, records: np.ndarray, i: int) -> Trace:
        """Return one layer's trace, from (row, column, channel) order to its shape."""
        images, steps, shape = len(records), self.network.steps, self.network.shapes[i]
        if self.still[i]:
            pairs = np.repeat(records["image"][f"layer{i}"][:, None], steps, axis=1)
        else:
            pairs = records["steps"][f"layer{i}"]
        channels, pixels = channels_of(shape)
        plain = pairs.reshape(images, steps, pixels, channels, 2).swapaxes(2, 3).reshape(images, steps, *shape, 2)
        values = plain.astype(np.int64)
        return Trace(values[..., 0], values[..., 1] if self.network.layers[i].neuron else None)
