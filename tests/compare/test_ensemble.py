"""Comparing and attacking deployed ensembles: each member, the whole, and the attackers with and without the seed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import randhet
from randhet.base.errors import RandhetError
from randhet.compare.ensemble import EnsembleComparison, compare_ensemble, paired_members, quickest
from randhet.compare.report.ensemble_words import as_dict, sentences
from randhet.compare.robustness.deployed import AttackSettings, attack_deployed, has_draws, pieces
from randhet.compare.robustness.evaluation import Setup
from randhet.compare.study import StudySettings
from randhet.export.ensemble import changes, ensemble_model, export_ensemble
from randhet.export.model import Model, as_model
from randhet.fixed_point.backends import runner
from randhet.fixed_point.ensemble import NetworkEnsemble
from randhet.fixed_point.generator import tau_table
from randhet.netx.ensemble import drawing, switched
from randhet.train.data.sources import Images

SETTINGS = StudySettings(draws=3, backends=("engine",), threads=1)


def quiet(name: str, total: int) -> Any:
    return lambda count: None


@cache
def shipped() -> Model:
    return as_model(randhet.load_checkpoint("digits-randhet-at"))


@cache
def ensemble() -> NetworkEnsemble:
    pixels = randhet.load_data("digits", "train").pixels[:64]
    return export_ensemble(shipped(), pixels, changes((0.5, 2.0), (4, 3)), "vote")[0]


@cache
def digits(count: int = 30) -> Images:
    return randhet.load_data("digits", "test").take(count)


@cache
def comparison() -> EnsembleComparison:
    return compare_ensemble(shipped(), ensemble(), digits(), SETTINGS, quiet)


def test_members_and_the_whole_are_compared() -> None:
    found = comparison()
    assert found.failures == [] and found.chance
    assert [member.steps for member in found.members] == [4, 3]
    assert all(member.tracing.backends["engine"].identical for member in found.members)
    assert found.floats.predictions.shape == found.fixed.predictions.shape == (3, 30)
    assert found.floats.mean > 0.9 and abs(found.difference.value) < 0.05
    words = list(sentences(found, "vote"))
    assert words[0].startswith("The 2 members decide by vote: on 30 images in 3 Monte-Carlo repetitions")
    assert words[1] == "No check failed."
    content = as_dict(found, "vote")
    assert content["fixed_accuracy"] == found.fixed.mean and content["failures"] == []


def test_a_member_with_a_table_of_another_sigma_fails() -> None:
    """What its file says it is made from stays; every entry is in range."""
    first, second = ensemble().members
    layers = list(second.layers)
    for number in drawing(layers):
        layers[number] = switched(layers[number], tau_table(8, 0.1), 2.0)
    wrong = NetworkEnsemble((first, replace(second, layers=tuple(layers))), "vote")
    found = compare_ensemble(shipped(), wrong, digits(), SETTINGS, quiet)
    assert found.failures and all(text.startswith("member 1: ") for text in found.failures)
    assert list(sentences(found, "vote"))[1].startswith("Do not deploy yet: member 1: ")


def test_an_ensemble_of_another_model_is_refused() -> None:
    other = as_model(randhet.load_checkpoint("digits-vanilla-at"))
    with pytest.raises(RandhetError, match="vanilla neurons has no random decay factors to change"):
        compare_ensemble(other, ensemble(), digits(), SETTINGS, quiet)
    odd = replace(ensemble(), members=tuple(replace(member, metadata={}) for member in ensemble().members))
    with pytest.raises(RandhetError, match="the network runs 3 time steps, the checkpoint 4"):
        compare_ensemble(shipped(), odd, digits(), SETTINGS, quiet)


def test_attackers_of_an_ensemble_stay_in_their_ball_and_are_judged_by_its_integers() -> None:
    settings, images = AttackSettings("pgd3+assg", 32 / 255, draws=2, redraws=2, seed=4), digits(8)
    twin, done = paired_members(shipped(), ensemble(), images).twin, []
    found = attack_deployed(ensemble(), twin, images, settings, runner("engine", threads=1), done.append)
    assert has_draws(ensemble()) and len(done) == pieces(ensemble(), settings) == 4
    attackers = {standing.attacker for standing in found.standings}
    assert attackers == {"float model", "deployed network", "seed and position"}
    clean = found.clean["fixed point"].accuracy
    assert clean > 0.9 and all(standing.accuracy < clean for standing in found.standings)
    again = attack_deployed(ensemble(), twin, images, settings, runner("add-only"))
    assert [standing.right.tolist() for standing in again.standings] == [
        standing.right.tolist() for standing in found.standings
    ]


def test_the_float_ensemble_is_a_model_to_evaluate() -> None:
    """Two ensembles that differ in time steps or in how they decide are not taken for the same results."""

    def identity(made: NetworkEnsemble) -> dict[str, Any]:
        return Setup(ensemble_model(shipped(), made), digits(8)).identity

    members = ensemble().members
    kinds = [ensemble(), replace(ensemble(), combine="average"), NetworkEnsemble((members[0],) * 2, "vote")]
    names = [identity(each)["model"] for each in kinds]
    assert len(set(names)) == 3 and identity(ensemble())["model"] == names[0]
    setup = Setup(ensemble_model(shipped(), ensemble()), digits(8))
    assert setup.classes == 10 and setup.model.name == "the ensemble of 2 members of the checkpoint"


def test_the_quickest_backend_is_one_of_those_that_are_checked() -> None:
    assert [quickest(names) for names in (["c", "add-only"], ["onnx", "engine"], ["c"], [])] == [
        "add-only", "engine", "reference", "reference",
    ]  # fmt: skip
    assert np.isfinite(comparison().elsewhere.value)
