"""randhet import-nir: an integer network from a NIR graph of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from randhet.cli.console import emit, err, out
from randhet.cli.options import Json, Seed

LEVELS = "1/255"


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NIR graph (.nir).")],
    network: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Network to write.")] = Path("model.net"),
    tool: Annotated[
        str | None,
        typer.Option(
            "--tool", metavar="NAME", help="Tool whose discretisation applies: {tools}; a graph of randhet needs none."
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            "--dt", metavar="T", help="Length of a time step, in the graph's unit of time.", show_default="the tool's"
        ),
    ] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            "--reset",
            metavar="NAME",
            help="What a spike does to the membrane potential, where graphs of the tool do not say: {resets}.",
            show_default="the tool's",
        ),
    ] = None,
    reset_delay: Annotated[
        int | None,
        typer.Option(
            "--reset-delay",
            metavar="N",
            min=0,
            max=1,
            help="Number of steps after which a spike resets the membrane potential: 0 or 1 (snnTorch's default).",
            show_default="0",
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(metavar="V", help="Lowest membrane potential of LIF neurons, in the graph's units: 0 or less."),
    ] = None,
    read_out: Annotated[
        str | None,
        typer.Option(
            "--read-out",
            metavar="NAME",
            help="Value of a leaky read-out (LI, CubaLI, I) that is the answer: last, max or mean.",
        ),
    ] = None,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="The input has a frame for each time step, instead of one image.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="T", min=1, help="Number of time steps per image; a graph of randhet has its own."
        ),
    ] = None,
    scale: Annotated[str, typer.Option(metavar="X", help="Value of one grey level of an image in the graph.")] = LEVELS,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="Images for calibration: a folder, or one of {data}.",
            show_default="random pixels",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Number of calibration images.")] = 256,
    bits: Annotated[int, typer.Option(help="Weight bits, 2 to 8.")] = 8,
    fraction: Annotated[
        int, typer.Option(help="Fractional bits f of membrane potentials, 0 to 12; lowered where needed.")
    ] = 6,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Import a NIR graph as an integer network; --tool and --dt say how time becomes steps.

    Nodes that the integer network cannot represent are refused, all of them in one message. A graph that randhet wrote
    gives the network it was written from, random decay factors and time steps included; --tool, --dt, --reset,
    --reset-delay, --floor, --read-out, --sequence, --steps and --scale are then not used.

    Example: `randhet import-nir model.nir -o model.net --tool norse --steps 8 --data digits`
    """
    from dataclasses import replace

    from randhet.base.errors import RandhetError
    from randhet.cli.commands.export import one_of
    from randhet.export.formats import nir_missing
    from randhet.export.inputs import fitted, for_images
    from randhet.export.passes.quantise import QuantSettings
    from randhet.export.pipeline import export_graph
    from randhet.netx.write import write
    from randhet.train.neurons import RESETS

    nir_missing()
    from randhet.export.nir import foreign as nir_foreign
    from randhet.export.nir import network as nir_network
    from randhet.export.nir import read as nir_read
    from randhet.export.nir.steps import OURS, TOOLS

    if tool is not None:
        one_of("--tool", tool, tuple(TOOLS))
    if reset is not None:
        one_of("--reset", reset, RESETS)
    if read_out is not None:
        one_of("--read-out", read_out, get_args(nir_foreign.ReadOutOf))
    choices = {"dt": dt, "reset": reset, "reset_delay": reset_delay, "floor": floor}
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    time = replace(TOOLS[tool] if tool else OURS, **given)
    how: dict[str, Any] = {"read_out": read_out, "sequence": sequence}
    value = level(scale)
    graph, ours = nir_read.load(file, None if tool is None or steps is None else time, steps or 1, value, **how)
    images = calibration(graph, data, samples)
    settings = QuantSettings(bits, fraction, k=8 if ours else 12)
    notes = {"source": f"NIR graph {file.name}"} | (
        {} if ours else {"discretisation": repr(time), "tool": time.version}
    )
    notes |= {} if data is None else {"data": data}
    pixels = fitted(graph, images)
    with err.status("importing") as status:
        if ours:
            whole = export_graph(graph, pixels, settings, seed=seed, metadata=notes, progress=status.update)
            made, found = whole.network, whole.calibration
        else:
            made, found = nir_network.network(
                graph, pixels, settings, seed=seed, metadata=notes, progress=status.update
            )
    if found.saturations:
        raise RandhetError(f"{file}: {found.saturations} states left 24 bits on the calibration images")
    made = for_images(made, images.shape[2:] if made.input.sequence else images.shape[1:])
    write(network, made)
    summary = {"network": str(network), "layers": len(made.layers), "steps": made.steps, "restored": ours}
    if as_json:
        emit(summary)
    else:
        origin = "restored as it was" if ours else f"read as {time.version} runs it, a grey level is {scale}"
        out.print(f"{network}: {len(made.layers)} layers, {made.steps} steps, {origin}", highlight=False)


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


def calibration(graph: Any, data: str | None, samples: int) -> Any:
    """Images (N, C, Y, X) or recordings (N, T, C, Y, X) uint8, or random pixels of the graph's own shape."""
    import numpy as np

    from randhet.train.data.sources import load

    if data is not None:
        images = load(data, "train")
        return images.take(min(samples, len(images))).pixels
    image = graph.nodes[0].operation
    shape = (*frames_of(graph), *image.shape) if image.sequence else image.shape
    return np.random.default_rng(0).integers(0, 256, (min(samples, 4), *shape), dtype=np.uint8)


def frames_of(graph: Any) -> tuple[int, ...]:
    """T, in a tuple."""
    from randhet.export.graph import Encoding

    return tuple(node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding))
