"""randhet inspect: what is in a network file, and how it fits a chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.network_input import Bits, Levels, Sequence, Steps, images_for, member_in, opened
from randhet.cli.options import Data, Json, NetworkFile, Seed

if TYPE_CHECKING:
    from randhet.fixed_point.chips.inspection import Inspection
    from randhet.fixed_point.network import Network
    from randhet.fixed_point.result import Result
    from randhet.train.data.sources import Images

RESETS = {"zero": "to zero", "subtract": "by subtraction"}
PROBED_VALUES = 2**27
"""Recorded spikes that may be kept in memory, one byte each; a larger run counts them per layer."""


def command(
    file: NetworkFile,
    chip: Annotated[
        str, typer.Option("--chip", metavar="NAME", help="Chip to map the network to: {chips}.")
    ] = "loihi2",
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", metavar="N", min=1, help="Estimate energy and time from the spikes of N test images."
        ),
    ] = None,
    data: Data = None,
    seed: Seed = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="Backend that counts the spikes: {backends}.")
    ] = "engine",
    steps: Steps = None,
    bits: Bits = 8,
    levels: Levels = None,
    sequence: Sequence = False,
    member: Annotated[
        int | None, typer.Option("--member", metavar="N", min=0, help="For an ensemble: number of the member to show.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot the use of every core (.png, .svg, .pdf).")
    ] = None,
    sana_fe: Annotated[
        Path | None,
        typer.Option("--sana-fe", metavar="DIR", help="Write the chip and the network as files of SANA-FE there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show layers, number formats, scales, memory, cores, and every design rule, passed or failed.

    The exit status is 1 where a rule failed.

    Example: `randhet inspect model.net --chip loihi2 --samples 20 --plot cores.png`
    """
    from randhet.cli.core_plot import check_name, draw
    from randhet.fixed_point.chips.inspection import inspect

    network = member_in(file, member) or opened(file, steps, bits, levels, sequence)
    if plot:
        check_name(plot)
    images, result = measured(network, data, samples, seed, backend) if samples else (None, None)
    found = inspect(network, chip, images=None if images is None else images.pixels, result=result)
    if plot:
        draw(found.mapping, plot)
    written = files_of_sana_fe(found, sana_fe, images, result) if sana_fe else {}
    if as_json:
        emit(found.as_json() | ({"sana_fe": written} if written else {}))
    else:
        show(found)
        if written:
            show_sana_fe(written, found)
    if not found.ok:
        raise typer.Exit(1)


def measured(
    network: Network, data: str | None, samples: int | None, seed: int | None, backend: str
) -> tuple[Images, Result]:
    """Test images and their run; spikes are recorded one by one where that fits in memory."""
    from math import prod

    from randhet.fixed_point.backends import runner
    from randhet.fixed_point.chips.placement import on_chip
    from randhet.fixed_point.reference import master_seed

    run = runner(backend)
    images = images_for(network, data, samples)
    probes = [layer.name for i, layer in enumerate(network.layers) if on_chip(network, i)]
    values = len(images) * network.steps * sum(map(prod, network.shapes))
    with stages() as stage:
        done = stage(backend, len(images))
        result = run(
            network, images.pixels, seed=master_seed(network, seed), first_image=0,
            probes=probes if values <= PROBED_VALUES else (), progress=done,
        )  # fmt: skip
    return images, result


def files_of_sana_fe(found: Inspection, folder: Path, images: Images | None, result: Result | None) -> dict[str, Any]:
    """Write SANA-FE's files; with a run, the first image enters and its accounting of the run is added."""
    from randhet.export.sana_fe.energy import cost
    from randhet.export.sana_fe.files import deployed, write
    from randhet.fixed_point.chips.energy import activity

    first = None if images is None else images.pixels[0]
    laid = deployed(found.network, found.mapping, first)
    paths = write(folder, laid)
    said: dict[str, Any] = {
        "files": [str(path) for path in paths],
        "neurons": sum(len(soma.bias) for soma in laid.neurons.values()),
        "synapses": sum(len(projection.weights) for projection in laid.wired),
        "cores": laid.placement.cores,
    }
    if images is None or result is None:
        return said
    spent = cost(laid, activity(found.network, images.pixels, result).sent)
    return said | {"energy_joule": spent.energy, "events": spent.counts, "joules": spent.joules}


def show_sana_fe(written: dict[str, Any], found: Inspection) -> None:
    """What was written, and the energy by SANA-FE's accounting beside the estimate's."""
    from randhet.fixed_point.chips.inspection import engineering

    out.print(
        f"- SANA-FE's files, {written['neurons']:,} neurons and {written['synapses']:,} synapses on {written['cores']} "
        f"cores: {', '.join(written['files'])}. SANA-FE itself was not run."
    )
    if found.estimate is None:
        out.print("- No image enters in them: --samples adds the first image and the energy of a run.")
        return
    parts = ", ".join(f"{what} {engineering(joule, 'J')}" for what, joule in written["joules"].items() if joule)
    out.print(
        f"- By SANA-FE's accounting of these spikes: {engineering(written['energy_joule'], 'J')} per image beside "
        f"{engineering(found.estimate.energy, 'J')} in the estimate above ({parts})."
    )


def show(found: Inspection) -> None:
    """Tables and sentences for people."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("layer", "type", "shape", "bits", "f", "threshold", "weights", "cores", "bytes/core"):
        table.add_column(heading, justify="left" if heading in ("layer", "type") else "right", overflow="fold")
    for layer in found.layers:
        decay = None if layer.decay is None else f"decay {layer.decay}"
        reset = None if layer.reset is None else f"reset {RESETS[layer.reset]}"
        kind = ", ".join(filter(None, (layer.operation, layer.neuron, decay, reset)))
        shape = "x".join(map(str, layer.shape))
        threshold = "" if layer.threshold is None else "{}..{}".format(*layer.threshold)
        f = "" if layer.f is None else str(layer.f)
        counts = (f"{count:,}" if count else "" for count in (layer.weights, layer.cores, layer.memory_per_core))
        table.add_row(layer.layer, kind, shape, str(layer.bits), f, threshold, *counts)
    out.print(table)
    kept = sum(finding.ok for finding in found.rules)
    out.print(f"{found.network.steps} time steps, {found.synapse_bytes:,} bytes of weights")
    out.print(f"{kept} of {len(found.rules)} rules hold")
    for finding in found.rules:
        if not finding.ok:
            out.print(
                f"[red]failed[/red]: {finding.rule}, layer {finding.layer}: {finding.value}, limit {finding.limit}"
            )
    if found.estimate:
        show_estimate(found)
    for sentence in found.sentences():
        if not sentence.startswith("Broken"):
            out.print(f"- {sentence}")


def show_estimate(found: Inspection) -> None:
    """Energy by kind of event, with what one costs and where that figure comes from."""
    from rich.table import Table

    from randhet.fixed_point.chips.inspection import engineering

    assert found.estimate is not None
    table = Table(box=None)
    for heading in ("per image", "count", "each", "energy", "source of the figure"):
        table.add_column(heading, justify="right" if heading in ("count", "each", "energy") else "left")
    terms = found.estimate.terms
    for what, unit in dict.fromkeys((term.what, term.unit) for term in terms):
        count = sum(term.count for term in terms if (term.what, term.unit) == (what, unit))
        each, energy = engineering(unit.value, "J"), engineering(count * unit.value, "J")
        table.add_row(what, f"{count:,.0f}", each, energy, unit.source)
    out.print(table)
