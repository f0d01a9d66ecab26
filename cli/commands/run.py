"""randhet run: accuracy, spikes and operation counts of a network on one backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.network_input import Bits, Levels, Sequence, Steps, ensemble_in, images_for, opened
from randhet.cli.options import Data, Json, NetworkFile, PerTask, Samples, Scheduler, Seed, Threads, Workers, one_place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from randhet.fixed_point.network import Network
    from randhet.fixed_point.split import Job


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
    draws: Annotated[
        int,
        typer.Option(
            "--draws",
            metavar="N",
            min=1,
            help="Number of Monte-Carlo repetitions, with consecutive seeds; counts are those of all together.",
        ),
    ] = 1,
    results: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Keep the results of finished ranges of images there as JSON lines, and continue from them.",
        ),
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    per_task: PerTask = 500,
    as_json: Json = False,
) -> None:
    """Run a network on test images and report accuracy, spikes and operation counts.

    Without a seed, in the file or as --seed, random numbers start from the operating system's entropy, and two runs of
    a stochastic network differ. The backend add-only is multiplication-free. Of an ensemble every member runs. Of
    one network --json has NeuroBench's metrics, which take a second run of at most 16 images.

    With --workers or --scheduler, ranges of images run on other processes; every integer is that of a run in one
    program.

    Example: `randhet run model.net --backend lava --samples 50`

    A whole data set: `randhet run model.net --backend engine --data cifar10 --draws 10 --seed 1 --workers 8`
    """
    from randhet.base.errors import RandhetError
    from randhet.base.split import Split
    from randhet.fixed_point.backends import require
    from randhet.fixed_point.split import Job, pieces_of
    from randhet.fixed_point.split import run as split_run

    one_place(scheduler, workers)
    require(backend)
    ensemble = ensemble_in(file)
    network = ensemble.first if ensemble else opened(file, steps, bits, levels, sequence)
    if network.shapes[-1] == (1,):
        raise RandhetError(
            f"{file} has one output, which is a value and no class: read it from the sums of randhet.run"
        )
    if stream and not network.input.sequence:
        raise RandhetError(f"--stream is for recordings, {file} takes still images")
    split = Split(scheduler, workers or 0, per_task, threads, results)
    whole = split.here and results is None
    if stream and not whole:
        raise RandhetError(
            "--stream cannot be split, each piece continues the one before: leave out --workers, --scheduler and --out"
        )
    images = images_for(network, data, samples)
    known = network.seed if seed is None else seed
    if results is not None and known is None and is_drawn(network):
        raise RandhetError("--out continues a run, which needs the same draws: give --seed too")
    seeds = seeds_of(network, seed, draws)
    job = Job(ensemble or network, images.pixels, backend, threads if split.here else threads or 1, batch)
    counts: list[int] = []
    with stages() as stage:
        begin = time.perf_counter()
        if whole:
            found = here(job, seeds, stage(backend, len(images) * len(seeds) * len(job.members)), stream)
        else:
            split = replace(split, identity=identity(job, known, file))
            done = stage(f"{backend}, pieces", pieces_of(job, len(seeds), split))
            found = split_run(job, seeds, split, noted(done, counts))
        # the first count is of results that an earlier run left: beside these, the time would be that of a part
        seconds = None if any(counts[:1]) else time.perf_counter() - begin
    summary = summed(found, images.labels, backend, known, seconds)
    if ensemble:
        summary |= {"combine": ensemble.combine, "members": members_alone(found, images.labels)}
    elif as_json:
        from randhet.fixed_point.neurobench import metrics
        from randhet.fixed_point.synaptic import counted

        again = counted(network, images.pixels, seeds[0], stream=stream, threads=threads)
        summary["neurobench"] = metrics(network, again)
    if as_json:
        emit(summary)
    else:
        show(summary)


def noted(done: Callable[[int], None], counts: list[int]) -> Callable[[int], None]:
    """Return what tells `done` and keeps every count that it is told."""

    def tell(count: int) -> None:
        counts.append(count)
        done(count)

    return tell


def is_drawn(network: Network) -> bool:
    """Whether any layer draws its decay factors."""
    return any(layer.drawn for layer in network.layers)


def seeds_of(network: Network, seed: int | None, draws: int) -> list[int]:
    """The master seed of every repetition; one for a deterministic network."""
    from randhet.base.errors import RandhetError
    from randhet.fixed_point.reference import master_seed

    count = draws if is_drawn(network) else 1
    known = network.seed if seed is None else seed
    if known is not None and known > 2**64 - count:
        raise RandhetError(f"seed is {known}, the limit is 2^64 - {count} for {count} draws")
    first = master_seed(network, seed)
    return [(first + i) % 2**64 for i in range(count)]


def here(job: Job, seeds: list[int], done: Callable[[int], None], stream: bool) -> list[Any]:
    """Run all images in this program, under each seed."""
    from randhet.fixed_point import ensemble as ensembles
    from randhet.fixed_point.backends import runner

    run = runner(job.backend, threads=job.threads, batch=job.batch)
    how: dict[str, Any] = {"first_image": 0, "probes": (), "progress": done} | ({"stream": True} if stream else {})
    if isinstance(job.network, ensembles.NetworkEnsemble):
        return [ensembles.run(job.network, job.pixels, run, seed=seed, **how) for seed in seeds]
    return [run(job.network, job.pixels, seed=seed, **how) for seed in seeds]


def members_alone(results: list[Any], labels: NDArray[np.int64]) -> list[float]:
    """Accuracy of every member of an ensemble, 0..1, the mean over repetitions."""
    import numpy as np

    right = [[(member.predictions == labels).mean() for member in result.members] for result in results]
    return [float(accuracy) for accuracy in np.mean(right, axis=0)]


def identity(job: Job, seed: int | None, file: Path) -> dict[str, Any]:
    """What decides the results of a piece beside its images' numbers and repetition."""
    from hashlib import sha256

    import randhet

    return {
        "kind": "run",
        "version": randhet.__version__,
        "network": sha256(file.read_bytes()).hexdigest(),
        "input": repr(job.members[0].input),
        "steps": job.members[0].steps,
        "images": sha256(job.pixels.tobytes()).hexdigest(),
        "backend": job.backend,
        "seed": seed,
    }


