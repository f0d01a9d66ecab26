"""Recordings in every format, written here byte by byte; frames counted by hand; hostile files in one sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randhet.train.data.event_files import events_of
from randhet.train.data.events import Binning, Events, binned
from randhet.train.data.images import DataError
from randhet.train.data.recordings import Source, like, parse, recordings
from randhet.train.data.sources import load

SIZE = (34, 34)
Rows = list[tuple[int, int, int, int]]
"""(t, x, y, p)."""


def some(count: int = 40, seed: int = 0, rows: int = 34, columns: int = 34, last: int = 5000) -> Rows:
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
    words = b"".join(struct.pack(">II", x << 8 | y << 1 | p, t) for t, x, y, p in events)
    file.write_bytes(b"#!AER-DAT2.0\r\n# written by a test\r\n" + words)


def aedat3(file: Path, events: Rows) -> None:
    content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for start in range(0, len(events), 16):
        part = events[start : start + 16]
        content += struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, len(part), len(part), len(part))
        content += b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in part)
    file.write_bytes(content + struct.pack("<HHIIIIII", 0, 0, 8, 4, 0, 1, 1, 1) + bytes(8))


def aedat4(file: Path, events: Rows) -> None:
    """Flat buffers as iniVation's description has them: a header with the streams in XML, and one packet of events."""
    flatbuffers = pytest.importorskip("flatbuffers")
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
    t, x, y, p = (np.array(values) for values in zip(*events))
    return {"t": t.astype(np.int64), "x": x.astype(np.uint16), "y": y.astype(np.uint16), "p": p.astype(np.uint8)}


def structured(file: Path, events: Rows) -> None:
    found = columns(events)
    array = np.zeros(len(events), [(key, values.dtype) for key, values in found.items()])
    for key, values in found.items():
        array[key] = values
    np.save(file, array)


def hdf5(file: Path, events: Rows) -> None:
    with h5py.File(file, "w") as content:
        for key, values in columns(events).items():
            content.create_dataset(f"events/{key}", data=values, compression="gzip")


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "a.bin": nmnist,
    "b.aedat": aedat2,
    "c.aedat": aedat3,
    "d.aedat4": aedat4,
    "e.npy": structured,
    "f.npz": lambda file, events: np.savez(file, **columns(events)),
    "g.h5": hdf5,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_events_that_were_written(tmp_path: Path, name: str) -> None:
    if name.endswith("aedat4"):
        pytest.importorskip("aedat")
    WRITERS[name](tmp_path / name, some())
    found = events_of(tmp_path / name, SIZE)
    assert list(zip(*(values.tolist() for values in found[:4]))) == some() and found.size == SIZE


def test_a_clock_that_went_round_goes_on(tmp_path: Path) -> None:
    events = [(5, 1, 2, 0), (2**23 - 1, 3, 4, 1), (2**23 + 5, 1, 1, 1), (2**23 + 3 * 2**13, 2, 2, 0)]
    nmnist(tmp_path / "a.bin", events)
    assert events_of(tmp_path / "a.bin", None).t.tolist() == [t for t, *_ in events]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 9), st.sampled_from(["time", "count"]), st.sampled_from([1, 2]))
def test_frames_are_what_counting_one_by_one_gives(seed: int, frames: int, by: Any, polarities: int) -> None:
    events = some(50, seed, 3, 4, last=90)
    right = np.zeros((frames, polarities, 3, 4), int)
    first, duration = events[0][0], events[-1][0] - events[0][0] + 1
    for i, (t, x, y, p) in enumerate(events):
        k = (t - first) * frames // duration if by == "time" else i * frames // len(events)
        right[k, p if polarities == 2 else 0, y, x] += 1
    arrays = columns(events)
    given_events = Events(arrays["t"], arrays["x"], arrays["y"], arrays["p"], (3, 4))
    assert binned(given_events, Binning(frames, by, polarities), "it").tolist() == right.tolist()


def test_times_beyond_64_bits_of_a_product_are_binned_exactly() -> None:
    t = np.array([0, 2**60, 2**61, 2**61 + 2**60], np.int64)
    one = np.zeros(4, np.int64)
    frames = binned(Events(t, one, one, one, (1, 1)), Binning(64), "it")
    whole = 2**61 + 2**60 + 1
    assert np.flatnonzero(frames[:, 0, 0, 0]).tolist() == [int(value) * 64 // whole for value in t]


def arrays(**changes: Any) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **columns(some()) | changes)


