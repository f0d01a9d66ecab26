"""The error budget of a checkpoint and its network, with the recommendation: run, as a JSON object, as tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from randhet.base.errors import RandhetError
from randhet.compare.quantisation.budget import PARTS, Budget, Cost, Meter, budget
from randhet.compare.quantisation.recommend import Recommendation, Search, recommend, steps_of
from randhet.compare.study import Stage, paired
from randhet.export.model import Model
from randhet.export.passes.activity import watch
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import teacher
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.sources import Images

if TYPE_CHECKING:
    from rich.table import Table

SEARCH_IMAGES, SEARCH_DRAWS = 32, 2
"""Of the search for bits per layer: how much class scores move is seen on few."""


@dataclass(frozen=True, eq=False)
class Finding:
    """What each part costs, and how few bits would do."""

    budget: Budget
    recommendation: Recommendation


def settings_of(network: Network) -> QuantSettings:
    """The settings that a network was exported with; RandhetError where the file does not say."""
    try:
        noted = json.loads(network.metadata["quantisation"])
        pairs = tuple((str(name), int(bits)) for name, bits in noted.pop("layer_bits", ()))
        return QuantSettings(**noted | {"layer_bits": pairs, "passes": tuple(noted.get("passes", ()))})
    except (KeyError, TypeError, ValueError):
        raise RandhetError("the network's file does not say how it was quantised: export it again") from None


def find(
    model: Model | Checkpoint,
    network: Network,
    images: Images,
    calibration: np.ndarray,
    draws: int,
    margin: float,
    stage: Stage,
) -> Finding:
    """Budget and recommendation on images; calibration (N, C, Y, X) uint8 for the passes of other bits."""
    graph = paired(model, network, images).graph
    settings = settings_of(network)
    done = stage("error budget", 2 + 2 * len(PARTS))
    error_budget = budget(network, graph, images.pixels, images.labels, draws, done)
    done = stage("bits per layer", steps_of(network))
    activity = watch(teacher(graph, settings, network.steps), calibration)
    few = images.take(min(SEARCH_IMAGES, len(images)))
    meter = Meter(network, graph, few.pixels, few.labels, range(min(SEARCH_DRAWS, draws)))
    judge = Meter(network, graph, images.pixels, images.labels, range(draws))
    search = Search(graph, network, meter, settings, activity, judge)
    return Finding(error_budget, recommend(search, margin, done))


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_dict(finding: Finding) -> dict[str, Any]:
    """The JSON object; shares and accuracies 0..1."""
    error_budget, advice = finding.budget, finding.recommendation
    return {
        "samples": error_budget.images,
        "draws": error_budget.draws,
        "float_accuracy": error_budget.float_accuracy,
        "alone": {name: _cost(cost) for name, cost in error_budget.alone.items()},
        "all_but": {name: _cost(cost) for name, cost in error_budget.without.items()},
        "together": _cost(error_budget.together),
        "recommendation": {
            "layer_bits": dict(advice.layer_bits),
            "tau_bits": advice.tau_bits,
            "f": advice.f,
            "bytes_before": advice.bytes_before,
            "bytes_after": advice.bytes_after,
            "saved": advice.saved,
            "cost": _cost(advice.cost),
            "options": advice.options,
        },
    }


def _cost(cost: Cost) -> dict[str, Any]:
    lost = cost.lost
    return {
        "accuracy": cost.accuracy,
        "lost": lost.value,
        "interval": [lost.low, lost.high],
        "odd_spikes": cost.spikes,
        "odd_predictions": cost.predictions,
        "scores": cost.scores,
    }


# --- as tables --------------------------------------------------------------------------------------------------------


def tables(finding: Finding) -> tuple[Table, Table]:
    """What each part costs, alone and left out; bits per layer."""
    from rich.table import Table

    error_budget, advice = finding.budget, finding.recommendation
    costs = Table(title="error budget", title_justify="left", box=None)
    for heading in ("quantised", "accuracy lost, %", "odd spikes, %", "odd predictions, %", "scores / redraw"):
        costs.add_column(heading, justify="left" if heading == "quantised" else "right")
    rows = (
        error_budget.alone
        | {f"all but {left_out}": cost for left_out, cost in error_budget.without.items()}
        | {"all": error_budget.together}
    )
    for name, cost in rows.items():
        costs.add_row(name, *_cells(cost))
    layers = Table(title="fewest bits per layer", title_justify="left", box=None)
    for heading in ("layer", "weights", "bits", "bytes"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in advice.layers:
        layers.add_row(layer.layer, f"{layer.weights:,}", str(layer.bits), f"{layer.bytes:,.0f}")
    return costs, layers


def _cells(cost: Cost) -> tuple[str, ...]:
    half = (cost.lost.high - cost.lost.low) / 2
    lost = f"{100 * cost.lost.value:+.2f} ± {100 * half:.2f}"
    return lost, f"{100 * cost.spikes:.3f}", f"{100 * cost.predictions:.2f}", f"{cost.scores:.4f}"


def sentences(finding: Finding) -> tuple[str, str]:
    """How the figures came about; what is recommended."""
    error_budget, advice = finding.budget, finding.recommendation
    lost, percent = advice.cost.lost, 100 * error_budget.float_accuracy
    return (
        f"{error_budget.images} test images, {error_budget.draws} repetitions, the same random numbers in every row; "
        f"lost against float ({percent:.2f} %), with its 90 % interval over the images; odd: differing from float; "
        "scores: mean square change over that between two repetitions.",
        f"Weights shrink from {advice.bytes_before:,} to {advice.bytes_after:,.0f} bytes ({100 * advice.saved:.0f} % "
        f"saved), accuracy lost {100 * lost.value:+.2f} % ({100 * lost.low:+.2f} to {100 * lost.high:+.2f}), with:",
    )
