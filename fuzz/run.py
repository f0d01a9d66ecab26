"""Fuzz the readers with atheris: python fuzz/run.py FOLDER [READER ...] [libFuzzer options, such as -runs=100000].

The first byte of an input says which of the readers (all, unless some are named) gets the rest; coverage guides. Inputs
that reach new code are kept in FOLDER/new, counts by reader in FOLDER/counts.json. An exception that is no refusal is
left in FOLDER/faults, once per place in the code, and the run goes on; what ends the process, hangs for 20 s or takes
more than 2 GB stops it. Needs `pip install 'randhet[fuzz,onnx]'` on Python 3.11 or later.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
READERS = [
    "export.hdf5", "export.netx_read", "export.nir_file", "export.nir_read", "export.nir_nodes", "export.float_shape",
    "export.onnx_read", "fixed_point.check", "fixed_point.shape", "fixed_point.chip", "train.checkpoint",
    "train.published", "train.models", "train.configuration", "train.settings", "train.idx", "train.folders",
    "compare.parallel", "nir", "tomllib",
]  # fmt: skip
"""Modules whose branches guide the fuzzer. What numba compiles must not be among them."""
EVERY = 500

with atheris.instrument_imports(include=READERS):
    from fuzz.targets import TARGETS


class Run:
    """Readers by the first byte of an input, and what came of them."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.counts = folder, Counter[str]()
        self.places = [name for name in names for _ in range(TARGETS[name].share)]
        self.seeds = {name: TARGETS[name].seeds() for name in names}
        fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz", dir=fast))
        for name in ("new", "seeds", "faults"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, seeds in self.seeds.items():
            for i, seed in enumerate(seeds if TARGETS[name].change is None else [b"", b"\1\2\3\4\5"]):
                (folder / "seeds" / f"{name}{i}").write_bytes(bytes([self.places.index(name)]) + seed)

    def one(self, data: bytes) -> None:
        name = self.places[data[0] % len(self.places)] if data else self.places[0]
        content = self.content(name, data[1:])
        try:
            if content is not None:
                TARGETS[name](content, self.scratch)
        except Exception as error:
            self.fault(name, content or b"", error)
        self.counts[name] += 1
        if self.counts.total() % EVERY == 0:
            (self.folder / "counts.json").write_text(json.dumps(dict(sorted(self.counts.items())), indent=1) + "\n")

    def content(self, name: str, data: bytes) -> bytes | None:
        """The file that an input stands for; None for a change that HDF5 itself does not allow."""
        change, seeds = TARGETS[name].change, self.seeds[name]
        if change is None:
            return data
        choices = atheris.FuzzedDataProvider(data)
        seed = seeds[choices.ConsumeIntInRange(0, len(seeds) - 1)]
        try:
            return change(seed, choices.ConsumeIntInRange)
        except (ValueError, TypeError, RuntimeError, OSError, KeyError, OverflowError):
            return None

    def fault(self, name: str, content: bytes, error: Exception) -> None:
        """The file and the traceback, once per place in the code."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = self.folder / "faults" / f"{name}--{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
        if not place.exists():
            place.write_bytes(content)
            place.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


def main(arguments: list[str]) -> None:
    options = [argument for argument in arguments if argument.startswith("-")]
    folder, *names = [argument for argument in arguments if not argument.startswith("-")]
    run = Run(Path(folder), names or list(TARGETS))
    warnings.simplefilter("ignore")
    limits = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1", "-len_control=0"]
    corpora = [str(place) for place in (run.folder / "new", run.folder / "seeds", HERE / "corpus") if place.is_dir()]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={run.folder}/stopped-", *options, *corpora], run.one)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(run.scratch, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
