"""Processors with less than this one: numba's settings that leave features out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Lesser:
    """A processor like this one without some features; by the beginnings of LLVM's names.

    about: what it multiplies bytes with. needs: what this one must have for it. lacks: what is left out. name: LLVM's
    of a processor, for the order of instructions; that of this one where empty.
    """

    about: str
    needs: tuple[str, ...]
    lacks: tuple[str, ...]
    name: str = ""


LESSER = {
    "avx512": Lesser("AVX-512 VNNI", ("avx512vnni", "amx-int8"), ("amx",)),
    "avxvnni": Lesser("AVX-VNNI", ("avxvnni", "avx512f"), ("amx", "avx512", "avx10"), "haswell"),
    "avx2": Lesser("AVX2", ("avx2",), ("amx", "avx512", "avx10", "avxvnni"), "haswell"),
}


@lru_cache(maxsize=1)
def _host() -> tuple[str, tuple[str, ...]]:
    """LLVM's name of this processor, and its features, each with + or -."""
    from llvmlite import binding

    return binding.get_host_cpu_name(), tuple(binding.get_host_cpu_features().flatten().split(","))


def settings(lesser: str) -> dict[str, str]:
    """Return the variables of the environment with which numba compiles for this lesser processor."""
    kind, (name, features) = LESSER[lesser], _host()
    left = (f"-{entry[1:]}" if entry[1:].startswith(kind.lacks) else entry for entry in features)
    return {"NUMBA_CPU_NAME": kind.name or name, "NUMBA_CPU_FEATURES": ",".join(left)}


def obstacle(lesser: str) -> str | None:
    """Say why this processor cannot stand for it, None where it can."""
    lacking = [name for name in LESSER[lesser].needs if f"+{name}" not in _host()[1]]
    return f"this processor lacks {', '.join(lacking)}, or is no more than that" if lacking else None
