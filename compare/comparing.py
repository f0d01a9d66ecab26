"""Compare a model with its network in one call: the report of `randhet compare`, in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from randhet.base.errors import RandhetError
from randhet.compare.report import evidence
from randhet.compare.report.page import Report
from randhet.compare.study import Stage, StudySettings, compare
from randhet.export.deploy import Pixels, pixels_of
from randhet.export.model import Model
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.images import Images


def compare_models(
    model: nn.Module | Checkpoint | Model,
    network: Network,
    images: Pixels,
    labels: ArrayLike | None = None,
    *,
    settings: StudySettings | None = None,
    stage: Stage | None = None,
    **chosen: Any,
) -> Report:
    """Compare a float model with its integer network: accuracy, every spike and every membrane potential.

    Arguments:
        model: what the network was deployed from.
        images: test images as `randhet.deploy` takes them, or `Images` with their labels.
        labels: the classes of the images, (N,) whole numbers.
        settings: repetitions, seed, margin and backends; None for the defaults.
        stage: told about progress, as by the command line; None for nobody.
        chosen: single fields of `StudySettings`, such as draws=2, in place of settings.

    The report says what failed (`report.found.failures`), and is written as a page by `report.write("report.html")`.
    RandhetError where model, network and images do not belong together.
    """
    if settings is not None and chosen:
        raise RandhetError(f"settings and {', '.join(chosen)} are both given: give one of them")
    shown = labelled(images, labels, network)
    comparison = compare(model, network, shown, settings or StudySettings(**chosen), stage or _quiet)
    return Report(comparison, evidence.gather(network, shown.pixels, shown.labels, comparison.seed))


def labelled(images: Pixels, labels: ArrayLike | None, network: Network) -> Images:
    """Return images with their labels; RandhetError where these are missing or do not fit."""
    if isinstance(images, Images):
        if labels is not None:
            raise RandhetError("the images have labels of their own: leave the labels out")
        return images
    pixels, numbers = pixels_of(images), np.asarray(labels)
    if labels is None or numbers.shape != (len(pixels),) or numbers.dtype.kind not in "iu":
        raise RandhetError(f"labels must be one whole number for each of {len(pixels)} images")
    count = network.shapes[-1][0]
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
        raise RandhetError(f"labels reach from {numbers.min()} to {numbers.max()}, the network has {count} classes")
    names = network.classes or tuple(map(str, range(count)))
    return Images("images", pixels, numbers.astype(np.int64), names)


def _quiet(name: str, total: int) -> Callable[[int], None]:
    return lambda count: None
