"""Kernels compile for NVIDIA GPUs, which needs none: types that the interpreter does not ask about are asked about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from randhet.base import triton

ROOT = Path(__file__).parents[3]
NETWORKS = [162]
"""A numbered network that holds a convolution, a pool, Lif and Cuba, and decays that are drawn."""


@pytest.mark.skipif(sys.platform != "linux", reason="triton comes for Linux")
def test_kernels_compile_to_integer_code(tmp_path: Path) -> None:
    if reason := triton.missing():
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    script = [sys.executable, str(Path(__file__).with_name("compiled.py")), "80", *map(str, NETWORKS)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = json.loads(done.stdout)
    training = {name: kernels.pop(name) for name in ("forward", "backward")}
    assert all(kernel["floats"] and kernel["fused"] == 0 for kernel in training.values())  # rounded as on the CPU
    assert set(kernels) == {"synaptic_sums", "pool_windows", "lif_steps", "cuba_steps", "image_states", "keystream"}
    assert all(kernel["bytes"] > 1000 and kernel["floats"] == [] for kernel in kernels.values())
    assert kernels["synaptic_sums"]["products"]  # products of bytes by the matrix unit
