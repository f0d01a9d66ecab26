"""Ensembles from a checkpoint or a module: members are the networks exported alone, and decide as floats do."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from equality import assert_equal

import randhet
from randhet.base.errors import RandhetError
from randhet.compare.robustness.deployed import under_attack
from randhet.export.ensemble import changes, changes_of, deploy_ensemble, export_ensemble, joined, twins
from randhet.export.model import as_model
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import export
from randhet.export.varied import varied
from randhet.fixed_point.backends import runner
from randhet.fixed_point.ensemble import NetworkEnsemble, run
from randhet.fixed_point.generator import tau_table
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.ensemble import Ensemble, Member, over_decays, voted
from randhet.train.models import ModelSettings
from randhet.train.neurons import replaying

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
SIGMAS, STEPS = (0.5, 1.0, 2.0), (3, 2, 5)


@cache
def checkpoint(neuron: Any = "randhet") -> Checkpoint:
    torch.manual_seed(0)
    return random_init(ModelSettings(1, 4, (8, 8), (4, 6), (1, 1), steps=3, neuron=neuron), images=PIXELS)


@cache
def deployed(combine: Any = "vote") -> NetworkEnsemble:
    return export_ensemble(as_model(checkpoint()), PIXELS, changes(SIGMAS, STEPS), combine)[0]


def test_members_are_the_networks_that_are_exported_alone() -> None:
    ensemble = deployed()
    assert ensemble.weights == (10, 15, 6) and ensemble.combine == "vote"
    for member, sigma, steps in zip(ensemble.members, SIGMAS, STEPS, strict=True):
        alone = export(varied(checkpoint(), {"sigma": sigma, "steps": steps}), PIXELS).network
        assert changes_of(member) == {"sigma": sigma, "steps": steps} and member.steps == alone.steps == steps
        assert {**alone.metadata, "member": member.metadata["member"]} == member.metadata
        names = [layer.name for layer in alone.layers]
        found, wanted = (
            runner("reference")(each, PIXELS, seed=5, first_image=2, probes=names) for each in (member, alone)
        )
        assert_equal(found, wanted)
        tables = [layer.drawn.table for layer in member.layers if layer.drawn is not None]
        assert len(tables) == 6 and all(np.array_equal(table, tau_table(8, sigma)) for table in tables)


def test_a_module_and_its_checkpoint_give_the_same_ensemble() -> None:
    model = build(checkpoint())
    found = deploy_ensemble(Ensemble(over_decays(model, SIGMAS, STEPS), "vote"), PIXELS)
    one, two = (run(each, PIXELS, runner("reference"), seed=3) for each in (found, deployed()))
    assert np.array_equal(one.sums, two.sums) and np.array_equal(one.votes, two.votes)
    assert [member.steps for member in found.members] == list(STEPS) and found.combine == "vote"


@cache
def digits(combine: Any) -> tuple[NetworkEnsemble, Any, np.ndarray]:
    """An ensemble of the shipped network with other time steps, the float members, and forty images."""
    model = as_model(randhet.load_checkpoint("digits-randhet-at"))
    pixels = randhet.load_data("digits", "train").pixels[:64]
    ensemble, _ = export_ensemble(model, pixels, changes((0.5, 1.0, 2.5), (4, 2, 3)), combine)
    module = under_attack(ensemble, twins(model, ensemble), runner("engine"), (11, 0)).eval()
    return ensemble, module, randhet.load_data("digits", "test").pixels[:40]


@pytest.mark.parametrize("combine", ["vote", "average"])
def test_the_scores_of_the_attacked_module_decide_as_the_integers(combine: Any) -> None:
    """Under one master seed; the members' scores, in units of logits, are joined by the module that is trained."""
    ensemble, module, pixels = digits(combine)
    wanted = run(ensemble, pixels, runner("reference"), seed=11)
    found = module(torch.from_numpy(pixels).float() / 255)
    assert found.argmax(1).tolist() == wanted.predictions.tolist() and len(set(wanted.predictions.tolist())) == 10
    scale = ensemble.first.layers[-1].scale
    assert scale is not None and ensemble.common == 12
    if combine == "average":
        torch.testing.assert_close(found, torch.from_numpy(wanted.sums * scale / 12 / 3).float())


