"""Recordings in every format, written here byte by byte; frames counted by hand; hostile files in one sentence."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from damage import cheaply
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.recordings import WRITERS, columns, nmnist, some, spikes
from randhet.base import hdf5
from randhet.train.data import aedat4, apart
from randhet.train.data.event_files import events_of
from randhet.train.data.events import Binning, Events, binned
from randhet.train.data.images import DataError
from randhet.train.data.recordings import Source, frames_of, like, parse, recordings
from randhet.train.data.sources import load

SIZE = (34, 34)


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
    ("a.npz", lambda file: np.savez(file, t=np.array([object()], dtype=object)), "t.npy is object of shape"),
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
    ("a.h5", lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is not an undamaged HDF5 file"),
]


DVS = b"#!AER-DAT2.0\r\n"
HOSTILE += [
    ("a.aedat", lambda file: file.write_bytes(DVS + bytes(11)), "11 bytes are no whole number of events of 8 bytes"),
    (
        "a.aedat",
        lambda file: file.write_bytes(DVS + struct.pack(">II", 2**31, 5)),
        "addresses reach 2147483648, those of a DVS128 end at 32767",
    ),
    (
        "a.aedat",
        lambda file: file.write_bytes(
            b"#!AER-DAT3.1\n" + struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 1, 1, 1) + struct.pack("<Ii", 1, -5)
        ),
        r"time lies in -5\.\.-5, the limits are 0 to",
    ),
    ("a.npy", lambda file: np.savez(file.open("wb"), **columns(some())), "cannot be read"),
    ("a.npz", lambda file: np.save(file.open("wb"), np.zeros(3)), "cannot be read: File is not a zip file"),
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
    with pytest.raises(DataError, match="events/. says 8796093022208 bytes and holds 0"):
        events_of(tmp_path / "a.h5", SIZE)


def header(kind: str, shape: tuple[int, ...]) -> bytes:
    """How an array of NumPy begins."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("kind", "shape", "content", "words"),
    [
        ("<i8", (2**40,), b"", "says 8796093022208 bytes, it holds at most"),
        ("<i8", (2**26,), b"", "says 536870912 bytes, it holds at most"),
        ("|V1000000000", (3,), b"", "says 3000000000 bytes, it holds"),
        ("|O", (3,), b"", "is object of shape"),
        ("<i8", (-1,), b"", r"of shape \(-1,\), which is not read"),
        ("<i8", (2**20,), bytes(2**23), "x.npy unpacks to 8388608 bytes, the limit is 2097152: use np.savez"),
    ],
)
def test_an_archive_that_unpacks_to_more_than_it_is_worth(
    kind: str, shape: tuple[int, ...], content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "MAX_BYTES", 10 * 2**20)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key in "txyp":
            archive.writestr(f"{key}.npy", header(kind, shape) + content)
    assert (tmp_path / "a.npz").stat().st_size < 2**18
    with cheaply(), pytest.raises(DataError, match=words):
        events_of(tmp_path / "a.npz", SIZE)
    (tmp_path / "frames.npy").write_bytes(header(kind, shape) + content[:9])
    with cheaply(), pytest.raises(DataError) as caught:
        frames_of(Source(tmp_path, size=SIZE), tmp_path / "frames.npy")
    assert len(str(caught.value).splitlines()) == 1


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


def test_classes_are_in_the_order_of_their_numbers_and_those_of_training(tmp_path: Path) -> None:
    """As DVS128 Gesture cut into 0..10, whose test part lacks a class here."""
    for split, labels in (("train", (0, 2, 10)), ("test", (10, 0))):
        for label in labels:
            (tmp_path / split / str(label)).mkdir(parents=True)
            np.savez(tmp_path / split / str(label) / "user01.npz", **columns(some(10 + label)))
    source = f"{tmp_path},frames=2,size=34x34"
    assert load(source, "train").classes == load(source, "test").classes == ("0", "2", "10")
    test = load(source, "test")
    assert sorted(zip(test.labels.tolist(), test.pixels.sum((1, 2, 3, 4)).tolist())) == [(0, 10), (2, 20)]
    (tmp_path / "test" / "7").mkdir()
    with pytest.raises(DataError, match="has the class '7', the training data has none of this name"):
        load(source, "test")


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
    for split in ("train", "test"):
        recordings = [([0.0, 0.25, 0.5, 1.0], [i, 699, 3, 3]) for i in range(3)]
        spikes(tmp_path / f"shd_{split}.h5", recordings, [0, 2, 1])
    images = load(f"{tmp_path},frames=4", "test")
    assert images.pixels.shape == (3, 4, 1, 1, 700) and images.labels.tolist() == [0, 2, 1]
    # 1.000001 s in four parts: 0 | 0.25 is the last of the first part's neighbours
    assert [np.argwhere(images.pixels[2, k, 0, 0]).ravel().tolist() for k in range(4)] == [[2, 699], [3], [], [3]]


SPIKES = [([0.0, 0.5], [0, 3]), ([0.25], [1])]


def no_labels(content: h5py.File) -> None:
    del content["labels"]


def labels(values: object) -> Callable[[h5py.File], None]:
    def change(content: h5py.File) -> None:
        del content["labels"]
        content["labels"] = values

    return change


def many_labels(content: h5py.File) -> None:
    del content["labels"]
    content.create_dataset("labels", (2**40,), "i8", chunks=(2**10,))


def many_recordings(content: h5py.File) -> None:
    many_labels(content)
    for key in ("times", "units"):
        kind = content[f"spikes/{key}"].dtype
        del content[f"spikes/{key}"]
        content.create_dataset(f"spikes/{key}", (2**40,), kind, chunks=(2**10,))


