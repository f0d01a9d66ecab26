"""Fuzz one reader with atheris: python fuzz/run.py READER [libFuzzer options, such as -runs=100000].

New inputs that reach new code go to fuzz/corpus/READER; what crashes, hangs for 20 s or takes over 2 GB stops the run
and is left in fuzz/crashes. Needs `pip install 'randhet[fuzz,onnx]'` on Python 3.11 or later.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
READERS = [
    "export.hdf5", "export.netx_read", "export.nir_file", "export.nir_read", "export.nir_nodes", "export.float_shape",
    "export.onnx_run", "fixed_point.check", "fixed_point.shape", "fixed_point.chip", "train.checkpoint",
    "train.published", "train.models", "train.configuration", "train.settings", "train.idx", "train.folders",
    "compare.parallel", "nir", "tomllib",
]  # fmt: skip
"""Modules whose branches guide the fuzzer. What numba compiles must not be among them."""

with atheris.instrument_imports(include=READERS):
    from fuzz.targets import TARGETS


def main(name: str, options: list[str]) -> None:
    target, corpus = TARGETS[name], HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    (HERE / "crashes").mkdir(exist_ok=True)
    seeds = target.seeds()
    if target.change is None:
        for i, seed in enumerate(seeds):
            (corpus / f"seed{i}").write_bytes(seed)
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz", dir=fast))

    def one(data: bytes) -> None:
        if target.change is None:
            target(data, folder)
            return
        choices = atheris.FuzzedDataProvider(data)
        seed = seeds[choices.ConsumeIntInRange(0, len(seeds) - 1)]
        try:
            changed = target.change(seed, choices.ConsumeIntInRange)
        except (ValueError, TypeError, RuntimeError, OSError, KeyError, OverflowError):
            return  # a change that HDF5 itself does not allow
        target(changed, folder)

    warnings.simplefilter("ignore")
    limits = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1"]
    prefix = f"-artifact_prefix={HERE / 'crashes' / name}-"
    atheris.Setup([sys.argv[0], *limits, prefix, *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
