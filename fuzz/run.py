"""Fuzz the readers with atheris: python fuzz/run.py FOLDER [READER ...] [libFuzzer options, such as -runs=100000].

The first byte of an input says which of the readers (all, unless some are named) gets the rest; coverage guides. Inputs
that reach new code are kept in FOLDER/new, counts by reader in FOLDER/counts.json, added to those found there: a run in
the same FOLDER, by the same readers, goes on. An exception that is no refusal is left in FOLDER/faults, once per place
in the code; what ends the process, hangs for 60 s or takes more than 2 GB stops the run and leaves its input in
FOLDER/stopped-*. `fuzz/record.py FOLDER` adds what came of it to the project. Needs `pip install 'randhet[fuzz,onnx]'`
on Python 3.11 or later.
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
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
READERS = [
    "randhet.base.hdf5", "randhet.netx.node", "randhet.netx.read", "randhet.netx.version1", "randhet.netx.ensemble",
    "randhet.netx.stock", "randhet.netx.words", "randhet.fixed_point.facts", "randhet.train.data.decode",
    "randhet.export.nir.file", "randhet.export.nir.read", "randhet.export.nir.nodes", "randhet.export.nir.foreign",
    "randhet.export.nir.flat", "randhet.export.float_shape", "randhet.export.onnx.read", "randhet.export.onnx.meta",
    "randhet.fixed_point.check", "randhet.fixed_point.shape", "randhet.fixed_point.chips.chip",
    "randhet.train.checkpoint", "randhet.train.published", "randhet.train.models", "randhet.train.configuration",
    "randhet.train.settings", "randhet.train.data.idx", "randhet.train.data.folders", "randhet.train.data.events",
    "randhet.train.data.event_files", "randhet.train.data.arrays", "randhet.train.data.recordings",
    "randhet.train.data.tonic_sets", "randhet.base.parallel", "nir", "tomllib", "fuzz.changes",
]  # fmt: skip
"""Modules whose branches guide the fuzzer. What numba compiles must not be among them."""
EVERY = 200
LARGEST = 30_000
"""Bytes of an input; a longer seed would be cut, and so be no valid file."""

with atheris.instrument_imports(include=READERS):
    from fuzz.targets import CORPUS, TARGETS, seeds_of


def begun(target: str) -> list[bytes]:
    """Inputs to start from: whole files, or the first choices; and the corpus."""
    plain = seeds_of(TARGETS[target]) if TARGETS[target].change is None else [b"", b"\1\2\3\4\5"]
    if too_large := [len(seed) for seed in plain if len(seed) > LARGEST]:
        raise SystemExit(f"a seed of {target} has {too_large[0]} bytes, the fuzzer would cut it to {LARGEST}")
    return [*plain, *(path.read_bytes() for path in sorted((CORPUS / target).glob("*")))]


class Run:
    """Readers by the first byte of an input, and what came of them."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.record = folder, folder / "counts.json"
        self.places = [name for name in names for _ in range(TARGETS[name].share)]
        self.counts = Counter[str](json.loads(self.record.read_text()) if self.record.exists() else {})
        fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz", dir=fast))
        for name in ("new", "seeds", "faults"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "readers.json").write_text(json.dumps(self.places))
        for name in names:
            for i, seed in enumerate(begun(name)):
                (folder / "seeds" / f"{name}{i}").write_bytes(bytes([self.places.index(name)]) + seed)

    def one(self, data: bytes) -> None:
        name = self.places[data[0] % len(self.places)] if data else self.places[0]
        content = TARGETS[name].content(data[1:])
        try:
            if content is not None:
                TARGETS[name](content, self.scratch)
        except Exception as error:
            self.fault(name, content or b"", error)
        self.counts[name] += content is not None
        if self.counts.total() % EVERY == 0:
            self.record.write_text(json.dumps(dict(sorted(self.counts.items())), indent=1) + "\n")

    def fault(self, name: str, content: bytes, error: Exception) -> None:
        """The file and the traceback, once per place in the code."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        file = self.folder / "faults" / f"{name}--{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
        if not file.exists():
            file.write_bytes(content)
            file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


def main(arguments: list[str]) -> None:
    options = [argument for argument in arguments if argument.startswith("-")]
    folder, *names = [argument for argument in arguments if not argument.startswith("-")]
    run = Run(Path(folder), names or list(TARGETS))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    limits = ["-timeout=60", "-rss_limit_mb=2048", f"-max_len={LARGEST}", "-print_final_stats=1", "-len_control=0"]
    corpora = [str(run.folder / name) for name in ("new", "seeds")]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={run.folder}/stopped-", *options, *corpora], run.one)
    try:
        atheris.Fuzz()
    except SystemExit:
        shutil.rmtree(run.scratch, ignore_errors=True)
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
