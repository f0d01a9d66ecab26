"""HDF5 files that ask for more than they are worth are refused from their headers, in little time and memory."""

# ruff: noqa: E402  (what needs torch, ONNX and NIR is imported after it is known to be there)
from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("nir")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from damage import bomb, cheaply, grown, lying

from fuzz.files import network
from fuzz.targets import TARGETS, read_nir
from randhet.base import hdf5
from randhet.base.errors import FileError, RandhetError
from randhet.netx import write as netx


def one_large_chunk(place: str) -> Callable[[h5py.File], None]:
    """One number, in a chunk that unpacks to 2 GB."""

    def change(file: h5py.File) -> None:
        del file[place]
        made = file.create_dataset(place, (1,), "i1", maxshape=(None,), chunks=(2**31,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(1000), 9))

    return change


def many_texts(place: str) -> Callable[[h5py.File], None]:
    """One text of 1 MB, 4096 times: the file holds it once."""

    def change(file: h5py.File) -> None:
        del file[place]
        made = file.create_dataset(place, (4096,), h5py.string_dtype())
        made[0] = "x" * 2**20
        kept = made.id.get_offset()
        file.flush()
        with open(file.filename, "r+b") as raw:
            raw.seek(kept)
            first = raw.read(16)
            raw.seek(kept)
            raw.write(first * 4096)

    return change


def millions_of_texts(place: str) -> Callable[[h5py.File], None]:
    """33 million empty texts in 33 kB, which took minutes to be counted one by one."""

    def change(file: h5py.File) -> None:
        del file[place]
        made = file.create_dataset(place, (2**25,), h5py.string_dtype(), chunks=(2**21,), compression="gzip")
        piece = zlib.compress(bytes(2**25), 9)
        for i in range(16):
            made.id.write_direct_chunk((i * 2**21,), piece)

    return change


