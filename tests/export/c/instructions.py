#!/usr/bin/env python3
"""Count the instructions of one image of the shipped digits network, on each board, beside versions that multiply, an
int8 network without time steps, and weights packed into 4 and 2 bits.

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
from tempfile import gettempdir, mkdtemp
from unittest import mock

import numpy as np

sys.path.append(str(Path(__file__).parent))
import dense
import digits

from randhet.export.c import layers
from randhet.export.c import run as c
from randhet.export.c.boards import BOARDS, sizes
from randhet.export.c.write import files
from randhet.fixed_point import network as ir
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


DENSE_BUILDS = {"rv32im": (MULTIPLIER, ()), "rv32i": (RISCV, ("-lgcc",)), "cortex-m0": (ARM, ())}
"""Where the int8 network without time steps runs; without a multiplier the compiler's library multiplies."""


def count(program: c.Program, images: np.ndarray, states: np.ndarray, plugin: Path) -> Counter[str]:
    """Instructions of a run over these images, by function."""
    layers = len(program.network.layers)
    data = np.array([len(images), 0], "<u4").tobytes() + bytes(layers) + states.tobytes()
    return counted(program.build, program.path, data + images.astype(program.pixel).tobytes(), plugin)


def counted(build: c.Build, program: Path, data: bytes, plugin: Path) -> Counter[str]:
    """Instructions of a program that reads this, by function."""
    command = [*build.emulator, "-plugin", str(plugin), str(program)]
    printed = subprocess.run(command, input=data, capture_output=True, check=True).stderr.decode()
    starts = functions(build, program)
    found: Counter[str] = Counter()
    for line in printed.splitlines():
        address, executed = map(int, line.split())
        found[starts[bisect_right(starts, (address, "~")) - 1][1]] += executed
    return found


def functions(build: c.Build, program: Path) -> list[tuple[int, str]]:
    """Address and name of every function, in order."""
    tool = build.compiler[0].replace("gcc", "nm")
    text = subprocess.run([tool, program], capture_output=True, check=True, text=True).stdout
    entries = (line.split() for line in text.splitlines())
    return sorted((int(address, 16), name) for address, kind, name in entries if kind in "tT" and name[0] != "$")


def compiled_plugin(folder: Path) -> Path:
    """The counter as a shared library."""
    out = folder / "count.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", out, Path(__file__).with_name("count.c")], check=True)
    return out


PLAIN = """            sums[0] += weight[0];
            sums[1] += weight[1];
            sums[2] += weight[2];
            sums[3] += weight[3];
            sums[4] += weight[4];
            sums[5] += weight[5];
            sums[6] += weight[6];
            sums[7] += weight[7];
            sums += 8;
            weight += 8;"""
COLUMN = "            column += window->outputs;"


def packed(columns: np.ndarray, bits: int) -> np.ndarray:
    """Weights of this many bits, several to a byte, the first lowest, in two's complement; a column begins a byte."""
    per_byte = 8 // bits
    padding = [(0, 0)] * (columns.ndim - 1) + [(0, -columns.shape[-1] % per_byte)]
    whole = np.pad(columns, padding).reshape(-1, per_byte).astype(np.int64)
    fields = (whole & (2**bits - 1)) << (bits * np.arange(per_byte))
    return fields.sum(axis=1).astype(np.uint8).view(np.int8)


def unpacking(bits: int) -> dict[str, str]:
    """Kernels that read packed weights: a field's sign bit, turned over and subtracted, gives its sign."""
    per_byte, sign, mask = 8 // bits, 2 ** (bits - 1), 2**bits - 1
    field = lambda i: f"(int32_t)(((packed >> {bits * (i % per_byte)}) & {mask}u) ^ {sign}u) - {sign}"
    loads = lambda i: f"            packed = (uint8_t)weight[{i // per_byte}];\n" if i % per_byte == 0 else ""
    eight = "".join(f"{loads(i)}            sums[{i}] += {field(i)};\n" for i in range(8))
    shift = per_byte.bit_length() - 1
    one = "unpacked(weight, place++)"
    helper = f"""static int32_t unpacked(const int8_t *weight, int32_t place)
{{
    const int32_t low = (place & {per_byte - 1}) << {bits.bit_length() - 1};
    const uint32_t packed = (uint32_t)(uint8_t)weight[place >> {shift}] >> low;
    return (int32_t)((packed & {mask}u) ^ {sign}u) - {sign};
}}

"""
    begin = "/* Add one input's weights, one per output channel"
    start = "    const uint32_t bits = value < 0 ? (uint32_t)-value : (uint32_t)value;\n    if (value == 1) {"
    return {
        begin: helper + begin,
        start: "    uint32_t packed;\n    int32_t place = 0;\n" + start,
        PLAIN: f"{eight}            sums += 8;\n            weight += {8 // per_byte};",
        "            *sums++ += *weight++;": f"            *sums++ += {one};",
        "            *sums++ += spent(*weight++, bits);": f"            *sums++ += spent({one}, bits);",
        "            *sums++ -= spent(*weight++, bits);": f"            *sums++ -= spent({one}, bits);",
        COLUMN: f"            column += (window->outputs + {per_byte - 1}) >> {shift};",
    }


