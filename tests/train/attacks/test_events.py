"""Attacks on frames of events: whole counts, budgets, and what a linear model's attack must be, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks.events import EVENT, added_events, changed_values, pgd_frames, retime, sda
from randhet.train.attacks.names import FAMILIES
from randhet.train.attacks.problem import Problem

SHAPE = (4, 2, 3, 3)
"""(T, C, Y, X)."""


class Linear(nn.Module):
    """Logits (0, w.x): class 1 where w.x > 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


class Network(nn.Module):
    """A small network whose gradient is not constant."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(72, 9, generator=generator))
        self.last = nn.Parameter(torch.randn(9, 3, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.flatten(1) * 255 @ self.first) @ self.last


def problem(seed: int, eps: float = 1 / 255, count: int = 3) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 4, (count, *SHAPE), generator=generator) * (1 / 255)
    model = Network(seed)
    return Problem(model, frames, model(frames).argmax(1).detach(), eps)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 40), st.sampled_from([1, 2, 5]))
def test_results_are_whole_counts_inside_ball_and_budget(seed: int, budget: int, events: int) -> None:
    given_problem = problem(seed, events / 255)
    for attack in (pgd_frames, sda, retime):
        examples = attack(given_problem, budget)
        for points in (examples.stock, examples.aware):
            assert points is not None
            counts = points * 255
            assert (counts - counts.round()).abs().max() < 1e-3 and points.min() >= 0 and points.max() <= 1
            if attack is not retime:
                assert (points - given_problem.images).abs().max() <= given_problem.eps + 1e-6
            if attack is sda:
                assert changed_values(given_problem, points).max() <= budget
            if attack is retime:
                assert added_events(given_problem, points).abs().max() == 0
                moved = (points - given_problem.images).clamp_min(0).flatten(1).sum(1) / EVENT
                assert moved.max() <= budget + 1e-3


def linear(weight: Tensor, frames: Tensor) -> Problem:
    """Class 1 is right as long as w.x > 0."""
    return Problem(Linear(weight), frames / 255, torch.ones(len(frames), dtype=torch.long), 1 / 255)


def test_sda_changes_the_fewest_values_that_a_linear_model_needs() -> None:
    """w.x = 5.5 events; the largest weights are 3, 2, 1: taking an event from the first two is not enough, three is."""
    weight = torch.zeros(SHAPE)
    weight[0, 0, 0, :3] = torch.tensor([3.0, 2.0, 1.0])
    weight[1, 0, 0, 0] = -0.25
    frames = torch.zeros(1, *SHAPE)
    frames[0, 0, 0, 0, :3] = 1
    frames[0, 1, 0, 0, 0] = 2
    points = sda(linear(weight, frames), 20).stock
    changed = ((points * 255).round() - frames)[0]
    # 3 + 2 + 1 - 2 * 0.25 = 5.5: all three events go, and one more is added where the weight is negative only if needed
    assert changed[0, 0, 0, :3].tolist() == [-1, -1, -1]
    assert linear(weight, frames).wrong(points).all()


def test_retime_moves_an_event_to_the_frame_where_it_counts_least() -> None:
    weight = torch.zeros(SHAPE)
    weight[1, 0, 0, 0], weight[2, 0, 0, 0], weight[0, 0, 0, 0] = 2.0, -1.0, 1.0
    frames = torch.zeros(1, *SHAPE)
    frames[0, 1, 0, 0, 0] = 1
    points = (retime(linear(weight, frames), 5).stock * 255).round()
    assert points[0, :, 0, 0, 0].tolist() == [0, 0, 1, 0] and points.sum() == 1


def test_an_event_stays_where_every_move_helps_the_right_class() -> None:
    weight = torch.zeros(SHAPE)
    weight[:, 0, 0, 0] = torch.tensor([3.0, 1.0, 2.0, 5.0])
    frames = torch.zeros(1, *SHAPE)
    frames[0, 1, 0, 0, 0] = 1
    assert torch.equal((retime(linear(weight, frames), 5).stock * 255).round(), frames)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(RandhetError, match="less than half an event"):
        sda(problem(1, 0.001), 5)
    still = Problem(Network(1), torch.zeros(1, 2, 6, 6), torch.zeros(1, dtype=torch.long), 1 / 255)
    with pytest.raises(RandhetError, match="the network takes still images"):
        retime(still, 5)
    halves = Problem(Network(1), torch.full((1, *SHAPE), 0.5 / 255), torch.zeros(1, dtype=torch.long), 1 / 255)
    for attack in (pgd_frames, sda, retime):
        with pytest.raises(RandhetError, match=r"images hold 0\.500 of an event of 0\.00392"):
            attack(halves, 5)
    assert {"pgd-frames", "sda", "retime"} <= set(FAMILIES)
