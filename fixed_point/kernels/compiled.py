"""Compiled kernels, kept on disk until anything they were made of changes."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

SHARED = {Path(__file__).resolve().parent, Path(__file__).resolve().parent.parent / "engine"}
"""Folders whose kernels and intrinsics those of other folders inline."""


@lru_cache(maxsize=16)
def digest(*folders: Path) -> str:
    """SHA-256 over every Python file of the folders."""
    sha = sha256()
    for file in sorted(file for folder in folders for file in folder.glob("*.py")):
        sha.update(file.name.encode() + file.read_bytes())
    return sha.hexdigest()


class SourceCache(FunctionCache):
    """numba's cache on disk, valid for these sources only.

    numba compares the file that a kernel stands in. Intrinsics and kernels that it inlines from other files may change
    without it; after an upgrade old machine code would run.
    """

    def __init__(self, function) -> None:
        super().__init__(function)
        folder = Path(function.__code__.co_filename).resolve().parent
        # numba drops what it kept where the stamp differs: here the digest is a part of it
        self._cache_file._source_stamp = (self._cache_file._source_stamp, digest(*sorted(SHARED | {folder})))


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile without the interpreter's lock; options are those of numba's njit."""
    if function is None:
        return lambda later: kernel(later, **options)
    dispatcher = njit(function, nogil=True, **options)
    # in place of cache=True, whose stamp knows one file only
    dispatcher._cache = SourceCache(function)  # type: ignore[attr-defined]
    return dispatcher


def inner(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """A kernel for inner loops: it allocates nothing, so numba need not count who holds which array.

    Each count is an atomic addition; in loops over pixels and steps they cost more than the arithmetic between them.
    """
    return kernel(function, _nrt=False, **options)
