"""Write and read an ensemble: one `.net` file whose layers are those of member 0, with tables to switch to.

| in the file | holds |
| --- | --- |
| everything of a network | member 0; `version` is 3, which earlier releases refuse |
| `members/steps` | (M,): time steps of every member |
| `members/table/LAYER` | (M, 256): the table of every member, for each layer that draws its decays, by its number |
| `members/sigma/LAYER` | (M,): what each table was made from, for the record |
| `members/metadata` | bytes of a JSON list: the metadata of every member |
| attributes of `members` | `combine`; `digest`, SHA-256 of it and of all entries |

A table whose entries are all in range cannot be told from another one, so that the digest is what finds damage.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from randhet.base.files import replacing
from randhet.fixed_point.ensemble import MOST_MEMBERS, Combine, NetworkEnsemble
from randhet.fixed_point.generator import DRAW_VALUES
from randhet.fixed_point.layers import Drawn, Layer, Lif, with_dynamics
from randhet.fixed_point.network import Network
from randhet.netx.node import MAX_LAYERS, Node, group
from randhet.netx.read import VERSIONS, loaded, network_of, no_others
from randhet.netx.words import ENSEMBLE_VERSION, FORMAT_VERSION
from randhet.netx.write import fill, put

Tables = dict[int, tuple[NDArray[np.uint16], NDArray[np.float64]]]
"""By number of layer: tables (M, 256) and sigmas (M,)."""


def write(path: str | Path, ensemble: NetworkEnsemble) -> None:
    """Write the ensemble beside `path`, then rename. The same ensemble gives the same bytes."""
    tables, combine = _tables(ensemble.members), ensemble.combine
    steps = np.array([member.steps for member in ensemble.members], np.int64)
    metadata = json.dumps([dict(member.metadata) for member in ensemble.members], sort_keys=True).encode()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        fill(file, ensemble.first)
        file.attrs["version"] = ENSEMBLE_VERSION
        members = file.create_group("members")
        members.attrs["combine"] = combine
        members.attrs["digest"] = digest(combine, metadata, steps, tables)
        put(members, "steps", steps)
        put(members, "metadata", np.frombuffer(metadata, np.uint8))
        for number, (table, sigma) in tables.items():
            put(members, f"table/{number}", table)
            put(members, f"sigma/{number}", sigma)


def holds_ensemble(path: str | Path) -> bool:
    """Tell whether a file is an HDF5 file of this version; FileError where it is too damaged to tell."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    return loaded(path, lambda root: bool(root.attribute("version", object) == ENSEMBLE_VERSION))


def read(path: str | Path) -> NetworkEnsemble:
    """The ensemble in a file; FileError where it is missing, damaged, foreign, one network, or breaks a rule."""
    return loaded(path, ensemble_of)


def ensemble_of(root: Node) -> NetworkEnsemble:
    """The ensemble in a file of this project."""
    version = root.attribute("version", int, 0)
    if version != ENSEMBLE_VERSION:
        raise root.fail("version", f"is {version}, an ensemble has {ENSEMBLE_VERSION}")
    first, stored = network_of(root, VERSIONS[FORMAT_VERSION]), _stored(group(root, "members"))
    if set(stored.tables) != set(drawing(first.layers)):
        raise root.fail("members", f"has tables of layers {sorted(stored.tables)}, {drawing(first.layers)} draw")
    members = [_member(first, stored, number) for number in range(len(stored.steps))]
    if _told_apart(first, members[0]):
        raise root.fail("members", "says of member 0 something else than the layers of the file")
    return NetworkEnsemble(tuple(members), stored.combine)


class Stored(NamedTuple):
    """What the group of members holds."""

    combine: Combine
    metadata: list[dict[str, Any]]
    steps: NDArray[np.int64]
    tables: Tables


ENTRIES = {"steps", "metadata", "table", "sigma"}
"""What the group of members may hold: the digest covers nothing else."""


