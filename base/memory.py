"""Memory that one tensor frees is kept for the next one."""

from __future__ import annotations

import ctypes
import os

TRIM, MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
LARGEST = 32 << 20
"""Bytes of the largest block that can come from the heap, as glibc allows on 64 bits; larger ones always go back."""
NEVER = 2**31 - 1
"""Bytes that the end of the heap must have to be given back: more than are free there."""
VARIABLES = {"MALLOC_TRIM_THRESHOLD_": str(NEVER), "MALLOC_MMAP_THRESHOLD_": str(LARGEST)}
"""What `keep_freed` does, for a program that is yet to start."""


def keep_freed() -> bool:
    """Let glibc keep freed blocks of at most 32 MiB; whether it does so: not under another C library.

    As it is, glibc gives the end of its heap back whenever a few tensors are freed, and every page of the next ones
    costs a fault. Where the environment has its own choice, that holds. For programs, not for libraries: it changes
    the whole process.
    """
    if not variables():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have none, Windows no library of this kind
        return False
    return bool(mallopt(MMAP, LARGEST) and mallopt(TRIM, NEVER))


def variables() -> dict[str, str]:
    """`VARIABLES`, none where the environment has its own choice."""
    return {} if {"GLIBC_TUNABLES", *VARIABLES} & set(os.environ) else VARIABLES
