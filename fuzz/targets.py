"""The readers that are fuzzed, each as a function of one file's bytes, with small valid files to start from.

A RandhetError is a refusal and what is wanted; anything else that comes out is a fault. The targets ending in -fields
do not change bytes at random, which HDF5 refuses at once, but one or more entries of a valid file.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from compare import parallel
from export import netx, nir_read, nir_write, onnx_run
from export.graph import (
    Encoding,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    TimeMean,
)
from export.nir_time import OURS
from fixed_point import chip
from fixed_point.errors import RandhetError
from fixed_point.network import Accumulate, Add, Conv, Dense, Input, Layer, Lif, Network, RandomTau, SumPool
from train import checkpoint, configuration, folders, idx
from train.models import ModelSettings, SEWResNet

Integer = Callable[[int, int], int]
"""A choice: a whole number between two limits, both included."""


@dataclass(frozen=True)
class Target:
    """A reader of files with this ending; change: of a seed by choices, instead of bytes as they come.

    share: how many of the values of the first byte are its own; quick readers have more.
    """

    suffix: str
    read: Callable[[Path], Any]
    seeds: Callable[[], list[bytes]]
    change: Callable[[bytes, Integer], bytes] | None = None
    share: int = 1

    def __call__(self, content: bytes, folder: Path) -> bool:
        """Read a file of this content; whether it was accepted."""
        path = folder / f"file{self.suffix}"
        path.write_bytes(content)
        try:
            self.read(path)
        except RandhetError as error:
            if not str(error) or "\n" in str(error).strip():
                raise RuntimeError(f"not one sentence: {error!r}") from None
            return False
        return True


# --- valid files ------------------------------------------------------------------------------------------------------


@lru_cache
def network() -> Network:
    """A few layers of every kind."""
    one = lambda value, count: np.full(count, value, np.int32)
    conv = Conv(np.arange(-4, 5, dtype=np.int8).reshape(1, 1, 3, 3), padding=(1, 1))
    return Network(
        (
            Layer("input", Input((1, 4, 4))),
            Layer("a", conv, (0,), RandomTau(one(9, 1), one(-3, 1), neurons_per_core=5), np.array([0.25])),
            Layer("b", conv, (1,), Lif(one(9, 1), one(0, 1)), np.array([0.5])),
            Layer("sum", Add(), (1, 2)),
            Layer("pool", SumPool((2, 2), (2, 2)), (3,)),
            Layer("read", Dense(np.ones((2, 4), np.int8)), (4,), Accumulate(one(1, 2)), np.array([0.5])),
        ),
        steps=2,
        classes=("no", "yes"),
        metadata={"source": "abc"},
    )


def float_graph() -> FloatGraph:
    """A chain that NIR can say."""
    return FloatGraph(
        (
            FloatNode("input", FloatInput((1, 3, 3))),
            FloatNode("conv", FloatConv(np.ones((2, 1, 2, 2)), np.zeros(2)), ("input",)),
            FloatNode("encode", Encoding(2), ("conv",)),
            FloatNode("node", FloatNeuron("randhet", 0.5), ("encode",)),
            FloatNode("flat", FloatFlatten(), ("node",)),
            FloatNode("fc", FloatDense(np.ones((2, 8)), np.zeros(2)), ("flat",)),
            FloatNode("mean", TimeMean(), ("fc",)),
        )
    )


def written(write: Callable[[Path], None], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def checkpoints() -> list[bytes]:
    settings = ModelSettings(1, 2, (2, 2), (1,), (1,), steps=1)
    state = SEWResNet(settings, (0.5,), (0.25,)).state_dict()
    made = checkpoint.Checkpoint(settings, state, (0.5,), (0.25,))
    return [written(lambda path: checkpoint.save(path, made), "a.pt")]


def nirs() -> list[bytes]:
    ours = nir_write.to_nir(float_graph())
    foreign = nir_write.to_nir(float_graph())
    foreign.metadata = {}
    return [written(lambda path, it=it: nir_write.save(path, it), "a.nir") for it in (ours, foreign)]  # type: ignore[misc]


def onnxs() -> list[bytes]:
    from export import onnx_integer

    tiny = Network(
        (Layer("input", Input((2,))), Layer("r", Dense(np.ones((2, 2), np.int8)), (0,), Accumulate(np.zeros(2, int)))),
        1,
    )
    return [onnx_integer.model(tiny).SerializeToString()]


def idxs() -> list[bytes]:
    return [struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(8), struct.pack(">HBBI", 0, 8, 1, 3) + b"\0\1\2"]


def pictures() -> list[bytes]:
    from PIL import Image

    def encoded(kind: str, mode: str) -> bytes:
        stream = io.BytesIO()
        Image.new(mode, (3, 2), 1).save(stream, kind)
        return stream.getvalue()

    return [
        encoded(*pair)
        for pair in (
            ("PNG", "L"),
            ("PNG", "RGB"),
            ("PNG", "P"),
            ("JPEG", "L"),
            ("BMP", "RGB"),
            ("GIF", "L"),
            ("PPM", "L"),
            ("TIFF", "RGB"),
        )
    ]


def results() -> list[bytes]:
    header = {"format": parallel.FORMAT, "identity": {"seed": 1}}
    lines = [json.dumps(line) for line in (header, {"piece": "a", "result": [1.5]}, {"piece": "b", "result": {"x": 2}})]
    return [("\n".join(lines) + "\n").encode()]


def tables() -> list[bytes]:
    model = '[model]\nname = "sew-small"\nwidths = [4, 8]\nblocks = "1,1"\n'
    training = '[training]\neps = "4/255"\nepochs = 2\nrate = 0.1\n'
    return [(model + training).encode(), b'[training]\ndata = "cifar10"\nobjective = "rat"\n']


def chips() -> list[bytes]:
    return [(chip.FOLDER / "loihi1.toml").read_bytes()]


# --- readers ----------------------------------------------------------------------------------------------------------


def read_settings(path: Path) -> None:
    """The file and the settings it makes."""
    found = configuration.read(path)
    configuration.settings("sew-small", found["model"], found["training"])


def read_chip(path: Path) -> None:
    chip.parse("chip", path.read_text(errors="replace"))


def read_pickle(path: Path) -> None:
    """The bytes as the pickle inside a checkpoint that is whole otherwise."""
    whole = path.with_suffix(".pt")
    with zipfile.ZipFile(io.BytesIO(seed_checkpoint())) as old, zipfile.ZipFile(whole, "w") as new:
        for name in old.namelist():
            new.writestr(name, path.read_bytes() if name.endswith("data.pkl") else old.read(name))
    checkpoint.load(whole)


@lru_cache
def seed_checkpoint() -> bytes:
    return checkpoints()[0]


def pickles() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(seed_checkpoint())) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def read_annotations(path: Path) -> None:
    """The table of a val folder."""
    place = path.parent / "val"
    place.mkdir(exist_ok=True)
    (place / folders.ANNOTATIONS).write_bytes(path.read_bytes())
    folders._annotated(place, ("cat", "dog"))


# --- changes to the entries of an HDF5 file ---------------------------------------------------------------------------


def change_fields(content: bytes, choose: Integer) -> bytes:
    """One to three entries replaced: by other values, types, shapes, links, unpacked sizes, or by nothing."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(choose(1, 3)):
            change = CHANGES[choose(0, len(CHANGES) - 1)]
            name = names[choose(0, len(names) - 1)]
            if name in file:
                change(file, name, choose)
    return stream.getvalue()


