"""Whether a Triton that can run our kernels is installed; it is asked for its version without being imported."""

from __future__ import annotations

from importlib import metadata

INSTALL = "pip install 'randhet[gpu]'"
DISTRIBUTIONS = ("triton", "pytorch-triton")
"""Names under which Triton is installed; the second comes with nightly builds of torch."""
OLDEST = (3, 7)
"""Earlier ones lack parts of the language that the kernels are written in, or fail with NumPy 2.4."""


def installed() -> str | None:
    """Return Triton's version, None where there is none."""
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def missing() -> str | None:
    """Say why Triton cannot be used, None where it can."""
    version = installed()
    if version is None:
        return f"triton is not installed: {INSTALL}"
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return f"triton {version} is installed, the kernels need {needed} or later: use a newer torch, or {INSTALL}"
    return None
