"""Random modules as users write them: deployed and compared, or refused; never a network that is something else.

The integers of a deployed module are held against its float spikes layer by layer under the same decay factors: the
first difference must be explained by rounding (`randhet.compare`), and no backend may differ from the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.base.errors import RandhetError
from randhet.compare.comparing import compare_models
from randhet.export.deploy import deploy
from randhet.train.layers import BatchNorm2d, Conv2d, Encode, Flatten, Linear, MaxPool2d
from randhet.train.neurons import LIF, RandomTauLIF

IMAGES = np.random.default_rng(7).integers(0, 256, (12, 2, 6, 6), dtype=np.uint8)
LABELS = np.random.default_rng(8).integers(0, 3, 12)
EXPLAINED = {"rounding", "tie"}
"""Causes of a first odd spike that are no fault."""
CLASSES = 3


@dataclass(frozen=True)
class Choice:
    """What one random module is made of; every field is one way in which users write the same thing differently."""

    seed: int
    steps: int
    stem: str
    random: bool
    between: str
    join: str
    pool: str
    flat: str
    head: int


choices = st.builds(
    Choice,
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 4),
    stem=st.sampled_from(["plain", "same", "even same", "two", "norm first", "linear"]),
    random=st.booleans(),
    between=st.sampled_from(["none", "norm", "two norms", "dropout"]),
    join=st.sampled_from(["none", "add", "cat", "norm and cat"]),
    pool=st.sampled_from(["none", "module", "function", "max", "global"]),
    flat=st.sampled_from(["module", "flatten", "reshape"]),
    head=st.integers(1, 2),
)


def norm(channels: int) -> nn.Module:
    """Batch norm that changes what it reads, gains of both signs and one of 0."""
    made = BatchNorm2d(channels)
    nn.init.uniform_(made.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
    nn.init.uniform_(made.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    nn.init.normal_(made.weight, 0.5, 0.7)
    nn.init.uniform_(made.bias, -0.4, 0.4)
    with torch.no_grad():
        made.weight[0] = 0
    return made


def stem(choice: Choice) -> nn.Module:
    """From images to currents (N, 4, 6, 6), in the ways that users write it."""
    kinds = {
        "plain": lambda: [nn.Conv2d(2, 4, 3, padding=1)],
        "same": lambda: [nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4)],
        "even same": lambda: [nn.Conv2d(2, 4, 4, padding="same")],
        "two": lambda: [nn.Conv2d(2, 3, 3, padding=2), nn.Conv2d(3, 4, 3)],
        "norm first": lambda: [norm(2), nn.Conv2d(2, 4, 3, padding=1)],
        "linear": lambda: [nn.Flatten(), nn.Linear(72, 144), nn.BatchNorm1d(144)],
    }
    return nn.Sequential(*kinds[choice.stem]())


class Random(nn.Module):
    """A network of the user's own: stem, neuron, a second layer, a branch, a pool, a head."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        torch.manual_seed(choice.seed)
        neuron = RandomTauLIF if choice.random else lambda: LIF(0.6, 0.3)
        self.choice, self.encode = choice, Encode(choice.steps)
        self.stem, self.first = stem(choice), neuron()
        self.norms = nn.ModuleList([norm(4), norm(4)])
        self.drop = nn.Dropout(0.3)
        self.conv, self.second, self.branch_norm = Conv2d(4, 4, 3, padding=1), neuron(), norm(4)
        self.max = MaxPool2d(2)
        self.pool, self.whole = nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        channels = 8 if "cat" in choice.join else 4
        spots = {"none": 36, "global": 1}.get(choice.pool, 9)
        if choice.stem == "linear":
            channels, spots = 144, 1
        middle = 5 if choice.head == 2 else CLASSES
        self.head = nn.Sequential(Linear(channels * spots, middle), *([Linear(5, CLASSES)] if choice.head == 2 else []))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(self.encode(self.stem(x)))
        if self.choice.stem != "linear":
            spikes = self.flat(self.pooled(self.joined(self.normed(spikes))))
        return self.head(spikes).mean(0)

    def normed(self, x: Tensor) -> Tensor:
        return {
            "none": lambda: x,
            "norm": lambda: self.norms[0](x),
            "two norms": lambda: self.norms[1](self.norms[0](x)),
            "dropout": lambda: self.drop(x),
        }[self.choice.between]()

    def joined(self, x: Tensor) -> Tensor:
        if self.choice.join == "none":
            return x
        branch = self.second(self.conv(x))
        if self.choice.join == "add":
            return x + branch
        return torch.cat([x, self.branch_norm(branch) if "norm" in self.choice.join else branch], dim=2)

    def pooled(self, x: Tensor) -> Tensor:
        steps = self.choice.steps
        return {
            "none": lambda: x,
            "module": lambda: self.pool(x.flatten(0, 1)).unflatten(0, (steps, -1)),
            "function": lambda: F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, (steps, -1)),
            "max": lambda: self.max(x),
            "global": lambda: self.whole(x.reshape(-1, *x.shape[2:])).reshape(steps, -1, x.shape[2], 1, 1),
        }[self.choice.pool]()

    def flat(self, x: Tensor) -> Tensor:
        if self.choice.flat == "reshape":
            return x.reshape(x.shape[0], x.shape[1], -1)
        return torch.flatten(x, 2) if self.choice.flat == "flatten" else self.flatten(x)


def may_be_refused(choice: Choice) -> bool:
    """What has no integers: a batch norm before a sum or, with gains of 0 and below, before a max pool."""
    normed = choice.between in ("norm", "two norms")
    summed = choice.join == "add" and normed
    largest = choice.pool == "max" and (normed or choice.join == "norm and cat")
    return choice.stem != "linear" and (summed or largest)


@given(choices)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_a_random_module_is_deployed_or_refused(choice: Choice) -> None:
    model = Random(choice).eval()
    refusal = None
    try:
        network = deploy(model, IMAGES)
    except RandhetError as error:
        refusal = error
    assert (refusal is not None) == may_be_refused(choice), f"{choice}: {refusal}"
    if refusal:
        return
    report = compare_models(model, network, IMAGES, LABELS, draws=1, backends=("engine",))
    tracing = report.found.tracing
    assert all(finding.identical for finding in tracing.backends.values()), choice
    odd = tracing.float_divergence
    assert odd is None or odd.at.cause in EXPLAINED, f"{choice}: {odd}"
    assert tracing.saturations == 0


def test_a_wrong_weight_is_seen() -> None:
    """The same comparison finds one weight that is another by a few units, in a module of every way of writing."""
    choice = Choice(1, 3, "same", False, "norm", "cat", "function", "reshape", 2)
    model = Random(choice).eval()
    network = deploy(model, IMAGES)
    with torch.no_grad():
        model.conv.weight[1, 1, 1, 1] += 0.05
    with pytest.raises(RandhetError, match="other weights"):
        compare_models(model, network, IMAGES, LABELS, draws=1, backends=())