def summed(
    results: list[Any], labels: NDArray[np.int64], backend: str, seed: int | None, seconds: float | None
) -> dict[str, Any]:
    """The JSON object of all repetitions; of several, predictions are a list for each, and counts are added up.

    seconds: None where they were not measured.
    """
    import numpy as np

    from randhet.fixed_point.split import added

    accuracies = [float((result.predictions == labels).mean()) for result in results]
    predictions = [result.predictions.tolist() for result in results]
    several = len(results) > 1
    done, counted = len(labels) * len(results), [it.operations for it in results if it.operations is not None]
    content = {
        "backend": backend,
        "accuracy": float(np.mean(accuracies)),
        "samples": len(labels),
        "seed": seed,  # never one that came from the system's entropy: whoever reads it could repeat the draws
        "seconds": seconds,
        "images_per_second": None if seconds is None else done / seconds,
        "predictions": predictions if several else predictions[0],
        "spikes": added(result.spikes for result in results),
        "operations": added(counted) if counted else None,
        "saturations": sum(result.saturations for result in results),
    }
    if several:
        from randhet.compare.equivalence import Sample

        interval = Sample.of(np.array(accuracies)).interval()
        content |= {"draws": len(results), "accuracies": accuracies, "interval": list(interval)}
    return content


def show(summary: dict[str, Any]) -> None:
    """The result as a table."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    draws, samples = summary.get("draws", 1), summary["samples"]
    table.add_row("accuracy", f"{100 * summary['accuracy']:.2f} % of {samples} images")
    if "members" in summary:
        alone = ", ".join(f"{100 * accuracy:.2f}" for accuracy in summary["members"])
        table.add_row(f"members, by {summary['combine']}", f"{alone} % alone")
    if "interval" in summary:
        low, high = summary["interval"]
        table.add_row("95 % interval", f"{100 * low:.2f} to {100 * high:.2f} %, over {draws} draws")
    if summary["seconds"] is None:
        table.add_row("time", "not measured, results of an earlier run are among these")
    else:
        table.add_row("time", f"{summary['seconds']:.2f} s, {summary['images_per_second']:.1f} images per second")
    table.add_row("seed", "from the system's entropy" if summary["seed"] is None else str(summary["seed"]))
    table.add_row("saturations", str(summary["saturations"]))
    for layer, count in summary["spikes"].items():
        table.add_row(f"spikes of {layer}", f"{count:,}, {count / samples / draws:,.1f} per image")
    for operation, count in (summary["operations"] or {}).items():
        table.add_row(f"operations: {operation}", f"{count:,}")
    out.print(f"[bold]{summary['backend']}[/bold]")
    out.print(table)
