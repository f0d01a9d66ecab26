"""randhet bench: the speed table, peers beside it, one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from randhet.cli.console import Stage, emit, out, stages
from randhet.cli.options import Json

FAILED = 1
COLUMNS = ("ms/image", "min to max", "CPU ms", "n", "x torch", "by CPU", "images/s", "peak MB", "first s")


def command(
    size: Annotated[
        str,
        typer.Option(metavar="NAME", help="Size of the network: {sizes}; full is SEW-ResNet19, 128-256-512 channels."),
    ] = "full",
    rates: Annotated[
        str, typer.Option(metavar="RATE,...", help="Spike rates: share of the neurons that fire per step.")
    ] = "0.1,0.2",
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Number of images per batch.")] = 8,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=1, help="Number of CPU threads of each contender.")
    ] = 2,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Number of timed batches of each contender.")] = 7,
    contenders: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Contenders to time, of {contenders}.", show_default="all")
    ] = None,
    scaling: Annotated[
        bool,
        typer.Option(
            "--scaling", help="Measure how cost grows with time steps, width, spike rate, threads and batch instead."
        ),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write bench.json and a plot there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time the backends beside torch, SpikingJelly, snnTorch and Lava on one network, in one run.

    Each contender has a process of its own, and contenders take turns, one batch each. The weights are random, and
    batch norms are set so that every neuron layer fires at the given rate. A ratio is the speed relative to torch
    eager. The exit status is 1 where an installed contender failed.

    Example: `randhet bench --size small --rates 0.1`
    """
    from randhet.benchmarks.machine import machine
    from randhet.benchmarks.networks import Case

    names = chosen(contenders, scaling)
    cases = [Case(size, rate, batch, threads) for rate in numbers(rates)]
    content: dict[str, Any] = {"rows": [], "machine": machine()}
    with stages() as stage:
        if scaling:
            content |= measured_scaling(cases[0], names, repeats, stage)
        else:
            content |= measured_table(cases, names, repeats, stage)
    if folder:
        save(content, folder, scaling)
    if as_json:
        emit(content)
    else:
        (show_scaling if scaling else show_table)(content)
    if any(row["failed"] for row in content["rows"]):
        raise typer.Exit(FAILED)


def numbers(text: str) -> list[float]:
    """0.1,0.2 as numbers."""
    from randhet.base.errors import RandhetError

    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        raise RandhetError(f"--rates {text!r} is not of the form RATE,RATE,...") from None
    for rate in values:
        if not 0 < rate < 1:
            raise RandhetError(f"--rates {rate:g} must lie between 0 and 1")
    return values


