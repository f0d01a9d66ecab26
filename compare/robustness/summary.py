"""What `randhet attack` says of its outcomes: one JSON object, also the line of a checkpoint in a page of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from randhet.compare.robustness.evaluation import CLEAN, Outcome, Reading, Setup, mra, mra_apart
from randhet.compare.robustness.similarity import Cosines

RECORD = ("objective", "epochs", "epoch", "accuracy", "seconds", "eps", "precision", "published")
"""Of the training that are worth keeping beside the results."""


def as_dict(setup: Setup, outcomes: Mapping[str, Outcome], eps: float) -> dict[str, Any]:
    """Accuracies in 0..1. attacks: the lower evaluation of each; mra: the lowest of all; mra_apart: the
    lowest where other images choose the attack; readings: everything."""
    attacks = {name: outcome for name, outcome in outcomes.items() if name != CLEAN}
    return {
        "data": setup.images.name,
        "samples": len(setup.images),
        "eps": eps,
        "draws": len(outcomes[CLEAN].stock.draws.predictions),
        "redraws": setup.redraws,
        "gradients": setup.precision,
        "seed": setup.seed,
        "clean": outcomes[CLEAN].accuracy,
        "attacks": {name: outcome.accuracy for name, outcome in attacks.items()},
        "mra": mra(attacks),
        "mra_apart": mra_apart(attacks),
        "mra_attack": lowest(attacks),
        "parts": {name: outcome.left for name, outcome in attacks.items() if outcome.parts},
        "warnings": [outcome.warning for outcome in attacks.values() if outcome.warning],
        "readings": {name: readings(outcome) for name, outcome in outcomes.items()},
        **origin(setup),
    }


def origin(setup: Setup) -> dict[str, Any]:
    """The model, how it was trained, and with which versions, as far as that is known."""
    checkpoint = setup.model.checkpoint
    if checkpoint is None:
        return {"model": {"name": setup.model.name}, "training": {}, "versions": {}}
    settings = checkpoint.settings
    return {
        "model": {"neuron": settings.neuron, "sigma": settings.sigma, "T": settings.steps},
        "training": {name: checkpoint.record[name] for name in RECORD if name in checkpoint.record},
        "versions": dict(checkpoint.versions),
    }


def lowest(outcomes: Mapping[str, Outcome]) -> str:
    """The attack and evaluation of the minimum robust accuracy."""
    accuracies = {
        f"{name} {kind}": evaluation.accuracy for name, o in outcomes.items() for kind, evaluation in o.readings.items()
    }
    return min(accuracies, key=lambda name: accuracies[name])


def readings(outcome: Outcome) -> dict[str, Any]:
    """Both evaluations by name."""
    return {name: reading(evaluation) for name, evaluation in outcome.readings.items()}


def reading(evaluation: Reading) -> dict[str, Any]:
    """Accuracy, its 95 % intervals over the draws on these images and on images like these, and the majority vote.

    correct: how many draws were right, image by image, with spaces: what two results on the same images are paired by.
    """
    return {
        "accuracy": evaluation.accuracy,
        "interval": None if evaluation.interval is None else _clipped(*evaluation.interval),
        "interval_images": _clipped(*evaluation.elsewhere),
        "majority": evaluation.majority,
        "draws": len(evaluation.draws.predictions),
        "correct": " ".join(map(str, evaluation.draws.right.sum(axis=0).tolist())),
    }


def _clipped(low: float, high: float) -> list[float]:
    return [max(low, 0.0), min(high, 1.0)]


def cosines(similarities: Cosines) -> dict[str, Any]:
    """Means over the images with their 95 % intervals."""
    return {
        name: {"mean": sample.mean, "interval": list(sample.interval())}
        for name, sample in similarities.samples().items()
    }
