"""From a model and a list of decay distributions or time steps to an ensemble of integer networks, and back.

Every member is exported as a network of its own and held against the model that it comes from. That all of them share
their weights, biases, thresholds and scales is then seen, not assumed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from reprlib import repr as shortened
from sys import float_info
from typing import Any

import numpy as np
from torch import nn

from randhet.export.deploy import Pixels, pixels_of
from randhet.export.graph import ExportError
from randhet.export.model import Model, as_model
from randhet.export.pipeline import Exported, export
from randhet.export.varied import changed
from randhet.fixed_point.ensemble import NetworkEnsemble
from randhet.fixed_point.network import Network, Shape
from randhet.train.ensemble import Combine, Ensemble, Member

Changes = Mapping[str, Any]
"""What a member has instead of the model's own: sigma, steps, or both."""
MEMBER = "member"
"""The metadata entry that holds a member's changes, as JSON."""


def changes(sigmas: Sequence[float] = (), steps: Sequence[int] = ()) -> list[Changes]:
    """List the changes of every member: one for each sigma, or for each number of time steps, or for both together."""
    if sigmas and steps and len(sigmas) != len(steps):
        raise ExportError(f"{len(sigmas)} sigmas and {len(steps)} steps are given: give one of each for every member")
    if sigmas and not (np.isfinite(sigmas).all() and min(sigmas) >= 0):
        raise ExportError(f"sigmas are {', '.join(map(str, sigmas))}, they must be at least 0")
    if steps and min(steps) < 1:
        raise ExportError(f"steps are {', '.join(map(str, steps))}, they must be at least 1")
    pairs = zip_longest(map(float, sigmas), steps)
    return [
        {name: value for name, value in (("sigma", sigma), ("steps", own)) if value is not None}
        for sigma, own in pairs
    ]  # fmt: skip


def changes_of(member: Network) -> Changes:
    """Return the changes of a member as its file says them; none of a network that is no member."""
    try:
        found = json.loads(member.metadata.get(MEMBER, "{}"))
    except ValueError:
        raise ExportError(f"metadata {MEMBER} of the network is not JSON") from None
    except RecursionError:
        raise ExportError(f"metadata {MEMBER} of the network nests too deeply, it must be sigma and steps") from None
    if not isinstance(found, dict) or set(found) - {"sigma", "steps"}:
        raise ExportError(f"metadata {MEMBER} of the network holds {shortened(found)}, it must be sigma and steps")
    if fault := _fault(found, member.steps):
        raise ExportError(f"metadata {MEMBER} of the network: {fault}")
    return found


def _fault(found: Changes, steps: int) -> str | None:
    """Say what no member of so many steps has: its floats would be those of another network, or fail half-way."""
    own = found.get("steps", steps)
    if type(own) is not int or own != steps:
        return f"its steps are {shortened(own)}, they must be the network's own, {steps}"
    sigma = found.get("sigma", 0)
    # the largest float, since JSON knows integers above it
    if type(sigma) not in (int, float) or not 0 <= sigma <= float_info.max:
        return f"its sigma is {shortened(sigma)}, it must be a number of at least 0"
    return None


# --- float ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Joined:
    """Makes the module of an ensemble: its members' modules, averaged or voting."""

    members: tuple[Model, ...]
    combine: Combine

    def __call__(self, shape: Shape) -> nn.Module:
        return Ensemble([member.make(shape) for member in self.members], self.combine).eval()


def member_models(model: Model, ensemble: NetworkEnsemble) -> tuple[Model, ...]:
    """Return the float model of every member; RandhetError where the model has no settings to change."""
    return tuple(changed(model, changes_of(member)) for member in ensemble.members)


def ensemble_model(model: Model, ensemble: NetworkEnsemble) -> Model:
    """Return the float ensemble of a deployed one as a model of images to scores, to be evaluated and attacked."""
    members = member_models(model, ensemble)
    name = f"the ensemble of {len(members)} members of {model.name}"
    return replace(model, name=name, make=Joined(members, ensemble.combine), graph=None, checkpoint=None)


def twins(model: Model, ensemble: NetworkEnsemble) -> Ensemble:
    """Return the members as modules of this project's neurons, each by the name of its layer, joined."""
    made = [member.twin(ensemble.image_shape) for member in member_models(model, ensemble)]
    return Ensemble(made, ensemble.combine)


# --- integers -------------------------------------------------------------------------------------------------------


def export_ensemble(
    model: Model, images: np.ndarray, members: Sequence[Changes], combine: Combine = "average", **options: Any
) -> tuple[NetworkEnsemble, list[Exported]]:
    """Export a checkpoint's weights once with each of the changes; options as of `pipeline.export`, for all members.

    ExportError where f was lowered in a layer of some members only.
    """
    made = [export(changed(model, own), images, **options) for own in members]
    return joined(made, members, combine), made


def deploy_ensemble(ensemble: Ensemble, images: Pixels, **options: Any) -> NetworkEnsemble:
    """Turn an ensemble of `train.ensemble.over_decays` into integers; images, options as of `pipeline.export`.

    Example: `deploy_ensemble(Ensemble(over_decays(model, sigmas=(0.5, 1.5)), "vote"), train_images[:256])`
    """
    members = list(ensemble.members)
    if not all(isinstance(member, Member) for member in members):
        raise ExportError("members of an ensemble are exported where they share a network: make them by over_decays")
    if any(member.model is not members[0].model for member in members):
        raise ExportError("the members of the ensemble hold several networks, they must share one")
    made, pixels = [], pixels_of(images)
    for member in members:
        with member.chosen():  # type: ignore[operator]
            made.append(export(as_model(member.model), pixels, **options))  # type: ignore[arg-type]
    own = [
        {name: value for name in ("sigma", "steps") if (value := getattr(member, name)) is not None}
        for member in members
    ]  # fmt: skip
    return joined(made, own, ensemble.combine)


def joined(made: Sequence[Exported], members: Sequence[Changes], combine: Combine) -> NetworkEnsemble:
    """Join exported members, with the changes of each in its metadata; ExportError where they have other f."""
    networks = [
        replace(each.network, metadata={**each.network.metadata, MEMBER: json.dumps(dict(own), sort_keys=True)})
        for each, own in zip(made, members, strict=True)
    ]
    _same_fractions(networks)
    return NetworkEnsemble(tuple(networks), combine)


def _same_fractions(networks: Sequence[Network]) -> None:
    """Require that f was lowered nowhere for some members only: thresholds and biases would be in other units."""
    for number, member in enumerate(networks):
        for one, two in zip(networks[0].layers, member.layers):
            if one.neuron is not None and two.neuron is not None and one.neuron.f != two.neuron.f:
                raise ExportError(
                    f"layer {one.name} has f = {two.neuron.f} in member {number} and f = {one.neuron.f} in member 0, "
                    f"all members share one: export with f = {min(one.neuron.f, two.neuron.f)}"
                )
