"""Open a MODEL, as every command takes one: a checkpoint, FILE.py:NAME, a NIR graph, or a network of lava-dl.

What a file does not say itself (`Said`) comes from the command line, or from the network that was exported from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from randhet.base.errors import FileError, RandhetError
from randhet.export import python_file
from randhet.export.model import PUBLISHED, Model, of_checkpoint, of_graph, of_network
from randhet.fixed_point.network import Network
from randhet.train import checkpoint as checkpoints
from randhet.train import weights as weight_files
from randhet.train.published import Published

HDF5 = b"\x89HDF\r\n\x1a\n"
PYTHON = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
Kind = Literal["checkpoint", "python", "nir", "lava-dl"]


@dataclass(frozen=True)
class Said:
    """What a file does not say of its model; None where nobody says it.

    steps: T. weights: a state dict for what FILE.py:NAME returns, or for a NIR graph. sampling, mean, std, connect: of
    a published state dict. tool, dt, reset, reset_delay, grey, read_out, sequence: how a NIR graph becomes steps, the
    value of one grey level in it, what is read of its last node, and whether its input has a frame for each step.
    input_bits, levels: of the input of a lava-dl network.
    """

    steps: int | None = None
    weights: Path | None = None
    sampling: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    connect: str | None = None
    tool: str | None = None
    dt: float | None = None
    reset: str | None = None
    reset_delay: int | None = None
    grey: float | None = None
    read_out: str | None = None
    sequence: bool | None = None
    input_bits: int | None = None
    levels: tuple[float, ...] | Literal["currents"] | None = None

    def given(self) -> dict[str, Any]:
        """Return what somebody says."""
        return {name: value for name, value in vars(self).items() if value is not None}


PUBLISHED_ONLY = ("sampling", "mean", "std", "connect")
NEEDS: dict[Kind, tuple[str, ...]] = {
    "checkpoint": ("steps", *PUBLISHED_ONLY),
    "python": ("steps", "weights"),
    "nir": ("steps", "weights", "tool", "dt", "reset", "reset_delay", "grey", "read_out", "sequence"),
    "lava-dl": ("steps", "input_bits", "levels"),
}
"""What may be said of each kind of MODEL."""
WORDS: dict[Kind, str] = {
    "checkpoint": "a checkpoint",
    "python": "a function in Python",
    "nir": "a NIR graph",
    "lava-dl": "a network of lava-dl",
}
OPTIONS = {
    "steps": "time-steps", "grey": "scale", "reset_delay": "reset-delay", "read_out": "read-out",
    "input_bits": "input-bits", "levels": "input",
}  # fmt: skip
"""What is said, by the name of its option, where they differ."""


def option(name: str) -> str:
    """Return the option of the command line that says it."""
    return f"--{OPTIONS.get(name, name)}"


def open_model(path: str | Path, said: Said = Said(), network: Network | None = None) -> Model:
    """Open a MODEL; network: one that was exported from it, which says what nobody else says.

    RandhetError where the file cannot be opened, where something is said that such a file does not need, or where it
    contradicts the network.
    """
    kind = kind_of(path)
    for name in said.given():
        if name not in NEEDS[kind]:
            raise RandhetError(f"{option(name)} is not for {WORDS[kind]}, which {path} is: leave it out")
    return OPEN[kind](path, said, network)


def kind_of(path: str | Path) -> Kind:
    """Tell what kind of MODEL a path names."""
    if PYTHON.fullmatch(str(path)):
        return "python"
    file = Path(path)
    if file.suffix == ".py":
        raise RandhetError(f"{path} is a file of Python: say which of its functions returns the model, {path}:NAME")
    if not file.is_file():
        return "checkpoint"
    with file.open("rb") as content:
        is_hdf5 = content.read(len(HDF5)) == HDF5
    if not is_hdf5:
        return "checkpoint"
    return "nir" if file.suffix == ".nir" else "lava-dl"


def file_of(path: str | Path) -> Path:
    """Return the file that a MODEL lies in."""
    match = PYTHON.fullmatch(str(path))
    return Path(match["file"]) if match else Path(path)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def _checkpoint(path: str | Path, said: Said, network: Network | None) -> Model:
    given, known = said.given(), recorded_options(network)
    for name, value in given.items():
        if known and known[name] != value:
            raise RandhetError(f"{name} is {value}, the network was exported with {known[name]}: leave the option out")
    chosen = Published(**known | given) if known or given else None
    checkpoint = checkpoints.load(path, chosen)
    if given and not checkpoint.record.get(PUBLISHED):
        raise RandhetError(f"{path} is a checkpoint of randhet train, which says its own {', '.join(given)}")
    return of_checkpoint(checkpoint, str(path))


def recorded_options(network: Network | None) -> dict[str, Any]:
    """Return the options of a published state dict that a network was exported with, by their names in `Said`."""
    text = network.metadata.get(PUBLISHED) if network is not None else None
    if text is None:
        return {}
    try:
        return asdict(Published.of(json.loads(text)))
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(f"the network's metadata entry published is damaged: {error}") from None


# --- functions in Python ----------------------------------------------------------------------------------------------


def _python(path: str | Path, said: Said, network: Network | None) -> Model:
    match = PYTHON.fullmatch(str(path))
    assert match is not None
    held = None if said.weights is None else weight_files.load(said.weights)
    return python_file.model(match["file"], match["name"], held, said.steps, None if network is None else network.steps)


# --- NIR --------------------------------------------------------------------------------------------------------------


def _nir(path: str | Path, said: Said, network: Network | None) -> Model:
    if find_spec("nir") is None:
        raise RandhetError("NIR cannot be read here: nir is not installed: pip install 'randhet[onnx]'")
    from randhet.export.nir.foreign import ReadOutOf
    from randhet.export.nir.read import PIXEL, load
    from randhet.export.nir.steps import OURS, TOOLS

    known = recorded_said(network)
    said = replace(said, **{name: value for name, value in known.items() if getattr(said, name) is None})
    if said.tool is not None and said.tool not in TOOLS:
        raise RandhetError(f"--tool is {said.tool!r}, it must be one of {', '.join(TOOLS)}")
    if said.read_out not in (None, *get_args(ReadOutOf)):
        raise RandhetError(f"--read-out is {said.read_out!r}, it must be one of {', '.join(get_args(ReadOutOf))}")
    choices = {"dt": said.dt, "reset": said.reset, "reset_delay": said.reset_delay}
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    time = replace(TOOLS[said.tool] if said.tool else OURS, **given)
    clear = said.tool is not None and said.steps is not None
    grey, how = PIXEL if said.grey is None else said.grey, {"read_out": said.read_out, "sequence": bool(said.sequence)}
    graph, ours = load(path, time if clear else None, said.steps or 1, grey, **how)  # type: ignore[arg-type]
    model = of_graph(graph, str(path))
    if said.weights is not None:
        held = weight_files.load(said.weights)
        model = of_graph(python_file.with_weights(graph, held.state, said.weights), str(path))
        model = replace(model, trained=held.record, data=held.data, classes=held.classes)
    notes = {} if ours else {SAID: json.dumps({name: getattr(said, name) for name in RECORDED}, sort_keys=True)}
    return replace(model, notes=notes, settings={} if ours else {"k": 12})


SAID = "said"
"""The metadata entry that holds, as JSON, how a NIR graph was read."""
RECORDED = ("steps", "tool", "dt", "reset", "grey", "reset_delay", "read_out", "sequence")


def recorded_said(network: Network | None) -> Mapping[str, Any]:
    """Return how the NIR graph was read that a network was exported from."""
    text = network.metadata.get(SAID) if network is not None else None
    if text is None:
        return {}
    try:
        return {name: json.loads(text).get(name) for name in RECORDED}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise FileError(f"the network's metadata entry {SAID} is damaged") from None


# --- lava-dl ----------------------------------------------------------------------------------------------------------


def _lava_dl(path: str | Path, said: Said, network: Network | None) -> Model:
    from randhet.netx.lava_dl import Shown, is_own, read_foreign

    if is_own(path):
        raise RandhetError(f"{path} is a network that was exported: give the model that it was exported from")
    if said.steps is None:
        raise RandhetError(f"{path} is a network of lava-dl, which does not say its number of time steps: --time-steps")
    if said.levels is not None and said.levels != "currents" and len(said.levels) != 2:
        raise RandhetError(f"--input is {said.levels}, it must be two numbers such as 0,1, or currents")
    shown = Shown(said.steps, 8 if said.input_bits is None else said.input_bits, levels=said.levels)
    return of_network(read_foreign(path, shown), str(path))


OPEN: dict[Kind, Callable[[str | Path, Said, Network | None], Model]] = {
    "checkpoint": _checkpoint,
    "python": _python,
    "nir": _nir,
    "lava-dl": _lava_dl,
}
assert {name for names in NEEDS.values() for name in names} == {entry.name for entry in fields(Said)}
