"""Decays that the keyed generator draws, as the kernels of the engines read them: given, for every row and pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from randhet.fixed_point.engine.guard import padded
from randhet.fixed_point.engine.plan import Span, Tile
from randhet.fixed_point.generator import Word
from randhet.fixed_point.kernels.chacha import LANES, WORDS, drawn_decays
from randhet.fixed_point.keyed import BLOCK, CONSTANTS, key_of, words_of
from randhet.fixed_point.network import Drawn, Shape


@dataclass(frozen=True, eq=False)
class Keyed:
    """A layer that draws by the cipher: its key and number, its pixels, table (256,) int32; held: once per image."""

    key: Word
    layer: int
    pixels: int
    table: np.ndarray
    held: bool

    def size(self, tile: Tile) -> int:
        """Count the decays of a round, whole chunks of channels for every pixel."""
        return self.pixels * padded(tile.width)

    def decays(self, tile: Tile, rounds: Sequence[int]) -> np.ndarray:
        """Return the decays of a tile in some rounds, (rounds * pixels * channels in whole chunks,) int32."""
        out = np.zeros(len(rounds) * self.size(tile), np.int32)
        numbers = np.array([part for number in rounds for part in words_of(number)], np.uint32)
        start = np.array([*CONSTANTS, *self.key, 0, self.layer, 0, 0], np.uint32)
        first, neurons = tile.offset * self.pixels, tile.width * self.pixels
        groups = -(-(first % BLOCK + neurons) // (BLOCK * LANES))
        words, x = np.empty(groups * LANES * WORDS, np.uint32), np.empty(LANES * WORDS, np.uint32)
        drawn_decays(
            start, numbers, self.table, first, self.pixels, tile.width, padded(tile.width), words, x, out
        )  # fmt: skip
        return out

    def number(self, image: int, step: int, steps: int) -> int:
        """Return the number of the round of an image and step of T = `steps`."""
        return image if self.held else image * steps + step

    def numbers(self, image: int, span: Span) -> list[int]:
        """Return the rounds of an image's steps in a span; one where all steps share their draws."""
        count = 1 if self.held else span.count
        return [self.number(image, span.start + t, span.steps) for t in range(count)]


def make_keyed(decay: Drawn, shape: Shape, layer: int, master: int) -> Keyed:
    """Make what draws the decays of layer number `layer`."""
    return Keyed(key_of(master), layer, prod(shape[1:]), decay.table.astype(np.int32), decay.sampling == "forward")