SHAPES = ((), (0,), (1,), (2,), (1, 1), (3, 1), (1, 1, 3, 3), (2**20,), (1,) * 8)
TYPES = ("i1", "u1", "<i4", ">i8", "u8", "f4", "f8", "c8", "S3", "b1")
NUMBERS = (0, 1, -1, 2, 3, 127, 128, 255, 2**20, 2**31 - 1, -(2**31), 2**62)


def new_array(file: h5py.File, name: str, choose: Integer) -> None:
    kind, shape = TYPES[choose(0, len(TYPES) - 1)], SHAPES[choose(0, len(SHAPES) - 1)]
    value = np.full(shape, NUMBERS[choose(0, len(NUMBERS) - 1)]).astype(kind)
    del file[name]
    file[name] = value


def new_values(file: h5py.File, name: str, choose: Integer) -> None:
    if isinstance(file[name], h5py.Dataset) and file[name].dtype.kind in "iuf" and file[name].size:
        value = np.array(file[name])
        value.flat[choose(0, value.size - 1)] = np.array(NUMBERS[choose(0, len(NUMBERS) - 1)]).astype(value.dtype)
        del file[name]
        file[name] = value


def new_text(file: h5py.File, name: str, choose: Integer) -> None:
    words = ("", "conv", "dense", "LIF", "IF", "CubaLIF", "LI", "NIRGraph", "Conv2d", "same", "step", "{", "é" * 9)
    word = words[choose(0, len(words) - 1)]
    del file[name]
    file[name] = np.array([word.encode()]) if choose(0, 1) else word