def put(place: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.pop(place, None)
        file[place] = value

    return change


def loop(file: h5py.File) -> None:
    file["loop"] = file["/"]


def outside(place: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file.create_dataset(place, (8,), "i1", external=[("/etc/hostname", 0, 8)])

    return change


def sequence(place: str) -> Callable[[h5py.File], None]:
    """Lists of numbers of their own lengths, at which HDF5 ends the process where one is damaged."""

    def change(file: h5py.File) -> None:
        del file[place]
        file.create_dataset(place, (1,), h5py.vlen_dtype(np.int8))[0] = np.zeros(3, np.int8)

    return change


def strange_filter(place: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file.create_dataset(place, data=np.arange(100), scaleoffset=4)

    return change


HOSTILE = [
    (bomb, "allowed"),
    (one_large_chunk, "allowed"),
    (millions_of_texts, r"room for \d+ texts|behind HDF5 filter 1"),
    (sequence, "is object of shape .*, which is not read"),
    (lying, r"says \d+ bytes and holds 0"),
    (outside, "in another file"),
    (strange_filter, "behind HDF5 filter"),
    (lambda place: put(place, h5py.ExternalLink("/etc/passwd", "/")), "is a link"),
    (lambda place: put(place, h5py.SoftLink("/layer")), "is a link"),
    (lambda place: put(place, np.dtype("f8")), "neither a group nor a dataset"),
    (lambda place: put(place, np.zeros(2, [("a", "f8"), ("b", "i1")])), "which is not read"),
    (lambda place: loop, "reached twice"),
]


@pytest.mark.parametrize(("make", "said"), HOSTILE, ids=[f"{i}-{said}" for i, (_, said) in enumerate(HOSTILE)])
@pytest.mark.parametrize(("name", "place"), [("net", "layer/1/weight"), ("nir", "node/nodes/conv/weight")])
def test_hdf5_that_asks_for_more_than_it_is_worth(name: str, place: str, make: Any, said: str, tmp_path: Path) -> None:
    path = grown(name, tmp_path / f"a{TARGETS[name].suffix}", make(place))
    with cheaply(), pytest.raises(RandhetError, match=said):
        TARGETS[name].read(path)


def test_one_text_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered to keep the test light: what counts is that texts are counted as they are read."""
    monkeypatch.setattr(hdf5, "MAX_BYTES", 2**24)
    path = grown("nir", tmp_path / "a.nir", many_texts("node/nodes/conv/weight"))
    with cheaply(), pytest.raises(FileError, match="unpacks to more"):
        read_nir(path)


def test_a_recurrent_layer_graph_is_refused(tmp_path: Path) -> None:
    """Layer 1 reads layer 2, which reads layer 1."""
    path = grown("net", tmp_path / "a.net", put("layer/1/inputs", np.array([2])))
    with pytest.raises(FileError, match="layer a: reads layer 2, only layers 0 to 0 come before it"):
        netx.read(path)


def test_sizes_beyond_any_machine_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    """Padding makes a 4x4 image one of 2^20 x 2^20; a k of 2^62 is not raised to."""
    lone = replace(network(), layers=network().layers[:2])
    netx.write(tmp_path / "a.net", lone)
    with h5py.File(tmp_path / "a.net", "r+") as file:
        put("layer/1/padding", np.array([2**19, 2**19]))(file)
    with cheaply(), pytest.raises(FileError, match=f"layer a has {(2**20 + 2) ** 2} values, the limit is {2**24}"):
        netx.read(tmp_path / "a.net")
    path = grown("net", tmp_path / "b.net", put("layer/2/neuron/k", 2**62))
    with cheaply(), pytest.raises(FileError, match=f"k is {2**62}, the limits are 1 to 12"):
        netx.read(path)


MEASURED = """
import resource, sys
from randhet.base.hdf5 import verify
from randhet.netx.write import read
from randhet.base.errors import FileError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {"verify": verify, "read": read}[sys.argv[1]](sys.argv[2])
    said = "read"
except FileError as error:
    said = str(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said)
"""


def measured(reader: str, path: Path) -> str:
    """What a reader says of a file, in a process of its own that may not grow by 200 MB."""
    command = [sys.executable, "-c", MEASURED, reader, str(path)]
    home = str(Path(__file__).parents[2])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": home}, capture_output=True, text=True, check=True)
    kilobytes, said = done.stdout.strip().split(" ", 1)
    assert int(kilobytes) < 200_000, said
    return said


@pytest.mark.parametrize("length", [4, 2**31 + 5])
def test_a_text_that_says_it_is_longer_than_the_file(length: int, tmp_path: Path) -> None:
    """HDF5 allocates what a text's entry says before it looks for it: the file is refused without asking HDF5."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        place = file.create_dataset("name", data="text").id.get_offset()
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place : place + 4] = length.to_bytes(4, "little")
    (tmp_path / "a.h5").write_bytes(content)
    said = measured("verify", tmp_path / "a.h5")
    assert said == "read" if length == 4 else f"name has a text of {length} bytes" in said


def lie(path: Path, name: str, true: int, length: int) -> None:
    """Another length in the entry of an attribute, a text of `true` bytes."""
    content = bytearray(path.read_bytes())
    place = content.index(true.to_bytes(4, "little"), content.index(name.encode() + b"\0"))
    content[place : place + 4] = length.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["format", "classes", "metadata"])
def test_an_attribute_that_says_it_is_longer_than_the_file(name: str, tmp_path: Path) -> None:
    path = grown("net", tmp_path / "a.net", lambda file: None)
    assert measured("read", path) == "read"
    with h5py.File(path) as file:
        true = len(file.attrs[name].encode())
    lie(path, name, true, 2**31 + 5)
    assert f"/{name} is a text of {2**31 + 5} bytes, the file has {path.stat().st_size}" in measured("read", path)


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_attributes_are_found_however_hdf5_keeps_them(libver: str, count: int, tmp_path: Path) -> None:
    """In the header of a group as messages of versions 1 and 3, and many of them in a heap of their own."""
    path = tmp_path / "a.h5"
    bounds = libver if libver == "earliest" else (libver, "latest")
    with h5py.File(path, "w", libver=bounds, userblock_size=512) as file:
        for i in range(count):
            file.attrs[f"name{i}"] = "x" * (1000 + i)
        file.attrs["list"] = np.arange(3)
    assert (b"FRHP" in path.read_bytes()) == (count > 1 and libver != "earliest")
    for i in range(count):
        assert hdf5.text_of_attribute(path, f"name{i}") == 1000 + i
    lie(path, "name0", 1000, 2**32 - 1)
    assert hdf5.text_of_attribute(path, "name0") == 2**32 - 1
    for name in ("name", "list", "absent"):
        with pytest.raises(FileError, match=f"attribute {name} is kept in a way that is not read"):
            hdf5.text_of_attribute(path, name)


def test_an_attribute_whose_type_is_kept_elsewhere_is_found(tmp_path: Path) -> None:
    """A message of version 2, with a pointer in the place of the type."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["type"] = h5py.string_dtype()
        h5py.h5a.create(file.id, b"name", file["type"].id, h5py.h5s.create(h5py.h5s.SCALAR))
        file.attrs.modify("name", "x" * 1000)
    content = path.read_bytes()
    assert content[content.index(b"name\0") - 8 :][:2] == b"\2\1"
    lie(path, "name", 1000, 2**32 - 1)
    assert hdf5.text_of_attribute(path, "name") == 2**32 - 1


def test_attributes_behind_filters_or_names_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(40):
            file.attrs[f"name{i}"] = "x"
    content = bytearray(path.read_bytes())
    content[content.index(b"FRHP") + 7] = 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="behind HDF5 filters"):
        hdf5.text_of_attribute(path, "name0")
    path.write_bytes(b"name\0" * (hdf5.MAX_PLACES + 1))
    with cheaply(), pytest.raises(FileError, match=f"more than {hdf5.MAX_PLACES} times"):
        hdf5.text_of_attribute(path, "name")
