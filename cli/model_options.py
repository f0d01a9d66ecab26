"""MODEL in every command that takes one: its argument, and the options for what a file does not say of its model.

    @model_options
    def command(model: ModelArgument, ..., said: ModelOptions, as_json: Json = False) -> None:
        opened = load_model(model, said)

The options stand in the command's signature in place of the one parameter `said`, which they become.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from randhet.export.model import Model
    from randhet.export.model_files import Said
    from randhet.fixed_point.network import Network
    from randhet.train.data.images import Images

HELP = (
    "Trained model: checkpoint of randhet train or its shipped name, state dict of the paper's script, FILE.py:NAME (a "
    "function that returns an nn.Module), NIR graph, or network of lava-dl."
)
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help=HELP)]
OptionalModel = Annotated[Path | None, typer.Argument(metavar="[MODEL]", help=HELP)]
PANEL = "What MODEL does not say itself"
PUBLISHED = "For a state dict of the paper's script: "
NIR = "For a NIR graph: "
LAVA_DL = "For a network of lava-dl: "


def _option(kind: Any, name: str, help: str, default: str | None = None, **more: Any) -> Any:
    option = typer.Option(name, help=help, rich_help_panel=PANEL, show_default=default or False, **more)
    return Annotated[kind | None, option]


OPTIONS: dict[str, Any] = {
    "weights": _option(
        Path, "--weights", "For FILE.py:NAME, or a NIR graph: state dict with its weights.", metavar="FILE"
    ),
    "time_steps": _option(
        int, "--time-steps", "Number of time steps per image.", "8 for the paper's script", metavar="T", min=1
    ),
    "sampling": _option(
        str, "--sampling", f"{PUBLISHED}when decay factors are drawn, step or forward.", "step", metavar="KIND"
    ),
    "mean": _option(str, "--mean", f"{PUBLISHED}mean of each channel.", "0.4914,0.4822,0.4465", metavar="M,M,M"),
    "std": _option(
        str, "--std", f"{PUBLISHED}standard deviation of each channel.", "0.2471,0.2435,0.2616", metavar="S,S,S"
    ),
    "connect": _option(
        str, "--connect", f"{PUBLISHED}connect function of a block, {{connections}}.", "add", metavar="KIND"
    ),
    "tool": _option(
        str, "--tool", f"{NIR}tool whose discretisation applies, {{tools}}; a graph of randhet needs none.",
        metavar="NAME",
    ),
    "dt": _option(
        float, "--dt", f"{NIR}length of a time step, in the graph's unit of time.", "the tool's", metavar="T"
    ),
    "reset": _option(
        str, "--reset", f"{NIR}what a spike does to the membrane potential, {{resets}}.", "the tool's", metavar="NAME"
    ),
    "reset_delay": _option(
        int, "--reset-delay", f"{NIR}steps after which a spike resets, 0 or 1.", "0", metavar="N", min=0, max=1
    ),
    "grey": _option(str, "--scale", f"{NIR}value of one grey level of an image.", "1/255", metavar="X"),
    "read_out": _option(
        str, "--read-out", f"{NIR}value of a leaky read-out that is the answer, last, max or mean.", metavar="NAME"
    ),
    "sequence": _option(bool, "--sequence", f"{NIR}the input has a frame for each time step."),
    "input_bits": _option(int, "--input-bits", f"{LAVA_DL}bits of the input.", "8", metavar="N", min=1, max=16),
    "levels": _option(
        str,
        "--input",
        f"{LAVA_DL}values of black and white, to which the input layer's weight and bias apply, or currents where the "
        "grey levels already are the input currents.",
        metavar="LOW,HIGH|currents",
    ),
}  # fmt: skip
ModelOptions = Any
"""The parameter that the options become: `randhet.export.model_files.Said`."""


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Put the options of a model in place of a command's parameter `said`."""
    signature = inspect.signature(command, eval_str=True)

    @wraps(command)
    def run(**given: Any) -> Any:
        options = {name: given.pop(name) for name in OPTIONS}
        return command(**given, said=said(**options))

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [parameter.replace(kind=keyword) for parameter in signature.parameters.values()]
    place = next(i for i, parameter in enumerate(own) if parameter.name == "said")
    added = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in OPTIONS.items()]
    run.__signature__ = signature.replace(parameters=[*own[:place], *added, *own[place + 1 :]])  # type: ignore[attr-defined]
    return run


def said(**options: Any) -> Said:
    """The options as they were given, in their types."""
    from randhet.export.model_files import Said
    from randhet.train.configuration import typed

    options["steps"] = options.pop("time_steps")
    for name in ("mean", "std"):
        options[name] = options[name] and typed(f"--{name}", options[name], tuple[float, ...])
    options["grey"] = options["grey"] and level(options["grey"])
    if options["levels"] not in (None, "currents"):
        options["levels"] = typed("--input", options["levels"], tuple[float, ...])
    return Said(**options)


LEVELS = "1/255"


def level(text: str) -> float:
    """A positive number, or a fraction such as 1/255."""
    from randhet.base.errors import RandhetError
    from randhet.train.configuration import number

    try:
        value = number(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = 0.0
    if not 0 < value < 1e6:
        raise RandhetError(f"--scale is {text!r}, it must be a positive number or a fraction such as {LEVELS}")
    return value


def load_model(path: Path, said: Said | None = None, network: Network | None = None) -> Model:
    """The model of a command, read as the network was exported, or as the options say.

    What is assumed of a published state dict is told on standard error.
    """
    from randhet.cli.console import err
    from randhet.export.model_files import Said, open_model
    from randhet.train.published import Published

    model = open_model(path, said or Said(), network)
    if model.checkpoint and (options := model.checkpoint.record.get("published")):
        err.print(Published.of(options).sentence(), highlight=False, markup=False)
    return model


def data_of(asked: str | None, model: Model, network: Network | None = None) -> str:
    """The data of a command: as asked for, or what the model was trained on, or the network calibrated on.

    Recordings that are asked for without options become frames as those did.
    """
    from randhet.train.data.recordings import like

    recorded = model.data or (network and network.metadata.get("data")) or "digits"
    return like(asked, recorded) if asked else recorded


def sized(model: Model, images: Images) -> Model:
    """The model, where it is a published state dict with the size of these images, which such a file cannot say."""
    from dataclasses import replace

    from randhet.export.model import of_checkpoint

    checkpoint = model.checkpoint
    if checkpoint is None or not checkpoint.record.get("published"):
        return model
    _, y, x = images.frame
    settings = replace(checkpoint.settings, image_size=(y, x))
    return of_checkpoint(replace(checkpoint, settings=settings), model.name)