def recording(times: list[float], units: list[int]) -> Callable[[h5py.File], None]:
    def change(content: h5py.File) -> None:
        content["spikes/times"][1], content["spikes/units"][1] = times, units

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_labels, "has no dataset labels of one axis"),
        (labels(np.array([0, -1])), r"labels lie in -1\.\.0, the limits are 0 to 65535"),
        (labels(np.array([0, 2**16])), r"labels lie in 0\.\.65536"),
        (labels(np.array([0.5, 1])), "labels are float64, they must be integers"),
        (labels(np.array([0])), "2 recordings have times, 2 units, 1 labels"),
        (many_labels, "2 recordings have times, 2 units, 1099511627776 labels"),
        (many_recordings, "frames of 12315, the limit is|values, the limit is 4294967296"),
        (recording([-1.0], [0]), r"test.h5, 1: time lies in -1000000\.\.-1000000"),
        (recording([np.nan], [0]), "test.h5, 1: times are not finite seconds"),
        (recording([0.5], [700]), r"test.h5, 1: x lies in 700\.\.700, the limits are 0 to 699"),
        (recording([0.5], [1, 2]), "test.h5, 1 has 1 times, 2 x"),
        (recording([], []), "test.h5, 1 has no events"),
    ],
)
@pytest.mark.timeout(60)
def test_a_hostile_set_of_spikes_gets_one_sentence(
    change: Callable[[h5py.File], None], words: str, tmp_path: Path
) -> None:
    spikes(tmp_path / "test.h5", SPIKES, [0, 1])
    with h5py.File(tmp_path / "test.h5", "r+") as content:
        change(content)
    with cheaply(), pytest.raises(DataError, match=words) as caught:
        load(tmp_path, "test")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.timeout(60)
def test_lists_of_spikes_that_end_hdf5_end_no_more_than_their_own_program(tmp_path: Path) -> None:
    """Each entry of a list says its length, the address of a heap and a place there: all are changed in turn."""
    spikes(tmp_path / "test.h5", SPIKES, [0, 1])
    whole = (tmp_path / "test.h5").read_bytes()
    with h5py.File(tmp_path / "test.h5") as content:
        begin = content["spikes/times"].id.get_offset()
    changes = (struct.pack("<I", 2**32 - 1), struct.pack("<IQ", 2, 2**40), struct.pack("<IQI", 2, 0, 9))
    for change in changes:
        (tmp_path / "test.h5").write_bytes(whole[:begin] + change + whole[begin + len(change) :])
        with cheaply(), pytest.raises(DataError) as caught:
            load(tmp_path, "test")
        assert len(str(caught.value).splitlines()) == 1


def test_packets_that_unpack_without_end_are_not_all_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aedat")
    WRITERS["d.aedat4"](tmp_path / "a.aedat4", some())
    monkeypatch.setattr(aedat4, "MAX_EVENTS", 39)
    with pytest.raises(DataError, match="more than 39 events, which is the limit"):
        aedat4.arrays(tmp_path / "a.aedat4")


def test_a_decoder_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spikes(tmp_path / "test.h5", SPIKES, [0, 1])
    monkeypatch.setattr(apart, "PATIENCE", 0.01)
    with pytest.raises(DataError, match=r"spikes .*test.h5 are not decoded after 0.01 seconds"):
        load(tmp_path, "test")


def test_what_was_chosen_for_a_network_is_chosen_again(tmp_path: Path) -> None:
    folder(tmp_path)
    assert like(str(tmp_path), "other,frames=5,by=count") == f"{tmp_path},frames=5,by=count"
    assert like(f"{tmp_path},frames=7", "other,frames=5") == f"{tmp_path},frames=7"
    assert like("digits", "other,frames=5") == "digits"
    assert like("tonic:NMNIST:a", "other,frames=5") == "tonic:NMNIST:a,frames=5"
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


def test_gestures_as_tonic_keeps_them(tmp_path: Path) -> None:
    """A folder per user and light, a file per gesture: whole numbers x, y, p and milliseconds."""
    pytest.importorskip("tonic.datasets")
    events = np.array(some(20, last=300, rows=128, columns=128))
    for part, users in (("Train", 10), ("Test", 11)):
        (tmp_path / "DVSGesture").mkdir(exist_ok=True)
        (tmp_path / "DVSGesture" / f"ibmGesture{part}.tar.gz").touch()
        for user in range(users):
            place = tmp_path / "DVSGesture" / f"ibmGesture{part}" / f"user{user:02d}_fluorescent"
            place.mkdir(parents=True)
            for label in range(11):
                np.save(place / f"{label}.npy", events[: 10 + label, [1, 2, 3, 0]])
    train, test = (load(f"tonic:DVSGesture:{tmp_path},frames=3", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (110, 121) and train.frame == (2, 128, 128)
    assert train.classes[0] == "Hand clapping" and len(train.classes) == 11
    assert np.array_equal(train.pixels.sum((1, 2, 3, 4)), 10 + train.labels)
    broken = tmp_path / "DVSGesture" / "ibmGestureTest" / "user00_fluorescent" / "0.npy"
    broken.write_bytes(broken.read_bytes()[:90])
    with pytest.raises(DataError, match=r"data DVSGesture: recording \d+ cannot be read") as caught:
        load(f"tonic:DVSGesture:{tmp_path},frames=3", "test")
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no class folders with recordings"):
        recordings(Source(tmp_path), "train")
