"""A model of sequences as one of images: the same image at each step, the mean of outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from randhet.base.errors import RandhetError


class InTime(nn.Module):
    """Images (N, C, Y, X) to the mean of a model's outputs over T steps, each of which shows the same image.

    The model takes all steps at once, (T, N, C, Y, X), and gives (T, N, classes) or their mean. Of several outputs the
    first counts.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise RandhetError(f"time steps are {steps}, there must be at least 1")
        self.model, self.steps = model, steps

    def forward(self, images: Tensor) -> Tensor:
        outputs = first(self.model(images.unsqueeze(0).expand(self.steps, *images.shape)))
        return outputs.mean(0) if outputs.dim() > 2 else outputs


def first(outputs: Any) -> Tensor:
    """The tensor that decides: the first where a model gives several, such as spikes and membrane potentials."""
    decides: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return decides