def unlinked(file: h5py.File, name: str, choose: Integer) -> None:
    del file[name]


def linked(file: h5py.File, name: str, choose: Integer) -> None:
    """To itself, to its parent, to nowhere, to another file."""
    parent = file[name].parent
    links = (parent, h5py.SoftLink("/nowhere"), h5py.SoftLink(name), h5py.ExternalLink("/etc/hostname", "/"))
    del file[name]
    file[name] = links[choose(0, len(links) - 1)]


def packed(file: h5py.File, name: str, choose: Integer) -> None:
    """A shape with nothing or little behind it."""
    del file[name]
    size = 2 ** choose(0, 36)
    file.create_dataset(
        name, (size,), "i1", chunks=(min(size, 2 ** choose(0, 31)),), compression=(None, "gzip")[choose(0, 1)]
    )


def attribute(file: h5py.File, name: str, choose: Integer) -> None:
    keys = list(file.attrs) or ["seed"]
    values: tuple[Any, ...] = (
        *NUMBERS,
        1.5,
        float("nan"),
        "",
        "[]",
        "{}",
        "[" * 5000,
        '{"a": 1}',
        np.zeros((2, 2)),
        "[[1]]",
    )
    file.attrs[keys[choose(0, len(keys) - 1)]] = values[choose(0, len(values) - 1)]


CHANGES = (new_array, new_values, new_values, new_text, unlinked, linked, packed, attribute)


# --- the table --------------------------------------------------------------------------------------------------------

read_nir = lambda path: nir_read.load(path, OURS, 2)
nets = lambda: [written(lambda path: netx.write(path, network()), "a.net")]

TARGETS: dict[str, Target] = {
    "net": Target(".net", netx.read, nets),
    "net-fields": Target(".net", netx.read, nets, change_fields),
    "nir": Target(".nir", read_nir, nirs),
    "nir-fields": Target(".nir", read_nir, nirs, change_fields),
    "onnx": Target(".onnx", onnx_run.load, onnxs),
    "checkpoint": Target(".pt", checkpoint.load, checkpoints),
    "checkpoint-pickle": Target(".pkl", read_pickle, pickles),
    "settings": Target(".toml", read_settings, tables, share=5),
    "chip": Target(".toml", read_chip, chips, share=2),
    "idx": Target("-idx1-ubyte", idx.read_idx, idxs, share=6),
    "idx-gz": Target("-idx1-ubyte.gz", idx.read_idx, lambda: [gzip.compress(it, mtime=0) for it in idxs()], share=3),
    "image": Target(".png", folders._read, pictures),
    "annotations": Target(".txt", read_annotations, lambda: [b"a.jpg\tcat\t0\t0\n", b"b.jpg\tdog\n"], share=3),
    "results": Target(".jsonl", lambda path: parallel.read(path, {"seed": 1}), results, share=6),
}
