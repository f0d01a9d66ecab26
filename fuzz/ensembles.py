"""Small files of ensembles, and changes to what they hold of the members, with the digest made to fit again."""

from __future__ import annotations

from typing import Any, get_args

import h5py
import numpy as np

from fuzz import changes
from fuzz.changes import Integer
from fuzz.files import Files, written
from randhet.fixed_point.ensemble import Combine, NetworkEnsemble
from randhet.fixed_point.generator import tau_table
from randhet.fixed_point.network import Conv, Drawn, Input, Layer, Lif, Network
from randhet.netx import ensemble


def member(sigma: float, steps: int) -> Network:
    """One layer that draws; few entries, so that the file is short."""
    draws = Drawn(tau_table(8, sigma), sigma=sigma, neurons_per_core=5)
    neuron = Lif(np.full(1, 9, np.int32), np.full(1, -3, np.int32), draws)
    layers = Layer("input", Input((1, 2, 2))), Layer("a", Conv(np.full((1, 1, 1, 1), 3, np.int8)), (0,), neuron)
    return Network(layers, steps=steps, metadata={"source": "abc"})


def seeds() -> Files:
    """Two members, by average and by vote."""
    both = [NetworkEnsemble((member(1.0, 2), member(0.5, 3)), combine) for combine in get_args(Combine)]
    return [written(lambda path, made=made: ensemble.write(path, made), "a.net") for made in both]  # type: ignore[misc]


def new_metadata(members: h5py.Group, name: str, choose: Integer) -> None:
    """The JSON of the metadata with an entry changed."""
    text = changes.text_altered(bytes(members["metadata"][()]).decode(), choose)
    del members["metadata"]
    members["metadata"] = np.frombuffer(text.encode(), np.uint8)


MEMBERS = (*changes.FIELDS, new_metadata, new_metadata)


def change_members(content: bytes, choose: Integer) -> bytes:
    """One or two entries of the members, whose digest then fits: whoever changes a file can do that too."""
    with changes.in_memory(content) as file:
        members = file["members"]
        changes.change_entries(members, MEMBERS, 2, choose)
        if choose(0, 7):
            members.attrs["digest"] = digest(members)
        file.flush()
        return bytes(file.id.get_file_image())


def digest(members: h5py.Group) -> str:
    """What fits the entries, of the types that a reader makes of them; empty where it would refuse them."""
    try:
        tables = {
            int(number): (values(members[f"table/{number}"], np.uint16), values(members[f"sigma/{number}"], np.float64))
            for number in members.get("table", {})
        }
        metadata, steps = values(members["metadata"], np.uint8).tobytes(), values(members["steps"], np.int64)
        return ensemble.digest(members.attrs["combine"], metadata, steps, tables)
    except changes.IMPOSSIBLE:
        return ""


def values(entry: h5py.Dataset, kind: Any) -> Any:
    """An entry as this type; ValueError where it is too large to be unpacked here."""
    if entry.size > changes.LARGEST:
        raise ValueError("too large")
    return entry[()].astype(kind)
