"""The draws of a layer as raw bytes on standard output, without end: what random-number test suites read.

Example: `python -m hardware_tests.stream --cores 1 | dieharder -a -g 200`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from randhet.fixed_point.generator import core_seed
from randhet.fixed_point.kernels.registers import advance

NEURONS_PER_CORE = 1024
BLOCK = 2**20
"""Draws made at a time, at least."""


def blocks(seed: int, cores: int) -> Iterator[bytes]:
    """Draws of `cores` cores of 1024 neurons in the order in which a layer uses them, one byte each."""
    registers = np.array([core_seed(seed, 0, core) for core in range(cores)], np.int64)
    # One register gives the same draws whatever the number of neurons that share it
    sizes, identity = np.full(cores, NEURONS_PER_CORE if cores > 1 else BLOCK, np.int64), np.arange(256)
    while True:
        yield advance(registers, sizes, identity).astype(np.uint8).tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="cores that draw in turn")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="master seed")
    options = parser.parse_args()
    with suppress(BrokenPipeError):
        for block in blocks(options.seed, options.cores):
            sys.stdout.buffer.write(block)
    # The reader closed the pipe; the interpreter would say so once more when it flushes
    sys.stderr.close()


if __name__ == "__main__":
    main()
