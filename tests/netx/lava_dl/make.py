"""Networks made of lava-dl's own blocks and written by their own export: `make.py DIRECTORY`.

A program of its own, because Lava forks and a process whose parent has run torch can hang.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py

import loaded  # noqa: F401  # isort: skip
import lava.lib.dl.slayer as slayer
import torch

BLOCK = slayer.block.cuba
NEURON = {"threshold": 0.8, "current_decay": 0.3, "voltage_decay": 0.2}
NORMED = {**NEURON, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
SLOW = {"threshold": 1.5, "current_decay": 1.0, "voltage_decay": 0.01}
TRAIN = {"threshold": 0.4, "current_decay": 1.0, "voltage_decay": 0.1}
KEEPS = {"threshold": 4.0, "current_decay": 0.0, "voltage_decay": 0.0}


def blocks() -> dict[str, tuple[tuple[int, ...], list[torch.nn.Module]]]:
    """Input shape and blocks of each network."""
    return {
        "plain": (
            (2, 6, 5),
            [
                BLOCK.Conv(NEURON, 2, 4, 3, padding=1, weight_scale=2, weight_norm=True),
                BLOCK.Conv(SLOW, 4, 6, (2, 3), stride=(2, 1), padding=(0, 1), weight_scale=3),
                BLOCK.Flatten(),
                BLOCK.Dense(NEURON, 6 * 3 * 5, 7, weight_scale=2, weight_norm=True),
                BLOCK.Dense(KEEPS, 7, 3, weight_scale=3),
            ],
        ),
        "biased": (
            (4, 7, 6),
            [
                BLOCK.Conv(NORMED, 4, 6, 3, padding=1, dilation=(1, 2), groups=2, weight_scale=2),
                BLOCK.Flatten(),
                BLOCK.Dense(NORMED, 6 * 7 * 4, 5, weight_scale=2),
                BLOCK.Affine(NEURON, 5, 4, weight_scale=2, dynamics=False),
            ],
        ),
        "currents": (
            (6,),
            [BLOCK.Input(SLOW, weight=2, bias=0.5), BLOCK.Dense(NEURON, 6, 5, weight_scale=3)],
        ),
        "summed": (
            (1, 4, 5),
            [
                BLOCK.Input({**SLOW, "threshold": 0.6}, weight=1.1875, bias=0.75),
                BLOCK.Flatten(),
                BLOCK.Dense(NEURON, 20, 9, weight_scale=3),
                BLOCK.Affine(NEURON, 9, 5, weight_scale=2, dynamics=False),
            ],
        ),
        "delayed": (
            (9,),
            [BLOCK.Dense(NEURON, 9, 8, delay=True, weight_scale=4), BLOCK.Dense(NEURON, 8, 5, weight_scale=4)],
        ),
        "recurrent": (
            (9,),
            [BLOCK.Recurrent(NEURON, 9, 8, weight_scale=4), BLOCK.Dense(NEURON, 8, 5, weight_scale=4)],
        ),
        "oxford": (
            (200,),
            [BLOCK.Dense(TRAIN, 200, 256, weight_scale=2), BLOCK.Dense(TRAIN, 256, 200, weight_scale=2)],
        ),
        "pilot": (
            (3, 17, 20),
            [
                BLOCK.Input(NEURON, weight=3, bias=0.5),
                BLOCK.Conv(NEURON, 3, 4, 3, stride=2, weight_scale=2, weight_norm=True),
                BLOCK.Conv(NEURON, 4, 5, 3, stride=(2, 3), weight_scale=3, weight_norm=True),
                BLOCK.Flatten(),
                BLOCK.Dense(NEURON, 3 * 3 * 5, 7, weight_scale=3),
                BLOCK.Affine(SLOW, 7, 2, weight_scale=4),
            ],
        ),
        "saccades": (
            (2, 34, 34),
            [
                BLOCK.Conv(NEURON, 2, 4, 5, stride=2, padding=1, weight_scale=3),
                BLOCK.Conv(NEURON, 4, 6, 3, stride=2, weight_scale=4),
                BLOCK.Flatten(),
                BLOCK.Dense(NEURON, 6 * 7 * 7, 10, weight_scale=4),
            ],
        ),
        "pooled": ((2, 6, 6), [BLOCK.Conv(NEURON, 2, 4, 3), BLOCK.Pool(NEURON, 2)]),
        "resonate": ((6,), [slayer.block.rf.Dense({"threshold": 1.0, "period": 10, "decay": 0.1}, 6, 5)]),
        "sigma_delta": ((6,), [slayer.block.sigma_delta.Dense({"threshold": 0.1, "activation": torch.relu}, 6, 5)]),
    }


def main(directory: Path) -> None:
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    for name, (shape, made) in blocks().items():
        values = (torch.rand(1, *shape, 4) < 0.5).float()
        for block in made:
            values = block(values)
            values = values[0] if isinstance(values, tuple) else values
            if name == "delayed" and block.delay is not None:
                late = torch.tensor([0.0, 1, 2, 3, 4, 5, 7, 70])
                block.delay.delay.data = late.reshape(block.delay.delay.shape)
        with h5py.File(directory / f"{name}.net", "w") as file:
            for i, block in enumerate(made):
                block.export_hdf5(file.create_group(f"layer/{i}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
