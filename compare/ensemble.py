"""Compare an ensemble with the model whose weights its members share: every member, and what they decide together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from randhet.compare.accuracy import (
    Agreement,
    Draws,
    accuracy_difference,
    agreement,
    elsewhere,
    ensemble_draws,
    float_draws,
)
from randhet.compare.equivalence import Difference
from randhet.compare.study import QUICK, Comparison, Stage, StudySettings, chosen, compare, paired
from randhet.export.ensemble import Joined, member_models
from randhet.export.model import Model
from randhet.fixed_point.backends import runner
from randhet.fixed_point.ensemble import NetworkEnsemble
from randhet.train.data.sources import Images
from randhet.train.ensemble import Ensemble


@dataclass(frozen=True, eq=False)
class EnsembleComparison:
    """Every member compared as a network of its own, and what the ensemble decides.

    floats, fixed: repetitions of the float ensemble and of the integers; difference: of their accuracies, float minus
    fixed, on these images; elsewhere: on images like these; runs: how often repetitions agree.
    """

    members: tuple[Comparison, ...]
    floats: Draws
    fixed: Draws
    difference: Difference
    elsewhere: Difference
    runs: Agreement

    @property
    def chance(self) -> bool:
        """Whether any member is stochastic."""
        return any(member.chance for member in self.members)

    @property
    def failures(self) -> list[str]:
        """The checks that failed, in words; none of them: exit status 0."""
        own = [f"member {number}: {text}" for number, each in enumerate(self.members) for text in each.failures]
        if self.difference.finding == "different":
            own.append("float and fixed accuracy of the ensemble differ by more than the margin")
        return own


@dataclass(frozen=True, eq=False)
class PairedMembers:
    """The float ensemble of a deployed one: as the models compute it, and of this project's neurons."""

    module: Ensemble
    twin: Ensemble


def paired_members(model: Model, ensemble: NetworkEnsemble, images: Images) -> PairedMembers:
    """Require that every member was exported from this model and that the images fit it."""
    pairs = [paired(own, member, images) for own, member in zip(member_models(model, ensemble), ensemble.members)]
    modules, twins = [pair.module for pair in pairs], [pair.twin for pair in pairs]
    return PairedMembers(Ensemble(modules, ensemble.combine).eval(), Ensemble(twins, ensemble.combine).eval())


def compare_ensemble(
    model: Model, ensemble: NetworkEnsemble, images: Images, settings: StudySettings, stage: Stage
) -> EnsembleComparison:
    """Run everything. RandhetError where model, ensemble and images do not belong together."""
    models = member_models(model, ensemble)
    members = [compare(own, member, images, settings, stage) for own, member in zip(models, ensemble.members)]
    images = images.as_classes(ensemble.first.classes, "the network")
    chance = any(member.chance for member in members)
    seeds = range(settings.seed, settings.seed + (settings.draws if chance else 1))
    module = Joined(models, ensemble.combine)(ensemble.image_shape)
    floats = float_draws(module, images, seeds, stage("float ensemble", len(seeds)))
    name = quickest(chosen(settings.backends, ensemble.first)[0])
    run = runner(name, threads=settings.threads)
    fixed = ensemble_draws(ensemble, images, seeds, run, stage(f"fixed-point ensemble, {name}", len(seeds)))
    return EnsembleComparison(
        tuple(members),
        floats,
        fixed,
        accuracy_difference(floats, fixed, settings.margin, chance),
        elsewhere(floats, fixed, settings.margin),
        agreement(floats, fixed),
    )


def quickest(names: Sequence[str]) -> str:
    """The fastest backend of those that are checked against the reference; the reference where none is fast."""
    return next((name for name in QUICK if name in names), "reference")
