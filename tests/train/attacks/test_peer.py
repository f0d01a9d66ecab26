"""On a deterministic network, where luck plays no part: stock is what torchattacks gives, noise-aware no weaker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from randhet.train.attacks.names import parse, run
from randhet.train.checkpoint import build, load
from randhet.train.data.sources import load as load_data

torchattacks = pytest.importorskip("torchattacks")
EPS = 0.2
CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "digits-vanilla-at.pt"


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """The vanilla network and 50 images that it classifies rightly: torchattacks' APGD leaves out the others."""
    model, images = build(load(CHECKPOINT)), load_data("digits").take(60)
    pixels, labels = torch.from_numpy(images.pixels).float() / 255, torch.from_numpy(images.labels)
    with torch.no_grad():
        right = model(pixels).argmax(1) == labels
    return model, pixels[right][:50], labels[right][:50]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


TWINS: dict[str, Callable[[nn.Module], Any]] = {
    "fgsm": lambda model: torchattacks.FGSM(model, eps=EPS),
    "pgd6": lambda model: torchattacks.PGD(model, eps=EPS, alpha=2 * EPS / 6, steps=6),
    "mifgsm5": lambda model: torchattacks.MIFGSM(model, eps=EPS, alpha=EPS / 4, steps=5, decay=1.0),
    "mifgsm5-d0.1": lambda model: torchattacks.MIFGSM(model, eps=EPS, alpha=EPS / 4, steps=5, decay=0.1),
    "apgd12": lambda model: torchattacks.APGD(model, eps=EPS, steps=12, seed=0),
    "apgd-dlr12": lambda model: torchattacks.APGD(model, eps=EPS, steps=12, loss="dlr", seed=0),
    "fab4": lambda model: torchattacks.FAB(model, eps=EPS, steps=4, n_classes=10),
}
CLOSE = {"mifgsm5": 0.97, "mifgsm5-d0.1": 0.97}
"""Share of equal images; a sign may differ where momentum cancels the gradient up to rounding."""


@pytest.mark.parametrize("name", TWINS)
def test_stock_is_the_twins_example_and_noise_aware_no_weaker(
    name: str, digits: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """From the same random start."""
    model, images, labels = digits
    torch.manual_seed(0)
    found = run(parse(name), model, images, labels, EPS)
    torch.manual_seed(0)
    theirs = TWINS[name](model)(images, labels).detach()
    assert not torch.equal(theirs, images)
    assert ((found.stock - theirs).abs() < 1e-5).flatten(1).all(1).float().mean() >= CLOSE.get(name, 1.0)
    assert accuracy(model, found.stock, labels) <= accuracy(model, theirs, labels)
    if found.aware is not None:
        assert accuracy(model, found.aware, labels) <= accuracy(model, theirs, labels)


def test_square_is_no_weaker_than_the_twin(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """A random search whose draws are its own: over 50 images a few more or less are chance, here 3."""
    model, images, labels = digits
    torch.manual_seed(1)
    ours = accuracy(model, run(parse("square80"), model, images, labels, EPS).stock, labels)
    theirs = accuracy(model, torchattacks.Square(model, eps=EPS, n_queries=80)(images, labels), labels)
    assert theirs < 0.9 and ours <= theirs + 0.06
