"""Files of ensembles: what is written is read, one network is not read from them, and damage is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest

import randhet
from hardware_tests.random_networks import numbered
from randhet.base.errors import FileError
from randhet.fixed_point.backends import runner
from randhet.fixed_point.ensemble import NetworkEnsemble, run
from randhet.fixed_point.generator import tau_table
from randhet.fixed_point.network import Network
from randhet.netx.ensemble import drawing, holds_ensemble, read, switched, write
from randhet.netx.write import write as write_network

DRAWING = [number for number in range(40) if drawing(numbered(number).network.layers)][:6]


def with_sigma(network: Network, sigma: float, steps: int | None = None, **metadata: str) -> Network:
    layers = list(network.layers)
    for number in drawing(layers):
        lif = layers[number].lif
        assert lif is not None
        layers[number] = switched(layers[number], tau_table(lif.k, sigma), sigma)
    own = {**network.metadata, **metadata}
    return replace(network, layers=tuple(layers), steps=steps or network.steps, metadata=own)


def ensemble_of(number: int = DRAWING[0], combine: Any = "vote") -> NetworkEnsemble:
    network = replace(numbered(number).network, metadata={"source": "x"})
    members = (with_sigma(network, 1.0), with_sigma(network, 0.25, note="second"), with_sigma(network, 3.0))
    return NetworkEnsemble(members, combine)


@pytest.mark.parametrize("number", DRAWING)
def test_an_ensemble_is_read_as_it_was_written(number: int, tmp_path: Path) -> None:
    ensemble, case = ensemble_of(number), numbered(number)
    write(tmp_path / "a.net", ensemble)
    write(tmp_path / "b.net", ensemble)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()
    again = read(tmp_path / "a.net")
    assert (again.combine, again.weights) == ("vote", ensemble.weights)
    for one, two in zip(ensemble.members, again.members, strict=True):
        assert (one.steps, one.metadata) == (two.steps, two.metadata)
        for place in drawing(one.layers):
            assert np.array_equal(cast(Any, one.layers[place].drawn).table, cast(Any, two.layers[place].drawn).table)
    found, wanted = (
        run(each, case.images, runner("reference"), seed=case.seed, first_image=case.first_image)
        for each in (again, ensemble)
    )
    assert np.array_equal(found.sums, wanted.sums) and np.array_equal(found.predictions, wanted.predictions)


def test_members_without_draws_differ_in_time_steps(tmp_path: Path) -> None:
    network = next(
        case.network for case in map(numbered, range(99))
        if not drawing(case.network.layers) and not case.network.input.sequence
    )  # fmt: skip
    write(tmp_path / "a.net", NetworkEnsemble((network, replace(network, steps=1)), "average"))
    again = read(tmp_path / "a.net")
    assert [member.steps for member in again.members] == [network.steps, 1] and again.combine == "average"


def test_one_network_is_not_read_from_an_ensemble_nor_an_ensemble_from_one_network(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write(path, ensemble_of())
    assert holds_ensemble(path)
    with pytest.raises(FileError, match="version is 3: the file holds an ensemble, and one network is needed here"):
        randhet.read(path)
    write_network(path, ensemble_of().first)
    assert not holds_ensemble(path) and not holds_ensemble(tmp_path / "none.net") and not holds_ensemble(__file__)
    with pytest.raises(FileError, match="version is 2, an ensemble has 3"):
        read(path)
    with pytest.raises(FileError, match="does not exist"):
        read(tmp_path / "none.net")


# --- damage -----------------------------------------------------------------------------------------------------------


def first(members: h5py.Group, kind: str) -> h5py.Dataset:
    return members[kind][min(members[kind])]


def one_bit(members: h5py.Group) -> None:
    """An entry in range, which no rule of tables forbids."""
    first(members, "table")[2, 17] ^= 1


def bad(change: Callable[[h5py.Group], None], tmp_path: Path) -> str:
    path = tmp_path / "a.net"
    write(path, ensemble_of())
    with h5py.File(path, "r+") as file:
        change(file["members"])
    with pytest.raises(FileError) as caught:
        read(path)
    return str(caught.value)


def retyped(name: str, value: Any) -> Callable[[h5py.Group], None]:
    def change(members: h5py.Group) -> None:
        del members[name]
        members.create_dataset(name, data=value)

    return change


DAMAGE: dict[str, tuple[Callable[[h5py.Group], None], str]] = {
    "one bit of one table": (one_bit, "/members/digest does not fit what the group holds: the file is damaged"),
    "a sigma": (lambda members: first(members, "sigma").__setitem__(1, 9.0), "digest does not fit"),
    "steps": (lambda members: members["steps"].__setitem__(1, 99), "digest does not fit"),
    "combine": (lambda members: members.attrs.__setitem__("combine", "average"), "digest does not fit"),
    "metadata": (retyped("metadata", np.frombuffer(b"[]", np.uint8)), "digest does not fit"),
    "a lost table": (
        lambda members: members["table"].pop(min(members["table"])),
        "sigma is of layers .*, the tables are of layers",
    ),
    "no steps": (lambda members: members.pop("steps"), "steps is missing"),
    "too many": (retyped("steps", np.ones(65, np.int64)), "is of 65 members, the limits are 1 to 64"),
    "no member": (retyped("steps", np.ones(0, np.int64)), "is of 0 members"),
    "a name": (lambda members: members["table"].move(min(members["table"]), "x"), "no number of a layer"),
    "one name more": (lambda members: members.create_dataset("delay", data=[1]), "members/delay is not known"),
    "one group more": (lambda members: members.create_group("later"), "members/later is not known"),
    "a sigma without a table": (
        lambda members: members["sigma"].create_dataset("77", data=[1.0, 1.0, 1.0]),
        r"members/sigma is of layers .*77.*, the tables are of layers",
    ),
    "a sigma without a number": (
        lambda members: members["sigma"].create_dataset("x", data=[1.0]),
        "members/sigma has an entry that is no number of a layer",
    ),
    "one number twice": (lambda members: members["table"].create_dataset("00", data=[1]), "no number of a layer"),
    "no digest": (lambda members: members.attrs.pop("digest"), "digest is NoneType, it must be str"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(name: str, tmp_path: Path) -> None:
    import re

    change, sentence = DAMAGE[name]
    assert re.search(sentence, bad(change, tmp_path))


def test_a_table_of_another_shape_and_one_out_of_range_are_refused(tmp_path: Path) -> None:
    def short(members: h5py.Group) -> None:
        retyped(f"table/{min(members['table'])}", np.zeros((2, 256), np.uint16))(members)

    def negative(members: h5py.Group) -> None:
        retyped(f"table/{min(members['table'])}", np.full((3, 256), -1, np.int32))(members)

    assert "is (2, 256) with sigma (3,), the members are 3" in bad(short, tmp_path)
    assert "lies in -1..-1, the limits are 0 to 2^16 - 1" in bad(negative, tmp_path)


def test_member_0_is_the_layers_of_the_file(tmp_path: Path) -> None:
    """A table of a layer that is changed alone leaves the digest as it was, and is found all the same."""
    path = tmp_path / "a.net"
    write(path, ensemble_of())
    with h5py.File(path, "r+") as file:
        number = min(file["members/table"])
        table = file[f"layer/{number}/neuron"]
        (table["dynamics/decay/table"] if "dynamics" in table else table["decay/table"])[3] ^= 1
    with pytest.raises(FileError, match="says of member 0 something else than the layers of the file"):
        read(path)


def test_metadata_larger_than_an_attribute_is_kept(tmp_path: Path) -> None:
    network = numbered(DRAWING[0]).network
    long = json.dumps("x" * 9000)
    write(tmp_path / "a.net", NetworkEnsemble(tuple(with_sigma(network, 1.0, note=long) for _ in range(9))))
    assert read(tmp_path / "a.net").members[8].metadata["note"] == long


def test_whether_a_damaged_file_is_an_ensemble_is_told_or_refused(tmp_path: Path) -> None:
    """Bytes in and around the attribute that says so: what is asked first of a file fails in one sentence too."""
    path, refused = tmp_path / "a.net", []
    write(path, ensemble_of())
    whole = path.read_bytes()
    start = whole.index(b"version")
    for place in range(start - 60, start + 30):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            holds_ensemble(path)
        except FileError as error:
            refused.append(str(error))
    assert 20 < len(refused) < 90 and all(path.name in sentence for sentence in refused)


def test_a_file_with_other_bytes_is_read_or_refused(tmp_path: Path) -> None:
    """One to four bytes of 80 copies are set at random, in half of them in what the members add."""
    path, rng, refused = tmp_path / "a.net", np.random.default_rng(0), 0
    write(path, ensemble_of())
    whole = path.read_bytes()
    start = whole.index(b"combine")
    for number in range(80):
        damaged = bytearray(whole)
        low = start if number % 2 else 0
        for place in rng.integers(low, len(whole), rng.integers(1, 5)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            holds_ensemble(path)
            read(path)
        except FileError:
            refused += 1
    assert 10 < refused < 80
