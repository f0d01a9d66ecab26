"""A trained model with other settings and the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from randhet.base.errors import RandhetError
from randhet.export.model import Model, as_model
from randhet.train.checkpoint import Checkpoint

CHANGES = ("sigma", "steps", "random", "neuron")


def changed(model: Model, changes: Mapping[str, Any]) -> Model:
    """The model with other settings, as `varied`; RandhetError where it has none that could change."""
    if not changes:
        return model
    if model.checkpoint is None:
        raise RandhetError(
            f"{', '.join(changes)} can be changed in a checkpoint of randhet train only, not in {model.name}"
        )
    return as_model(varied(model.checkpoint, changes))


def varied(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Checkpoint:
    """The same weights with other sigma, steps (T), random segment, or vanilla instead of random neurons."""
    settings = checkpoint.settings
    if unknown := set(changes) - set(CHANGES):
        raise RandhetError(f"{sorted(unknown)[0]!r} cannot be changed in a trained model, {', '.join(CHANGES)} can")
    if set(changes) - {"steps"}:
        if not settings.neuron.startswith("randhet"):
            raise RandhetError(f"a network of {settings.neuron} neurons has no random decay factors to change")
        if settings.train_sigma != "no":
            raise RandhetError("this network's sigmas were trained: they and the random segment cannot be set")
    sigmas = () if "sigma" in changes else settings.sigmas
    return replace(checkpoint, settings=replace(settings, sigmas=sigmas, **changes))
