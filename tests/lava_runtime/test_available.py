"""Where Lava is missing, one sentence says so and what to do. Runs with and without Lava, so it has no marker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from randhet.lava_runtime.available import LavaMissingError, missing

HOME = Path(__file__).resolve().parents[2]


def test_a_python_without_lava_says_how_to_get_it() -> None:
    """-S hides every installed package from a real interpreter of this version."""
    code = (
        f"import sys; sys.path.insert(0, {str(HOME)!r})\n"
        "from randhet.lava_runtime.available import require_lava\n"
        "try: require_lava()\n"
        "except Exception as error: print(type(error).__name__, error, sep=': ')\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("LavaMissingError: Lava is not installed"), done.stderr
    assert done.stdout.endswith("--ignore-requires-python --no-deps lava-nc==0.10.0\n")


@pytest.mark.skipif(missing() is None, reason="Lava is here")
def test_a_run_without_lava_is_refused_before_anything_else() -> None:
    from randhet.lava_runtime.runner import run

    with pytest.raises(LavaMissingError):
        run("no-such-file.net", np.zeros((1, 1, 8, 8), np.uint8))


@pytest.mark.lava
def test_nothing_here_imports_torch() -> None:
    """Lava forks its processes, and a process whose parent has run torch can hang."""
    code = "import sys, randhet.lava_runtime.driver, randhet.lava_runtime.runner; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOME, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.lava
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", None])
def test_lava_is_imported_whatever_start_method_is_set_and_leaves_it(method: str | None) -> None:
    """In a program of its own: `set_start_method` as Dask or a user calls it, then the import, then what is set."""
    chosen = f"multiprocessing.set_start_method({method!r})" if method else "pass"
    code = (
        f"import multiprocessing\n{chosen}\n"
        "import randhet.lava_runtime.builder, randhet.lava_runtime.processes.layers\n"
        "print(multiprocessing.get_start_method(allow_none=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOME, timeout=60)
    assert done.stdout == f"{method}\n", done.stderr
