"""Freed memory is used again without a fault for every page."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pieces import variable

from randhet.base.memory import VARIABLES, keep_freed
from randhet.base.parallel import run_all

OWN = ("GLIBC_TUNABLES", *VARIABLES)
BLOCKS = """
import resource, sys
import numpy as np
from randhet.base.memory import keep_freed
print(keep_freed() if sys.argv[1] == "keep" else None)
def once():
    return [np.ones(400_000) for _ in range(8)]
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[str, int]:
    """What keep_freed returned, and page faults of twenty times eight arrays of 3.2 MB in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, how], env=environment, capture_output=True, text=True, check=True
    )
    returned, count = done.stdout.split()
    return returned, int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has glibc")
def test_freed_blocks_are_used_again() -> None:
    """An array has 781 pages or more: without it nearly every one is faulted in again each time."""
    returned, kept = faults("keep")
    if returned == "False":
        pytest.skip("this C library has no mallopt")
    assert kept < 1000 < 20 * 8 * 781 // 4 < faults("leave")[1]


@pytest.mark.parametrize("name", OWN)
def test_a_choice_of_the_environment_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert not keep_freed()


@pytest.mark.parametrize("own", [None, "4096"])
def test_workers_keep_theirs_though_dask_trims(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user has said how."""
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", own)
    found = run_all(variable, {name: (name,) for name in VARIABLES}, workers=1)
    assert found["MALLOC_TRIM_THRESHOLD_"] == (own or VARIABLES["MALLOC_TRIM_THRESHOLD_"])
    assert own or found == VARIABLES
