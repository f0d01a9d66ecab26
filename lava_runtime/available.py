"""Whether Lava can be used here, and the sentence to say where it cannot."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from randhet.base.errors import RandhetError

INSTALL = "pip install 'randhet[lava]', then pip install --ignore-requires-python --no-deps lava-nc==0.10.0"


class LavaMissingError(RandhetError):
    """Lava is not installed or does not run on this system."""


def missing() -> str | None:
    """Why Lava cannot be used, None where it can."""
    if sys.platform == "win32":
        return "Lava's processes need a system with fork, which Windows does not have: use WSL"
    if find_spec("lava") is None or find_spec("lava.magma") is None:
        return f"Lava is not installed: {INSTALL}"
    return None


def require_lava() -> None:
    """Raise LavaMissingError where Lava cannot be used."""
    if reason := missing():
        raise LavaMissingError(reason)
