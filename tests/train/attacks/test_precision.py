"""Gradients in bfloat16: close to those of float32, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

import randhet
from randhet.base.errors import RandhetError
from randhet.compare.robustness.evaluation import Execution, Setup, Trial, evaluate, examples, task
from randhet.compare.robustness.similarity import cosines
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.problem import Problem
from randhet.train.checkpoint import build
from randhet.train.precision import PRECISIONS

CHECKPOINT = "checkpoints/digits-vanilla-at.pt"


def digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = randhet.load_data("digits", "test").take(count)
    return torch.from_numpy(images.pixels).float() / 255, torch.from_numpy(images.labels)


def test_gradients_point_the_same_way_and_convolutions_are_of_that_precision() -> None:
    model = build(randhet.load_checkpoint(CHECKPOINT)).eval()
    images, labels = digits(40)
    seen: list[torch.dtype] = []
    handle = model.conv1.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    exact = Problem(model, images, labels, 0.1).ask(images, cross_entropy)
    rough = Problem(model, images, labels, 0.1, precision="bfloat16").ask(images, cross_entropy)
    handle.remove()
    assert seen == [torch.float32, torch.bfloat16]
    assert rough.gradient.dtype == rough.loss.dtype == torch.float32
    assert not torch.equal(rough.gradient, exact.gradient)
    cosines = cosine_similarity(rough.gradient.flatten(1), exact.gradient.flatten(1))
    assert cosines.median() > 0.8, cosines  # single spikes that fall on the other side of a threshold change a gradient


@pytest.mark.parametrize(
    "name", ["fgsm", "rfgsm", "pgd2", "mifgsm2", "apgd2", "apgd-dlr2", "apgd-t2", "sa-pgd2+assg", "fab2", "fab-t2"]
)
def test_every_gradient_is_of_that_precision(name: str) -> None:
    """Whatever the family of the attack: a pass that autograd records computes its convolutions in bfloat16."""
    model = build(randhet.load_checkpoint(CHECKPOINT)).eval()
    seen: set[torch.dtype] = set()

    def look(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        if given[0].requires_grad:
            seen.add(out.dtype)

    handle = model.conv1.register_forward_hook(look)
    run(parse(name), model, *digits(4), 0.1, precision="bfloat16")
    handle.remove()
    assert seen == {torch.bfloat16}


def test_an_attack_keeps_its_ball_and_its_strength() -> None:
    checkpoint, data = randhet.load_checkpoint(CHECKPOINT), randhet.load_data("digits", "test").take(60)
    trial, accuracies = Trial("sa-pgd20+assg", 32 / 255), []
    for name in PRECISIONS:
        setup = Setup(checkpoint, data, precision=name)
        with task(setup, trial, 0, 60) as (model, images, labels):
            found = examples(model, trial, images, labels, 1, False, name)
            assert (found.stock - images).abs().max() <= 32 / 255 + 1e-6
            assert found.stock.min() >= 0 and found.stock.max() <= 1
            with torch.no_grad():
                right = (model(found.stock).argmax(1) == labels).double().mean().item()
        accuracies.append(evaluate(setup, [trial], Execution(batch=60))[trial].stock.accuracy)
        assert accuracies[-1] == pytest.approx(right), "accuracies are of float32"
    assert abs(accuracies[0] - accuracies[1]) <= 0.15, accuracies  # 60 images: one in seven


def test_results_of_another_precision_are_not_taken_up_again() -> None:
    checkpoint, images = randhet.load_checkpoint(CHECKPOINT), randhet.load_data("digits", "test").take(4)
    plain, rough = (Setup(checkpoint, images, precision=name).identity for name in ("float32", "bfloat16"))
    assert "precision" not in plain and rough == plain | {"precision": "bfloat16"}


def test_cosines_are_of_gradients_in_that_precision() -> None:
    """The draws are the same: what two cosines of a random network differ by is the precision."""
    checkpoint, images = (
        randhet.load_checkpoint("checkpoints/digits-randhet-at.pt"),
        randhet.load_data("digits", "test"),
    )
    found = [
        cosines(Setup(checkpoint, images.take(8), precision=name), Trial("pgd3", 0.1), 0, 8)
        for name in ("float32", "float32", "bfloat16")
    ]
    assert found[0] == found[1]
    assert all(found[0][kind] != found[2][kind] for kind in ("gradient", "perturbation"))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RandhetError, match="precision 'half' is not one of float32, bfloat16"):
        Setup(randhet.load_checkpoint(CHECKPOINT), randhet.load_data("digits", "test").take(4), precision="half")
