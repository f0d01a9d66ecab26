"""HDF5 files that ask for more than they are worth, and a bound on what refusing such a file may take."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from fuzz import files as valid
from randhet.export.nir import write as nir_write

WHOLE = {"net": lambda: valid.net(valid.network()), "nir": lambda: valid.nir_of(nir_write.to_nir(valid.float_graph()))}

SECONDS, MEGABYTES = 20, 100
"""Far above what a refusal takes, far below what the file asks for."""


@contextmanager
def cheaply() -> Iterator[None]:
    """Within a few seconds, and a hundred megabytes of what Python and NumPy allocate."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
        assert time.monotonic() - begin < SECONDS
    finally:
        tracemalloc.stop()


def grown(name: str, path: Path, change: Callable[[h5py.File], None]) -> Path:
    path.write_bytes(WHOLE[name]())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def bomb(place: str) -> Callable[[h5py.File], None]:
    """4 GB of zeros in 4 MB."""

    def change(file: h5py.File) -> None:
        del file[place]
        made = file.create_dataset(place, (2**32,), "i1", chunks=(2**26,), compression="gzip")
        piece = zlib.compress(bytes(2**26), 9)
        for i in range(64):
            made.id.write_direct_chunk((i * 2**26,), piece)

    return change


def lying(place: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file.create_dataset(place, (2**40,), "f8", chunks=(2**10,))

    return change
