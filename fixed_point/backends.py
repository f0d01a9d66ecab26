"""What can run an integer network: a table of names. A backend's code is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Protocol, cast

import numpy as np

from randhet.base.errors import RandhetError
from randhet.fixed_point.generator import GENERATORS
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result


class BackendError(RandhetError):
    """A backend that does not exist, or cannot run here."""


class Runner(Protocol):
    """Run images (N, C, Y, X), or recordings (N, T, C, Y, X), with a master seed; trace the probed layers.

    The first has logical number first_image. stream: they are pieces of one recording, and nothing is reset between.
    """

    def __call__(
        self,
        network: Network,
        images: np.ndarray,
        *,
        seed: int | None,
        first_image: int,
        probes: Collection[str],
        progress: Callable[[int], None] | None = None,
        stream: bool = False,
    ) -> Result: ...


@dataclass(frozen=True)
class Backend:
    """Where a runner lives, as module and function, and what stands in its way here (None: nothing).

    generators: the kinds of generators whose networks it runs.
    """

    module: str
    function: str
    about: str
    obstacle: Callable[[], str | None] = lambda: None
    generators: tuple[str, ...] = GENERATORS

    def missing(self) -> str | None:
        """Say why it cannot run here, None where it can."""
        if find_spec(self.module) is None:
            return "it is not part of this version of randhet"
        return self.obstacle()

    def refuses(self, network: Network) -> str | None:
        """Say why it cannot run a network that others can, None where it can."""
        if network.generator in self.generators:
            return None
        return f"the network draws by {network.generator}, it by {' or '.join(self.generators)} only"


def _lava() -> str | None:
    return cast("str | None", import_module("randhet.lava_runtime.available").missing())


def _compiler() -> str | None:
    return cast("str | None", import_module("randhet.export.c.run").missing())


def _gpu() -> str | None:
    return cast("str | None", import_module("randhet.export.gpu.available").missing())


def _needs(package: str, extra: str) -> str | None:
    return None if find_spec(package) else f"{package} is not installed: pip install 'randhet[{extra}]'"


BACKENDS: dict[str, Backend] = {
    "reference": Backend("randhet.fixed_point.reference", "run", "the readable definition, NumPy"),
    "engine": Backend("randhet.fixed_point.engine", "run", "compiled and parallel"),
    "add-only": Backend("randhet.fixed_point.add_only", "run", "compiled, without multiplication"),
    "lava": Backend("randhet.lava_runtime.runner", "run", "Lava processes, one step of delay per synapse", _lava),
    "onnx": Backend(
        "randhet.export.onnx.run", "run", "integer ONNX graph", partial(_needs, "onnxruntime", "onnx"), ("register",)
    ),
    "cuda": Backend("randhet.export.gpu.run", "run", "Triton kernels on a GPU", _gpu),
    "c": Backend("randhet.export.c.run", "run", "C without multiplication, compiled here", _compiler),
}


def available() -> list[str]:
    """List the names of the backends that can run here."""
    return [name for name, backend in BACKENDS.items() if backend.missing() is None]


def require(name: str) -> None:
    """Raise BackendError unless the backend exists and can run here."""
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is not one of {', '.join(BACKENDS)}")
    if reason := BACKENDS[name].missing():
        raise BackendError(f"backend {name} cannot run here: {reason}")


def runner(name: str, **options: int | None) -> Runner:
    """Import the run function of a backend. Options (threads, batch) go to those that know them, unless None."""
    require(name)
    backend = BACKENDS[name]
    function = getattr(import_module(backend.module), backend.function)
    known = signature(function).parameters
    given = {key: value for key, value in options.items() if value is not None and key in known}
    return cast(Runner, partial(function, **given))