HOSTILE: list[tuple[str, Callable[[Path], None], str]] = [
    ("a.npz", arrays(t=np.arange(40)[::-1].copy()), "event 1 is earlier than the one before it"),
    ("a.npz", arrays(t=np.arange(40) - 3), r"time lies in -3\.\.36, the limits are 0 to"),
    ("a.npz", arrays(x=np.full(40, 34)), r"x lies in 34\.\.34, the limits are 0 to 33"),
    ("a.npz", arrays(p=np.full(40, 2)), r"polarity lies in 2\.\.2, the limits are 0 to 1"),
    ("a.npz", arrays(t=np.zeros(39, int)), "has 39 times, 40 x"),
    ("a.npz", arrays(t=np.full(40, np.nan)), "t is float64 of shape"),
    ("a.npz", arrays(t=np.full(40, 2**64 - 1, np.uint64)), "t reaches 18446744073709551615"),
    ("a.npz", lambda file: np.savez(file, t=np.array([object()], dtype=object)), "cannot be read|holds no t"),
    ("a.bin", lambda file: file.write_bytes(bytes(7)), "7 bytes are no whole number of events"),
    ("a.bin", lambda file: file.write_bytes(b""), "has no events"),
    ("a.aedat", lambda file: file.write_bytes(b"#" * 4000), "no line #!AER-DAT"),
    ("a.aedat", lambda file: file.write_bytes(b"#!AER-DAT1.0\n" + bytes(80)), "are AEDAT 1.0"),
    (
        "a.aedat",
        lambda file: file.write_bytes(
            b"#!AER-DAT3.1\n" + struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 2**32 - 1, 2**32 - 1, 0)
        ),
        "a packet of 4294967295 events of 8 bytes does not fit",
    ),
    ("a.aedat4", lambda file: file.write_bytes(b"#!AER-DAT4.0\r\n" + bytes(40)), "cannot be read|have no stream"),
    ("a.h5", lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "cannot be read"),
]


