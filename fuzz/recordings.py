"""Recordings in every format that is read, written here byte by byte: what tests and fuzzing start from."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Rows = list[tuple[int, int, int, int]]
"""(t, x, y, p)."""


def some(count: int = 40, seed: int = 0, rows: int = 34, columns: int = 34, last: int = 5000) -> Rows:
    """Events at random, in order."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, last, count))
    return [
        (int(t), int(x), int(y), int(p))
        for t, x, y, p in zip(
            times, rng.integers(0, columns, count), rng.integers(0, rows, count), rng.integers(0, 2, count)
        )
    ]


def nmnist(file: Path, events: Rows) -> None:
    """40 bits an event; a row of 240 stands for each round of 2^13 that the clock of 23 bits does not hold."""
    content, rounds = b"", 0
    for t, x, y, p in events:
        while t - rounds * 2**13 >= 2**23:
            content += bytes([0, 240, 0, 0, 0])
            rounds += 1
        rest = t - rounds * 2**13
        content += bytes([x, y, p << 7 | rest >> 16, rest >> 8 & 255, rest & 255])
    file.write_bytes(content)


def aedat2(file: Path, events: Rows) -> None:
    """AEDAT 2.0 of a DVS128."""
    words = b"".join(struct.pack(">II", x << 8 | y << 1 | p, t) for t, x, y, p in events)
    file.write_bytes(b"#!AER-DAT2.0\r\n# written by a test\r\n" + words)


def aedat3(file: Path, events: Rows) -> None:
    """AEDAT 3.1: packets of 16 events, and one of another kind behind them."""
    content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for start in range(0, len(events), 16):
        part = events[start : start + 16]
        content += struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, len(part), len(part), len(part))
        content += b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in part)
    file.write_bytes(content + struct.pack("<HHIIIIII", 0, 0, 8, 4, 0, 1, 1, 1) + bytes(8))


def aedat4(file: Path, events: Rows) -> None:
    """Flat buffers as iniVation's description has them: a header with the streams in XML, and one packet of events."""
    import flatbuffers

    xml = (
        '<dv version="2.0"><node name="outInfo" path="/"><node name="0" path="/0/">'
        '<attr key="compression" type="string">NONE</attr><attr key="typeIdentifier" type="string">EVTS</attr>'
        '<node name="info" path="/0/info/"><attr key="sizeX" type="int">34</attr>'
        '<attr key="sizeY" type="int">34</attr></node></node></node></dv>'
    )
    head = flatbuffers.Builder(0)
    text = head.CreateString(xml)
    head.StartObject(3)
    head.PrependInt32Slot(0, 0, 0)
    head.PrependInt64Slot(1, -1, 0)
    head.PrependUOffsetTRelativeSlot(2, text, 0)
    head.FinishSizePrefixed(head.EndObject(), b"IOHE")
    packet = flatbuffers.Builder(0)
    packet.StartVector(16, len(events), 8)
    for t, x, y, p in reversed(events):
        packet.Prep(8, 16)
        packet.Pad(3)
        packet.PrependBool(bool(p))
        packet.PrependInt16(y)
        packet.PrependInt16(x)
        packet.PrependInt64(t)
    vector = packet.EndVector()
    packet.StartObject(1)
    packet.PrependUOffsetTRelativeSlot(0, vector, 0)
    packet.FinishSizePrefixed(packet.EndObject(), b"EVTS")
    body = bytes(packet.Output())
    file.write_bytes(b"#!AER-DAT4.0\r\n" + bytes(head.Output()) + struct.pack("<ii", 0, len(body)) + body)


def columns(events: Rows) -> dict[str, np.ndarray]:
    """The arrays t, x, y, p in the types of a camera."""
    t, x, y, p = (np.array(values) for values in zip(*events))
    return {"t": t.astype(np.int64), "x": x.astype(np.uint16), "y": y.astype(np.uint16), "p": p.astype(np.uint8)}


def structured(file: Path, events: Rows) -> None:
    """One array with fields, .npy."""
    found = columns(events)
    array = np.zeros(len(events), [(key, values.dtype) for key, values in found.items()])
    for key, values in found.items():
        array[key] = values
    np.save(file, array)


def hdf5(file: Path, events: Rows) -> None:
    """Datasets events/t, x, y, p, as in DSEC."""
    with h5py.File(file, "w") as content:
        for key, values in columns(events).items():
            content.create_dataset(f"events/{key}", data=values, compression="gzip")


def spikes(file: Path, recordings: list[tuple[list[float], list[int]]], labels: list[int]) -> None:
    """A set as SHD is published: lists of times in seconds and of units, and a label each."""
    with h5py.File(file, "w") as content:
        times, units = (
            content.create_dataset(f"spikes/{key}", len(recordings), h5py.vlen_dtype(kind))
            for key, kind in (("times", np.float32), ("units", np.uint16))
        )
        for i, recording in enumerate(recordings):
            times[i], units[i] = recording
        content["labels"] = np.array(labels)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "a.bin": nmnist,
    "b.aedat": aedat2,
    "c.aedat": aedat3,
    "d.aedat4": aedat4,
    "e.npy": structured,
    "f.npz": lambda file, events: np.savez(file, **columns(events)),
    "g.h5": hdf5,
}
