"""Images as arrays of bytes with their classes, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError

Split = Literal["train", "test"]
HELD_OUT = 0.2


class DataError(RandhetError):
    """Data that is missing, damaged or not of one size."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images: pixels (N, C, Y, X) uint8, or recordings (N, T, C, Y, X), a frame a step; labels (N,) into classes."""

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sequence(self) -> bool:
        """Whether these are recordings, which change over time."""
        return self.pixels.ndim == 5

    @property
    def frame(self) -> tuple[int, ...]:
        """(C, Y, X) of an image, or of one frame of a recording."""
        return self.pixels.shape[-3:]

    def take(self, count: int | None) -> Images:
        """The first `count` images; all of them for None. More than there are is an error."""
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise DataError(f"{count} samples are required, {self.name} has 1 to {len(self)}")
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def split(self, count: int) -> tuple[Images, Images]:
        """All but the last `count` images, and those."""
        if not 0 <= count < len(self):
            raise DataError(f"{count} images to be held out of {self.name}, which has {len(self)}")
        order = np.arange(len(self))
        return self.pick(order[: len(self) - count]), self.pick(order[len(self) - count :])

    def as_classes(self, classes: tuple[str, ...], owner: str) -> Images:
        """The images with labels that count these classes, those of `owner`; the same where none are named.

        Data may have its classes in another order, or only some of them. DataError for a class of another name.
        """
        if not classes or classes == self.classes:
            return self
        number = {name: label for label, name in enumerate(classes)}
        if foreign := [name for name in self.classes if name not in number]:
            raise DataError(
                f"data {self.name} has the class {foreign[0]!r}, {owner} has {_listed(classes)}: "
                "give the class folders these names"
            )
        labels = np.array([number[name] for name in self.classes], np.int64)[self.labels]
        return replace(self, labels=labels, classes=classes)

    def as_input(self, shape: tuple[int, ...]) -> Images:
        """The images for an input of this shape: a flat one of as many values takes them in (channel, y, x) order.

        DataError where they do not fit.
        """
        given = self.pixels.shape[1:]
        if given == shape:
            return self
        if (prod(given),) != shape:
            raise DataError(f"images of {self.name} are {given}, the network takes {shape}")
        return replace(self, pixels=self.pixels.reshape(-1, *shape))

    def pick(self, order: NDArray[np.integer]) -> Images:
        """The images of these indices."""
        return replace(self, pixels=self.pixels[order], labels=self.labels[order])


def _listed(names: tuple[str, ...], most: int = 10) -> str:
    """The names, or the first of many."""
    more = f" and {len(names) - most} others" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def held_out(whole: Images, split: Split) -> Images:
    """A fixed stratified split: of each class a fifth, at least one image, is the test part. Shuffled with seed 0."""
    order = np.random.default_rng(0).permutation(len(whole))
    test: list[int] = []
    for label in range(len(whole.classes)):
        members = order[whole.labels[order] == label]
        test += members[: max(1, round(HELD_OUT * len(members)))].tolist()
    inside = np.isin(order, test)
    return whole.pick(order[inside if split == "test" else ~inside])


def shuffled(whole: Images) -> Images:
    """In a fixed random order, so that the first images are a sample of all."""
    return whole.pick(np.random.default_rng(0).permutation(len(whole)))


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the pixels in 0..1, what training normalises with.

    Of recordings the mean is 0, so that where no event is, nothing is.
    """
    axes = (0, 1, 3, 4) if images.sequence else (0, 2, 3)
    std = images.pixels.std(axis=axes, dtype=np.float64) / 255
    if images.sequence:
        return (0.0,) * len(std), tuple(np.where(std == 0, 1.0, std).tolist())
    mean = images.pixels.mean(axis=axes, dtype=np.float64) / 255
    return tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist())
