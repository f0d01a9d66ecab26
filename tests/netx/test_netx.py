"""The file: what is written comes back, the same network gives the same bytes, and whatever is wrong is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import networks

from randhet.base.errors import FileError, NetworkError
from randhet.fixed_point.diagnosis.difference import differences
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Decay,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    Read,
    ReadOut,
    Reset,
    Sampling,
    Spiking,
    Spread,
    SumPool,
)
from randhet.netx import stock, words
from randhet.netx.write import read, write


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def sample() -> Network:
    conv = Conv(np.arange(-4, 5, dtype=np.int8).reshape(1, 1, 3, 3), (2, 1), (1, 0), (1, 1), 1)
    return Network(
        (
            Layer("input", Input((1, 6, 6))),
            Layer("node", conv, (0,), Lif(ints(9, 1), ints(-3, 1), Drawn(neurons_per_core=5)), np.array([0.25])),
            Layer("pool", SumPool((3, 2), (3, 2)), (1,)),
            Layer("flat", Flatten(), (2,)),
            Layer("read", Dense(np.ones((2, 2), np.int8)), (3,), ReadOut(ints(1, 2)), np.array([0.5])),
        ),
        steps=3,
        seed=2**64 - 1,
        classes=("no", "yes ✓"),
        metadata={"source": "abc", "note": "déjà"},
    )


def replace_dataset(key: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[key]
        file[key] = value

    return change


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks(wide=True))
def test_any_network_round_trips(tmp_path: Path, network: Network) -> None:
    write(tmp_path / "a.net", network)
    assert list(differences(read(tmp_path / "a.net"), network)) == []


NEURONS: list[Neuron] = [
    Lif(ints(9, 2), ints(-3, 2), Drawn(sampling="forward", sigma=1.5), k=8, f=3),
    Lif(ints(9, 2), np.arange(8, dtype=np.int32).reshape(2, 2, 2), Drawn()),
    Lif(ints(9, 2), ints(0, 2), Constant(3), k=2, f=0),
    Lif(ints(9, 2), ints(0, 2), PerNeuron(np.arange(8, dtype=np.uint16).reshape(2, 2, 2)), k=12),
    Lif(ints(9, 2), ints(0, 2), Constant(3), reset="subtract"),
    Cuba(ints(640, 2), ints(64, 2), current_decay=4095, voltage_decay=17),
    Cuba(ints(641, 2), np.arange(8, dtype=np.int32).reshape(2, 2, 2), current_decay=-1, voltage_decay=4096, f=3),
    Lif(ints(9, 2), ints(0, 2), Constant(3), reset="subtract", reset_delay=1, floor=ints(-9, 2)),
    Lif(ints(9, 2), ints(0, 2), reset_delay=1, floor=np.array(-4, np.int32)),
    ReadOut(ints(-(2**30), 2)),
    Leaky(Lif(ints(2**23 - 1, 2), ints(5, 2), Drawn(), f=3), "max"),
    Leaky(Cuba(ints(2**23 - 1, 2), np.arange(8, dtype=np.int32).reshape(2, 2, 2), 7, 17), "sum"),
]


def single(neuron: Neuron) -> Network:
    conv = Layer("c", Conv(np.ones((2, 1, 1, 1), np.int8)), (0,), neuron)
    return Network((Layer("input", Input((1, 2, 2), bits=5)), conv), 1)


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: type(neuron).__name__)
def test_each_neuron_round_trips(tmp_path: Path, neuron: Neuron) -> None:
    network = single(neuron)
    write(tmp_path / "a.net", network)
    assert list(differences(read(tmp_path / "a.net"), network)) == []


def test_every_kind_has_a_word_and_is_tried_here() -> None:
    assert set(words.OPERATIONS.values()) == set(get_args(Operation))
    assert set(words.NEURONS.values()) == set(get_args(Neuron)) == {type(neuron) for neuron in NEURONS}
    lifs = [neuron for neuron in NEURONS if isinstance(neuron, Lif)]
    assert set(words.DECAYS.values()) == set(get_args(Decay)) == {type(neuron.decay) for neuron in lifs}
    assert all(words.NEURONS[words.neuron_word(neuron)] is type(neuron) for neuron in NEURONS)
    assert all(words.DECAYS[words.decay_word(neuron.decay)] is type(neuron.decay) for neuron in lifs)
    assert {neuron.reset for neuron in lifs} == set(get_args(Reset)) and set(stock.EXTRAS) == set(get_args(Neuron))
    leaky = [neuron for neuron in NEURONS if isinstance(neuron, Leaky)]
    assert {type(neuron.dynamics) for neuron in leaky} == set(get_args(Spiking))


def test_fields_that_came_later_have_their_defaults_in_older_files(tmp_path: Path) -> None:
    network = single(NEURONS[4])
    write(tmp_path / "a.net", network)
    with h5py.File(tmp_path / "a.net", "r+") as file:
        del file["layer/1/neuron/floor"], file["layer/1/neuron/reset_delay"], file["layer/0/sequence"]
    assert list(differences(read(tmp_path / "a.net"), network)) == []


OPERATIONS: list[tuple[Input, tuple[int, ...], Operation]] = [
    (Input((2, 4, 3), bits=1, sequence=True), (0,), MaxPool((2, 3), (1, 2), (1, 1))),
    (Input((2, 4, 3), bits=1), (0, 0), And()),
    (Input((2, 4, 3), bits=1), (0, 0), Iand()),
    (Input((2, 4, 3), bits=5, signed=True), (0, 0, 0), Concat()),
    (Input((2, 4, 3), bits=16), (0,), Spread((2, 3), (1, 0))),
]


@pytest.mark.parametrize(("first", "reads", "operation"), OPERATIONS, ids=lambda it: type(it).__name__)
def test_operations_without_weights_round_trip(
    tmp_path: Path, first: Input, reads: tuple[int, ...], operation: Operation
) -> None:
    network = Network((Layer("input", first), Layer("it", operation, reads)), 3)
    write(tmp_path / "a.net", network)
    assert list(differences(read(tmp_path / "a.net"), network)) == []


def test_recurrent_weights_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    dense = Dense(*(rng.integers(-9, 10, shape).astype(np.int8) for shape in ((3, 4), (3, 3))))
    network = Network((Layer("input", Input((4,))), Layer("it", dense, (0,), Lif(ints(9, 3), ints(0, 3)))), 3)
    write(tmp_path / "a.net", network)
    assert list(differences(read(tmp_path / "a.net"), network)) == []


def test_the_fields_of_a_neuron_lie_under_their_own_names(tmp_path: Path) -> None:
    write(tmp_path / "a.net", single(NEURONS[0]))
    with h5py.File(tmp_path / "a.net") as file:
        neuron = file["layer/1/neuron"]
        assert file.attrs["version"] == 2 and file["layer/1/bias"][()].tolist() == [-3, -3]
        assert sorted(neuron) == ["decay", "f", "floor", "k", "reset", "reset_delay", "threshold", "type"]
        assert neuron["reset"][0] == b"zero"
        assert sorted(neuron["decay"]) == ["kind", "neurons_per_core", "sampling", "sigma", "table"]
        assert neuron["decay/kind"][0] == b"drawn" and neuron["decay/sigma"][()] == 1.5


def test_the_page_names_every_word() -> None:
    page = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text("utf-8")
    neurons = {f"neuron/{entry.word}" for kind in get_args(Neuron) for entry in words.entries(kind)}
    operations = {field.name for kind in get_args(Operation) for field in fields(kind)}
    decays = {f"neuron/decay/{entry.word}" for kind in get_args(Decay) for entry in words.entries(kind)}
    extras = {f"neuron/{key}" for keys in stock.EXTRAS.values() for key in keys}
    kinds = {*words.OPERATIONS, *words.NEURONS, *words.DECAYS, *get_args(Reset), *get_args(Sampling), *get_args(Read)}
    wanted = (
        neurons - {"neuron/bias", "neuron/decay"} | operations | decays | extras | kinds | {"bias", "neuron/decay/kind"}
    )
    assert [word for word in sorted(wanted) if f"`{word}`" not in page] == []
    assert f"`version` ({words.FORMAT_VERSION})" in page


CUBA_DAMAGE: list[tuple[str, object, str]] = [
    ("layer/1/neuron/vThMant", 11, "vThMant is 11, the neuron's other fields give 10"),
    ("layer/1/neuron/refDelay", 2, "refDelay is 2, the neuron's other fields give 1"),
    ("layer/1/neuron/gradedSpike", True, "gradedSpike is 1, the neuron's other fields give 0"),
    ("layer/1/neuron/bias_exp", 5, "bias_exp is 5, it must be 0 or 6"),
    ("layer/1/neuron/iDecay", 4097, "current decay is 4096, the limits are -1 to 4095"),
    ("layer/1/bias", np.full(2, 2**58), r"bias lies in 0..288230376151711744, the limits are -2\^31"),
]


@pytest.mark.parametrize(("key", "value", "words"), CUBA_DAMAGE, ids=[words for *_, words in CUBA_DAMAGE])
def test_what_stock_netx_reads_must_fit_the_neuron(tmp_path: Path, key: str, value: object, words: str) -> None:
    write(tmp_path / "a.net", single(Cuba(ints(640, 2), ints(64, 2))))
    with h5py.File(tmp_path / "a.net", "r+") as file:
        assert file["layer/1/bias"][()].tolist() == [1, 1] and file["layer/1/neuron/iDecay"][()] == 4096
        replace_dataset(key, value)(file)
    with pytest.raises(FileError, match=words):
        read(tmp_path / "a.net")


def test_everything_around_the_layers_round_trips_and_bytes_repeat(tmp_path: Path) -> None:
    write(tmp_path / "a.net", sample())
    write(tmp_path / "b.net", read(tmp_path / "a.net"))
    assert list(differences(read(tmp_path / "a.net"), sample())) == []
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.net", "b.net"]


def test_the_seed_is_written_only_where_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.net", replace(sample(), seed=None))
    assert read(tmp_path / "a.net").seed is None
    with h5py.File(tmp_path / "a.net") as file:
        assert "seed" not in file.attrs


def test_layers_lie_where_netx_keeps_them(tmp_path: Path) -> None:
    write(tmp_path / "a.net", sample())
    with h5py.File(tmp_path / "a.net") as file:
        conv = file["layer/1"]
        assert conv["type"][0] == b"conv" and conv["weight"].shape == (1, 1, 3, 3)
        assert conv["stride"][()].tolist() == [2, 1] and conv["padding"][()].tolist() == [1, 0]
        assert conv["shape"][()].tolist() == [1, 3, 4] and conv["neuron/type"][0] == b"RHLIF"


def test_a_broken_network_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="steps is 0"):
        write(tmp_path / "a.net", replace(sample(), steps=0))
    assert not list(tmp_path.iterdir())


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read(tmp_path / "nothing.net")
    (tmp_path / "text.net").write_text("hello")
    with pytest.raises(FileError, match="not an undamaged HDF5"):
        read(tmp_path / "text.net")
    with h5py.File(tmp_path / "other.net", "w") as file:
        file["x"] = 1
    with pytest.raises(FileError, match="not a randhet network"):
        read(tmp_path / "other.net")


def test_truncation_anywhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.net", sample())
    whole = (tmp_path / "a.net").read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / "cut.net").write_bytes(whole[:size])
        with pytest.raises(FileError):
            read(tmp_path / "cut.net")


def added(key: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__(key, value)


def huge(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (2**20, 2**10, 3, 3), "i1", chunks=True)


def external(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file["layer/1/weight"] = h5py.ExternalLink("other.h5", "/x")


def outside(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (1, 1, 3, 3), "i1", external=[("data.raw", 0, 9)])


def missing_layer(file: h5py.File) -> None:
    file.move("layer/2", "layer/7")


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


DAMAGE: list[tuple[Callable[[h5py.File], None], str]] = [
    (replace_dataset("layer/1/type", np.array([b"attention"])), "layer/1/type is 'attention', known are"),
    (replace_dataset("layer/1/neuron/type", np.array([b"RF"])), "layer/1/neuron/type is 'RF', known are"),
    (replace_dataset("layer/1/weight", np.full((1, 1, 3, 3), 128, np.int16)), r"largest \|weight\| is 128"),
    (replace_dataset("layer/1/weight", np.ones((1, 1, 3, 3))), "layer/1/weight is float64"),
    (replace_dataset("layer/1/shape", np.array([1, 3, 5])), r"layer/1/shape says \(1, 3, 5\)"),
    (replace_dataset("layer/1/inputs", np.array([3])), "reads layer 3"),
    (replace_dataset("layer/1/inputs", np.array([-1])), "reads layer -1"),
    (replace_dataset("layer/1/scale", np.array([np.nan])), "scale contains NaN"),
    (replace_dataset("layer/1/neuron/decay/table", np.zeros(12, np.uint16)), "table is uint16"),
    (replace_dataset("layer/1/neuron/decay/sampling", np.array([b"never"])), "sampling is 'never'"),
    (
        replace_dataset("layer/1/neuron/decay/table", np.full(256, 256, np.uint16)),
        r"table lies in 256..256, the limits",
    ),
    (
        replace_dataset("layer/1/neuron/decay/kind", np.array([b"learned"])),
        "decay/kind is 'learned', known are constant",
    ),
    (replace_dataset("layer/1/neuron/decay/sigma", np.nan), "decay/sigma contains NaN"),
    (replace_dataset("layer/1/neuron/decay", 3), "neuron/decay is missing or not a group"),
    (replace_dataset("layer/1/neuron/reset", np.array([b"one"])), "reset is 'one', it must be 'zero' or 'subtract'"),
    (replace_dataset("layer/1/neuron/k", 13), "k is 13, the limits are 1 to 12"),
    (replace_dataset("layer/1/neuron/threshold", np.array([0])), "threshold lies in 0..0, the limits are 1 to"),
    (replace_dataset("layer/1/bias", np.array([2**31])), r"bias lies in 0..2147483648, the limits"),
    (added("layer/1/delay", np.array([1])), "layer/1/delay is not known here, known are"),
    (added("layer/2/weight", np.array([1])), "layer/2/weight is not known here, known are"),
    (added("layer/1/neuron/refractory", 1), "neuron/refractory is not known here, known are"),
    (added("layer/1/neuron/decay/mantissa", 1), "decay/mantissa is not known here, known are kind"),
    (added("layer/4/neuron/bias_exp", 6), "neuron/bias_exp is not known here, known are type"),
    (replace_dataset("layer/1/stride", np.array([1, 2, 3])), "stride has 3 entries"),
    (replace_dataset("layer/1/name", 7), "name is int64"),
    (lambda file: file.__delitem__("layer/1/bias"), "layer/1/bias is missing"),
    (lambda file: file.__delitem__("layer"), "must hold 1 to"),
    (huge, "bytes and holds 0"),
    (external, "is a link"),
    (outside, "in another file"),
    (missing_layer, "layer/2 is missing"),
    (attribute("version", 3), "version is 3: the file holds an ensemble, and one network is needed here"),
    (attribute("version", 4), "version is 4, newer than 3, the newest this release reads"),
    (attribute("version", 0), "version is 0, the first was 1"),
    (attribute("steps", "many"), "steps is str"),
    (attribute("classes", "{"), "classes is not JSON"),
    (attribute("metadata", "[]"), "metadata is not a dict"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
def test_damage_is_named(tmp_path: Path, damage: Callable[[h5py.File], None], words: str) -> None:
    write(tmp_path / "a.net", sample())
    with h5py.File(tmp_path / "a.net", "r+") as file:
        damage(file)
    with pytest.raises(FileError, match=words):
        read(tmp_path / "a.net")


def test_add_layers_round_trip(tmp_path: Path) -> None:
    conv = Conv(np.ones((1, 1, 1, 1), np.int8))
    lif = Lif(ints(3, 1), ints(0, 1))
    layers = (Layer("input", Input((1, 2, 2))), Layer("a", conv, (0,), lif), Layer("b", conv, (1,), lif))
    network = Network((*layers, Layer("sum", Add(), (1, 2, 2))), 2)
    write(tmp_path / "a.net", network)
    assert list(differences(read(tmp_path / "a.net"), network)) == []
