"""Which module is attacked: the one that is given, or what is read of it where it does not answer images with logits.

Networks of other libraries begin at a state that the caller resets, give several tensors, or run one step a call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.export import readers
from randhet.export.graph import ExportError
from randhet.export.trace import timed


def taken(model: nn.Module, images: Tensor, steps: int | None) -> nn.Module:
    """Return a module of images (N, C, Y, X) to logits (N, K) that forgets every call.

    steps: T, where the model does not say it. The model itself where it is one; a model with modules of another library
    is read as by `randhet.deploy` otherwise. ExportError where that is not possible and its answer is no logits.
    """
    foreign = readers.foreign(model)
    if steps is None and (not foreign or _answers(model, images, repeatable=True)):
        return model
    try:
        return timed(model, tuple(images.shape[1:]), steps).to(images.device)
    except ExportError:
        if steps is None and _answers(model, images, repeatable=False):
            return model  # random numbers of its own, say; whether it keeps state is found out later
        raise


def _answers(model: nn.Module, images: Tensor, *, repeatable: bool) -> bool:
    """Whether a model gives logits, and, where asked, gives them again without a reset between."""
    readers.reset(model)
    try:
        with torch.no_grad():
            logits, again = model(images), model(images) if repeatable else None
    except Exception:  # of the model's own, of any kind
        return False
    finally:
        readers.reset(model)
    two = isinstance(logits, Tensor) and logits.dim() == 2 and len(logits) == len(images)
    return two and (again is None or torch.equal(logits, again))
