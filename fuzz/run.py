"""Fuzz one reader with atheris: python fuzz/run.py READER [libFuzzer options, such as -runs=100000] [FOLDER].

It starts from fuzz/corpus/READER; inputs that reach new code go to FOLDER, where one is given. What crashes, hangs for
20 s or takes over 2 GB stops the run and is left in fuzz/crashes. Needs `pip install 'randhet[fuzz,onnx]'` on Python
3.11 or later.
"""

from __future__ import annotations

import atexit
import shutil
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
    target, seeds = TARGETS[name], TARGETS[name].seeds()
    (HERE / "crashes").mkdir(exist_ok=True)
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz", dir=fast))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    start, fresh = folder / "seeds", folder / "new"
    for place in (start, fresh):
        place.mkdir()
    for i, seed in enumerate(seeds if target.change is None else []):
        (start / str(i)).write_bytes(seed)

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
    found = [option for option in options if not option.startswith("-")] or [str(fresh)]
    options = [option for option in options if option.startswith("-")]
    corpora = [*found, str(start), *(str(it) for it in [HERE / "corpus" / name] if it.is_dir())]
    atheris.Setup([sys.argv[0], *limits, prefix, *options, *corpora], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
