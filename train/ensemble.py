"""Ensembles over decay distributions: members that share one network's weights and draw decays of another spread.

The future work that Wang et al. (iScience 2025) propose against adversarial examples that transfer across draws. An
ensemble is a module of images to scores like any other, so that training objectives and attacks take it as it is; an
EOT sample of it is one draw of every member.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.base.errors import RandhetError
from randhet.train.layers import Encode
from randhet.train.neurons import RandomTauLIF, neurons

Combine = Literal["average", "vote"]
COMBINE: tuple[str, ...] = get_args(Combine)


class Ensemble(nn.Module):
    """Images (N, C, Y, X) to scores (N, K) of all members, each of which gives logits (N, K).

    average: the mean of the logits. vote: how many members choose a class, plus at most one for its mean logit, which
    decides between equals as the integers do after deployment. A count of votes has no derivative, so its gradient is
    that of the sum of the probabilities.

    Example: `Ensemble(over_decays(model, sigmas=(0.5, 1.0, 1.5)), "vote")`
    """

    def __init__(self, members: Sequence[nn.Module], combine: Combine = "average") -> None:
        super().__init__()
        if not members:
            raise RandhetError("an ensemble has no members, it needs at least one")
        if combine not in COMBINE:
            raise RandhetError(f"combine is {combine!r}, it must be one of {', '.join(COMBINE)}")
        self.members, self.combine = nn.ModuleList(members), combine

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.stack([member(images) for member in self.members])
        return logits.mean(0) if self.combine == "average" else voted(logits)

    def extra_repr(self) -> str:
        return f"combine={self.combine}"


def voted(logits: Tensor) -> Tensor:
    """Return votes plus 1 / (1 + z_max - z), z the mean of logits (members, N, K): (N, K)."""
    count, mean = len(logits), logits.softmax(-1).mean(0)
    votes = F.one_hot(logits.argmax(-1), logits.shape[-1]).sum(0)
    z = logits.mean(0)
    # unlike a softmax it tells apart classes that are both far below the largest
    value = votes + 1 / (1 + z.amax(-1, keepdim=True) - z)
    # the gradient is that of (members + 1) * mean
    return (count + 1) * mean + (value - (count + 1) * mean).detach()


class Member(nn.Module):
    """A network whose random neurons draw with another sigma, and which runs other time steps, while it is called."""

    def __init__(self, model: nn.Module, sigma: float | None = None, steps: int | None = None) -> None:
        super().__init__()
        self.model, self.sigma, self.steps = model, sigma, steps

    def forward(self, images: Tensor) -> Tensor:
        with self.chosen():
            logits: Tensor = self.model(images)
        return logits

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Within the block the network has the member's sigma and steps."""
        with ExitStack() as stack:
            for neuron in _random(self.model) if self.sigma is not None else ():
                stack.callback(setattr, neuron, "sigma", neuron.sigma)
                neuron.sigma = float(self.sigma or 0)
            for encoder in _encoders(self.model) if self.steps is not None else ():
                stack.callback(setattr, encoder, "steps", encoder.steps)
                encoder.steps = int(self.steps or 0)
            yield

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, steps={self.steps}"


def over_decays(
    model: nn.Module, sigmas: Sequence[float] = (), steps: Sequence[int] = ()
) -> list[Member]:  # fmt: skip
    """Make members of one network that share its weights: one for each sigma, or for each number of time steps.

    sigmas: spreads of the decay factors, at least 0; steps: numbers of time steps, at least 1, of a network of still
    images. Given both, one of each for every member. RandhetError where the network has nothing that they could change.
    """
    if sigmas and steps and len(sigmas) != len(steps):
        raise RandhetError(f"{len(sigmas)} sigmas and {len(steps)} steps are given: give one of each for every member")
    _check(model, sigmas, steps)
    pairs = zip_longest(sigmas, steps)
    return [Member(model, sigma, own) for sigma, own in pairs]


def _check(model: nn.Module, sigmas: Sequence[float], steps: Sequence[int]) -> None:
    if sigmas and not _random(model):
        raise RandhetError("the network draws no decay factors, sigma changes nothing in it: give steps")
    if any(neuron.w is not None for neuron in _random(model)) and sigmas:
        raise RandhetError("the network trains its sigma, members cannot have others: train it with --train-sigma no")
    if sigmas and min(sigmas) < 0:
        raise RandhetError(f"sigma is {min(sigmas)}, it must not be negative")
    if steps and not _encoders(model):
        raise RandhetError("the network takes recordings, whose frames are its time steps: give sigmas")
    if steps and min(steps) < 1:
        raise RandhetError(f"steps are {min(steps)}, they must be at least 1")


def _random(model: nn.Module) -> list[RandomTauLIF]:
    return [neuron for neuron in neurons(model).values() if isinstance(neuron, RandomTauLIF)]


def _encoders(model: nn.Module) -> list[Encode]:
    return [module for module in model.modules() if isinstance(module, Encode)]
