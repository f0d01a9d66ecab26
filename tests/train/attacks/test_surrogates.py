"""Slopes that an attack chooses, against autograd and formulas in float64, in every kind of neuron."""

from __future__ import annotations

import ast
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks import spiking
from randhet.train.attacks.choice import chosen
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.problem import Problem
from randhet.train.attacks.spiking import Rule, replaced
from randhet.train.attacks.surrogates import SHAPES, Adaptive, Fixed, Potential
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, HetLIF, Neuron, RandomTauLIF, recording

SHAPE = (4, 3, 5, 4, 4)
NEURONS = {
    "lif": lambda: LIF(0.4),
    "subtract": lambda: LIF(0.6, reset="subtract"),
    "het": lambda: HetLIF(SHAPE[2:]),
    "random": lambda: RandomTauLIF(1.0),
    "forward": lambda: RandomTauLIF(1.0, sampling="forward"),
}


def adaptive(u: Tensor, size: Tensor, spread: Tensor, a: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes, M and D of the arctan, as Wang et al. write them."""
    size = 0.9 * size + 0.1 * u.abs()
    spread = 0.9 * spread + 0.1 * (u.abs() - size).abs()
    alpha = a / (size + 1.5 * spread + 1e-4)
    return alpha / 2 / (1 + (pi / 2 * alpha * u) ** 2), size, spread


def by_autograd(x: Tensor, taus: list[Tensor], neuron: Neuron, iterations: int) -> tuple[Tensor, Tensor]:
    """Spikes, and the gradient of their weighted sum in the last iteration: a plain loop under autograd in float64."""
    a = 2 * np.tan(pi * 0.425) / pi
    memory = [(torch.ones_like(x[0]), torch.zeros_like(x[0])) for _ in x]
    weights = torch.arange(x.numel(), dtype=torch.float64).reshape(x.shape).cos()
    for _ in range(iterations):
        points = x.clone().requires_grad_(True)
        m, spikes = torch.zeros_like(x[0]), []
        for t in range(len(x)):
            m = taus[t] * m + (1 - taus[t]) * points[t]
            u = m - neuron.threshold
            slope, *memory[t] = adaptive(u.detach(), *memory[t], a)
            # a spike whose derivative by u is the slope
            spikes.append((u > 0).double().detach() + slope * (u - u.detach()))
            s = spikes[-1].detach()
            m = m - neuron.threshold * s if neuron.reset == "subtract" else m * (1 - s)
        found = torch.stack(spikes)
        (gradient,) = torch.autograd.grad((weights * found).sum(), points)
    return found.detach(), gradient


@pytest.mark.parametrize("layout", ["as written", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", NEURONS)
def test_gradients_of_the_adaptive_surrogate_are_autograds(kind: str, dtype: torch.dtype, layout: str) -> None:
    """float64 takes the torch path and is exact; float32 takes the compiled kernels. M and D last three iterations."""
    torch.manual_seed(3)
    neuron = NEURONS[kind]().to(dtype)
    x = torch.randn(SHAPE, dtype=torch.float64)
    given = x.to(dtype)
    if layout == "channels last":
        given = given.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    x = given.double()
    weights = torch.arange(x.numel(), dtype=torch.float64).reshape(x.shape).cos()
    rule = Adaptive()
    with replaced(neuron, rule) as layers:
        for _ in range(3):
            rule.begin()
            points = given.detach().requires_grad_(True)
            torch.manual_seed(5)
            spikes = neuron(points)
            (gradient,) = torch.autograd.grad((weights.to(dtype) * spikes).sum(), points)
    assert layers == ("",)
    torch.manual_seed(5)
    wanted, exact = by_autograd(x, decays(neuron, given), neuron, 3)
    assert torch.equal(spikes.double(), wanted)
    tight: dict[str, float] = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 1e-6}
    torch.testing.assert_close(gradient.double(), exact, **tight)


def decays(neuron: Any, x: Tensor) -> list[Tensor]:
    """The decays of every step that the neuron uses, drawn as it draws them."""
    if isinstance(neuron, RandomTauLIF):
        draw = neuron.draws(x, int(torch.randint(2**62, ())))
        # kernels and the torch path share draws, which float64 rounds no further
        return [draw(t).double() for t in range(len(x))]
    return [torch.as_tensor(neuron.decay, dtype=torch.float64).detach()] * len(x)


def test_only_the_first_eot_sample_of_an_iteration_is_learned_from() -> None:
    class Seen(Rule):
        def __init__(self) -> None:
            super().__init__()
            self.learned: list[bool] = []

        def slopes(self, key: Any, u: Tensor, timed: bool) -> Tensor:
            self.learned.append(self.learns)
            return u

    model, rule = build(random_init(ModelSettings(1, 4, (6, 6), (3,), (1,), steps=2))), Seen()
    images, labels = torch.rand(2, 1, 6, 6), torch.arange(2)
    with replaced(model, rule) as layers:
        Problem(model, images, labels, 0.1, draws=3, rule=rule).ask(images, cross_entropy)
    assert rule.learned == [True] * len(layers) + [False] * (2 * len(layers))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_integral_one_and_its_scale_collects_the_part(name: str) -> None:
    shape = SHAPES[name]
    density = lambda z: float(shape.g(torch.tensor(z, dtype=torch.float64)))
    assert quad(density, -1, 1, points=[0])[0] + 2 * quad(density, 1, np.inf, limit=200)[0] == pytest.approx(
        1, abs=1e-6
    )
    for part in (0.3, 0.425, 0.49):
        assert quad(density, 0, shape.scale(part))[0] == pytest.approx(part, abs=1e-6)
    assert SHAPES["arctan"].scale(0.425) == pytest.approx(2 * np.tan(0.425 * pi) / pi)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_adapts_and_can_be_fixed(shape: str) -> None:
    u = torch.randn(2, 3, 7, dtype=torch.float64)
    rule = Adaptive(shape, 0.4)
    for _ in range(2):
        slopes = rule.slopes("a", u.clone(), True)
    size, spread = torch.ones_like(u), torch.zeros_like(u)
    for _ in range(2):
        _, size, spread = adaptive(u, size, spread, 1.0)
    alpha = SHAPES[shape].scale(0.4) / (size + 1.5 * spread + 1e-4)
    torch.testing.assert_close(slopes, alpha * SHAPES[shape].g(alpha * u))
    torch.testing.assert_close(Fixed(shape, 4).slopes("a", u, True), 4 * SHAPES[shape].g(4 * u))


def test_arctan_of_sharpness_two_is_the_surrogate_of_training() -> None:
    """So the whole path of chosen slopes must give the network's own gradient, for images in every layout."""
    model = build(random_init(ModelSettings(2, 4, (8, 8), (6, 8), (1, 1), steps=3)))
    images = torch.rand(5, 2, 8, 8).contiguous(memory_format=torch.channels_last)
    problem = Problem(model.to(memory_format=torch.channels_last), images, torch.arange(5) % 4, 0.1)  # type: ignore[call-overload]
    torch.manual_seed(1)
    own = problem.ask(images, cross_entropy)
    rule = Fixed("arctan", 2)
    with replaced(model, rule):
        torch.manual_seed(1)
        found = Problem(model, images, problem.labels, 0.1, rule=rule).ask(images, cross_entropy)
    assert torch.equal(found.loss, own.loss)
    torch.testing.assert_close(found.gradient, own.gradient, rtol=1e-3, atol=1e-7)


def test_the_potential_dependent_surrogate_on_paper() -> None:
    """Two steps, one channel, values 1, 3 then 5, 7: sigma^2 is 2 for the first step and 20/3 for the second."""
    u = torch.tensor([1.0, 3.0, 5.0, 7.0], dtype=torch.float64).reshape(2, 1, 1, 2)
    rule = Potential()
    rule.begin()
    found = rule.at("a", u, True).flatten()
    for value, sigma, slope in zip((1, 3, 5, 7), (2**0.5, 2**0.5, (20 / 3) ** 0.5, (20 / 3) ** 0.5), found.tolist()):
        density = np.exp(-((value - sigma / 2) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * pi) * sigma)
        assert slope == pytest.approx(density, rel=1e-9)


def test_bptr_passes_gradients_where_a_neuron_spikes_and_hart_the_mean_over_time() -> None:
    """A neuron with currents (2, 0) spikes at the first step, m = 1 then 0; one with (0, 0) never does, m = 0."""
    neuron = LIF(0.5)
    x = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).reshape(2, 1, 2).requires_grad_(True)
    given = torch.tensor([[3.0, 5.0], [7.0, 11.0]]).reshape(2, 1, 2)
    for name, wanted in (("bptr", [[3, 0], [7, 0]]), ("hart", [[0.5 * (3 + 7) / 2, 0.5 * (5 + 11) / 2]] * 2)):
        rule = chosen(name).rule()
        with replaced(neuron, rule):
            rule.begin()
            (gradient,) = torch.autograd.grad((given * neuron(x)).sum(), x)
        assert gradient.flatten(1).tolist() == wanted, name


