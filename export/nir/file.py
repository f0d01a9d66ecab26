"""A NIR file from anyone: verified as HDF5 before the nir package sees it, then read as a graph."""

from __future__ import annotations

from pathlib import Path

import nir

from randhet.base.errors import FileError
from randhet.base.hdf5 import verify


def nir_file(path: str | Path) -> nir.NIRGraph:
    """The NIR graph in a file; FileError where it is missing, damaged, hostile or something else."""
    verify(path)
    try:
        graph = nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise many kinds, all mean that the file is not a NIR graph
        raise FileError(f"{path} is not a NIR graph: {first_line(error)}") from None
    if not isinstance(graph, nir.NIRGraph):
        raise FileError(f"{path} is not a NIR graph: it holds a single {type(graph).__name__}")
    return graph


def first_line(error: BaseException) -> str:
    """What an error says, in one short line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
