"""What a better surrogate must show: that the gradients of training leave what others do not."""

from __future__ import annotations

from pathlib import Path

import torch

from randhet.train.attacks.names import parse, run
from randhet.train.checkpoint import build, load
from randhet.train.data.sources import load as load_data

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "digits-vanilla-at.pt"
EPS = 0.15


def test_the_adaptive_surrogate_leaves_half_of_apgd_and_no_more_than_square() -> None:
    """On a deterministic spiking network, 24 digits: SA-PGD with ASSG and APGD, 50 steps; Square, 5,000 queries."""
    model, images = build(load(CHECKPOINT)), load_data("digits").take(24)
    pixels, labels = torch.from_numpy(images.pixels).float() / 255, torch.from_numpy(images.labels)
    left = {}
    for name in ("sa-pgd50+assg", "apgd50", "square5000"):
        torch.manual_seed(0)
        found = run(parse(name), model, pixels, labels, EPS)
        assert found.aware is not None
        with torch.no_grad():
            answers = [model(examples).argmax(1) == labels for examples in (found.stock, found.aware)]
        left[name] = min(int(right.sum()) for right in answers)
    assert left["apgd50"] > 0
    assert left["sa-pgd50+assg"] <= left["apgd50"] / 2
    assert left["sa-pgd50+assg"] <= left["square5000"]
