#!/usr/bin/env python3
"""Run the shipped digits network on every board that has its tools here, on all test images, and print what it needs.

Every sum is compared with the reference's. Exit status 1 where one differs, or where the program multiplies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from randhet.export.c import run as c  # noqa: E402
from randhet.export.c.boards import BOARDS, Board, multiplications, sizes  # noqa: E402
from randhet.export.pipeline import export_checkpoint, settings_for  # noqa: E402
from randhet.fixed_point import network as ir  # noqa: E402
from randhet.fixed_point import reference  # noqa: E402
from randhet.train.checkpoint import load  # noqa: E402
from randhet.train.data.sources import load as load_data  # noqa: E402

SEED = 11


def shipped(name: str = "digits-randhet-at", data: str = "digits", weight_bits: int = 8) -> ir.Network:
    """Export a shipped checkpoint as the command line does."""
    checkpoint = load(ROOT / f"checkpoints/{name}.pt")
    settings = settings_for(checkpoint, weight_bits=weight_bits)
    return export_checkpoint(checkpoint, load_data(data, "train").pixels[:256], settings).network


def needs(network: ir.Network, board: Board, program: c.Program) -> dict[str, Any]:
    """Bytes of the linked program, and whether it multiplies."""
    found = sizes(program.path, board.disassembler.replace("objdump", "size"))
    return {**found, "multiplications": multiplications(board, program.path)}


def main() -> int:
    network, pixels = shipped(), load_data("digits").pixels
    expected = reference.run(network, pixels, seed=SEED).sums
    wrong = 0
    for name, board in BOARDS.items():
        if reason := board.missing():
            print(f"{name}: skipped, {reason}")
            continue
        program = c.Program(network, board.build, trace=False)
        sums = program.run(pixels, c.states(network, SEED, 0)).sums
        equal = int((sums == expected).all(axis=1).sum())
        found = {"images": len(pixels), "equal": equal, **needs(network, board, program)}
        wrong += equal != len(pixels) or bool(found["multiplications"])
        print(f"{name}: {json.dumps(found)}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
