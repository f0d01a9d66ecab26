"""randhet inspect: what is in a network file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from randhet.console import emit, out
from randhet.options import Json, NetworkFile


def command(file: NetworkFile, as_json: Json = False) -> None:
    """Show layers, number formats, scales, memory, cores, and every rule passed or failed; exit status 1 on a failure.

    Example: `randhet inspect model.net`
    """
    from compare import structure
    from export.netx import read

    network = read(file)
    layers, rules = structure.facts(network), list(structure.rules(network))
    cores = sum(layer.cores for layer in layers)
    summary = {
        "layers": [asdict(layer) for layer in layers],
        "cores": cores,
        "chips": structure.chips(cores),
        "synapse_bytes": sum(layer.weights for layer in layers),
        "rules": [asdict(rule) | {"ok": rule.ok} for rule in rules],
        "steps": network.steps,
        "seed": network.seed,
        "classes": list(network.classes),
        "metadata": dict(network.metadata),
    }
    if as_json:
        emit(summary)
    else:
        show(summary)
    if not all(rule.ok for rule in rules):
        raise typer.Exit(1)


def show(summary: dict[str, Any]) -> None:
    """Tables for people."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("layer", "type", "shape", "bits", "f", "threshold", "weights", "cores"):
        table.add_column(heading, justify="left" if heading in ("layer", "type") else "right", overflow="fold")
    for layer in summary["layers"]:
        kind = ", ".join(filter(None, (layer["operation"], layer["neuron"])))
        shape = "x".join(map(str, layer["shape"]))
        threshold = "" if layer["threshold"] is None else "{}..{}".format(*layer["threshold"])
        f = "" if layer["f"] is None else str(layer["f"])
        counts = (f"{layer[name]:,}" if layer[name] else "" for name in ("weights", "cores"))
        table.add_row(layer["layer"], kind, shape, str(layer["bits"]), f, threshold, *counts)
    out.print(table)
    size, seed = summary["synapse_bytes"], summary["seed"]
    cores, chips, steps = (summary[name] for name in ("cores", "chips", "steps"))
    out.print(f"{steps} time steps, {size:,} bytes of weights, {cores} cores on {chips} Loihi chip(s) by neuron count")
    out.print("draws: " + ("from the system's entropy" if seed is None else f"from seed {seed}, stored in the file"))
    failed = [rule for rule in summary["rules"] if not rule["ok"]]
    out.print(f"{len(summary['rules']) - len(failed)} of {len(summary['rules'])} rules hold")
    for rule in failed:
        out.print(f"[red]failed[/red]: {rule['rule']}, layer {rule['layer']}: {rule['value']}, limit {rule['limit']}")
