"""randhet compare: float against fixed point, and every backend against the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from randhet.base.memory import keep_freed
from randhet.cli.console import emit, err, out, stages
from randhet.cli.model_options import ModelArgument, ModelOptions, data_of, load_model, model_options
from randhet.cli.network_input import as_input, ensemble_in
from randhet.cli.options import (
    Data,
    Draws,
    Json,
    NetworkFile,
    PerTask,
    Samples,
    Scheduler,
    Seed,
    Threads,
    Workers,
    one_place,
    use_threads,
)

if TYPE_CHECKING:
    from randhet.base.split import Split
    from randhet.cli.console import Stage
    from randhet.compare.quantisation.budget import Budget
    from randhet.compare.report.page import Report
    from randhet.compare.robustness.deployed import AttackSettings, Deployment
    from randhet.compare.study import Comparison, StudySettings
    from randhet.export.model import Model
    from randhet.fixed_point.ensemble import NetworkEnsemble
    from randhet.fixed_point.network import Network
    from randhet.train.checkpoint import Checkpoint
    from randhet.train.data.sources import Images

FAILED = 1


@model_options
def command(
    path: ModelArgument,
    network: NetworkFile,
    data: Data = None,
    samples: Samples = None,
    draws: Draws = 10,
    seed: Seed = None,
    margin: Annotated[
        float, typer.Option(help="Largest difference in accuracy that counts as equivalent, 0..1.")
    ] = 0.005,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Backends to check against the reference, of {backends}.",
            show_default="all installed",
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write compare.json and report.html there.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report, one HTML file.")
    ] = None,
    budget: Annotated[bool, typer.Option("--budget", help="Measure what each part of the quantisation costs.")] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Attack the integer network, without and with knowledge of its seed.")
    ] = False,
    attacks: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Attacks for --robustness, of {attacks}; N steps, xM for M EOT samples."),
    ] = "fgsm,pgd10x5,apgd10x5",
    eps: Annotated[
        str,
        typer.Option(metavar="RADIUS", help="L-infinity radius for --robustness, for pixels in 0..1, such as 8/255."),
    ] = "8/255",
    scheduler: Scheduler = None,
    workers: Workers = None,
    per_task: PerTask = 500,
    threads: Threads = None,
    *,
    said: ModelOptions,
    as_json: Json = False,
) -> None:
    """Compare a float model with its integer network: accuracy, every spike and every membrane potential.

    The float model and the reference run in --draws Monte-Carlo repetitions each. The other backends then run with the
    seed of the reference and must agree with it in every integer, and the float model runs with the decay factors of
    the reference. The exit status is 1 where a check failed. Of an ensemble every member is compared, then the whole.

    With --workers or --scheduler, ranges of images run on other processes, and the numbers are those of one program.
    With --out, such a comparison continues where it stopped, from compare.jsonl and attacks.jsonl. --budget runs here.

    Example: `randhet compare model.pt model.net --samples 100 --report report.html`

    A model of your own: `randhet compare own.py:net own.net --weights own.pt --report report.html`
    """
    from randhet.base.errors import RandhetError
    from randhet.base.split import Split
    from randhet.compare.robustness.deployed import AttackSettings
    from randhet.compare.study import StudySettings
    from randhet.compare.study import compare as study
    from randhet.netx.write import read
    from randhet.train.configuration import typed
    from randhet.train.data.sources import load

    one_place(scheduler, workers)
    keep_freed()
    use_threads(threads)
    names = None if backends is None else tuple(name.strip() for name in backends.split(",") if name.strip())
    settings = StudySettings(draws, seed or 0, margin, names, threads)
    split = Split(scheduler, workers or 0, per_task, threads)
    attack = AttackSettings(attacks, typed("eps", eps, float), seed=seed or 0) if robustness else None
    if ensemble := ensemble_in(network):
        if budget or robustness or directory or page:
            raise RandhetError(
                "--budget, --robustness, --out and --report are for one network: use --json, and randhet attack --net "
                f"{network}"
            )
        model = load_model(path, said, ensemble.first)
        images = load(data_of(data, model, ensemble.first)).as_classes(model.classes, "the model").take(samples)
        compare_members(model, ensemble, as_input(images, ensemble.first), replace(settings, split=split), as_json)
        return
    deployed = read(network)
    pair = load_model(path, said, deployed), deployed
    images = load(data_of(data, *pair)).as_classes(pair[0].classes, "the model").take(samples)
    images = as_input(images, deployed)
    if not split.here and directory is not None:
        split = replace(split, out=directory / "compare.jsonl", identity=identity(pair[0], network, images))
    settings = replace(settings, split=split)
    planned = None
    if attack is not None:
        planned = attack, split_of_attacks(split, directory, attack, pair[0], network, images)
    with stages() as stage:
        comparison = study(*pair, images, settings, stage)
        written = directory is not None or page is not None
        report = examined(comparison, *pair, images, stage, gather=written, budget=budget, attack=planned)
    leave(report, directory, page)
    if as_json:
        emit(report.as_dict())
    else:
        show(report)
    if comparison.failures:
        raise typer.Exit(FAILED)


def compare_members(
    model: Model, ensemble: NetworkEnsemble, images: Images, settings: StudySettings, as_json: bool
) -> None:
    """Compare every member and the ensemble; exit status 1 where a check failed."""
    from randhet.compare.ensemble import compare_ensemble
    from randhet.compare.report.ensemble_words import as_dict, sentences
    from randhet.compare.report.page import Report
    from randhet.compare.report.words import headline

    with stages() as stage:
        found = compare_ensemble(model, ensemble, images, settings, stage)
    if as_json:
        emit(
            {
                "members": [Report(member).as_dict() for member in found.members],
                "ensemble": as_dict(found, ensemble.combine),
            }
        )
    else:
        for number, member in enumerate(found.members):
            out.print(f"member {number}: {headline(member)}", highlight=False)
        for sentence in sentences(found, ensemble.combine):
            out.print(f"\n{sentence}", highlight=False, markup=False)
    if found.failures:
        raise typer.Exit(FAILED)


def identity(model: Model, file: Path, images: Images) -> dict[str, str]:
    """What decides the results of a piece beside its kind, its seed and its images' numbers."""
    from hashlib import sha256

    import randhet

    return {
        "kind": "compare",
        "version": randhet.__version__,
        "model": model.source,
        "network": sha256(file.read_bytes()).hexdigest(),
        "images": sha256(images.pixels.tobytes()).hexdigest(),
    }


