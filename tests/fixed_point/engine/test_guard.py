"""No array of a wrong length reaches a kernel, and no kernel outlives the sources it was made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from randhet.base.errors import NetworkError
from randhet.fixed_point.engine import guard, kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.kernels import compiled
from randhet.fixed_point.network import Conv

NAMES = (
    "values", "steps", "first", "per_tap", "planes", "window", "weight", "packed", "wide", "limit", "low", "high",
    "bias", "threshold", "f", "k", "given", "table", "starts", "entry_pixel", "entry_channel", "entry_last", "held",
    "near", "far", "out", "offset", "record",
)  # fmt: skip
STEPS, PIXELS, CHANNELS = 2, 20, 3


def arguments() -> dict[str, object]:
    """A right call of `kernels.lif_image` for 3 channels that read 2 through 3x3 windows."""
    synapse = make_synapse(Conv(np.ones((CHANNELS, 2, 3, 3), np.int8), padding=(1, 1)), (2, 4, 5), 1)
    tile, level = synapse.tiles[0], np.ones((1, 64), np.int32)
    one, matrix = np.zeros(CHANNELS, np.int64), np.zeros(32, np.uint32)
    out = np.zeros((STEPS, PIXELS, CHANNELS), np.uint8)
    given = (
        np.ones((STEPS, PIXELS, 2), np.uint8), STEPS, 0, 2, 1, synapse.window, tile.weight, tile.packed,
        tile.wide, 0, 0, PIXELS, level, level[0], 6, 8, np.zeros((0, 0), np.int32), np.zeros(512, np.uint8),
        one.astype(np.uint32), one, np.arange(CHANNELS), one > 0, False, matrix, matrix,
        out, 0, np.zeros((0, 0, 0), np.int32),
    )  # fmt: skip
    return dict(zip(NAMES, given, strict=True))


def look(call: dict[str, object]) -> None:
    """What loading looks at, then what a call looks at."""
    source = 20, 2
    guard.weights(*(call[name] for name in ("first", "per_tap", "window", "weight", "packed", "wide")), source)  # type: ignore[arg-type]
    guard.visits(*(call[name] for name in ("entry_pixel", "entry_channel", "entry_last")), CHANNELS)  # type: ignore[arg-type]
    guard.lif(source, *call.values())


def test_a_right_call_passes_and_runs() -> None:
    call = arguments()
    look(call)
    fired, clipped = kernels.lif_image(*call.values())
    assert clipped == 0
    assert fired == int(call["out"].sum())  # type: ignore[attr-defined]


ARRAYS = [name for name, value in arguments().items() if isinstance(value, np.ndarray) and value.size]


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_too_short_or_of_another_type_are_refused(name: str) -> None:
    call = arguments()
    value = call[name]
    assert isinstance(value, np.ndarray)
    wrong = [value[..., :-1], value.astype(np.float64), np.repeat(value, 2, axis=-1)[..., ::2]]
    for one in wrong:
        with pytest.raises(NetworkError, match="kernel argument"):
            look(call | {name: one})


@pytest.mark.parametrize(
    ("name", "value"),
    [("first", 1), ("high", PIXELS + 1), ("low", -1), ("offset", 1), ("steps", 3), ("per_tap", 3)],
)
def test_positions_outside_are_refused(name: str, value: int) -> None:
    with pytest.raises(NetworkError, match="kernel argument"):
        look(arguments() | {name: value})


def test_windows_and_entries_that_point_outside_are_refused() -> None:
    for name in ("window", "entry_channel"):
        call = arguments()
        call[name] = call[name] + PIXELS  # type: ignore[operator]
        with pytest.raises(NetworkError, match=f"{name} lies in"):
            look(call)


PART = """
from numba import types
from numba.extending import intrinsic

@intrinsic
def answer(typing):
    return types.int64(), lambda context, builder, signature, arguments: context.get_constant(types.int64, ANSWER)
"""
WHOLE = """
from randhet.fixed_point.kernels.compiled import kernel
from part import answer

@kernel
def ask():
    return answer()

print(ask(), sum(ask.stats.cache_hits.values()))
"""


def test_a_kernel_on_disk_is_dropped_when_an_intrinsic_elsewhere_changes(tmp_path: Path) -> None:
    """The file that holds the kernel stays as it is; its machine code must follow the other file nevertheless."""
    (tmp_path / "whole.py").write_text(WHOLE)
    home = str(Path(compiled.__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": home, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def run(answer: int) -> str:
        (tmp_path / "part.py").write_text(PART.replace("ANSWER", str(answer)))
        command = [sys.executable, str(tmp_path / "whole.py")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert [run(42), run(42), run(43), run(42)] == ["42 0", "42 1", "43 0", "42 0"]
