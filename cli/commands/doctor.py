"""randhet doctor: what is installed, what each missing part would add and how to get it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from randhet.base import triton
from randhet.cli.console import emit, out
from randhet.cli.options import Json

REQUIRED = ("numpy", "numba", "torch", "h5py", "scipy", "scikit-learn", "matplotlib", "pillow", "tensorboardX")
"""Distributions that `pip install randhet` brings."""
PEERS = "pip install 'randhet[peers]', which brings torchvision"


@dataclass(frozen=True)
class Part:
    """A part that may be missing. probe returns why it cannot be used, None where it can; version is a distribution's.

    adds: what works with it only. get: how to install it.
    """

    name: str
    adds: str
    get: str
    probe: Callable[[], str | None]
    version: str | None = None

    def examined(self) -> dict[str, Any]:
        """Return the part as `randhet doctor --json` shows it."""
        return {
            "name": self.name,
            "version": self.version and installed(self.version),
            "missing": self.probe(),
            "adds": self.adds,
            "get": self.get,
        }


def command(as_json: Json = False) -> None:
    """Show what is installed here, what each missing part would add and how to get it.

    Parts are imported, so that one which is there but does not fit the rest is reported too. Exit status 0.

    Example: `randhet doctor`
    """
    content = examination()
    if as_json:
        emit(content)
    else:
        show(content)


def examination() -> dict[str, Any]:
    """Return everything that the command reports, as one JSON object."""
    from randhet import __version__
    from randhet.benchmarks.machine import machine

    here = machine()
    kept = ("python", "system", "processor", "cores", "features", "memory_gb")
    return {
        "randhet": __version__,
        **{name: here[name] for name in kept},
        "engine": instructions(),
        "required": {name: installed(name) for name in REQUIRED},
        "parts": [optional.examined() for optional in parts()],
        "backends": {name: backend.missing() for name, backend in backends().items()},
    }


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def backends() -> dict[str, Any]:
    """Return the table of backends."""
    from randhet.fixed_point.backends import BACKENDS

    return dict(BACKENDS)


def instructions() -> str:
    """Name the processor's instructions that the engine multiplies bytes with."""
    try:
        from randhet.fixed_point.kernels import matrix, vectors
    except ImportError as error:
        return f"cannot be loaded: {error}"
    if matrix.AVAILABLE:
        return "AMX tiles of bytes"
    if vectors.AVAILABLE:
        return f"{vectors.FORM.name} products of bytes"
    return "none for products of bytes: rows of weights are added at every activity"


def parts() -> tuple[Part, ...]:
    """List the parts that commands can do without."""
    from randhet.lava_runtime.available import INSTALL

    pip = "pip install 'randhet[{}]'".format
    return (
        Part("Lava", "run --backend lava, and Lava in demo, compare and bench", INSTALL, _lava, "lava-nc"),
        Part("ONNX", "export --onnx, --onnx-float and --onnx-step", pip("onnx"), _imports("onnx"), "onnx"),
        Part("ONNX Runtime", "run --backend onnx", pip("onnx"), _imports("onnxruntime"), "onnxruntime"),
        Part("Triton", "run --backend cuda, and random decay factors in train --device cuda", pip("gpu"),
             triton.missing, "triton"),
        Part("NIR", "export --nir and import-nir", pip("onnx"), _imports("nir"), "nir"),
        Part("Dask", "run, compare, attack and sweep on several processes or machines", pip("attacks"),
             _imports("distributed"), "distributed"),
        Part("torchvision", "--data cifar10 and other named data that it reads; export of its models", pip("vision"),
             _imports("torchvision"), "torchvision"),
        Part("psutil", "memory and processor time of Lava in bench", pip("bench"), _imports("psutil"), "psutil"),
        Part("SpikingJelly", "its row in bench", PEERS, _imports("spikingjelly"), "spikingjelly"),
        Part("snnTorch", "its row in bench", PEERS, _imports("snntorch"), "snntorch"),
        Part("C++ compiler", "the row torch-compile in bench", "your system's package manager (g++ or clang)",
             _compiler),
        Part("file locks", "--out of run, compare, attack and sweep, which continue where they stopped",
             "a POSIX system, or WSL", _imports("fcntl")),
    )  # fmt: skip


def _imports(module: str) -> Callable[[], str | None]:
    """Return a probe that imports a module."""

    def probe() -> str | None:
        from importlib import import_module
        from importlib.util import find_spec

        if find_spec(module) is None:
            return "not installed"
        try:
            import_module(module)
        except Exception as error:  # a part that does not fit the rest fails in ways of its own
            return f"installed, but its import fails: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
        return None

    return probe


def _lava() -> str | None:
    from randhet.lava_runtime.available import missing
    from randhet.lava_runtime.loading import load

    if reason := missing():
        return reason.partition(":")[0]
    try:
        load()
    except Exception as error:
        return f"installed, but its import fails: {type(error).__name__}: {error}"
    return None


def _compiler() -> str | None:
    from shutil import which

    return None if any(map(which, ("c++", "g++", "clang++"))) else "not installed"


def show(content: dict[str, Any]) -> None:
    """Print tables for people: the machine, what is needed, what may be added."""
    from rich.table import Table

    machine = Table(show_header=False, box=None)
    machine.add_row("randhet", content["randhet"])
    machine.add_row("Python", f"{content['python']} on {content['system']}")
    machine.add_row("processor", f"{content['processor']}, {content['cores']} cores, {content['memory_gb'] or '?'} GB")
    machine.add_row("instructions", " ".join(content["features"]) or "none that are looked for")
    machine.add_row("engine", content["engine"])
    for name, version in content["required"].items():
        machine.add_row(name, version or "[red]missing[/red]: pip install randhet")
    out.print(machine)
    table = Table(box=None, title="parts", title_justify="left")
    for heading in ("part", "state", "what it adds"):
        table.add_column(heading, overflow="fold")
    for optional in content["parts"]:
        state = optional["missing"] or optional["version"] or "here"
        table.add_row(optional["name"], state, optional["adds"], style="yellow" if optional["missing"] else None)
    out.print(table)
    for optional in content["parts"]:
        if optional["missing"]:
            out.print(f"{optional['name']}: {optional['get']}", highlight=False, markup=False, soft_wrap=True)
    usable = [name for name, reason in content["backends"].items() if reason is None]
    out.print(f"backends that can run here: {', '.join(usable)}", highlight=False)