def split_of_attacks(
    split: Split, directory: Path | None, attack: AttackSettings, model: Model, file: Path, images: Images
) -> Split:
    """Ranges of images of attacks, which are kept in attacks.jsonl where pieces of the comparison are."""
    from randhet.compare.robustness.deployed_split import BATCH
    from randhet.compare.robustness.deployed_split import identity as known

    kept = None if split.here or directory is None else directory / "attacks.jsonl"
    return replace(split, images=BATCH, out=kept, identity=known(model.source, file, images, attack))


def examined(
    comparison: Comparison,
    model: Model | Checkpoint,
    network: Network,
    images: Images,
    stage: Stage,
    *,
    gather: bool = True,
    budget: bool = False,
    attack: tuple[AttackSettings, Split] | None = None,
) -> Report:
    """The comparison with what the report shows beside it; error budget and robustness if they are asked for.

    attack: with the ranges of images, of `split_of_attacks`.
    """
    from randhet.compare.report import evidence as report_evidence
    from randhet.compare.report.page import Report

    evidence = None
    if gather:
        done = stage("operations and trials", 1)
        evidence = report_evidence.gather(network, images.pixels, images.labels, comparison.seed)
        done(1)
    return Report(
        comparison,
        evidence,
        _budget(model, network, images, stage) if budget else None,
        robustness=None if attack is None else _robustness(model, network, images, stage, *attack),
        notes=_notes(model, network),
    )


def _budget(model: Model | Checkpoint, network: Network, images: Images, stage: Stage) -> Budget:
    from randhet.compare.quantisation.budget import PARTS
    from randhet.compare.quantisation.budget import budget as costs
    from randhet.export.model import as_model
    from randhet.export.passes import fold

    graph = fold(as_model(model).traced(network.image_shape))
    done = stage("error budget", 2 + 2 * len(PARTS))
    return costs(network, graph, images.pixels, images.labels, done=done)


def _robustness(
    model: Model | Checkpoint, network: Network, images: Images, stage: Stage, attack: AttackSettings, split: Split
) -> Deployment:
    from randhet.compare.robustness.deployed_split import Work, attack_in_ranges
    from randhet.export.model import as_model

    threads = split.threads if split.here else split.threads or 1
    work = Work(network, as_model(model).twin(network.image_shape), images, attack, threads)
    return attack_in_ranges(work, split, stage("attacks, ranges of images", len(split.ranges(len(images)))))


def _notes(model: Model | Checkpoint, network: Network) -> tuple[tuple[str, str], ...]:
    """Where the network comes from, for the report."""
    import json

    from randhet.export.model import as_model

    notes = {
        "neurons": as_model(model).neurons(network.image_shape),
        "weights (SHA-256)": network.metadata.get("source", "unknown"),
    }
    for name in ("quantisation", "lowered_f"):
        if values := json.loads(network.metadata.get(name, "{}")):
            notes[name.replace("_", " ")] = ", ".join(f"{key} {value}" for key, value in values.items() if value != [])
    return tuple(notes.items())


def leave(report: Report, directory: Path | None, page: Path | None = None) -> None:
    """compare.json and report.html in a directory, and the page alone where it is asked for."""
    from randhet.compare.report.page import write, write_json

    if directory is not None:
        write_json(directory / "compare.json", report)
    pages = [path for path in (directory and directory / "report.html", page) if path]
    for path in pages:
        write(path, report)
    written = [*([directory / "compare.json"] if directory else []), *pages]
    if written:
        err.print(f"wrote {' and '.join(map(str, written))}", highlight=False, soft_wrap=True)


def show(report: Report) -> None:
    """The verdict, the sentences, the table of layers."""
    from rich.table import Table

    from randhet.compare.report import words

    comparison = report.found

    out.print(words.headline(comparison), style="bold red" if comparison.failures else "bold green", highlight=False)
    for paragraph in words.paragraphs(comparison):
        out.print(f"\n{paragraph}", highlight=False, markup=False)
    table = Table(title="float against fixed, same decay factors", title_justify="left", box=None)
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
    for layer in comparison.layers:
        whole = layer.whole
        rates = (f"{whole.float_rate:.4f}", f"{whole.fixed_rate:.4f}", f"{100 * whole.mismatch:.2f} %")
        noise = (f"{whole.error:.4f}", words.decibels(whole.snr))
        table.add_row(layer.layer, str(layer.neurons), str(layer.f), *rates, *noise)
    out.print()
    out.print(table)
    if report.budget is not None:
        out.print("\nerror budget, points of accuracy lost")
        for name, cost in words.costs(report.budget):
            span = f"{words.points(cost.lost.low)} to {words.points(cost.lost.high)}"
            out.print(f"  {name}: {words.points(cost.lost.value)} ({span})", highlight=False)
    if report.robustness is not None:
        for sentence in (*words.robustness(report.robustness), words.secrets(report.robustness)):
            out.print(f"\n{sentence}", highlight=False, markup=False)
