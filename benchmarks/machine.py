"""What the numbers were measured on and with."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FEATURES = (
    "sse4_2",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "sve",
)
PACKAGES = (
    "randhet", "numpy", "numba", "llvmlite", "torch", "onnxruntime", "spikingjelly", "snntorch", "lava-nc", "lava-dl",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Date, processor with its vector units, caches and memory, load, versions."""
    processor = _processor()
    flags = set(processor.get("flags", processor.get("Features", "")).split())
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor.get("model name") or platform.processor() or platform.machine(),
        "features": [name for name in FEATURES if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": _caches(),
        "memory_gb": _memory_gb(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "versions": {name: installed for name in PACKAGES if (installed := _version(name))},
    }


def _memory_gb() -> float | None:
    """Physical memory in GB of 2^30 bytes; None where the system does not say."""
    with suppress(AttributeError, ValueError, OSError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return None


def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    return {}


def _caches() -> dict[str, str]:
    """Size of each cache of the first core by level and type."""
    sizes = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with suppress(OSError):
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
            sizes[f"L{level} {kind.lower()}"] = size
    return sizes


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
