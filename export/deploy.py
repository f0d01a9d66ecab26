"""From a trained model to an integer network in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.export.model import Model, as_model
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import export, settings_for
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.images import Images

Pixels = NDArray[Any] | Tensor | Images
WHOLE = 1e-4
"""So far a pixel times 255 may be from a whole number, which float32 rounds it to."""


def deploy(
    model: nn.Module | Checkpoint | Model,
    images: Pixels,
    steps: int | None = None,
    *,
    settings: QuantSettings | None = None,
    seed: int | None = None,
    generator: GeneratorKind = "register",
    classes: tuple[str, ...] = (),
    **chosen: Any,
) -> Network:
    """Turn a trained model into an integer network: trace, verify, fold, calibrate on images, quantise, check.

    Arguments:
        model: a module of images in 0..1 to logits, of torch, this project or a library with a reader; or a checkpoint.
        images: to calibrate on, some hundred of the training images, (N, C, Y, X) or (N, values): bytes, or floats in
            0..1 that are multiples of 1/255.
        steps: T, where the model does not say it.
        settings: number formats, None for those that the model was trained for, or the defaults.
        seed: written into the network, which makes its random numbers public.
        generator: where random decays come from, shift registers ("register") or the cipher ChaCha20 ("chacha").
        classes: names of the classes, for the network's file.
        chosen: single fields of `QuantSettings`, such as weight_bits=6, in place of settings.

    ExportError names everything in the model that has no counterpart, all at once, and the first layer that computes
    something else than what would be exported.

    Example: `network = randhet.deploy(model, train_images[:256], steps=8)`
    """
    if settings is not None and chosen:
        raise ExportError(f"settings and {', '.join(chosen)} are both given: give one of them")
    taken = as_model(model, steps)
    known = images.classes if isinstance(images, Images) else ()
    data = images.name if isinstance(images, Images) else ""
    formats = settings or settings_for(taken, **chosen)
    names = classes or known
    exported = export(taken, pixels_of(images), formats, seed=seed, generator=generator, classes=names, data=data)
    return exported.network


def pixels_of(images: Pixels) -> NDArray[np.uint8]:
    """Return images as bytes (N, ...); ExportError for floats that are no multiples of 1/255 in 0..1."""
    if isinstance(images, Images):
        return images.pixels
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ExportError(f"images are {array.dtype}, they must be bytes, or floats in 0..1")
    levels = array.astype(np.float64) * 255
    whole = np.rint(levels)
    if not np.isfinite(levels).all() or levels.min(initial=0) < -WHOLE or levels.max(initial=0) > 255 + WHOLE:
        raise ExportError(
            f"images reach from {array.min():.3g} to {array.max():.3g}, they must lie in 0..1: leave normalisation to "
            "the model, Normalise(mean, std) of randhet.train.layers"
        )
    if np.abs(levels - whole).max(initial=0) > WHOLE:
        raise ExportError("images in 0..1 must be multiples of 1/255, since the network takes bytes: round them first")
    return whole.astype(np.uint8)
