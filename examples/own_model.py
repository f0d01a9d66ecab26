"""A spiking network of your own: plain PyTorch from the project's layers, trained, exported, run on integers.

python examples/own_model.py [EPOCHS] [FOLDER]        writes FOLDER/own.net
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import randhet
from randhet.export.pipeline import export_model
from randhet.train.data.images import channel_statistics
from randhet.train.evaluation import evaluate, tensors
from randhet.train.layers import AvgPool2d, BatchNorm2d, Conv2d, Encode, Flatten, Linear, MeanOverTime, Normalise
from randhet.train.neurons import RandomTauLIF


class Net(nn.Module):
    """Images (N, 1, 8, 8) in 0..1 to logits (N, 10): the same current at each of T steps, a mean at the end."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], steps: int = 4) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.conv = nn.Sequential(Conv2d(1, 32, 3, padding=1, bias=False), BatchNorm2d(32))
        self.encode = Encode(steps)
        self.first = RandomTauLIF(sigma=1.0, threshold=0.5)
        self.block = nn.Sequential(Conv2d(32, 32, 3, padding=1, bias=False), BatchNorm2d(32), RandomTauLIF())
        self.pool = AvgPool2d(2)
        self.head = nn.Sequential(Flatten(), Linear(32 * 4 * 4, 10), MeanOverTime())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        spikes = self.first(self.encode(self.conv(self.normalise(images))))
        return self.head(self.pool(spikes + self.block(spikes)))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """An ordinary PyTorch loop: nothing in it knows of spikes."""
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


def main(epochs: int = 8, folder: str = ".") -> None:
    """Train, export with the training images as calibration, compare float with integers on held-out images."""
    torch.manual_seed(0)
    data, held_out = randhet.load_data("digits", "train"), randhet.load_data("digits", "test")
    model = Net(*channel_statistics(data))
    train(model, *tensors(data), epochs)

    exported = export_model(model, data.pixels[:256], classes=data.classes)
    randhet.write(Path(folder) / "own.net", exported.network)

    floats = np.mean(evaluate(model, held_out, draws=5))
    network = randhet.read(Path(folder) / "own.net")
    reference = randhet.run(network, held_out.pixels, seed=1)
    engine = randhet.backend("engine")(network, held_out.pixels, seed=1, first_image=0, probes=())
    print(f"float {100 * floats:.1f} %, integers {100 * np.mean(reference.predictions == held_out.labels):.1f} %")
    print(
        f"engine equals reference: {np.array_equal(engine.sums, reference.sums)}, saturations {reference.saturations}"
    )


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, str), sys.argv[1:])))
