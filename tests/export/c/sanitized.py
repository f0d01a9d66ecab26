#!/usr/bin/env python3
"""Run random networks as C under sanitizers and count on how many every integer is the reference's.

tests/export/c/sanitized.py --count 500 --out tests/export/c/sanitized.json: networks number 0 to 499 of
`hardware_tests.random_networks`, wide ones: every kind there is, and sequences. Images of every second network are
pieces of one recording. All warnings are errors. gcc's program runs with the address and the undefined-behaviour
sanitizer; every fifth network also runs as clang's, without them. Every output, membrane potential, sum, spike count
and saturation is compared. Exit status 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from shutil import which

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from equality import assert_equal  # noqa: E402

from hardware_tests.random_networks import Run, fingerprint, numbered  # noqa: E402
from randhet.export.c import run as c  # noqa: E402
from randhet.export.c.write import HERE, KERNELS  # noqa: E402
from randhet.fixed_point import reference  # noqa: E402

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RECORD = Path(__file__).with_name("sanitized.json")


def builds() -> dict[str, c.Build]:
    """The compilers found, all warnings on."""
    known = {"gcc": ("-O1", *WARNINGS, *SANITIZERS), "clang": ("-O2", *WARNINGS)}
    return {name: c.Build((path,), options) for name, options in known.items() if (path := which(name))}


def differs(run: Run, build: c.Build, stream: bool = False) -> str:
    """What is not as in the reference, empty where nothing is."""
    options = {"seed": run.seed, "first_image": run.first_image, "probes": run.names, "stream": stream}
    try:
        found = c.run(run.network, run.images, build=build, **options)
        assert_equal(found, reference.run(run.network, run.images, **options))
    except (AssertionError, c.CompilerError) as error:
        return f"{type(error).__name__} {error}"
    return ""


def kernels() -> str:
    """SHA-256 of the kernels' text: a record is of these kernels."""
    return sha256(b"".join((HERE / name).read_bytes() for name in KERNELS)).hexdigest()


def checked(number: int) -> dict[str, str]:
    """Compare one network on each compiler's program; by compiler, what differs."""
    run, found, stream = numbered(number, wide=True), builds(), bool(number % 2)
    return {name: differs(run, build, stream) for name, build in found.items() if name == "gcc" or not number % 5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--count", type=int, default=500, help="networks")
    parser.add_argument("--jobs", type=int, default=2, help="networks at the same time")
    parser.add_argument("--out", type=Path, help="file for the record")
    given = parser.parse_args()
    compared: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    with ThreadPoolExecutor(given.jobs) as pool:
        numbers = range(given.first, given.first + given.count)
        for number, found in zip(numbers, pool.map(checked, numbers)):
            for name, text in found.items():
                compared[name] += 1
                equal[name] += not text
                if text:
                    print(f"network {number}, {name}: {text}", flush=True)
    made = fingerprint(range(20), wide=True)
    record = {"fingerprint": made, "kernels": kernels(), "compared": compared, "equal": equal}
    print(json.dumps(record))
    if given.out:
        given.out.write_text(json.dumps(record) + "\n", "utf-8")
    return int(equal != compared)


if __name__ == "__main__":
    sys.exit(main())
