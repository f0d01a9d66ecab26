"""Two gloo processes that share every batch train the network that one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from randhet.train.checkpoint import load

COMMAND = [
    "-m", "randhet", "train", "--data", "digits", "--samples", "48", "--batch", "24", "--epochs", "1", "--lr", "0.02",
    "--widths", "8", "--blocks", "1", "--steps", "2", "--threads", "1",
]  # fmt: skip


def train(out: Path, processes: int, options: list[str]) -> dict[str, torch.Tensor]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, *COMMAND, *options, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    return dict(load(out).state)


@pytest.mark.parametrize("options", [[], ["--objective", "sr", "--rate-weight", "5", "--rate-target", "0.1"]])
def test_two_processes_equal_one(options: list[str], tmp_path: Path) -> None:
    """But for the order of sums of float32, two steps of SGD with momentum give the same weights and statistics."""
    alone, shared = (train(tmp_path / f"{n}.pt", n, options) for n in (1, 2))
    for name, tensor in alone.items():
        torch.testing.assert_close(
            shared[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