def chosen(text: str | None, scaling: bool) -> list[str]:
    """Names of the contenders, in the table's order."""
    from randhet.base.errors import RandhetError
    from randhet.benchmarks import scaling as growth
    from randhet.benchmarks.contenders import CONTENDERS

    if text is None:
        return list(growth.NAMES if scaling else CONTENDERS)
    asked = text.split(",")
    if unknown := [name for name in asked if name not in CONTENDERS]:
        raise RandhetError(f"contender {unknown[0]!r} is not one of {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if name in asked]


def measured_table(cases: Sequence[Any], names: Sequence[str], repeats: int, stage: Stage) -> dict[str, Any]:
    """The rows of every case, and what random decay factors cost."""
    from randhet.benchmarks.rows import rows, tau_cost

    content: dict[str, Any] = {"rows": [], "tau_cost": []}
    for case in cases:
        done = stage(f"spike rate {case.rate:g}", len(names) * (repeats + 1))
        with ExitStack() as stack:
            activities, times = measure(case, names, repeats, done, {}, stack)
        content["rows"] += rows(case, activities, times)
        content["tau_cost"] += tau_cost(case, times)
    return content


def measured_scaling(base: Any, names: Sequence[str], repeats: int, stage: Stage) -> dict[str, Any]:
    """The rows of every point of every axis, and the exponents of growth. A case on several axes is measured once."""
    from randhet.benchmarks.rows import rows
    from randhet.benchmarks.scaling import points, slopes

    along = list(points(base))
    cases = dict.fromkeys(point.case for point in along)
    done = stage("scaling", len(cases) * len(names) * (repeats + 1))
    with ExitStack() as stack:
        prepared: Made = {}
        measured = {case: rows(case, *measure(case, names, repeats, done, prepared, stack)) for case in cases}
    content = [row | {"axis": point.axis, "value": point.value} for point in along for row in measured[point.case]]
    return {"rows": content, "growth": slopes(content)}


Made = dict[Any, tuple[Path, Mapping[str, Any]]]
"""Folders with the networks of cases, whatever their number of threads, and the networks' activities."""


def measure(
    case: Any, names: Sequence[str], repeats: int, progress: Any, prepared: Made, stack: ExitStack
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Race on the networks of a case, which are made where no case before had them."""
    from randhet.benchmarks.contenders import CONTENDERS
    from randhet.benchmarks.networks import prepare
    from randhet.benchmarks.race import race

    key = replace(case, threads=0)
    if key not in prepared:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="randhet-bench-")))
        chosen_ones = [CONTENDERS[name] for name in names]
        taus = tuple(dict.fromkeys(contender.taus for contender in chosen_ones))
        as_ann = any(contender.as_ann for contender in chosen_ones)
        prepared[key] = folder, prepare(case, folder, taus, as_ann)
    folder, activities = prepared[key]
    return activities, race(names, folder, case.batch, case.threads, repeats, progress)


def save(content: dict[str, Any], folder: Path, scaling: bool) -> None:
    """bench.json with table.png, or scaling.json with scaling.png."""
    from randhet.base.files import replacing
    from randhet.benchmarks.plots import scaling_plot, table_plot

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ("scaling.json" if scaling else "bench.json")) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    if any(row["ms_per_image"] for row in content["rows"]):
        draw, name = (scaling_plot, "scaling.png") if scaling else (table_plot, "table.png")
        draw(content["rows"], folder / name)


# --- for people -------------------------------------------------------------------------------------------------------


def number(value: float | None, form: str = ".1f") -> str:
    """A measured number, a dash for none."""
    return "–" if value is None else format(value, form)


def show_table(content: dict[str, Any]) -> None:
    """Print a table per spike rate, what each row is, the cost of random decay factors, and the machine."""
    from rich.table import Table

    for rate in dict.fromkeys(row["spike_rate"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["spike_rate"] == rate]
        first = rows[0]
        widths = "-".join(map(str, first["widths"]))
        table = Table(
            title=f"{widths}, T = {first['steps']}, {100 * rate:g} % of neurons fire per step "
            f"(measured {100 * first['measured_mean_rate']:.1f} %), batch {first['batch']}, {first['threads']} threads",
        )
        table.add_column("contender", no_wrap=True)
        for title in COLUMNS:
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*cells(row))
        out.print(table)
    for name, said in dict.fromkeys((row["name"], row["note"] or row["about"]) for row in content["rows"]):
        out.print(f"{name}: {said}", highlight=False, markup=False)
    for cost in content["tau_cost"]:
        out.print(
            f"{cost['name']} at {100 * cost['spike_rate']:g} %: random decay factors cost {100 * cost['cost']:+.1f} % "
            f"({100 * cost['cost_min']:+.1f} to {100 * cost['cost_max']:+.1f}) over constant ones, "
            f"{100 * cost['cpu_cost']:+.1f} % in processor time"
        )
    show_machine(content["machine"])


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    spread = "–" if row["ms_min"] is None else f"{row['ms_min']:.1f} to {row['ms_max']:.1f}"
    return [
        row["name"],
        number(row["ms_per_image"]),
        spread,
        number(row["cpu_ms_per_image"]),
        str(row["repeats"]),
        number(row["ratio_to_torch_eager"], ".3g"),
        number(row["cpu_ratio_to_torch_eager"], ".3g"),
        number(row["images_per_second"], ".3g"),
        number(row["peak_mb"], ".0f"),
        number(row["first_seconds"]),
    ]


def show_scaling(content: dict[str, Any]) -> None:
    """Milliseconds per image by axis and value, and how cost grows."""
    from rich.table import Table

    names = list(dict.fromkeys(row["name"] for row in content["rows"]))
    table = Table("axis", "value", *names, title="ms per image")
    row_of = {(row["axis"], row["value"], row["name"]): row for row in content["rows"]}
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in content["rows"]):
        cases = [row_of[axis, value, name] for name in names]
        table.add_row(axis, f"{value:g}", *(row["note"] or number(row["ms_per_image"], ".2f") for row in cases))
    out.print(table)
    for growth in content["growth"]:
        out.print(f"{growth['name']}: cost grows as {growth['axis']} to the power {growth['exponent']:.2f}")
    show_machine(content["machine"])


def show_machine(machine: dict[str, Any]) -> None:
    """One line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    features = " ".join(machine["features"])
    out.print(
        f"{machine['date']}, {machine['processor']} ({features}), {machine['cores']} cores, "
        f"load {machine['load']}; Python {machine['python']}, {versions}"
    )
