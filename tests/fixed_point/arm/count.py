#!/usr/bin/env python3
"""Count the instructions of the kernels on ARM's processors: PYTHONPATH=. python tests/fixed_point/arm/count.py.

A plugin of the emulator counts what is executed, of which that in a kernel's own functions is printed. Needs gcc too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))
import cross
from emulated import PROCESSORS, Machine

from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.kernels import draws, vectors
from randhet.fixed_point.network import Conv
from scripts import limits

SIZE, STEPS = 128, 8


def kernels() -> Iterator[tuple[str, Any, tuple[Any, ...], float]]:
    """Name, kernel, arguments, units of work."""
    rng = np.random.default_rng(0)
    synapse = make_synapse(Conv(np.ones((SIZE, SIZE, 3, 3), np.int8), padding=(1, 1)), (SIZE, 6, 6), 1)
    tile, window = synapse.tiles[0], synapse.window
    source = synapse.reads(tile, np.ones((STEPS, 36, SIZE), np.uint8))
    wide, begins, none = vectors.pack(tile.weight[:-1], SIZE), np.arange(STEPS) * 36 * SIZE, np.empty(0, np.uint8)
    sums, seen = np.zeros(36 * STEPS * SIZE, np.int32), int((window >= 0).sum())
    products = source, wide, begins, none, 0, 36, sums, 0
    yield "products of bytes, per 64 products", vectors.products, products, seen * STEPS * SIZE * SIZE / 64
    weight = rng.integers(-9, 9, 2 * 4096 * 64).astype(np.int8)
    rows = np.sort(rng.integers(0, 4096, (50, 120)), axis=1).astype(np.uint32).reshape(-1)
    added = weight, 4096 * 64, rows, 120, np.zeros(2 * 64, np.int32)
    yield "rows of active inputs, per row of 64 weights", limits.rows_twice, added, 2 * len(rows)
    level, blocks = np.full(SIZE, 999, np.int32), rng.integers(0, 256, SIZE * draws.AHEAD).astype(np.uint8)
    table, state = rng.integers(0, 256, 512).astype(np.uint8), (np.zeros(SIZE, np.int32), np.zeros(SIZE, np.int32))
    more = *state, np.zeros(SIZE, np.uint8), 100
    yield "neurons, decays drawn, per neuron", limits.neurons_drawn, (level, table, blocks, *more), 100 * SIZE
    yield "neurons, decays given, per neuron", limits.neurons_given, (level, level, *more), 100 * SIZE


def executed(machine: Machine, kernel: Any, arguments: tuple[Any, ...], plugin: Path) -> int:
    """Instructions of this project's functions in one call."""
    _, printed, program = machine.ran(kernel, arguments, ("-plugin", str(plugin)))
    text = subprocess.run(
        [cross.COMPILER.replace("gcc", "nm"), "-n", program], capture_output=True, check=True, text=True
    )
    functions = [line.split(maxsplit=2) for line in text.stdout.splitlines() if line.split()[1] in "tTwW"]
    starts, names = np.array([int(start, 16) for start, *_ in functions]), [name for *_, name in functions]
    blocks = [tuple(map(int, line.split())) for line in printed.splitlines()]
    own = ("_ZN7randhet", "_ZN7scripts")
    return sum(n for at, n in blocks if names[int(np.searchsorted(starts, at, "right")) - 1].startswith(own))


def main() -> None:
    """Print instructions per unit, a line for each kernel and processor."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        plugin, code = folder / "count.so", Path(__file__).parents[2] / "export" / "c" / "count.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, code], check=True)
        for key, processor in PROCESSORS.items():
            (folder / key).mkdir()
            with Machine(processor, folder / key) as machine:
                for about, kernel, arguments, units in kernels():
                    number = executed(machine, kernel, arguments, plugin)
                    print(f"{processor.about}: {about}: {number / units:.2f}", flush=True)


if __name__ == "__main__":
    main()
