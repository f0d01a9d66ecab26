"""Gradients in bfloat16: close to those of float32, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

import randhet
from randhet.base.errors import RandhetError
from randhet.compare.robustness.evaluation import Setup
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.problem import Problem
from randhet.train.checkpoint import build

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


def test_an_attack_keeps_its_ball_and_its_strength() -> None:
    model = build(randhet.load_checkpoint(CHECKPOINT))
    images, labels = digits(60)
    exact, rough = (
        randhet.attack(model, images, labels, "sa-pgd20+assg", eps=32 / 255, precision=name)
        for name in ("float32", "bfloat16")
    )
    assert exact.clean.accuracy == rough.clean.accuracy
    examples = rough.examples["sa-pgd20+assg"]
    assert (examples - images).abs().max() <= 32 / 255 + 1e-6 and examples.min() >= 0 and examples.max() <= 1
    with torch.no_grad():
        answered = build(randhet.load_checkpoint(CHECKPOINT)).eval()(examples).argmax(1) == labels
    assert rough.accuracy["sa-pgd20+assg"] == pytest.approx(answered.double().mean().item()), "not that of float32"
    assert abs(exact.mra - rough.mra) <= 0.15, (exact.mra, rough.mra)  # 60 images: one in seven


def test_results_of_another_precision_are_not_taken_up_again() -> None:
    checkpoint, images = randhet.load_checkpoint(CHECKPOINT), randhet.load_data("digits", "test").take(4)
    plain, rough = (Setup(checkpoint, images, precision=name).identity for name in ("float32", "bfloat16"))
    assert "precision" not in plain and rough == plain | {"precision": "bfloat16"}


def test_an_unknown_precision_is_refused() -> None:
    images, labels = digits(4)
    model = build(randhet.load_checkpoint(CHECKPOINT))
    with pytest.raises(RandhetError, match="precision 'half' is not one of float32, bfloat16"):
        randhet.attack(model, images, labels, "pgd2", precision="half")
    with pytest.raises(RandhetError, match="precision 'half' is not one of float32, bfloat16"):
        Setup(randhet.load_checkpoint(CHECKPOINT), randhet.load_data("digits", "test").take(4), precision="half")