def test_the_rate_gradient_approximation_on_paper() -> None:
    """tau = 1/4, theta = 1/2: a current x counts as 3/2*x thresholds, spikes need 3/4, and the curve ends at 2.

    Mean currents 0.25, 1, 2 and -1 are 0.375, 1.5, 3 and -1.5 thresholds: slopes 0.2, (1 - 0.2*0.75)/1.25 = 0.68, 0
    and 0, each times d threshold / d x = 3/2.
    """
    neuron = LIF(0.25)
    x = torch.tensor([[0.5, 2.0, 4.0, -2.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64).reshape(2, 1, 4)
    given = torch.tensor([[3.0, 5.0, 7.0, 1.0], [11.0, 13.0, 17.0, 1.0]], dtype=torch.float64).reshape(2, 1, 4)
    rule, x = chosen("rga").rule(), x.requires_grad_(True)
    with replaced(neuron, rule):
        rule.begin()
        spikes = neuron(x)
        (gradient,) = torch.autograd.grad((given * spikes).sum(), x)
    assert spikes.flatten(1).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    wanted = [[3 * 0.3, 5 * 1.02, 0, 0], [11 * 0.3, 13 * 1.02, 0, 0]]
    assert gradient.flatten(1).tolist() == [pytest.approx(row, rel=1e-12) for row in wanted]


@pytest.mark.parametrize("kind", NEURONS)
def test_the_rate_gradient_is_that_of_the_curve_by_autograd(kind: str) -> None:
    """s[t] replaced by T times the curve at the mean current, differentiated by autograd in float64 step by step."""
    torch.manual_seed(8)
    neuron = NEURONS[kind]().double()
    x = (2 * torch.randn(SHAPE, dtype=torch.float64)).requires_grad_(True)
    weights = torch.randn(SHAPE[1:], dtype=torch.float64)
    rule = chosen("rga").rule()
    with replaced(neuron, rule):
        rule.begin()
        torch.manual_seed(5)
        (gradient,) = torch.autograd.grad((weights * neuron(x)).sum(), x)
    torch.manual_seed(5)
    taus = [tau.detach().expand(SHAPE[1:]) for tau in decays(neuron, x)]
    current = sum((1 - tau) * x[t] / neuron.threshold for t, tau in enumerate(taus)) / len(x)
    knee = 1 - sum(taus) / len(taus)  # type: ignore[arg-type]
    low, high = 0.2 * current, 0.2 * knee + (current - knee) * (1 - 0.2 * knee) / (2 - knee)
    curve = torch.where(current < 0, 0, torch.where(current <= knee, low, torch.where(current <= 2, high, 1)))
    # the same weights at every step: T times the curve has the gradient of the sum over the steps
    (wanted,) = torch.autograd.grad((weights * curve * len(x)).sum(), x)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)
    assert (wanted != 0).double().mean() > 0.3


@pytest.mark.parametrize("surrogate", ["assg", "assg-sigmoid0.35", "pdsg", "gaussian3"])
def test_a_relu_network_is_attacked_the_same(surrogate: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    images, labels = torch.rand(6, 1, 6, 6), torch.arange(6) % 5
    found = []
    for name in ("sa-pgd6", f"sa-pgd6+{surrogate}"):
        torch.manual_seed(2)
        found.append(run(parse(name), model, images, labels, 0.1))
    for first, second in zip((found[0].stock, found[0].aware), (found[1].stock, found[1].aware)):
        assert first is not None and second is not None and torch.equal(first, second)


def test_after_an_attack_the_network_is_as_before() -> None:
    model = build(random_init(ModelSettings(1, 4, (6, 6), (3,), (1,), steps=2)))
    before = [dict(vars(module)) for module in model.modules()]
    run(parse("pgd2+assg"), model, torch.rand(3, 1, 6, 6), torch.arange(3), 0.1)
    with pytest.raises(ZeroDivisionError), replaced(model, Adaptive()):
        raise ZeroDivisionError
    assert [dict(vars(module)) for module in model.modules()] == before


def test_the_search_of_a_is_no_weaker_than_its_first_points() -> None:
    model = build(random_init(ModelSettings(1, 4, (6, 6), (4,), (1,), steps=2, neuron="vanilla")))
    images, labels = torch.rand(12, 1, 6, 6), torch.arange(12) % 4
    problem = Problem(model, images, labels, 0.1)
    torch.manual_seed(4)
    searched = run(parse("pgd3+assg-search"), model, images, labels, 0.1)
    assert searched.aware is not None
    for part in (0.3 + 0.19 / 3, 0.49 - 0.19 / 3):
        torch.manual_seed(4)
        torch.randint(2**62, ())
        single = run(parse(f"pgd3+assg{part:.12f}"), model, images, labels, 0.1)
        assert single.aware is not None
        assert problem.margins(searched.aware).mean() >= problem.margins(single.aware).mean() - 0.05


def test_restarts_are_no_weaker_than_one_run() -> None:
    model = build(random_init(ModelSettings(1, 4, (6, 6), (4,), (1,), steps=2, neuron="vanilla")))
    images, labels = torch.rand(12, 1, 6, 6), torch.arange(12) % 4
    problem = Problem(model, images, labels, 0.1)
    found = []
    for name in ("sa-pgd3+assg", "sa-pgd3r3+assg"):
        torch.manual_seed(4)
        found.append(run(parse(name), model, images, labels, 0.1).aware)
    assert found[0] is not None and found[1] is not None
    assert (problem.margins(found[1]) >= problem.margins(found[0])).all()


@pytest.mark.parametrize("name", ["pgd3+relu", "pgd3+assg-step", "square+assg", "pgd3r0", "pgd3+hart7"])
def test_what_is_no_surrogate_is_refused(name: str) -> None:
    with pytest.raises(RandhetError, match=r"no surrogate; there are assg|takes no surrogate|start at 1"):
        parse(name)
    with pytest.raises(RandhetError, match="between 0 and 0.5"):
        Adaptive(part=0.6)


def imported(path: Path) -> set[str]:
    """Modules of the project, to three names, that the file imports."""
    return {
        ".".join(node.module.split(".")[:3])
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("randhet.")
    }


def test_attacks_know_nothing_of_the_projects_neurons() -> None:
    """Of `train` they import each other, threads that know rows of numbers, and a precision that knows torch alone."""
    folder = Path(spiking.__file__).parent
    names = set().union(*(imported(path) for path in folder.glob("*.py")))
    outside = {"randhet.train.precision", "randhet.train.threads"}
    assert names == {"randhet.base.errors", "randhet.train.attacks", *outside}
    for name in outside:
        assert not imported(folder.parent / f"{name.rpartition('.')[2]}.py"), name


def test_the_forward_pass_is_that_without_a_rule() -> None:
    model = build(random_init(ModelSettings(1, 4, (6, 6), (3,), (1,), steps=3)))
    images = torch.rand(3, 1, 6, 6)
    torch.manual_seed(0)
    wanted = model(images)
    for name in ("assg", "pdsg", "bptr", "hart", "rga", "triangle"):
        rule = chosen(name).rule()
        with replaced(model, rule):
            rule.begin()
            torch.manual_seed(0)
            assert torch.equal(model(images.clone().requires_grad_(True)), wanted), name
    with recording(model) as logs:
        model(images)
    assert all(logs.values())
