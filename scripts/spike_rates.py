"""What checkpoints spike and how often they are right, as integers and in floating point: a JSON object and a table.

    python -m scripts.spike_rates CKPT... --data NAME [--samples N] [--draws N] [--threads N] --out FILE

A checkpoint is exported as `randhet export` does it, and runs on the engine. The spike rate is the number of spikes
over the number of neurons, time steps and images, of all layers that spike, counted on the integers. Additions per
image are those of the synapses, counted by the add-only engine on the first 100 images, energies in microjoule those
of `randhet compare` by output and by event.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from randhet.base.files import replacing
from randhet.compare.accuracy import Draws
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point.add_only.run import run_counted
from randhet.fixed_point.backends import runner
from randhet.fixed_point.chips import beside_ann
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result
from randhet.fixed_point.synaptic import counted
from randhet.train.checkpoint import build, load
from randhet.train.data.sources import Images
from randhet.train.data.sources import load as load_data
from randhet.train.evaluation import evaluate

CALIBRATION, COUNTED = 256, 100
"""Images that `randhet export` calibrates on by default, and those whose additions are counted."""
Row = dict[str, Any]


def neurons(network: Network, layers: Sequence[str]) -> dict[str, int]:
    """Return the number of neurons of these layers."""
    sizes = {layer.name: prod(shape) for layer, shape in zip(network.layers, network.shapes)}
    return {layer: sizes[layer] for layer in layers}


def spike_rates(network: Network, results: Sequence[Result], images: int) -> dict[str, float]:
    """Spikes per neuron, step and image of every layer that spikes, and of all of them as "all"."""
    spikes = {layer: sum(result.spikes[layer] for result in results) for layer in results[0].spikes}
    sizes = neurons(network, list(spikes))
    times = network.steps * images * len(results)
    rates = {layer: spikes[layer] / (sizes[layer] * times) for layer in spikes}
    return rates | {"all": sum(spikes.values()) / (sum(sizes.values()) * times)}


def measured(path: Path, calibration: Images, images: Images, draws: int, threads: int) -> Row:
    """Measure a checkpoint; draw d has the seed d on the integers."""
    checkpoint = load(path)
    network = export_checkpoint(checkpoint, calibration.pixels, seed=0).network
    run = runner("engine", threads=threads)
    results = [run(network, images.pixels, seed=d, first_image=0, probes=(), progress=None) for d in range(draws)]
    fixed = Draws(np.stack([result.predictions for result in results]), images.labels)
    counts = run_counted(network, images.pixels[:COUNTED], seed=0, threads=threads)[1]
    added = sum(int(layer.accumulates.sum()) for layer in counts.values())
    rates = spike_rates(network, results, len(images))
    return {
        "checkpoint": path.stem,
        "fixed_accuracy": fixed.mean,
        "interval": list(fixed.elsewhere),
        "right": (fixed.predictions == images.labels).mean(0).tolist(),
        "float_accuracy": float(np.mean(evaluate(build(checkpoint), images, draws))),
        "spike_rate": rates.pop("all"),
        "rates": rates,
        "energy": beside_ann.as_json(counted(network, images.pixels, 0, threads=threads))["orders"],
        "additions_per_image": added / min(COUNTED, len(images)),
        "training": {name: checkpoint.record.get(name) for name in ("rate_weight", "rate_target", "lr", "epochs")},
    }


def words(row: Row) -> str:
    """A row of a Markdown table."""
    low, high = row["interval"]
    energy = (f"{1e6 * row['energy'][order]['snn_joule']:.1f}" for order in beside_ann.ORDERS)
    return (
        f"| `{row['checkpoint']}` | {100 * row['spike_rate']:.1f} | {100 * row['fixed_accuracy']:.1f} "
        f"({100 * low:.1f} to {100 * high:.1f}) | {100 * row['float_accuracy']:.1f} "
        f"| {row['additions_per_image'] / 1e6:.2f} | {' | '.join(energy)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    calibration = load_data(given.data, "train").take(CALIBRATION)
    images = load_data(given.data, "test").take(given.samples)
    rows = []
    for path in given.checkpoints:
        rows.append(measured(path, calibration, images, given.draws, given.threads))
        print(words(rows[-1]), flush=True)
    content = {"images": len(images), "draws": given.draws, "rows": rows}
    with replacing(given.out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
