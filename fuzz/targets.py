"""The readers that are fuzzed, each as a function of one file's bytes, with small valid files to start from.

A RandhetError is a refusal and what is wanted; anything else that comes out is a fault. The targets ending in -fields
do not change bytes at random, which HDF5 and torch refuse at once, but entries of a valid file, by choices.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fuzz import changes, ensembles, files
from fuzz.changes import IMPOSSIBLE, Change, Choices
from randhet.base import hdf5, parallel
from randhet.base.errors import RandhetError
from randhet.export.nir import read as nir_read
from randhet.export.nir.steps import OURS
from randhet.export.onnx import read as onnx_read
from randhet.export.onnx import run as onnx_run
from randhet.fixed_point.chips import chip
from randhet.netx import ensemble as netx_ensemble
from randhet.netx import write as netx
from randhet.train import checkpoint, configuration
from randhet.train.data import decode, folders, idx, recordings, spikes, tonic_sets
from randhet.train.data.events import Binning

CORPUS = Path(__file__).with_name("corpus")
"""CORPUS/TARGET/*: small inputs that between them reach what fuzzing has reached."""


@dataclass(frozen=True)
class Target:
    """A reader of files with this ending; change: of a seed by choices, instead of bytes as they come.

    share: how many of the values of the first byte are its own; quick readers have more. examples: how many damaged
    files a test reads. needs: packages without which nothing is read.
    """

    suffix: str
    read: Callable[[Path], Any]
    seeds: Callable[[], list[bytes]]
    change: Change | None = None
    share: int = 1
    examples: int = 60
    needs: tuple[str, ...] = ()

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

    def content(self, data: bytes) -> bytes | None:
        """The file that an input stands for; None for a change that the format itself does not allow."""
        if self.change is None:
            return data
        choose = Choices(data)
        try:
            return self.change(changes.pick(choose, seeds_of(self)), choose)
        except IMPOSSIBLE:
            return None


@lru_cache
def seeds_of(target: Target) -> list[bytes]:
    """Made once."""
    return target.seeds()


# --- readers ----------------------------------------------------------------------------------------------------------


def read_nir(path: Path) -> None:
    nir_read.load(path, OURS, 2)


@contextmanager
def little_unpacked() -> Iterator[None]:
    """At most 4 MB of an HDF5 file instead of 1 GB, which would take up all the time."""
    kept, hdf5.MAX_BYTES = hdf5.MAX_BYTES, 2**22
    try:
        yield
    finally:
        hdf5.MAX_BYTES = kept


def read_small_nir(path: Path) -> None:
    with little_unpacked():
        read_nir(path)


def read_settings(path: Path) -> None:
    """The file and the settings it makes."""
    tables = configuration.read(path)
    configuration.settings("sew-small", tables["model"], tables["training"])


def read_chip(path: Path) -> None:
    chip.parse("chip", path.read_text(errors="replace"))


def read_session(path: Path) -> None:
    """The file with a session of the runtime, and the registers of its draws."""
    onnx_run.load(path, threads=1).registers(1)


def read_pickle(path: Path) -> None:
    """The bytes as the pickle inside a checkpoint that is whole otherwise."""
    whole = path.with_suffix(".pt")
    with zipfile.ZipFile(io.BytesIO(files.checkpoints()[0])) as old, zipfile.ZipFile(whole, "w") as new:
        for name in old.namelist():
            new.writestr(name, path.read_bytes() if name.endswith("data.pkl") else old.read(name))
    checkpoint.load(whole)


def pickles() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(files.checkpoints()[0])) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def read_annotations(path: Path) -> None:
    """The table of a val folder."""
    folder = path.parent / "val"
    folder.mkdir(exist_ok=True)
    (folder / folders.ANNOTATIONS).write_bytes(path.read_bytes())
    folders._annotated(folder, ("cat", "dog"))


def read_recording(path: Path) -> None:
    """Frames of a file of events or of frames; the sensor has 8 x 8 pixels."""
    with little_unpacked():
        recordings.frames_of(recordings.Source(path, Binning(4), (8, 8)), path)


def read_spikes(path: Path) -> None:
    spikes.of_set(path, Binning(4), (1, 9))


class OneOfTonic:
    """A set of tonic that has one recording, read by tonic's reader of N-MNIST."""

    sensor_size = (34, 34, 2)

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from tonic.io import events_struct, read_mnist_file

        return read_mnist_file(self.path, dtype=events_struct), 0


def read_tonic(path: Path) -> None:
    tonic_sets.of_dataset(OneOfTonic(path), Binning(4), "NMNIST")


# --- the table --------------------------------------------------------------------------------------------------------

TARGETS: dict[str, Target] = {
    "net": Target(".net", netx.read, files.nets, share=4),
    "net-fields": Target(".net", netx.read, files.nets, changes.change_fields, share=6),
    "ensemble": Target(".net", netx_ensemble.read, ensembles.seeds, share=2),
    "ensemble-fields": Target(".net", netx_ensemble.read, ensembles.seeds, changes.change_fields, share=2),
    "ensemble-members": Target(".net", netx_ensemble.read, ensembles.seeds, ensembles.change_members, share=4),
    "nir": Target(".nir", read_small_nir, lambda: files.nirs()[::5], share=4),
    "nir-fields": Target(".nir", read_small_nir, files.nirs, changes.change_fields, share=4),
    "onnx": Target(".onnx", onnx_read.entries, files.onnxs, share=8),
    "onnx-fields": Target(".onnx", onnx_read.entries, files.onnxs, changes.change_model, share=8),
    "onnx-session": Target(".onnx", read_session, files.onnxs, changes.change_model),
    "checkpoint": Target(".pt", checkpoint.load, files.checkpoints, share=4),
    "checkpoint-fields": Target(".pt", checkpoint.load, files.checkpoints, changes.change_content, share=3),
    "checkpoint-pickle": Target(".pkl", read_pickle, pickles, share=3),
    "published": Target(".pt", checkpoint.load, files.states, share=4),
    "published-fields": Target(".pt", checkpoint.load, files.states, changes.change_content, share=3),
    "image": Target(".png", decode.decoded, files.pictures, share=10),
    "settings": Target(".toml", read_settings, files.tables, share=5),
    "chip": Target(".toml", read_chip, files.chips, share=2),
    "idx": Target("-idx1-ubyte", idx.read_idx, files.idxs, share=6),
    "idx-gz": Target(
        "-idx1-ubyte.gz", idx.read_idx, lambda: [gzip.compress(it, mtime=0) for it in files.idxs()], share=3
    ),
    "annotations": Target(".txt", read_annotations, lambda: [b"a.jpg\tcat\t0\t0\n", b"b.jpg\tdog\n"], share=3),
    "events-bin": Target(".bin", read_recording, lambda: files.events("a.bin"), share=4),
    "events-aedat": Target(".aedat", read_recording, lambda: files.events("b.aedat", "c.aedat"), share=4),
    "events-aedat4": Target(
        ".aedat4", read_recording, lambda: files.events("d.aedat4"), examples=15, needs=("aedat", "flatbuffers")
    ),
    "events-npy": Target(".npy", read_recording, lambda: [*files.events("e.npy"), *files.frames("a.npy")], share=4),
    "events-npz": Target(".npz", read_recording, lambda: [*files.events("f.npz"), *files.frames("a.npz")], share=2),
    "events-npz-fields": Target(
        ".npz",
        read_recording,
        lambda: [*files.events("f.npz"), *files.frames("a.npz")],
        changes.change_arrays,
        share=4,
    ),
    "events-hdf5": Target(".h5", read_recording, lambda: files.events("g.h5"), share=2),
    "events-hdf5-fields": Target(".h5", read_recording, lambda: files.events("g.h5"), changes.change_fields, share=4),
    "events-tonic": Target(".bin", read_tonic, lambda: files.events("a.bin"), share=2, needs=("tonic",)),
    "spikes": Target(".h5", read_spikes, files.spikes, examples=10),
    "spikes-fields": Target(".h5", read_spikes, files.spikes, changes.change_fields, examples=25),
    "results": Target(".jsonl", lambda path: parallel.read(path, {"seed": 1}), files.results, share=6),
}
NATIVE = (".net", ".nir", ".onnx", ".pt", ".pkl", ".png", ".h5", ".aedat4")
BINARY = tuple(name for name, target in TARGETS.items() if target.suffix in NATIVE)
"""Formats that a native library has the first look at."""
