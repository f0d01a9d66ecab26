"""The randomised ResNets: their formulas by hand, randomness, gradients, training and attacks on a few digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import randhet
from randhet.base.errors import RandhetError
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.problem import found_stochastic
from randhet.train.baselines.ctrw import RandomWeight
from randhet.train.baselines.resnet import ResNet, network
from randhet.train.baselines.rna import RandomNorm
from randhet.train.baselines.rpf import RandomFilters
from randhet.train.checkpoint import build, load, random_init
from randhet.train.layers import Conv2d
from randhet.train.loop import train
from randhet.train.models import BASELINES, ModelSettings, SEWResNet
from randhet.train.neurons import neurons
from randhet.train.settings import TrainSettings

KINDS = [name for name in BASELINES if name != "none"]
RANDOM = [name for name in KINDS if name != "relu"]


def small(kind: Any, **settings: Any) -> ModelSettings:
    return ModelSettings(1, 4, (8, 8), (6, 8), (1, 1), steps=3, baseline=kind, **settings)


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_a_random_weight_multiplies_value_by_value_within_its_bounds() -> None:
    """Deviations 0.1 and 0.3 have the mean 0.2; a lower bound of 0.5 shifts both by 0.3, an upper of 0.15 by -0.05."""
    torch.manual_seed(0)
    convolution = Conv2d(2, 3, 3, padding=1, bias=False)
    layer = RandomWeight(convolution, (2, 1, 1), 1.0, (0.5, 1.5))
    layer.sigma.data = torch.tensor([0.1, -0.3]).reshape(2, 1, 1)
    torch.testing.assert_close(layer.deviation.flatten(), torch.tensor([0.4, 0.6]))
    layer.bounds = (0.01, 0.15)
    torch.testing.assert_close(layer.deviation.flatten(), torch.tensor([0.05, 0.25]))
    layer.mu.data = torch.tensor([2.0, -1.0]).reshape(2, 1, 1)
    x = torch.randn(3, 2, 4, 4)
    torch.manual_seed(9)
    found = layer(x)
    torch.manual_seed(9)
    factors = torch.tensor([2.0, -1.0]) + torch.randn(2, 1, 1).flatten() * torch.tensor([0.05, 0.25])
    torch.testing.assert_close(found, convolution(x * factors.reshape(1, 2, 1, 1)))


def test_a_random_weight_starts_at_one_has_the_shape_of_the_image_and_is_shared_by_a_batch() -> None:
    """1 + delta * 1 at the start, as in the public code; the same delta for every image, another in the next pass."""
    model = network(small("ctrw", sigma_bounds=(2 / 3, 100.0)), (0.5,), (0.25,))
    layer = model.conv1
    assert isinstance(layer, RandomWeight) and layer.mu.shape == layer.sigma.shape == (1, 8, 8)
    assert bool((layer.mu == 1).all()) and bool((layer.deviation == 1).all())
    seen: list[torch.Tensor] = []
    layer.convolution.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    for _ in range(2):
        layer(torch.full((3, 1, 8, 8), 2.0))
    assert torch.equal(seen[0][0], seen[0][1]) and not torch.equal(seen[0], seen[1])
    layer.sigma.data = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    # the mean of |sigma| is 32/63, and 2/3 - 32/63 = 10/63 is missing from each
    torch.testing.assert_close(layer.deviation.min(), torch.tensor(1 / 63 + 10 / 63))
    torch.testing.assert_close(layer.deviation.mean(), torch.tensor(2 / 3))


def test_random_normalisation_draws_both_ways_equally_often_and_each_layer_for_itself() -> None:
    """In 400 draws a share of 1/2 lies within 0.4 to 0.6 (four standard deviations), and two layers agree as often."""
    torch.manual_seed(1)
    layers, x = (RandomNorm(2).eval(), RandomNorm(2).eval()), torch.randn(2, 2, 3, 3) + 5
    ways = torch.tensor([[bool(layer(x).mean() > 1) for layer in layers] for _ in range(400)]).double()
    assert (
        all(0.4 < share < 0.6 for share in ways.mean(0))
        and 0.4 < float((ways[:, 0] == ways[:, 1]).double().mean()) < 0.6
    )


def test_random_filters_have_the_deviation_of_the_trained_ones() -> None:
    torch.manual_seed(0)
    layer = RandomFilters(Conv2d(16, 64, 3, 2, 1, bias=False))
    assert (layer.drawn, len(layer.weight)) == (48, 16)
    filters = layer.filters().detach()
    spread = layer.weight.detach().flatten(1).std(1).reshape(-1, 1, 1, 1) + 1e-5
    torch.testing.assert_close(filters[:16], layer.weight.detach() / spread / 3)
    torch.testing.assert_close(filters[:16].flatten(1).std(1), torch.full((16,), 1 / 3), rtol=1e-2, atol=0)
    assert filters[16:].std() == pytest.approx(1 / 3, rel=0.03) and abs(filters[16:].mean()) < 0.02
    x = torch.randn(2, 16, 9, 9)
    torch.manual_seed(4)
    found = layer(x)
    torch.manual_seed(4)
    torch.testing.assert_close(found, F.conv2d(x, layer.filters(), None, 2, 1))
    assert found.shape == (2, 64, 5, 5)


def test_a_layer_normalises_over_the_batch_or_over_each_image() -> None:
    torch.manual_seed(0)
    layer, x = RandomNorm(3).eval(), torch.randn(4, 3, 5, 5) * 2 + 1
    per_image = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    kept = x / (1 + 1e-5) ** 0.5
    seen = set()
    for _ in range(20):
        found = layer(x).detach()
        which = "image" if torch.allclose(found, per_image, atol=1e-5) else "batch"
        torch.testing.assert_close(found, per_image if which == "image" else kept, rtol=1e-4, atol=1e-5)
        seen.add(which)
    assert seen == {"image", "batch"}


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_has_the_layers_of_the_spiking_network(kind: str) -> None:
    settings = small(kind)
    model, spiking = network(settings, (0.5,), (0.25,)), SEWResNet(small("none"), (0.5,), (0.25,))
    assert isinstance(model, ResNet) and neurons(model) == {}
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == len(neurons(spiking)) == settings.layers
    weights = {name for name, module in spiking.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    own = {name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear, RandomFilters))}
    assert {name.removesuffix(".convolution") for name in own} == weights
    assert type(network(small("none"), (0.5,), (0.25,))) is SEWResNet


@pytest.mark.parametrize("kind", KINDS)
def test_two_answers_differ_where_something_is_random(kind: str) -> None:
    model = build(random_init(small(kind)))
    images = torch.rand(5, 1, 8, 8)
    first, second = model(images), model(images)
    assert torch.equal(first, second) == (kind == "relu")
    torch.manual_seed(2)
    first = model(images)
    torch.manual_seed(2)
    assert torch.equal(model(images), first)
    assert found_stochastic(model, images) == (kind != "relu")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_images_and_weights_are_differences(kind: str) -> None:
    """Central differences in float64 under the same draws; ReLUs are flat almost everywhere between."""
    model = build(random_init(small(kind))).double()
    images, direction = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.randn(2, 1, 8, 8, dtype=torch.float64)

    def value(points: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return (model(points) * torch.arange(4)).sum()

    points = images.clone().requires_grad_(True)
    total = value(points)
    by_image, *by_weight = torch.autograd.grad(total, [points, *model.parameters()], allow_unused=True)
    step = 1e-7
    with torch.no_grad():
        slope = (value(images + step * direction) - value(images - step * direction)) / (2 * step)
    torch.testing.assert_close((by_image * direction).sum(), slope, rtol=1e-4, atol=1e-6)
    found = {name for (name, _), gradient in zip(model.named_parameters(), by_weight) if gradient is not None}
    learned = {"ctrw": {"conv1.mu", "conv1.sigma"}, "rpf": {"conv1.weight"}}.get(kind, {"fc1.weight"})
    assert learned <= found


# --- the common way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_trains_a_baseline_and_attacks_hurt_it(kind: str, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=6, batch=16, lr=0.05, eps=8 / 255, attack_step=8 / 255)
    model_settings = ModelSettings(widths=(8, 16), blocks=(1, 1), steps=2, sigma=0.3, sigma_bounds=(0.1, 0.4),
                                   baseline=kind)  # type: ignore[arg-type]  # fmt: skip
    done = train(model_settings, settings, tmp_path / "baseline.pt", samples=800)
    # guessing gives 10 %; random normalisation learns each of its two ways from half of the batches
    assert done.record["accuracy"] > (0.25 if kind == "rna" else 0.5) and done.settings.baseline == kind
    model = build(load(tmp_path / "baseline.pt"))
    digits = randhet.load_data("digits", "test").take(40)
    images, labels = torch.from_numpy(digits.pixels).float() / 255, torch.from_numpy(digits.labels)
    found = randhet.attack(model, images, labels, "pgd10,pgd10x4,sa-pgd10", eps=32 / 255)
    assert found.stochastic == (kind != "relu") and found.layers == ()
    assert max(found.accuracy.values()) < found.clean.accuracy - 0.1
    for example in found.examples.values():
        assert (example - images).abs().max() <= 32 / 255 + 1e-6


@pytest.mark.parametrize("name", ["pgd3", "pgd3x2", "sa-pgd3+assg"])
@pytest.mark.parametrize("kind", RANDOM)
def test_attacks_stay_in_their_ball(kind: str, name: str) -> None:
    model = build(random_init(small(kind)))
    images, labels = torch.rand(3, 1, 8, 8), torch.arange(3)
    found = run(parse(name), model, images, labels, 0.1, redraws=2)
    for example in (found.stock, found.aware):
        assert example is not None and (example - images).abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_is_not_exported(kind: str) -> None:
    with pytest.raises(RandhetError, match=rf"baseline '{kind}', which has no spiking neurons"):
        randhet.deploy(random_init(small(kind)), torch.rand(4, 1, 8, 8).mul(255).byte())


def test_what_a_baseline_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RandhetError, match="baseline 'dice' is not one of none, relu, ctrw, rpf, rna"):
        small("dice")
    with pytest.raises(RandhetError, match="takes images and no recordings"):
        small("rpf", sequence=True)
    with pytest.raises(RandhetError, match="baseline 'rna' cannot be exported: leave it out"):
        train(small("rna"), TrainSettings(qat_bits=4), tmp_path / "none.pt", samples=40)
