"""Networks of other libraries' tutorials, as their authors write them, trained on scikit-learn's digits at 28x28."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TRAINING = 1400
"""The first so many digits are trained on, the other 397 are held out."""


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, uint8 (N, 1, 28, 28), and their classes."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    wide = F.interpolate(torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, (28, 28), mode="bilinear")
    return (wide * 255).round().byte().numpy(), data.target.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model; steps: T where it does not say it; scores: its own spike counts of images (N, 1, 28, 28)."""

    model: nn.Module
    steps: int | None
    scores: Callable[[Tensor], Tensor]

    def right(self, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Which images the model itself classifies correctly, asked as its author asks it."""
        with torch.no_grad():
            return self.scores(torch.from_numpy(pixels).float() / 255).argmax(1).numpy() == classes


def trained(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], epochs: int, batch: int, lr: float
) -> nn.Module:
    """Adam on the training digits; loss: of images (N, 1, 28, 28) in 0..1 and their classes."""
    pixels, classes = torch.from_numpy(digits()[0]).float() / 255, torch.from_numpy(digits()[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for chosen in torch.randperm(TRAINING).split(batch):
            optimizer.zero_grad()
            loss(pixels[chosen], classes[chosen]).backward()
            optimizer.step()
    return model.eval()


# --- snnTorch ---------------------------------------------------------------------------------------------------------


@cache
def snntorch_dense() -> Trained:
    """Tutorial 5: a fully connected network of `Leaky` neurons with their default reset, on images in one row."""
    snn = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self, num_steps: int = 15) -> None:
            super().__init__()
            self.num_steps = num_steps
            self.fc1 = nn.Linear(784, 100)
            self.lif1 = snn.Leaky(beta=0.95)
            self.fc2 = nn.Linear(100, 10)
            self.lif2 = snn.Leaky(beta=0.95)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem1 = self.lif1.init_leaky()
            mem2 = self.lif2.init_leaky()
            spk2_rec, mem2_rec = [], []
            for _ in range(self.num_steps):
                cur1 = self.fc1(x)
                spk1, mem1 = self.lif1(cur1, mem1)
                cur2 = self.fc2(spk1)
                spk2, mem2 = self.lif2(cur2, mem2)
                spk2_rec.append(spk2)
                mem2_rec.append(mem2)
            return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)

    torch.manual_seed(0)
    net = Net()

    def loss(pixels: Tensor, classes: Tensor) -> Tensor:
        _, potentials = net(pixels.flatten(1))
        return sum(F.cross_entropy(potential, classes) for potential in potentials)  # type: ignore[return-value]

    trained(net, loss, 10, 128, 1e-3)
    return Trained(net, None, lambda pixels: net(pixels.flatten(1))[0].sum(0))


@cache
def snntorch_convolutional(pool: type[nn.Module] = nn.MaxPool2d, epochs: int = 12) -> Trained:
    """Tutorial 6: pools before the neurons, one step a call; with fewer channels, and 4 steps."""
    snn = pytest.importorskip("snntorch")
    from snntorch import surrogate, utils

    torch.manual_seed(0)
    neuron: Any = lambda **output: snn.Leaky(
        beta=0.5, spike_grad=surrogate.fast_sigmoid(slope=25), init_hidden=True, **output
    )
    front = [nn.Conv2d(1, 6, 5), pool(2), neuron(), nn.Conv2d(6, 16, 5), pool(2), neuron()]
    net = nn.Sequential(*front, nn.Flatten(), nn.Linear(16 * 4 * 4, 10), neuron(output=True))

    def run(pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        utils.reset(net)
        return [net(pixels) for _ in range(4)]

    def loss(pixels: Tensor, classes: Tensor) -> Tensor:
        return sum(F.cross_entropy(potential, classes) for _, potential in run(pixels))  # type: ignore[return-value]

    trained(net, loss, epochs, 128, 5e-3)
    return Trained(net, 4, lambda pixels: sum(spikes for spikes, _ in run(pixels)))  # type: ignore[arg-type,return-value]


# --- SpikingJelly -----------------------------------------------------------------------------------------------------


@cache
def spikingjelly(kind: str, pool: str = "MaxPool2d", epochs: int = 6) -> Trained:
    """The CSNN of the tutorial on Fashion-MNIST: max pools of spikes, a firing rate; with 6 channels, and 4 steps."""
    pytest.importorskip("spikingjelly.activation_based.functional.neuron")
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    pool2d, node = getattr(layer, pool), getattr(neuron, kind)

    class CSNN(nn.Module):
        def __init__(self, T: int, channels: int) -> None:  # noqa: N803
            super().__init__()
            self.T = T
            self.conv_fc = nn.Sequential(
                layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
                layer.BatchNorm2d(channels),
                node(surrogate_function=surrogate.ATan()),
                pool2d(2, 2),
                layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
                layer.BatchNorm2d(channels),
                node(surrogate_function=surrogate.ATan()),
                pool2d(2, 2),
                layer.Flatten(),
                layer.Linear(channels * 7 * 7, channels * 4 * 4, bias=False),
                node(surrogate_function=surrogate.ATan()),
                layer.Linear(channels * 4 * 4, 10, bias=False),
                node(surrogate_function=surrogate.ATan()),
            )
            functional.set_step_mode(self, step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x_seq = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
            x_seq = self.conv_fc(x_seq)
            return x_seq.mean(0)

    torch.manual_seed(0)
    net = CSNN(4, 6)

    def scores(pixels: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(pixels)

    def loss(pixels: Tensor, classes: Tensor) -> Tensor:
        return F.mse_loss(scores(pixels), F.one_hot(classes, 10).float())

    trained(net, loss, epochs, 64, 2e-3)
    functional.reset_net(net)
    return Trained(net, None, scores)


NETWORKS: dict[str, Callable[[], Trained]] = {
    "snnTorch, dense": snntorch_dense,
    "snnTorch, convolutional": snntorch_convolutional,
    "SpikingJelly, IF": lambda: spikingjelly("IFNode"),
    "SpikingJelly, LIF": lambda: spikingjelly("LIFNode"),
}
