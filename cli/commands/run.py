"""randhet run: accuracy, spikes and operation counts of a network on one backend."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.network_input import Bits, Levels, Sequence, Steps, ensemble_in, images_for, opened
from randhet.cli.options import Data, Json, NetworkFile, Samples, Seed, Threads


def command(
    file: NetworkFile,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="Backend that runs the network: {backends}.")
    ] = "reference",
    data: Data = None,
    samples: Samples = None,
    seed: Seed = None,
    threads: Threads = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", min=1, help="Number of images per batch.", show_default="chosen by the backend"
        ),
    ] = None,
    steps: Steps = None,
    bits: Bits = 8,
    levels: Levels = None,
    sequence: Sequence = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="The inputs are consecutive pieces of one recording: no reset between them.", is_flag=True
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a network on test images and report accuracy, spikes and operation counts.

    Without a seed, in the file or as --seed, random numbers start from the operating system's entropy, and two runs of
    a stochastic network differ. The backend add-only is multiplication-free. Of an ensemble every member runs. Of
    one network --json has NeuroBench's metrics, which take a second run of at most 16 images.

    Example: `randhet run model.net --backend lava --samples 50`
    """
    from randhet.base.errors import RandhetError
    from randhet.fixed_point import ensemble as ensembles
    from randhet.fixed_point.backends import runner
    from randhet.fixed_point.reference import master_seed

    run = runner(backend, threads=threads, batch=batch)
    ensemble = ensemble_in(file)
    network = ensemble.first if ensemble else opened(file, steps, bits, levels, sequence)
    if network.shapes[-1] == (1,):
        raise RandhetError(
            f"{file} has one output, which is a value and no class: read it from the sums of randhet.run"
        )
    if stream and not network.input.sequence:
        raise RandhetError(f"--stream is for recordings, {file} takes still images")
    images = images_for(network, data, samples)
    known = network.seed if seed is None else seed
    seed = master_seed(network, seed)
    carried: dict[str, Any] = {"stream": True} if stream else {}
    with stages() as stage:
        done = stage(backend, len(images) * (len(ensemble.members) if ensemble else 1))
        begin = time.perf_counter()
        how: dict[str, Any] = {"seed": seed, "first_image": 0, "probes": (), "progress": done, **carried}
        result = ensembles.run(ensemble, images.pixels, run, **how) if ensemble else run(network, images.pixels, **how)
        seconds = time.perf_counter() - begin
    summary = {
        "backend": backend,
        "accuracy": float((result.predictions == images.labels).mean()),
        "samples": len(images),
        "seed": known,  # never one that came from the system's entropy: whoever reads it could repeat the draws
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
        "predictions": result.predictions.tolist(),
        "spikes": dict(result.spikes),
        "operations": None if result.operations is None else dict(result.operations),
        "saturations": result.saturations,
    }
    if isinstance(result, ensembles.EnsembleResult):
        right = [float((member.predictions == images.labels).mean()) for member in result.members]
        summary |= {"combine": ensemble and ensemble.combine, "members": right}
    elif as_json:
        from randhet.fixed_point.neurobench import metrics
        from randhet.fixed_point.synaptic import counted

        again = counted(network, images.pixels, seed, stream=stream, threads=threads)
        summary["neurobench"] = metrics(network, again)
    if as_json:
        emit(summary)
    else:
        show(summary)


def show(summary: dict[str, Any]) -> None:
    """The result as a table."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_row("accuracy", f"{100 * summary['accuracy']:.2f} % of {summary['samples']} images")
    if "members" in summary:
        alone = ", ".join(f"{100 * accuracy:.2f}" for accuracy in summary["members"])
        table.add_row(f"members, by {summary['combine']}", f"{alone} % alone")
    table.add_row("time", f"{summary['seconds']:.2f} s, {summary['images_per_second']:.1f} images per second")
    table.add_row("seed", "from the system's entropy" if summary["seed"] is None else str(summary["seed"]))
    table.add_row("saturations", str(summary["saturations"]))
    for layer, count in summary["spikes"].items():
        table.add_row(f"spikes of {layer}", f"{count:,}, {count / summary['samples']:,.1f} per image")
    for operation, count in (summary["operations"] or {}).items():
        table.add_row(f"operations: {operation}", f"{count:,}")
    out.print(f"[bold]{summary['backend']}[/bold]")
    out.print(table)
