"""Ensembles of integer networks that share every weight: one network that is run several times with other tables.

A member differs from the others in its tables of drawn decays, and in how many time steps it runs. Each is a `Network`,
so that every backend computes it as any other; this module runs them one after another and joins their class sums:

    S[i, c] = sum over members m of sums_m[i, c] * L / T_m        L the least common multiple of the numbers of steps

which is the mean of the members' logits, times a positive number. Of a read-out that is no sum over the steps L / T_m
is 1. `average` takes the class of the largest S; `vote` the class that most members choose, of those with equally many
votes the one of the largest S. In both the lowest class is taken where S is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import lcm
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import NetworkError
from randhet.fixed_point.backends import Runner
from randhet.fixed_point.generator import splitmix64
from randhet.fixed_point.layers import Shape, read_of
from randhet.fixed_point.network import Network
from randhet.fixed_point.reference import master_seed
from randhet.fixed_point.result import Int, Result

Combine = Literal["average", "vote"]
COMBINE: tuple[str, ...] = get_args(Combine)
MOST_MEMBERS = 64
SUM_LIMIT = 2**62
"""|S| stays below it, so that it fits 64 bits."""
MEMBERS = 2**32
"""Numbers of members begin here where seeds are mixed: no layer has such a number."""


@dataclass(frozen=True, eq=False)
class NetworkEnsemble:
    """Networks that differ only in tables of drawn decays, in time steps and in metadata; how their sums are joined.

    NetworkError: no member or more than 64, an unknown way to combine, members that differ in anything else, or class
    sums that could leave 64 bits.
    """

    members: tuple[Network, ...]
    combine: Combine = "average"

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MOST_MEMBERS:
            raise NetworkError(f"an ensemble has {len(self.members)} members, the limits are 1 to {MOST_MEMBERS}")
        if self.combine not in COMBINE:
            raise NetworkError(f"combine is {self.combine!r}, it must be one of {', '.join(COMBINE)}")
        for number, member in enumerate(self.members):
            if difference := next(_differences(self.members[0], member), None):
                raise NetworkError(f"member {number} differs from member 0 in {difference}: members share all of it")
        if sum(self.weights) * 2**31 >= SUM_LIMIT:
            raise NetworkError(f"the numbers of time steps have the common multiple {self.common}, which is too large")

    @property
    def first(self) -> Network:
        """Member 0, which says what all have in common."""
        return self.members[0]

    @property
    def common(self) -> int:
        """The least common multiple of the members' numbers of time steps."""
        return lcm(*(member.steps for member in self.members))

    @property
    def weights(self) -> tuple[int, ...]:
        """What each member's class sums are multiplied by."""
        if read_of(self.first.layers[-1].neuron) != "sum":
            return (1,) * len(self.members)
        return tuple(self.common // member.steps for member in self.members)

    @property
    def image_shape(self) -> Shape:
        """Shape of one image or recording."""
        return self.first.image_shape


def _differences(first: Network, other: Network) -> Iterator[str]:
    """What two networks differ in, apart from tables, time steps and metadata, in words."""
    for name in ("seed", "classes", "generator"):
        if getattr(first, name) != getattr(other, name):
            yield name
    if first.input.sequence and first.steps != other.steps:
        yield f"steps, {first.steps} and {other.steps}, which the frames of a recording are"
    if len(first.layers) != len(other.layers):
        yield "the number of layers"
    for one, two in zip(first.layers, other.layers):
        yield from (f"layer {one.name}, {path}" for path in _unequal(one, two, "layer"))


def _unequal(one: Any, two: Any, path: str) -> Iterator[str]:
    """Paths of the fields in which two components differ; sigma and table of drawn decays may."""
    if type(one) is not type(two):
        yield path
    elif is_dataclass(one):
        free = {"table", "sigma"} if path == "decay" else set()
        for entry in fields(one):
            if entry.name not in free:
                yield from _unequal(getattr(one, entry.name), getattr(two, entry.name), entry.name)
    elif not np.array_equal(one, two):
        yield path


# --- running --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class EnsembleResult:
    """predictions (images,); sums S and votes (images, classes); results of the members, in order."""

    predictions: Int
    sums: Int
    votes: Int
    members: tuple[Result, ...]

    @property
    def saturations(self) -> int:
        """How often a state left 24 bits, in all members."""
        return sum(result.saturations for result in self.members)

    @property
    def spikes(self) -> dict[str, int]:
        """Spikes by layer, of all members together."""
        return _total(result.spikes for result in self.members)

    @property
    def operations(self) -> dict[str, int] | None:
        """Counts of operations of all members together, where the backend counts them."""
        counts = [result.operations for result in self.members]
        return _total(count for count in counts if count) if all(counts) else None


def _total(counts: Any) -> dict[str, int]:
    whole: dict[str, int] = {}
    for count in counts:
        whole |= {name: whole.get(name, 0) + number for name, number in count.items()}
    return whole


def member_seed(master: int, member: int) -> int:
    """Return a member's master seed, mix(mix(master) ^ (2^32 + member)): every member has registers of its own."""
    return splitmix64(splitmix64(master) ^ (MEMBERS + member))


def run(
    ensemble: NetworkEnsemble,
    images: np.ndarray,
    run_network: Runner,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> EnsembleResult:
    """Run images (N, C, Y, X) uint8 through every member on one backend, and join what they answer.

    run_network: of `fixed_point.backends.runner`, or the reference's `run`. seed: master seed, else the file's, else 64
    bits of the system's entropy. The rest is as for a network; progress is called with images times members in all.
    """
    master = master_seed(ensemble.first, seed)
    results = [
        run_network(
            member,
            images,
            seed=member_seed(master, number),
            first_image=first_image,
            probes=probes,
            progress=progress,
            **options,
        )
        for number, member in enumerate(ensemble.members)
    ]
    return joined(ensemble, results)


def joined(ensemble: NetworkEnsemble, results: Sequence[Result]) -> EnsembleResult:
    """Join the answers of the members, in order, to those of the ensemble."""
    sums = sum(weight * result.sums.astype(np.int64) for weight, result in zip(ensemble.weights, results))
    assert isinstance(sums, np.ndarray)
    classes = np.arange(sums.shape[1])
    votes = sum((result.predictions[:, None] == classes).astype(np.int64) for result in results)
    assert isinstance(votes, np.ndarray)
    return EnsembleResult(decided(sums, votes, ensemble.combine), sums, votes, tuple(results))


def decided(sums: NDArray[np.int64], votes: NDArray[np.int64], combine: Combine) -> NDArray[np.int64]:
    """Return the class (images,) of the largest sum, of the vote among those with the most votes."""
    if combine == "average":
        return sums.argmax(1)
    least = np.iinfo(np.int64).min
    return np.where(votes == votes.max(1, keepdims=True, initial=0), sums, least).argmax(1)