@pytest.mark.parametrize(("name", "write", "words"), HOSTILE, ids=[words[:30] for *_, words in HOSTILE])
@pytest.mark.timeout(30)
def test_a_hostile_file_gets_one_sentence(tmp_path: Path, name: str, write: Callable, words: str) -> None:
    if name.endswith("aedat4"):
        pytest.importorskip("aedat")
    write(tmp_path / name)
    with pytest.raises(DataError, match=words) as caught:
        binned(events_of(tmp_path / name, SIZE), Binning(), name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_dataset_that_claims_2_to_the_40_events_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key in "txyp":
            file.create_dataset(f"events/{key}", (2**40,), "i8", chunks=(2**20,))
    assert (tmp_path / "a.h5").stat().st_size < 2**20
    with pytest.raises(DataError, match="1099511627776 events, the limit is"):
        events_of(tmp_path / "a.h5", SIZE)


def test_more_than_255_events_on_one_value_are_refused() -> None:
    zero = np.zeros(300, np.int64)
    with pytest.raises(DataError, match="300 events fall on one value of a frame, the limit is 255"):
        binned(Events(zero, zero, zero, zero, (1, 1)), Binning(1), "it")


def folder(root: Path, names: tuple[str, ...] = ("Train", "Test")) -> None:
    for split in names:
        for label in (0, 1):
            (root / split / str(label)).mkdir(parents=True)
            for i in range(3):
                nmnist(root / split / str(label) / f"{i}.bin", some(40, 10 * label + i))


def test_a_folder_as_n_mnist_is_published(tmp_path: Path) -> None:
    folder(tmp_path)
    for split in ("train", "test"):
        images = load(f"{tmp_path},frames=5,by=count", split)  # type: ignore[arg-type]
        assert images.pixels.shape == (6, 5, 2, 34, 34) and images.pixels.sum() == 6 * 40
        assert images.classes == ("0", "1") and sorted(images.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert load(tmp_path, "test").pixels.shape == (6, 16, 2, 34, 34)


def test_frames_that_are_ready_are_taken_as_they_are(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 9, (6, 4, 2, 5, 5)).astype(np.uint8)
    for i, recording in enumerate(frames):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", recording)
    images = load(tmp_path, "train")
    assert images.pixels.shape == (4, 4, 2, 5, 5)
    assert all(any(np.array_equal(pixels, each) for each in frames) for pixels in images.pixels)
    np.save(tmp_path / "a" / "9.npy", frames[0].astype(np.float32))
    with pytest.raises(DataError, match=r"are float32 of shape \(4, 2, 5, 5\), they must be"):
        load(tmp_path, "train")


def test_a_set_of_spikes_as_shd_is_published(tmp_path: Path) -> None:
    kind = h5py.vlen_dtype(np.float32), h5py.vlen_dtype(np.uint16)
    for split in ("train", "test"):
        with h5py.File(tmp_path / f"shd_{split}.h5", "w") as file:
            times, units = (
                file.create_dataset(f"spikes/{key}", 3, each) for key, each in zip(("times", "units"), kind)
            )
            for i in range(3):
                times[i], units[i] = [0.0, 0.25, 0.5, 1.0], [i, 699, 3, 3]
            file["labels"] = np.array([0, 2, 1])
    images = load(f"{tmp_path},frames=4", "test")
    assert images.pixels.shape == (3, 4, 1, 1, 700) and images.labels.tolist() == [0, 2, 1]
    # 1.000001 s in four parts: 0 | 0.25 is the last of the first part's neighbours
    assert [np.argwhere(images.pixels[2, k, 0, 0]).ravel().tolist() for k in range(4)] == [[2, 699], [3], [], [3]]


def test_what_was_chosen_for_a_network_is_chosen_again(tmp_path: Path) -> None:
    folder(tmp_path)
    assert like(str(tmp_path), "other,frames=5,by=count") == f"{tmp_path},frames=5,by=count"
    assert like(f"{tmp_path},frames=7", "other,frames=5") == f"{tmp_path},frames=7"
    assert like("digits", "other,frames=5") == "digits"
    assert parse("x,frames=3,size=4x5,polarities=1") == Source(Path("x"), Binning(3, "time", 1), (4, 5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,bins=3", "recordings have no option 'bins', they have frames, by, polarities, size"),
        ("x,frames=many", "frames is 'many', it must be a number"),
        ("x,size=9", "size is '9', it must be ROWSxCOLUMNS"),
        ("x,frames=0", "frames are 0, the limits are 1 to"),
        ("x,by=luck", "events are binned by 'luck'"),
    ],
)
def test_options_that_there_are_not(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse(text)


def test_tonic_reads_the_same_events(tmp_path: Path) -> None:
    io = pytest.importorskip("tonic.io")
    transforms = pytest.importorskip("tonic.transforms")
    nmnist(tmp_path / "a.bin", some(300, last=90_000))
    theirs = io.read_mnist_file(tmp_path / "a.bin", dtype=io.events_struct)
    ours = events_of(tmp_path / "a.bin", None)
    for key, values in zip("txyp", (ours.t, ours.x, ours.y, ours.p)):
        assert theirs[key].astype(int).tolist() == values.tolist()
    frames = transforms.ToFrame(sensor_size=(34, 34, 2), n_event_bins=6)(theirs)
    assert frames.tolist() == binned(ours, Binning(6, "count"), "it").tolist()


def test_a_set_of_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tonic's own class on a small copy of the folder; only its count of files is left out."""
    datasets = pytest.importorskip("tonic.datasets")
    folder(tmp_path / "NMNIST")
    monkeypatch.setattr(datasets.NMNIST, "_check_exists", lambda self: True)
    theirs, ours = load(f"tonic:NMNIST:{tmp_path},frames=5", "test"), load(f"{tmp_path / 'NMNIST'},frames=5", "test")
    assert np.array_equal(theirs.pixels, ours.pixels) and np.array_equal(theirs.labels, ours.labels)
    assert len(theirs.classes) == 10
    with pytest.raises(DataError, match="tonic has no set of events 'Nothing'"):
        load("tonic:Nothing", "test")


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no class folders with recordings"):
        recordings(Source(tmp_path), "train")
