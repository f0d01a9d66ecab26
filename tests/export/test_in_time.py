"""A model without an encoding of its own, shown each image for a stated number of steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export.graph import Encoding, ExportError, TimeMean
from randhet.export.in_time import InTime
from randhet.export.pipeline import export_model
from randhet.export.trace import timed, trace
from randhet.export.verify import verify
from randhet.fixed_point import reference
from randhet.train.layers import BatchNorm2d, Conv2d, Encode, Flatten, Linear, MeanOverTime, Normalise
from randhet.train.neurons import LIF

SHAPE = (1, 6, 6)
IMAGES = np.random.default_rng(3).integers(0, 256, (8, *SHAPE), dtype=np.uint8)


def sequence(*tail: nn.Module) -> nn.Sequential:
    """Layers over (T, N, ...) with their neurons, without an encoding."""
    torch.manual_seed(1)
    front = (Normalise([0.4], [0.3]), Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), LIF(0.6, 0.2))
    return nn.Sequential(*front, Flatten(), Linear(144, 3), *tail).eval()


@pytest.mark.parametrize("tail", [(), (MeanOverTime(),)], ids=["every step", "mean"])
def test_a_model_of_sequences_is_that_with_an_encode(tail: tuple[nn.Module, ...]) -> None:
    """In float the wrapped model gives the logits of the model that encodes; its integers are the same network."""
    bare = sequence(*tail)
    encoding = nn.Sequential(Encode(5), *sequence(), MeanOverTime())
    model = timed(bare, SHAPE, 5)
    assert isinstance(model, InTime)
    pixels = torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad():
        assert torch.equal(model(pixels), encoding(pixels))
    ours, other = (export_model(made, IMAGES).network for made in (model, encoding))
    assert ours.steps == 5
    assert np.array_equal(reference.run(ours, IMAGES, seed=0).sums, reference.run(other, IMAGES, seed=0).sums)


def test_the_graph_says_the_steps_once_and_ends_in_the_mean() -> None:
    graph = trace(timed(sequence(), SHAPE, 3), SHAPE)
    assert [node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)] == [3]
    assert isinstance(graph.nodes[-1].operation, TimeMean)
    verify(timed(sequence(), SHAPE, 3), graph, IMAGES)


def test_nobody_says_the_steps() -> None:
    with pytest.raises(ExportError, match=r"does not say its number of time steps: give steps, or add Encode\(steps\)"):
        timed(sequence(), SHAPE)


def test_two_numbers_of_steps_contradict() -> None:
    model = nn.Sequential(Encode(4), *sequence(), MeanOverTime())
    assert timed(model, SHAPE, 4) is model
    with pytest.raises(ExportError, match="runs 4 time steps, 8 are given"):
        timed(model, SHAPE, 8)


def test_no_steps_are_refused() -> None:
    with pytest.raises(RandhetError, match="time steps are 0, there must be at least 1"):
        timed(sequence(), SHAPE, 0)


class Two(nn.Module):
    """Depends on a second input."""

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        return x + gain


def test_a_second_input_is_refused() -> None:
    with pytest.raises(ExportError, match="depends on 2 inputs, it must depend on the images alone"):
        trace(Two(), SHAPE)


class Several(nn.Module):
    """Gives spikes beside what decides, and computes something that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.back = sequence()[:4], sequence()[4:]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes = self.front(x)
        outputs = self.back(spikes)
        spikes + spikes
        return outputs, spikes


def test_of_several_outputs_the_first_decides() -> None:
    ours, other = (export_model(timed(model, SHAPE, 3), IMAGES).network for model in (Several(), sequence()))
    assert len(ours.layers) == len(other.layers)
    assert np.array_equal(reference.run(ours, IMAGES, seed=0).sums, reference.run(other, IMAGES, seed=0).sums)
