"""What the engine's kernels become on other processors: compiled for them, and run where this one can."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from randhet.benchmarks import processors
from randhet.fixed_point.kernels import dense, matrix, vectors

ANY = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
"""Tables are read lane by lane, vectors are split, lists are made bit by bit and nothing is multiplied."""


KERNELS = {
    "test_draws_and_looked_up_decays": 1,
    "test_the_leak_in_short_products_is_the_definition": 1,
    "test_what_a_spike_leaves": 1,
}
"""Tests of vector code, and how many cases each has."""
ENGINE = Path(__file__).with_name("test_engine.py")
NETWORKS = "test_wide_layers_equal_the_reference"
LESSER: dict[str, dict[str, int]] = {
    "any": KERNELS | {NETWORKS: 30},
    "avx512": KERNELS | {"test_products_of_windows": 1, NETWORKS: 30},
    "avx2": {"test_products_of_windows": 1, f"{NETWORKS}[97-1024-2-always]": 1},
    # differs from AVX2 in products only
    "avxvnni": {"test_products_of_windows": 1},
}
"""What is run where the code is made for a processor with less."""


def elsewhere(kind: str, settings: dict[str, str], arguments: list[str]) -> str:
    """Run Python where numba compiles for another processor; returns what it prints."""
    environment = os.environ | settings | {"RANDHET_TEST_PROCESSOR": kind}
    home = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", LESSER)
def test_a_lesser_processor(kind: str) -> None:
    """Some tests where the code is made for another processor; what was compiled is kept for the next time."""
    if reason := None if kind == "any" else processors.obstacle(kind):
        pytest.skip(reason)
    names = {"test_the_instructions_are_the_best_of_the_processor": 1} | LESSER[kind]
    tests = [f"{__file__ if name in globals() else ENGINE}::{name}" for name in names]
    settings = ANY if kind == "any" else processors.settings(kind)
    printed = elsewhere(kind, settings, ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
    assert printed.startswith("." * sum(names.values())), printed


def test_every_lesser_processor_is_tested() -> None:
    assert LESSER.keys() == {"any", *processors.LESSER}


MATRICES = """
import numpy as np
from numba import typeof
from randhet.fixed_point.engine.sums import Crowded
from randhet.fixed_point.kernels import matrix
from randhet.fixed_point.kernels.bundles import Source
byte, word, flat = np.zeros((1, 1, 1), np.uint8), np.zeros((1, 1), np.int32), np.zeros(1, np.uint8)
long, source = np.zeros(1, np.int64), Source(byte, word, 0, 1, 1)
kinds = tuple(map(typeof, (source, flat.view(np.int8), long, flat, 0, 1, word[0], 0)))
matrix.products.compile(kinds)
print(matrix.products.inspect_asm(kinds))
full = Crowded(flat.view(np.bool_), long, long, 1, flat, 1, long)
kinds = tuple(map(typeof, (source, flat.view(np.int8), full, 0, 1, word[0], 0)))
for kernel in (matrix.ahead, matrix.strip_products):
    kernel.compile(kinds)
    print("and", kernel.inspect_asm(kinds))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="matrices of bytes are instructions of x86-64")
def test_products_of_matrices_compile_for_any_processor(tmp_path: Path) -> None:
    """Compiled, not run: where the processor has the instructions, the tests of the engine run them."""
    features = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": "+amx-tile,+amx-int8,+avx2"}
    # what comes from a cache cannot be listed
    printed = elsewhere("amx", features | {"NUMBA_CACHE_DIR": str(tmp_path)}, ["-c", MATRICES])
    products, ahead, strips = printed.split("\nand ")
    for name in ("tileloadd", "tdpbusd", "tilestored"):
        assert all(f"\t{name}" in code for code in (products, ahead, strips)), name
    for name in ("ldtilecfg", "tilerelease"):
        assert f"\t{name}" in products, name
        assert f"\t{name}" in ahead, name
        assert f"\t{name}" not in strips, name


def test_the_instructions_are_the_best_of_the_processor() -> None:
    """What is chosen where kernels are compiled for a lesser processor, or for this one."""
    kind = os.environ.get("RANDHET_TEST_PROCESSOR")
    if kind in processors.LESSER:
        assert (dense.BY, vectors.FORM.name) == (vectors, processors.LESSER[kind].about)
    else:
        assert dense.BY is (matrix if matrix.AVAILABLE else vectors)
