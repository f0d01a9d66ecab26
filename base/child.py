"""Child interpreters: they import the package that this program imports, and nothing from the user's current folder."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE ARGUMENTS`; the child must start in a folder of its own, since `-m` looks there first."""
    return [sys.executable, "-m", module, *arguments]


def environment(**extra: str) -> dict[str, str]:
    """This program's environment for a child, with `randhet` importable and the child's own folder not searched.

    PYTHONSAFEPATH keeps the current folder out of `sys.path` from Python 3.11 on. PYTHONPATH gains the folder that
    holds the package only where the package is not installed.
    """
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    home = str(Path(sys.modules["randhet"].__file__ or "").resolve().parent.parent)
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *paths):
        paths.append(home)
    found = os.environ | {"PYTHONSAFEPATH": "1"} | extra
    return found | {"PYTHONPATH": os.pathsep.join(paths)} if paths else found
