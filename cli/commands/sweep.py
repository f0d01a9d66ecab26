"""randhet sweep: what number formats cost in accuracy, memory and energy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from randhet.base.memory import keep_freed
from randhet.cli.console import emit, err, out, stages
from randhet.cli.model_options import ModelArgument, ModelOptions, data_of, load_model, model_options
from randhet.cli.options import (
    AlwaysWorkers,
    Data,
    Json,
    PerTask,
    Samples,
    Scheduler,
    Seed,
    Threads,
    processes,
    threads_of_piece,
    use_threads,
)


@model_options
def command(
    path: ModelArgument,
    bits: Annotated[str, typer.Option(metavar="N,...", help="Weight bits.")] = "8,6,4,3",
    tau_bits: Annotated[str, typer.Option(metavar="N,...", help="Random bits per draw of a decay factor.")] = "8,3",
    fractions: Annotated[str, typer.Option(metavar="N,...", help="Fractional bits f of membrane potentials.")] = "6,2",
    scales: Annotated[
        str, typer.Option(metavar="KIND,...", help="Kinds of weight scales: {scales}.")
    ] = "channel,layer,power-of-two",
    plain: Annotated[
        bool, typer.Option("--plain", help="Also measure every point without clipping and bias correction.")
    ] = False,
    data: Data = None,
    samples: Samples = None,
    calibration: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of training images for calibration.")
    ] = 64,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", min=1, help="Number of Monte-Carlo repetitions for each mean.")
    ] = 5,
    seed: Seed = None,
    chip: Annotated[str, typer.Option(metavar="NAME", help="Chip whose figures give the energy: {chips}.")] = "loihi2",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write sweep.jsonl, sweep.json and sweep.png there, and continue from them."
        ),
    ] = None,
    scheduler: Scheduler = None,
    workers: AlwaysWorkers = None,
    per_task: PerTask = 500,
    threads: Threads = None,
    *,
    said: ModelOptions,
    as_json: Json = False,
) -> None:
    """Export and run every combination of number formats: accuracy against memory and estimated energy.

    Points and ranges of images run in parallel. With --out, an interrupted sweep continues where it stopped, and one
    with more values computes only the new points. Weights are clipped and biases corrected, as by `randhet export
    --passes clip,correct-bias`; --plain adds every point without these passes.

    Example: `randhet sweep model.pt --bits 8,4 --scales channel --out formats`
    """
    from randhet.base.split import Split
    from randhet.compare.quantisation.precision import Grid, Terms, sweep
    from randhet.train.data.sources import load

    count, each = processes(scheduler, workers, threads), threads_of_piece(scheduler, workers, threads)
    keep_freed()
    use_threads(threads)
    grid = Grid(
        numbers("bits", bits), numbers("tau-bits", tau_bits), numbers("fractions", fractions), names(scales), plain
    )
    model = load_model(path, said)
    source = data_of(data, model)
    images, training = load(source).as_classes(model.classes, "the model").take(samples), load(source, "train")
    with stages() as stage:
        results = sweep(
            model,
            images,
            training.take(min(calibration, len(training))).pixels,
            grid,
            Terms(draws, seed or 0, chip),
            stage,
            Split(scheduler, count, per_task, each, directory and directory / "sweep.jsonl"),
        )
    if directory is not None:
        leave(directory, results)
    if as_json:
        emit(results)
    else:
        show(results)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """8,6,4 as numbers."""
    from randhet.base.errors import RandhetError

    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise RandhetError(f"--{option} {text!r} is not a list of whole numbers with commas") from None


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def leave(directory: Path, results: dict[str, Any]) -> None:
    """sweep.json and sweep.png in a directory."""
    import json

    from randhet.base.files import replacing
    from randhet.compare.quantisation.precision_plot import plot

    with replacing(directory / "sweep.json") as temporary:
        Path(temporary).write_text(json.dumps(results, indent=1) + "\n")
    plot(directory / "sweep.png", results)
    err.print(f"wrote {directory / 'sweep.json'} and {directory / 'sweep.png'}", highlight=False)


def show(results: dict[str, Any]) -> None:
    """The table for people: most accurate first, what nothing beats in bold."""
    from rich.table import Table

    from randhet.compare.quantisation.precision import WIDTHLESS

    unquantised = results["float"]
    out.print(
        f"{results['data']}: {results['samples']} images, {results['draws']} draws; float {percent(unquantised)}",
        highlight=False,
    )
    table = Table(box=None)
    for heading in ("number formats", "accuracy, %", "bytes", "energy, µJ", "spikes per image", "saturations"):
        table.add_column(heading, justify="left" if heading == "number formats" else "right")
    fitting = [row for row in results["points"] if "accuracy" in row]
    for row in sorted(fitting, key=lambda row: (-row["accuracy"], row["bytes"])):
        best = row["best_for_bytes"] or row["best_for_energy"]
        cells = (f"{row['bytes']:,}", f"{1e6 * row['energy']:.2f}", f"{row['spikes']:,.0f}", f"{row['saturations']}")
        table.add_row(row["name"], percent(row), *cells, style="bold" if best else None)
    out.print(table)
    out.print("bold: nothing is both cheaper, in memory or in energy, and more accurate", style="dim")
    out.print(f"energy is an estimate: {WIDTHLESS}", style="dim")
    for row in results["points"]:
        if "error" in row:
            out.print(f"{row['name']}: no network, {row['error']}", highlight=False, markup=False)


def percent(row: dict[str, Any]) -> str:
    """Accuracy with half the width of its interval."""
    half = f" ± {100 * (row['interval'][1] - row['accuracy']):.2f}" if row["interval"] else ""
    return f"{100 * row['accuracy']:.2f}{half}"