def _stored(node: Node) -> Stored:
    no_others(node, ENTRIES)
    steps = node.array("steps")
    count = len(steps)
    if not 1 <= count <= MOST_MEMBERS:
        raise node.fail("steps", f"is of {count} members, the limits are 1 to {MOST_MEMBERS}")
    numbers, described = _numbers(node, "table"), _numbers(node, "sigma")
    if described != numbers:
        raise node.fail("sigma", f"is of layers {described}, the tables are of layers {numbers}")
    tables = {number: _layer_tables(node, number, count) for number in numbers}
    combine, metadata = node.attribute("combine", str), node.array("metadata", "u").astype(np.uint8).tobytes()
    if node.attribute("digest", str) != digest(combine, metadata, steps.astype(np.int64), tables):
        raise node.fail("digest", "does not fit what the group holds: the file is damaged")
    return Stored(cast(Combine, combine), _texts(node, metadata, count), steps.astype(np.int64), tables)


def _texts(node: Node, metadata: bytes, count: int) -> list[dict[str, Any]]:
    """The metadata of every member."""
    try:
        texts = json.loads(metadata)
    except (ValueError, RecursionError):
        raise node.fail("metadata", "is not JSON") from None
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(entry, dict) for entry in texts):
        raise node.fail("metadata", f"must be {count} tables, one for each member")
    return texts


def _numbers(node: Node, kind: str) -> list[int]:
    """Numbers of the layers that have tables, or sigmas; none where nothing is drawn."""
    names = set(group(node, kind).group) if node.has(kind) else set()
    numbers = [number for number in range(MAX_LAYERS) if str(number) in names]
    if len(numbers) < len(names):
        raise node.fail(kind, "has an entry that is no number of a layer")
    return numbers


def _layer_tables(node: Node, number: int, count: int) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    table = node.array(f"table/{number}", axes=(2,))
    sigma = node.array(f"sigma/{number}", "f")
    if table.shape != (count, DRAW_VALUES) or sigma.shape != (count,):
        raise node.fail(f"table/{number}", f"is {table.shape} with sigma {sigma.shape}, the members are {count}")
    if table.min() < 0 or table.max() >= 2**16:
        raise node.fail(f"table/{number}", f"lies in {table.min()}..{table.max()}, the limits are 0 to 2^16 - 1")
    return table.astype(np.uint16), sigma.astype(np.float64)


def digest(combine: str, metadata: bytes, steps: NDArray[np.int64], tables: Tables) -> str:
    """SHA-256 of what the group holds, in an order and in bytes that no machine changes."""
    entries = sha256(json.dumps([combine, steps.tolist(), sorted(tables)]).encode())
    for _, (table, sigma) in sorted(tables.items()):
        entries.update(table.astype("<u2").tobytes() + sigma.astype("<f8").tobytes())
    entries.update(metadata)
    return entries.hexdigest()


# --- members --------------------------------------------------------------------------------------------------------


def drawing(layers: Sequence[Layer]) -> list[int]:
    """Numbers of the layers that draw their decays."""
    return [number for number, layer in enumerate(layers) if layer.drawn is not None]


def _tables(members: Sequence[Network]) -> Tables:
    return {number: _stacked(members, number) for number in drawing(members[0].layers)}


def _stacked(members: Sequence[Network], number: int) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    drawn = [cast(Drawn, member.layers[number].drawn) for member in members]
    return np.stack([each.table for each in drawn]).astype(np.uint16), np.array([each.sigma for each in drawn])


def _member(first: Network, stored: Stored, number: int) -> Network:
    """Member 0 with the tables, the steps and the metadata of another."""
    layers = list(first.layers)
    for place, (table, sigma) in stored.tables.items():
        layers[place] = switched(layers[place], table[number], float(sigma[number]))
    metadata = {str(key): str(value) for key, value in stored.metadata[number].items()}
    return replace(first, layers=tuple(layers), steps=int(stored.steps[number]), metadata=metadata)


def switched(layer: Layer, table: NDArray[np.uint16], sigma: float) -> Layer:
    """Return a layer that draws from another table, which was made from sigma."""
    lif, drawn = cast(Lif, layer.dynamics), cast(Drawn, layer.drawn)
    decay = replace(drawn, table=table, sigma=sigma)
    return replace(layer, neuron=with_dynamics(cast(Any, layer.neuron), replace(lif, decay=decay)))


def _told_apart(first: Network, again: Network) -> bool:
    """Whether two networks of the same layers differ in tables, sigmas, steps or metadata."""
    before, now = _tables([first]), _tables([again])
    same = all(np.array_equal(before[number][kind], now[number][kind]) for number in before for kind in (0, 1))
    return not (same and first.steps == again.steps and dict(first.metadata) == dict(again.metadata))
