"""Asking for a kind: a `match` ends in `assert_never`, so that the type checker names every forgotten place."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

__all__ = ["assert_never"]
