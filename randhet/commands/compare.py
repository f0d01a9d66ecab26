"""randhet compare: float against fixed point, and every backend against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from randhet.console import emit, err, out, stages
from randhet.options import Checkpoint, Data, Draws, Json, NetworkFile, Samples, Seed, Threads, use_threads

if TYPE_CHECKING:
    from compare.study import Comparison

FAILED = 1


def command(
    checkpoint: Checkpoint,
    network: NetworkFile,
    data: Data = None,
    samples: Samples = None,
    draws: Draws = 10,
    seed: Seed = None,
    margin: Annotated[float, typer.Option(help="Largest difference in accuracy that counts as none, 0..1.")] = 0.005,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="To check against the reference, with commas.", show_default="all there are"
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write compare.json and report.html there.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Compare a float model with its integer network: accuracy, every spike, every membrane. Exit status 1 on failure.

    The float model and the reference run with --draws different draws of the taus each. The reference and the other
    backends then run with the same seed and must agree in every integer; float and reference run with the same taus.

    Example: `randhet compare model.pt model.net --samples 100 --out report`
    """
    from compare.study import StudySettings
    from compare.study import compare as study
    from compare.words import as_dict
    from export.netx import read
    from train.checkpoint import load as load_checkpoint
    from train.data import load

    use_threads(threads)
    names = None if backends is None else tuple(name.strip() for name in backends.split(",") if name.strip())
    settings = StudySettings(draws, seed or 0, margin, names, threads)
    pair = load_checkpoint(checkpoint), read(network)
    images = load(data or pair[0].data or "digits").take(samples)
    with stages() as stage:
        found = study(*pair, images, settings, stage)
    if directory is not None:
        leave(directory, found)
    if as_json:
        emit(as_dict(found))
    else:
        show(found)
    if found.failures:
        raise typer.Exit(FAILED)


def leave(directory: Path, found: Comparison) -> None:
    """compare.json and report.html in a directory."""
    from compare import report

    report.write_json(directory / "compare.json", found)
    report.write(directory / "report.html", found)
    err.print(f"wrote {directory / 'compare.json'} and {directory / 'report.html'}", highlight=False)


def show(found: Comparison) -> None:
    """The verdict, the sentences, the table of layers."""
    from rich.table import Table

    from compare import words

    out.print(words.headline(found), style="bold red" if found.failures else "bold green", highlight=False)
    for paragraph in words.paragraphs(found):
        out.print(f"\n{paragraph}", highlight=False, markup=False)
    table = Table(title="float against fixed, same taus", title_justify="left", box=None)
    for heading in (
        "layer",
        "neurons",
        "f",
        "spike rate float",
        "fixed",
        "other spikes",
        "error, thresholds",
        "SNR, dB",
    ):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in found.layers:
        whole = layer.whole
        rates = (f"{whole.float_rate:.4f}", f"{whole.fixed_rate:.4f}", f"{100 * whole.mismatch:.2f} %")
        noise = (f"{whole.error:.4f}", words.decibels(whole.snr))
        table.add_row(layer.layer, str(layer.neurons), str(layer.f), *rates, *noise)
    out.print()
    out.print(table)
