"""A model of single steps, or of sequences, as one of images: the same image at each step, the mean of outputs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export import readers

Form = Literal["step", "sequence", "loop"]


class InTime(nn.Module):
    """Images (N, C, Y, X) to the mean of a model's outputs over T steps, each of which shows the same image.

    form: step, the model takes (N, C, Y, X) once per step and keeps its state from call to call; sequence, it takes all
    steps at once, (T, N, C, Y, X), and gives (T, N, classes) or their mean; loop, it takes (N, C, Y, X) and runs the
    steps itself. States are forgotten before each call. Of several outputs the first counts.
    """

    def __init__(self, model: nn.Module, steps: int, form: Form) -> None:
        super().__init__()
        if steps < 1:
            raise RandhetError(f"time steps are {steps}, there must be at least 1")
        self.model, self.steps, self.form = model, steps, form

    def forward(self, images: Tensor) -> Tensor:
        readers.reset(self.model)
        if self.form == "step":
            return torch.stack([first(self.model(images)) for _ in range(self.steps)]).mean(0)
        shown = images.unsqueeze(0).expand(self.steps, *images.shape) if self.form == "sequence" else images
        outputs = first(self.model(shown))
        return outputs.mean(0) if outputs.dim() > 2 else outputs


def first(outputs: Any) -> Tensor:
    """The tensor that decides: the first where a model gives several, such as spikes and membrane potentials."""
    decides: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return decides
