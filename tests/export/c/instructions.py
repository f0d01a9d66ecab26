#!/usr/bin/env python3
"""Count the instructions of one image of the shipped digits network, on each board and beside versions that multiply.

A plugin of the emulator counts; those of two images less those of one are those of the second. It needs the tools of
the boards and gcc.
"""

from __future__ import annotations

import json
import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from unittest import mock

import numpy as np

sys.path.append(str(Path(__file__).parent))
import digits

from randhet.export.c import run as c
from randhet.export.c.boards import BOARDS, sizes
from randhet.export.c.write import files
from randhet.fixed_point import reference
from randhet.train.data.sources import load as load_data

LEAK = "    uint32_t acc = 0u;\n    const uint32_t term"
SPENT = "    int32_t total = 0;\n    for (;;) {"
ACTIVE = """            if (*value != 0) {
                add_column(sums, column, window->outputs, (int32_t)*value);
            }"""
PRODUCTS = {
    LEAK: "    return (int32_t)(((int64_t)decay * d) >> k);\n" + LEAK,
    SPENT: "    return weight * (int32_t)bits;\n" + SPENT,
}
"""The decay and graded values by multiplication, spikes still by addition."""
DENSE = PRODUCTS | {
    ACTIVE: """            for (int32_t o = 0; o < window->outputs; o++) {
                sums[o] += column[o] * (int32_t)*value;
            }"""
}
"""Every weight is multiplied with its input, zero or not: what an int8 network without spikes does at every step."""
# The decay's product has more than 32 bits, for which the Cortex-M0 needs a library: there it stays as it is
RISCV, ARM = BOARDS["riscv32i"].build, BOARDS["cortex-m0"].build
MULTIPLIER = replace(RISCV, compiler=(RISCV.compiler[0], "-march=rv32im", "-mabi=ilp32"))
VERSIONS: dict[str, tuple[c.Build, Mapping[str, str]]] = {
    "rv32i": (RISCV, {}),
    "cortex-m0": (ARM, {}),
    "rv32i, functions apart": (replace(RISCV, options=(*RISCV.options, "-fno-inline")), {}),
    "rv32im, products": (MULTIPLIER, PRODUCTS),
    "rv32im, dense products": (MULTIPLIER, DENSE),
    "cortex-m0, dense products": (ARM, {old: new for old, new in DENSE.items() if old != LEAK}),
}


def count(program: c.Program, images: np.ndarray, states: np.ndarray, plugin: Path) -> Counter[str]:
    """Instructions of a run over these images, by function."""
    layers = len(program.network.layers)
    data = np.uint32(len(images)).astype("<u4").tobytes() + bytes(layers) + states.tobytes()
    data += images.astype(program.pixel).tobytes()
    command = [*program.build.emulator, "-plugin", str(plugin), str(program.path)]
    printed = subprocess.run(command, input=data, capture_output=True, check=True).stderr.decode()
    starts = functions(program)
    found: Counter[str] = Counter()
    for line in printed.splitlines():
        address, executed = map(int, line.split())
        found[starts[bisect_right(starts, (address, "~")) - 1][1]] += executed
    return found


def functions(program: c.Program) -> list[tuple[int, str]]:
    """Address and name of every function, in order."""
    tool = program.build.compiler[0].replace("gcc", "nm")
    text = subprocess.run([tool, program.path], capture_output=True, check=True, text=True).stdout
    entries = (line.split() for line in text.splitlines())
    return sorted((int(address, 16), name) for address, kind, name in entries if kind in "tT" and name[0] != "$")


def compiled_plugin(folder: Path) -> Path:
    """The counter as a shared library."""
    out = folder / "count.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", out, Path(__file__).with_name("count.c")], check=True)
    return out


def main() -> None:
    network, pixels = digits.shipped(), load_data("digits").pixels[:2]
    expected, states = reference.run(network, pixels, seed=digits.SEED).sums, c.states(network, digits.SEED, 0)
    texts, plugin = files(network), compiled_plugin(Path(gettempdir()))
    for name, (build, replaced) in VERSIONS.items():
        kernels = texts["randhet.c"]
        for old, new in replaced.items():
            assert kernels.count(old) == 1, old
            kernels = kernels.replace(old, new)
        with mock.patch.object(c, "files", lambda network, kernels=kernels: texts | {"randhet.c": kernels}):
            program = c.Program(network, build, trace=False)
        equal = bool((program.run(pixels, states).sums == expected).all())
        later = count(program, pixels, states, plugin) - count(program, pixels[:1], states, plugin)
        size = sizes(program.path, build.compiler[0].replace("gcc", "size"))
        print(f"{name}: {json.dumps({'equal': equal, 'instructions': later.total(), **size})}", flush=True)
        shares = {function: f"{number / later.total():.1%}" for function, number in later.most_common(6)}
        print(f"    {json.dumps(shares)}", flush=True)


if __name__ == "__main__":
    main()
