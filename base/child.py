"""Child interpreters: they import the package that this program imports, and nothing from the user's current folder."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """Return `python -m MODULE ARGUMENTS`; start it in a folder of its own: Python 3.10 looks there first."""
    return [sys.executable, "-m", module, *arguments]


def environment(*folders: str | Path, **extra: str) -> dict[str, str]:
    """Return this program's environment for a child that can import `randhet` and searches no current folder.

    PYTHONSAFEPATH keeps the current folder out of `sys.path` from Python 3.11 on. PYTHONPATH holds `folders`, what it
    held before, without empty entries (they stand for the current folder), and the package's folder where that is not
    installed.
    """
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [os.path.abspath(path) for path in (*folders, *known, *_source())]
    wanted = os.environ | {"PYTHONSAFEPATH": "1"} | extra
    return wanted | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} if paths else wanted


def leave_current_folder() -> None:
    """Search no current folder for modules: neither in this program nor in interpreters that libraries start for it.

    `python -m randhet` puts the current folder first in `sys.path`; so do the interpreters that Dask and torch start.
    """
    with suppress(OSError):  # a current folder that was removed
        if not getattr(sys.flags, "safe_path", False) and sys.path[:1] in ([""], [os.getcwd()]):
            del sys.path[0]
    # Dask's workers take over `sys.path`, not PYTHONPATH
    sys.path += [path for path in _source() if path not in sys.path]
    os.environ.update(environment())


@contextmanager
def safe_children() -> Iterator[None]:
    """Keep the current folder out of the interpreters that libraries start inside this block."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _source() -> list[str]:
    """Return the folder that holds the package, nothing where it is installed and found anyway."""
    home = str(Path(sys.modules["randhet"].__file__ or "").resolve().parent.parent)
    return [] if home in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else [home]
