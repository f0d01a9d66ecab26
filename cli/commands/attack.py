"""randhet attack: accuracy of a checkpoint under named attacks, in Monte-Carlo repetitions; sweeps over one setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from randhet.base.memory import keep_freed
from randhet.cli.console import emit, err, out, stages
from randhet.cli.model_options import (
    ModelArgument,
    ModelOptions,
    data_of,
    load_model,
    model_options,
    sized,
)
from randhet.cli.network_input import ensemble_in
from randhet.cli.options import (
    AlwaysWorkers,
    Data,
    Draws,
    Json,
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
    checkpoint: ModelArgument,
    attacks: Annotated[
        str, typer.Option("--attacks", metavar="NAMES", help="Attacks with commas, such as pgd10 or pgd10x20.")
    ] = "fgsm,pgd10,apgd10,mifgsm5",
    eps: Annotated[str, typer.Option(metavar="NUMBER", help="L-infinity radius for pixels in 0..1.")] = "8/255",
    data: Data = None,
    samples: Samples = None,
    draws: Draws = 10,
    redraws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Repetitions behind each choice of a noise-aware example.")
    ] = 10,
    net: Annotated[
        Path | None,
        typer.Option(
            metavar="NET", help="Attack also this network or ensemble, exported from CKPT, with and without its seed."
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Measure the cosines of two gradients, and of the perturbations of two runs of this attack.",
        ),
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Run a sweep, described in TOML, instead of --attacks; needs --out."),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="CKPT", help="Another checkpoint in the plot of a sweep.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            help="Write results there as JSON lines and continue from them, those of --net beside it; a folder for a "
            "sweep.",
        ),
    ] = None,
    seed: Seed = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Precision of the convolutions behind gradients, {precisions}; accuracies, and what --net attacks, "
            "are of float32.",
        ),
    ] = "float32",
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Number of images per task.")] = 100,
    scheduler: Scheduler = None,
    workers: AlwaysWorkers = None,
    threads: Threads = None,
    *,
    said: ModelOptions,
    as_json: Json = False,
) -> None:
    """Measure accuracy under attack, in the stock and the noise-aware evaluation, and report the minimum.

    Attacks are {attacks}; N is the number of steps. pgd10x20 averages every gradient over 20 EOT samples, pgd10@mean
    makes its examples at the mean decay factors and transfers them, and mifgsm5-d0.1 sets the decay of the momentum.
    sa-pgd50r3 is the best of three restarts. sa-pgd50+assg replaces the surrogate gradient of the network during the
    attack; surrogates are {surrogates}.
    With --out, an interrupted run continues where it stopped. A model of your own needs no layers that can be exported.

    Example: `randhet attack model.pt --attacks fgsm,pgd10,pgd10x10,apgd10 --samples 500 --out results.jsonl`
    """
    from randhet.base.errors import RandhetError
    from randhet.compare.robustness.evaluation import Execution
    from randhet.compare.robustness.sweep import read
    from randhet.train.attacks.names import parse_list
    from randhet.train.configuration import typed

    count = processes(scheduler, workers, threads)
    keep_freed()
    use_threads(threads)
    chosen = said
    common = {"draws": draws, "redraws": redraws, "seed": seed or 0, "precision": precision}
    if sweep is not None and results is None:
        raise RandhetError("a sweep needs --out with the folder for its results and its plot")
    if net is not None and sweep is not None:
        raise RandhetError("--net belongs to --attacks, not to a sweep")
    if beside and sweep is None:
        raise RandhetError("--beside belongs to --sweep")
    paths = {path.stem: path for path in (checkpoint, *(beside or []))}
    if len(paths) < 1 + len(beside or []):
        raise RandhetError("the checkpoints of a sweep need different file names, they label the curves")
    plan = parse_list(attacks) if sweep is None else read(sweep)
    radius = typed("eps", eps, float)
    setups = {name: prepared(path, data, samples, chosen, common) for name, path in paths.items()}
    with stages() as stage:
        where = Execution(batch, results, scheduler, count, stage)
        if sweep is None:
            content = _attacks(joined(setups[checkpoint.stem], net), plan, radius, similarity, where)
            content = {"checkpoint": checkpoint.name} | content
            if net is not None:
                pair = pair_of(setups[checkpoint.stem], net)
                each = threads, threads_of_piece(scheduler, workers, threads) or 1
                content["deployed"] = deployed(setups[checkpoint.stem], net, pair, plan, radius, where, each)
        else:
            content = common | _sweep(plan, setups, where)
    if as_json:
        emit(content)
    elif sweep is None:
        show(content)


def prepared(checkpoint: Path, data: str | None, samples: int | None, chosen: Any, common: dict[str, Any]) -> Any:
    """Checkpoint and images as a `randhet.compare.robustness.evaluation.Setup`."""
    from randhet.compare.robustness.evaluation import Setup
    from randhet.train.data.sources import load as load_data

    model = load_model(checkpoint, chosen)
    images = load_data(data_of(data, model)).as_classes(model.classes, "the model").take(samples)
    return Setup(sized(model, images), images, **common)


def joined(setup: Any, net: Path | None) -> Any:
    """The setup itself, or that of the float ensemble where the file to attack holds an ensemble."""
    from dataclasses import replace

    from randhet.export.ensemble import ensemble_model

    ensemble = net and ensemble_in(net)
    return replace(setup, checkpoint=ensemble_model(setup.model, ensemble)) if ensemble else setup


def _attacks(setup: Any, plan: Any, eps: float, similar: str | None, where: Any) -> dict[str, Any]:
    """The JSON object of the named attacks."""
    from randhet.compare.robustness import summary
    from randhet.compare.robustness.evaluation import CLEAN, Trial, evaluate
    from randhet.compare.robustness.similarity import similarity

    trials = {CLEAN: Trial(CLEAN, 0.0)} | {attack.name: Trial(attack.name, eps) for attack in plan}
    outcomes = evaluate(setup, list(trials.values()), where)
    content = summary.as_dict(setup, {name: outcomes[trial] for name, trial in trials.items()}, eps)
    if similar is not None:
        trial = Trial(similar, eps)
        content["cosines"] = {"attack": similar} | summary.cosines(similarity(setup, [trial], where)[trial])
    return content


def deployed(
    setup: Any, net: Path, pair: tuple[Any, Any], plan: Any, eps: float, where: Any, threads: tuple[int | None, int]
) -> dict[str, Any]:
    """Robustness of the integers: what an attacker leaves who has the float model, the network, or its seed too.

    pair: of `pair_of(setup, net)`. threads: of a range of images that runs in this program, and of one on a worker.
    Results are kept beside those of the float model, in NAME-integers.jsonl.
    """
    from randhet.base.split import Split
    from randhet.compare.report.words import robustness, robustness_dict
    from randhet.compare.robustness.deployed import AttackSettings, possible
    from randhet.compare.robustness.deployed_split import Work, attack_in_ranges, identity

    network, twin = pair
    settings = AttackSettings(possible(plan), eps, setup.draws, setup.redraws, setup.seed)
    kept = where.out and where.out.with_name(f"{where.out.stem}-integers{where.out.suffix}")
    known = identity(setup.model.source, net, setup.images, settings)
    split = Split(where.scheduler, where.workers, where.batch, out=kept, identity=known)
    ranges = len(split.ranges(len(setup.images)))
    # starting processes for a single range is not worth it
    split = replace(split, workers=0) if ranges == 1 and where.scheduler is None else split
    work = Work(network, twin, setup.images, settings, threads[0 if split.here else 1])
    found = attack_in_ranges(work, split, where.begin("deployed network, ranges", ranges))
    return robustness_dict(found) | {"sentences": list(robustness(found))}


def pair_of(setup: Any, net: Path) -> tuple[Any, Any]:
    """The integers of a file and their float twin: a network, or an ensemble of them."""
    from randhet.compare.ensemble import paired_members
    from randhet.compare.study import paired
    from randhet.netx.write import read

    if ensemble := ensemble_in(net):
        return ensemble, paired_members(setup.model, ensemble, setup.images).twin
    network = read(net)
    return network, paired(setup.model, network, setup.images).twin


def _sweep(sweep: Any, setups: dict[str, Any], where: Any) -> dict[str, Any]:
    """Run a sweep on every checkpoint; NAME.jsonl of each, sweep.json and sweep.png in the folder `where.out`."""
    import json
    from dataclasses import asdict

    from randhet.base.files import replacing
    from randhet.compare.robustness import curves
    from randhet.compare.robustness.sweep import run

    folder = where.out
    runs = {name: run(sweep, setup, replace(where, out=folder / f"{name}.jsonl")) for name, setup in setups.items()}
    content = {"sweep": asdict(sweep), "checkpoints": runs}
    with replacing(folder / "sweep.json") as temporary:
        temporary.write_text(json.dumps(content) + "\n", "utf-8")
    curves.plot(folder / "sweep.png", sweep, runs)
    err.print(f"wrote {folder / 'sweep.json'} and {folder / 'sweep.png'}", highlight=False)
    return content


def show(content: dict[str, Any]) -> None:
    """Print both evaluations of every attack, and the minimum below."""
    from rich.table import Table

    table = Table(box=None, title=f"{content['samples']} images of {content['data']}, eps {content['eps']:.4f}")
    for heading in (
        "attack",
        "evaluation",
        "accuracy, %",
        "95 %, these images",
        "95 %, such images",
        "majority vote, %",
    ):
        table.add_column(heading, justify="left" if heading in ("attack", "evaluation") else "right")
    for attack, readings in content["readings"].items():
        for kind, result in readings.items():
            row = (f"{100 * result['accuracy']:.1f}", span(result["interval"]), span(result["interval_images"]))
            table.add_row(attack, kind if attack != "clean" else "", *row, f"{100 * result['majority']:.1f}")
    out.print(table)
    out.print(f"minimum robust accuracy {100 * content['mra']:.1f} %, by {content['mra_attack']}", highlight=False)
    for name, left in content["parts"].items():
        out.print(
            f"{name}, after each attack: " + ", ".join(f"{part} {100 * value:.1f} %" for part, value in left.items())
        )
    for sentence in content.get("deployed", {}).get("sentences", ()):
        out.print(sentence, highlight=False)
    for warning in content["warnings"]:
        err.print(f"Warning: {warning}.", highlight=False)
    for name in ("gradient", "perturbation"):
        if name in content.get("cosines", {}):
            cosine, (low, high) = content["cosines"][name]["mean"], content["cosines"][name]["interval"]
            out.print(f"mean cosine of two {name}s {cosine:.3f}, {low:.3f} to {high:.3f}")


def span(interval: list[float] | None) -> str:
    """Percent from-to; a dash for a deterministic network."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
