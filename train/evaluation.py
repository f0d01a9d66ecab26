"""Accuracy of a model on images: clean, and under one step of RFGSM as a quick look during training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from randhet.train.attacks.rfgsm import rfgsm
from randhet.train.data.sources import Images


def tensors(images: Images) -> tuple[Tensor, Tensor]:
    """(N, C, Y, X) float in 0..1 and labels."""
    return torch.from_numpy(images.pixels).float().div_(255), torch.from_numpy(images.labels)


def batches(model: nn.Module, images: Images, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels on the model's device."""
    device = next(model.parameters()).device
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images.pixels[start : start + batch]).to(device).float() / 255
        yield pixels, torch.from_numpy(images.labels[start : start + batch]).to(device)


@torch.no_grad()
def predict(model: nn.Module, images: Images, batch: int = 128) -> np.ndarray:
    """Class of every image, (N,) int64, in evaluation mode, taus from torch's global generator."""
    model.eval()
    parts = [model(pixels).argmax(1).cpu().numpy() for pixels, _ in batches(model, images, batch)]
    return np.concatenate(parts)


def evaluate(model: nn.Module, images: Images, draws: int = 5, seed: int = 0, batch: int = 128) -> list[float]:
    """Accuracy in 0..1 of each of `draws` independent passes; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [float(np.mean(predict(model, images, batch) == images.labels)) for _ in range(draws)]


def accuracy_under_rfgsm(model: nn.Module, images: Images, eps: float, seed: int = 0, batch: int = 128) -> float:
    """Accuracy in 0..1 on examples one signed step of eps away; the caller's random state is left as it was."""
    model.eval()
    right = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for pixels, labels in batches(model, images, batch):
            points = rfgsm(model, pixels, labels, eps, eps)
            with torch.no_grad():
                right += int((model(points).argmax(1) == labels).sum())
    return right / len(images)