@pytest.mark.parametrize("combine", ["vote", "average"])
def test_floats_under_the_decay_factors_of_the_integers_decide_nearly_as_they_do(combine: Any) -> None:
    """The rounding of weights alone is between them: 38 of 40 answers agree at least."""
    ensemble, module, pixels = digits(combine)
    points, logits = torch.from_numpy(pixels).float() / 255, []
    for member in module.members:
        with torch.no_grad(), replaying(member.twin, member.taus(*member.key, len(points))):
            logits.append(member.twin(points))
    stacked = torch.stack(logits)
    floats = voted(stacked) if combine == "vote" else stacked.mean(0)
    fixed = run(ensemble, pixels, runner("engine"), seed=11).predictions
    assert (floats.argmax(1).numpy() == fixed).sum() >= 38
    points.requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(points)[:, 0].sum(), points)
    assert gradient.abs().sum() > 0


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sigmas_and_steps_are_one_for_each_member() -> None:
    assert changes((0.5, 1), (2, 3)) == [{"sigma": 0.5, "steps": 2}, {"sigma": 1.0, "steps": 3}]
    assert changes((), (2, 3)) == [{"steps": 2}, {"steps": 3}] and changes() == []
    for sigmas, steps, sentence in (
        ((0.5,), (2, 3), "1 sigmas and 2 steps are given"),
        ((-1.0,), (), "sigmas are -1.0, they must be at least 0"),
        ((float("nan"),), (), "sigmas are nan"),
        ((), (2, 0), "steps are 2, 0, they must be at least 1"),
    ):
        with pytest.raises(RandhetError, match=sentence):
            changes(sigmas, steps)


def test_what_cannot_be_members_is_refused() -> None:
    with pytest.raises(RandhetError, match="a network of vanilla neurons has no random decay factors to change"):
        export_ensemble(as_model(checkpoint("vanilla")), PIXELS, changes((0.5, 1.0)))
    with pytest.raises(RandhetError, match="can be changed in a checkpoint of randhet train only"):
        export_ensemble(as_model(build(checkpoint())), PIXELS, changes((0.5, 1.0)))
    with pytest.raises(RandhetError, match="make them by over_decays"):
        deploy_ensemble(Ensemble([build(checkpoint())]), PIXELS)
    with pytest.raises(RandhetError, match="hold several networks, they must share one"):
        deploy_ensemble(Ensemble([Member(build(checkpoint()), 0.5), Member(build(checkpoint()), 1.0)]), PIXELS)


def test_members_whose_f_differs_are_refused_with_the_f_that_all_can_have() -> None:
    made = [export(checkpoint(), PIXELS, QuantSettings(f=f)) for f in (6, 5)]
    with pytest.raises(
        RandhetError, match="layer node1 has f = 5 in member 1 and f = 6 in member 0.*export with f = 5"
    ):
        joined(made, [{}, {}], "vote")


def test_metadata_that_says_no_changes_is_refused() -> None:
    member = deployed().members[0]
    assert changes_of(replace(member, metadata={})) == {}
    for text, sentence in (("{", "is not JSON"), ("[1]", r"holds \[1\]"), ('{"neuron": 1}', "must be sigma and steps")):
        with pytest.raises(RandhetError, match=sentence):
            changes_of(replace(member, metadata={"member": text}))


SIGMA, COUNT = (
    "its sigma is {}, it must be a number of at least 0",
    "its steps are {}, they must be the network's own, 3",
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"sigma": "x"}', SIGMA.format("'x'")),
        ('{"sigma": null}', SIGMA.format("None")),
        ('{"sigma": true}', SIGMA.format("True")),
        ('{"sigma": [1]}', SIGMA.format(r"\[1\]")),
        ('{"sigma": -0.5}', SIGMA.format("-0.5")),
        ('{"sigma": NaN}', SIGMA.format("nan")),
        ('{"sigma": Infinity}', SIGMA.format("inf")),
        ('{"sigma": 1' + "0" * 400 + "}", "its sigma is 10*\\.\\.\\.0*, it must be a number"),
        ('{"steps": 2.5}', COUNT.format("2.5")),
        ('{"steps": 3.0}', COUNT.format("3.0")),
        ('{"steps": true}', COUNT.format("True")),
        ('{"steps": null}', COUNT.format("None")),
        ('{"steps": "3"}', COUNT.format("'3'")),
        ('{"steps": 4}', COUNT.format("4")),
        ('{"steps": 3, "sigma": -1}', SIGMA.format("-1")),
        ("[" * 100_000, "nests too deeply"),
    ],
)
def test_metadata_with_changes_that_no_member_can_have_is_refused(text: str, sentence: str) -> None:
    """Floats would fail in the middle of a comparison, or be those of another member."""
    member = deployed().members[0]
    with pytest.raises(RandhetError, match=f"metadata member of the network.*{sentence}"):
        changes_of(replace(member, metadata={"member": text}))


@pytest.mark.parametrize("own", [{"sigma": 0}, {"sigma": 2.5}, {"steps": 3}, {"sigma": 0.5, "steps": 3}])
def test_metadata_of_changes_is_read(own: dict[str, Any]) -> None:
    assert changes_of(replace(deployed().members[0], metadata={"member": json.dumps(own)})) == own