def narrow_files(network: ir.Network, bits: int) -> dict[str, str]:
    """The program of a network whose weights have this many bits, packed."""
    steps = ("row_weights", "tap_weights", "group_weights")
    plain, geometry = layers._columns, layers._geometry
    outputs = lambda conv: len(conv.weight) // conv.groups
    fewer = lambda site, conv, read: {
        name: value // outputs(conv) * -(-outputs(conv) * bits // 8) if name in steps else value
        for name, value in geometry(site, conv, read).items()
    }
    with (
        mock.patch.object(layers, "_columns", lambda conv: packed(plain(conv), bits)),
        mock.patch.object(layers, "_geometry", fewer),
    ):
        return files(network)


def patched(texts: Mapping[str, str], replaced: Mapping[str, str]) -> dict[str, str]:
    """The files with the kernels changed; every text to change is there once."""
    kernels = texts["randhet.c"]
    for old, new in replaced.items():
        assert kernels.count(old) == 1, old
        kernels = kernels.replace(old, new)
    return {**texts, "randhet.c": kernels}


def spiking(name: str, build: c.Build, network: ir.Network, texts: Mapping[str, str], plugin: Path) -> None:
    """Count and print what a spiking network's program takes."""
    pixels = load_data("digits").pixels[:2]
    expected, states = reference.run(network, pixels, seed=digits.SEED).sums, c.states(network, digits.SEED, 0)
    with mock.patch.object(c, "files", return_value=texts):
        program = c.Program(network, build, trace=False)
    equal = bool((program.run(pixels, states).sums == expected).all())
    later = count(program, pixels, states, plugin) - count(program, pixels[:1], states, plugin)
    show(name, build, program.path, later, equal)


def show(name: str, build: c.Build, program: Path, later: Counter[str], equal: bool) -> None:
    """Print instructions, bytes, and the shares of the functions that take most."""
    size = sizes(program, build.compiler[0].replace("gcc", "size"))
    print(f"{name}: {json.dumps({'equal': equal, 'instructions': later.total(), **size})}", flush=True)
    shares = {function: f"{number / later.total():.1%}" for function, number in later.most_common(6)}
    print(f"    {json.dumps(shares)}", flush=True)


def without_steps(name: str, build: c.Build, network: ir.Network, libraries: tuple[str, ...], plugin: Path) -> None:
    """Count and print what the int8 network of these layers takes, and whether its scores are NumPy's."""
    pixels = load_data("digits").pixels[:2]
    program = dense.compiled(network, build, Path(mkdtemp()), libraries)
    run = subprocess.run([*build.emulator, program], input=dense.request(pixels), capture_output=True, check=True)
    scores = np.frombuffer(run.stdout, "<i4").reshape(len(pixels), -1)
    equal = bool((scores == np.stack([dense.Answers(network, image).scores() for image in pixels])).all())
    two, one = (counted(build, program, dense.request(pixels[:n]), plugin) for n in (2, 1))
    show(name, build, program, two - one, equal)


def main() -> None:
    network, plugin = digits.shipped(), compiled_plugin(Path(gettempdir()))
    texts = files(network)
    for name, (build, replaced) in VERSIONS.items():
        spiking(name, build, network, patched(texts, replaced), plugin)
    for name, (build, libraries) in DENSE_BUILDS.items():
        without_steps(f"{name}, int8 without time steps", build, network, libraries, plugin)
    for bits in (4, 2):
        narrow = digits.shipped(weight_bits=bits)
        spiking(f"rv32i, weights of {bits} bits in a byte each", RISCV, narrow, files(narrow), plugin)
        changed = patched(narrow_files(narrow, bits), unpacking(bits))
        for name, build in {"rv32i": RISCV, "cortex-m0": ARM}.items():
            spiking(f"{name}, weights of {bits} bits, packed", build, narrow, changed, plugin)


if __name__ == "__main__":
    main()
