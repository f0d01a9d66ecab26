"""Proof that the add-only path multiplies nothing: in the code that runs, and on numbers that refuse it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from randhet.fixed_point import generator, integer
from randhet.fixed_point import network as ir

HERE = Path(__file__).resolve().parent


def listing(cache: Path, *arguments: str) -> str:
    home = HERE.parents[2]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(home)}
    command = [sys.executable, "-W", "ignore", str(HERE / "listing.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the listing is read as x86-64")


@needs_x86
def test_compiled_kernels_have_no_multiplication_division_or_floating_point(tmp_path: Path) -> None:
    printed = listing(tmp_path)
    assert "forbidden" not in printed, printed
    assert int(printed.split()[-2]) > 10


@needs_x86
def test_a_planted_multiplication_is_found(tmp_path: Path) -> None:
    """In sums, which every kernel has, and in the vector code of the reset, which those of the LIF family have."""
    found = [line for line in listing(tmp_path, "plant").splitlines() if "forbidden" in line]
    for layer in ("sum_layer", "drawn_layer", "given_layer", "cuba_layer"):
        assert any(layer in line and re.search(r"imul|pmulld", line) for line in found), layer
    for layer in ("drawn_layer", "given_layer"):
        assert any(layer in line and re.search(r"pmullw|pmulhw|pmaddwd", line) for line in found), layer


class Adder:
    """A whole number that can be added, shifted, compared and masked, and raises on anything else."""

    def __init__(self, value: int) -> None:
        self.value = int(value)

    def _with(self, name: str, other: object) -> object:
        theirs = other.value if isinstance(other, Adder) else int(other)  # type: ignore[call-overload]
        done = getattr(self.value, name)(theirs)
        return done if isinstance(done, bool) else Adder(done)

    def __neg__(self) -> Adder:
        return Adder(-self.value)

    def __int__(self) -> int:
        return self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def refuse(self, *_: object) -> None:
        raise ArithmeticError("multiplied or divided")

    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = refuse
    __mod__ = __rmod__ = __pow__ = __float__ = __matmul__ = __divmod__ = refuse


ALLOWED = "add radd sub rsub lshift rlshift rshift rrshift and rand xor rxor or ror lt le gt ge eq ne"
for _name in ALLOWED.split(" "):
    setattr(Adder, f"__{_name}__", partialmethod(Adder._with, f"__{_name}__"))
Adder.__hash__ = lambda self: hash(self.value)  # type: ignore[method-assign]


def adders(values: np.ndarray) -> np.ndarray:
    out = np.empty(values.shape, object)
    out[:] = [Adder(value) for value in values]
    return out


def test_numbers_refuse_to_be_multiplied() -> None:
    with pytest.raises(ArithmeticError):
        Adder(3) * Adder(2)
    with pytest.raises(ArithmeticError):
        2 * Adder(2)


@pytest.mark.parametrize("reset", get_args(ir.Reset))
def test_the_pure_step_runs_without_multiplication(reset: ir.Reset) -> None:
    """current, leak_by_addition and fire on such numbers give the integers of the multiplying definition."""
    rng = np.random.default_rng(0)
    total, bias = rng.integers(-(2**20), 2**20, 200), rng.integers(-(2**20), 2**20, 200)
    membrane, decay = rng.integers(-(2**23) + 1, 2**23, 200), rng.integers(0, 256, 200)
    threshold = rng.integers(1, 2**22, 200)
    x, clipped = integer.current(total, bias, 6)
    m, _ = integer.leak(membrane, x, decay, 8)
    spike, after = integer.fire(m, threshold, reset)
    pure_x, pure_clipped = integer.current(adders(total), adders(bias), 6)
    pure_m, _ = integer.leak_by_addition(adders(membrane), pure_x, adders(decay), 8)
    pure_spike, pure_after = integer.fire(pure_m, adders(threshold), reset)
    assert clipped == pure_clipped
    for one, other in ((x, pure_x), (m, pure_m), (spike, pure_spike), (after, pure_after)):
        assert one.tolist() == [int(value) for value in other]
    with pytest.raises(ArithmeticError):
        integer.leak(adders(membrane), pure_x, adders(decay), 8)


def test_the_register_runs_without_multiplication() -> None:
    state, plain = Adder(0x1234_5678), 0x1234_5678
    for _ in range(100):
        state, value = generator.draw(state)  # type: ignore[arg-type, assignment]
        plain, expected = generator.draw(plain)
        assert int(value) == expected
