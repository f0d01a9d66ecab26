"""No array of a wrong length reaches a kernel, and no kernel outlives the sources it was made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import NetworkError
from randhet.fixed_point.engine import calls, guard, kernels
from randhet.fixed_point.engine.plan import make_synapse
from randhet.fixed_point.engine.strips import make_strip
from randhet.fixed_point.kernels import compiled, dense
from randhet.fixed_point.kernels.bundles import (
    NO_DECAYS,
    CubaLevels,
    Decays,
    Levels,
    Output,
    State,
)
from randhet.fixed_point.network import Conv

STEPS, PIXELS, CHANNELS, PADDED = 2, 20, 3, 64
SIZE = PIXELS, 2
BUNDLES = ("source", "weights", "levels", "decays", "state", "output")
Call = dict[str, Any]


def right_call() -> Call:
    """Bundles for 3 channels that read 2 through 3x3 windows, whose decays are drawn and whose states are kept."""
    synapse = make_synapse(Conv(np.ones((CHANNELS, 2, 3, 3), np.int8), padding=(1, 1)), (2, 4, 5), 1)
    tile, level = synapse.tiles[0], np.ones(PADDED, np.int32)
    shape, values = (STEPS, PIXELS, CHANNELS), np.ones((STEPS, *SIZE), np.uint8)
    entries = np.zeros(CHANNELS, np.int64), np.arange(CHANNELS)
    return {
        "source": synapse.reads(tile, values),
        "weights": calls.weights(synapse, tile, values)._replace(limit=0),
        "levels": Levels(level, level.copy(), 6, 8, 0),
        "decays": Decays(NO_DECAYS, np.zeros(512, np.uint8), np.ones((STEPS, CHANNELS), np.uint32), *entries),
        "state": State(np.zeros(shape, np.int32), np.zeros(shape, np.int32)),
        "output": Output(np.zeros(shape, np.uint8), np.zeros(shape, np.int32), 0, 0, PIXELS),
    }


def look(call: Call) -> None:
    """What loading looks at, then what a call looks at."""
    source, weights, levels, decays, state, output = (call[name] for name in BUNDLES)
    guard.weights(weights, source, SIZE)
    guard.levels(levels, PIXELS, PADDED)
    guard.decays(decays, PIXELS, PADDED, CHANNELS)
    guard.source(source, STEPS, SIZE)
    guard.multiplied(weights, source)
    guard.states(decays, STEPS, PIXELS * PADDED)
    guard.output(output, state, PIXELS, CHANNELS)


def test_a_right_call_passes_and_runs() -> None:
    call = right_call()
    look(call)
    fired, clipped = kernels.lif_tile(*call.values())
    assert clipped == 0
    assert fired == int(call["output"].out.sum())


@pytest.mark.skipif(dense.fits(2, STEPS, 1), reason="products here take any number of rows and inputs")
@pytest.mark.skipif(not dense.AVAILABLE, reason="no products here")
def test_products_of_what_is_not_multiplied_are_refused() -> None:
    """They would write behind the end of their sums: two rows of two inputs a tap do not come in fours."""
    synapse = make_synapse(Conv(np.ones((CHANNELS, 2, 3, 3), np.int8), padding=(1, 1)), (2, 4, 5), 1)
    tile, call = synapse.tiles[0], right_call()
    assert len(tile.wide) > 0 and len(call["weights"].wide) == 0
    with pytest.raises(NetworkError, match="wide is given for 2 rows of 2 inputs of a tap, uint8 of 1 bits"):
        look(call | {"weights": call["weights"]._replace(wide=tile.wide)})


ARRAYS = [
    (bundle, name)
    for bundle, given in right_call().items()
    for name, value in given._asdict().items()
    if isinstance(value, np.ndarray) and value.size
]


@pytest.mark.parametrize(("bundle", "name"), ARRAYS)
def test_arrays_too_short_or_of_another_type_are_refused(bundle: str, name: str) -> None:
    call = right_call()
    value = getattr(call[bundle], name)
    for wrong in (value[..., :-1], value.astype(np.float64), np.repeat(value, 2, axis=-1)[..., ::2]):
        with pytest.raises(NetworkError, match="kernel argument"):
            look(call | {bundle: call[bundle]._replace(**{name: wrong})})


@pytest.mark.parametrize(
    ("bundle", "name", "value"),
    [
        ("source", "first", 1),
        ("source", "per_tap", 3),
        ("output", "high", PIXELS + 1),
        ("output", "low", -1),
        ("output", "offset", 1),
    ],
)
def test_positions_outside_are_refused(bundle: str, name: str, value: int) -> None:
    call = right_call()
    with pytest.raises(NetworkError, match="kernel argument"):
        look(call | {bundle: call[bundle]._replace(**{name: value})})


@pytest.mark.parametrize(("name", "moved"), [("places", 1), ("places", -1), ("slots", 1), ("slots", -1)])
def test_strips_that_point_outside_are_refused(name: str, moved: int) -> None:
    call, operation = right_call(), Conv(np.ones((CHANNELS, 2, 3, 3), np.int8), padding=(1, 1))
    strip = make_strip(operation, (2, 4, 5))
    look(call | {"source": call["source"]._replace(strip=strip)})
    wrong = strip._replace(**{name: getattr(strip, name) + np.int32(moved)})
    with pytest.raises(NetworkError, match=f"{name} lies in"):
        look(call | {"source": call["source"]._replace(strip=wrong)})


@pytest.mark.parametrize(("bundle", "name"), [("source", "window"), ("decays", "entry_channel")])
def test_windows_and_entries_that_point_outside_are_refused(bundle: str, name: str) -> None:
    call = right_call()
    outside = getattr(call[bundle], name) + PIXELS
    with pytest.raises(NetworkError, match=f"{name} lies in"):
        look(call | {bundle: call[bundle]._replace(**{name: outside})})


@pytest.mark.parametrize("name", ["bias", "threshold"])
def test_levels_of_cuba_neurons_are_not_filled_up(name: str) -> None:
    level = np.ones((1, CHANNELS), np.int32)
    given = CubaLevels(level, level[0], 6, 0, 4096)
    guard.cuba_levels(given, PIXELS, CHANNELS)
    with pytest.raises(NetworkError, match=f"kernel argument {name}"):
        guard.cuba_levels(given._replace(**{name: np.ones(PADDED, np.int32)}), PIXELS, CHANNELS)


def test_every_call_of_a_kernel_is_looked_at() -> None:
    """The calls refuse what the guard refuses, before the kernel runs."""
    synapse = make_synapse(Conv(np.ones((CHANNELS, 2, 3, 3), np.int8), padding=(1, 1)), (2, 4, 5), 1)
    tile, call = synapse.tiles[0], right_call()
    short = np.ones((STEPS, PIXELS - 1, 2), np.uint8)
    level = np.ones((1, CHANNELS), np.int32)
    with pytest.raises(NetworkError, match="kernel argument values"):
        calls.lif(synapse, tile, short, *(call[name] for name in BUNDLES[2:]))
    with pytest.raises(NetworkError, match="kernel argument values"):
        calls.cuba(synapse, tile, short, CubaLevels(level, level[0], 6, 0, 0), call["state"], call["output"])
    with pytest.raises(NetworkError, match="kernel argument values"):
        calls.sums(synapse, tile, short, STEPS)


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
