"""Whether Lava can be used here, and the sentence to say where it cannot."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from fixed_point.errors import RandhetError


class LavaMissingError(RandhetError):
    """Lava is not installed or does not run on this Python."""


def missing() -> str | None:
    """Why Lava cannot be used, None where it can."""
    install = "pip install 'randhet[lava]' in a Python 3.10 environment"
    if sys.version_info[:2] != (3, 10):
        return f"Lava needs Python 3.10, this is {sys.version_info[0]}.{sys.version_info[1]}: {install}"
    if find_spec("lava") is None or find_spec("lava.magma") is None:
        return f"Lava is not installed: {install}"
    return None


def require_lava() -> None:
    """Raise LavaMissingError where Lava cannot be used."""
    if reason := missing():
        raise LavaMissingError(reason)
