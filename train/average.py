"""An exponential moving average of the weights, which is measured and written in place of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """a <- d a + (1 - d) w after every step, from the first weights on; d = min(decay, (1 + n) / (10 + n)) in step n.

    decay in 0..1. w are parameters and floating buffers, so that running statistics are averaged like weights; other
    buffers are those of the last step. The short memory of the first steps forgets the random start (as in TensorFlow's
    ExponentialMovingAverage; Polyak & Juditsky 1992).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in entries(model).items()}

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take the weights after a step into account."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in entries(model).items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from an average over so many steps."""
        self.steps = steps
        for name, mean in self.state.items():
            mean.copy_(state[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model has the average; afterwards its own weights."""
        own = {name: value.detach().clone() for name, value in entries(model).items()}
        try:
            _put(model, self.state)
            yield
        finally:
            _put(model, own)


def entries(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of the state, the model's own and not copies."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


@torch.no_grad()
def _put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    for name, value in entries(model).items():
        value.copy_(state[name])
