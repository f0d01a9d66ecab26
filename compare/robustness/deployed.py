"""Robustness after deployment: attacks on the integer network itself, by attackers who know more or less about it.

Three attackers: one has the float model only; one has the integer network but not its seed, so that every question gets
fresh draws; one knows the seed and how many images went before, and replays the draws to come.

The integers have no gradient. An attacker who holds a copy runs it forward and takes the gradient of its float twin
with the same taus, at the integers' class scores (a backward pass approximation, Athalye et al. 2018):

    z = z_int(x),    dz/dx := dz_float/dx

Images reach the device as bytes, so examples are rounded to bytes inside the ball before they are classified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import floor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.compare.accuracy import is_random
from randhet.compare.equality.replay import samplers
from randhet.compare.equivalence import Difference, paired, share_interval
from randhet.fixed_point import ensemble as ensembles
from randhet.fixed_point.backends import Runner
from randhet.fixed_point.ensemble import NetworkEnsemble, member_seed
from randhet.fixed_point.generator import splitmix64
from randhet.fixed_point.network import Network
from randhet.train.attacks.battery import STEPS
from randhet.train.attacks.names import Attack, parse_list, run
from randhet.train.data.sources import Images
from randhet.train.ensemble import Ensemble
from randhet.train.neurons import replaying

Integers = Network | NetworkEnsemble
"""What is attacked: a network, or an ensemble of them."""

Told = Callable[[int], None]
Bytes = NDArray[np.uint8]
TOGETHER = ("fgsm", "rfgsm", "pgd", "mifgsm", "apgd", "apgd-dlr", "apgd-t", "sa-pgd", "sa-pgd-dlr", "sa-pgd-t")
"""Families that always ask about all images together, so that each keeps the position at which it will be run."""


@dataclass(frozen=True)
class AttackSettings:
    """attacks by name; eps: L-inf radius, 0..1; draws: repetitions for each example, and keys that the attacker knows.

    redraws: fresh draws behind each choice between candidates, for attackers who cannot replay.
    """

    attacks: str = "fgsm,pgd10x5,apgd10x5"
    eps: float = 8 / 255
    draws: int = 3
    redraws: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise RandhetError(f"eps is {self.eps}, it must lie in 0..1")
        for name in ("draws", "redraws"):
            if getattr(self, name) < 1:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for attack in self.named:
            if attack.family not in TOGETHER or attack.mean:
                raise RandhetError(
                    f"attack {attack.name!r} cannot be made on a deployed network, {', '.join(TOGETHER)} can"
                )

    @property
    def named(self) -> tuple[Attack, ...]:
        """The attacks, parsed; RandhetError for one that does not exist."""
        return parse_list(self.attacks)


BATTERY = f"sa-pgd{STEPS}+assg,sa-pgd-dlr{STEPS}+assg"
"""What snn-auto is on a deployed network."""


def possible(plan: Sequence[Attack]) -> str:
    """Return those of the attacks, by name, that can be made on a deployed network; RandhetError where none can."""
    names = [BATTERY if attack.family == "snn-auto" else attack.name for attack in plan if _possible(attack)]
    if not names:
        raise RandhetError(f"none of the attacks can be made on a deployed network, {', '.join(TOGETHER)} can")
    return ",".join(names)


def _possible(attack: Attack) -> bool:
    return attack.family == "snn-auto" or (attack.family in TOGETHER and not attack.mean)


# --- the network under attack ----------------------------------------------------------------------------------------


class Deployed(nn.Module):
    """The integer network as a module: points (N, C, Y, X) in 0..1 to class scores (N, classes) in float units.

    key: the (master seed, position of the first image) of every answer; None draws a seed for each from torch's global
    generator, as someone does who has a copy of the device but not its seed.
    """

    def __init__(self, network: Network, twin: nn.Module, run: Runner, key: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.network, self.twin, self.run, self.key = network, twin, run, key
        self.samplers: dict[tuple[int, int, int], Any] = {}

    def forward(self, points: Tensor) -> Tensor:
        seed, first = self.key or (int(torch.randint(2**62, ())), 0)
        integers = self.scores(as_bytes(points), seed, first)
        if not (torch.is_grad_enabled() and points.requires_grad):
            return integers
        with replaying(self.twin, self.taus(seed, first, len(points))):
            floats = self.twin(points)
        value: Tensor = floats + (integers - floats).detach()
        return value

    def scores(self, pixels: Bytes, seed: int, first: int) -> Tensor:
        """Class sums in float units: the logits that the integers stand for.

        The factor matters: a softmax of logits many times too large is flat, and its gradient points nowhere.
        """
        result = self.run(self.network, pixels, seed=seed, first_image=first, probes=())
        return torch.from_numpy(result.sums * self.network.logit_unit).float()

    def taus(self, seed: int, first: int, count: int) -> dict[str, Callable[[tuple[int, ...]], Tensor]]:
        """Samplers of these draws; those of a known key are computed once, since every answer uses them again."""
        by_layer = samplers(self.network, seed, first)
        if self.key is None:
            return by_layer
        return {name: self._kept(name, count, sampler) for name, sampler in by_layer.items()}

    def _kept(self, name: str, count: int, sampler: Callable[[tuple[int, ...]], Tensor]) -> Any:
        def sample(shape: tuple[int, ...]) -> Tensor:
            key: Any = (name, count, *shape)
            if key not in self.samplers:
                self.samplers[key] = sampler(shape)
            taus: Tensor = self.samplers[key]
            return taus

        return sample


def under_attack(integers: Integers, model: nn.Module, run: Runner, key: tuple[int, int] | None = None) -> nn.Module:
    """The integers as a module of images to scores; of an ensemble the members' scores, averaged or voting.

    model: the float twin, of an ensemble an `Ensemble` of the members' twins.
    """
    if isinstance(integers, Network):
        return Deployed(integers, model, run, key)
    assert isinstance(model, Ensemble)
    members = []
    for number, (member, twin) in enumerate(zip(integers.members, model.members, strict=True)):
        members.append(Deployed(member, twin, run, key and (member_seed(key[0], number), key[1])))
    return Ensemble(members, integers.combine)


def predicted(integers: Integers, pixels: Bytes, run: Runner, seed: int, first: int) -> NDArray[np.int64]:
    """Classes (images,) under a master seed, as images number first, first + 1, .. of it."""
    if isinstance(integers, NetworkEnsemble):
        return ensembles.run(integers, pixels, run, seed=seed, first_image=first).predictions
    return run(integers, pixels, seed=seed, first_image=first, probes=()).predictions


def has_draws(integers: Integers) -> bool:
    """Tell whether a network, or any member of an ensemble, draws its decay factors."""
    return is_random(integers) if isinstance(integers, Network) else any(map(is_random, integers.members))


def as_bytes(points: Tensor) -> Bytes:
    """Points in 0..1 to the nearest bytes."""
    rounded: Bytes = (points.detach() * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return rounded


def inside(points: Tensor, pixels: Bytes, eps: float) -> Bytes:
    """The nearest bytes within eps of the image: a radius of 8.5 levels allows 8."""
    reach = floor(eps * 255 + 1e-6)
    low, high = (np.clip(pixels.astype(np.int16) + by, 0, 255) for by in (-reach, reach))
    return np.clip(as_bytes(points).astype(np.int16), low, high).astype(np.uint8)


# --- what comes of it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Standing:
    """One set of examples, classified by one judge. right (images,): share of repetitions, 0..1, that were right."""

    attacker: str
    judge: str
    attack: str
    right: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Mean over images and draws, 0..1."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval on images like these, Agresti and Coull's (1998) for as many images."""
        return share_interval(self.accuracy, len(self.right))


@dataclass(frozen=True, eq=False)
class Deployment:
    """Robust accuracies by attacker and judge; clean: by judge. chance: whether the network is stochastic."""

    settings: AttackSettings
    images: int
    chance: bool
    clean: dict[str, Standing]
    standings: tuple[Standing, ...]

    def of(self, attacker: str, judge: str) -> list[Standing]:
        """Every attack of one attacker before one judge."""
        return [standing for standing in self.standings if (standing.attacker, standing.judge) == (attacker, judge)]

    def weakest(self, attacker: str, judge: str) -> Standing:
        """Return the standing with the minimum robust accuracy over attacks and both evaluations."""
        return min(self.of(attacker, judge), key=lambda standing: standing.accuracy)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(attacker, judge) in order."""
        return list(dict.fromkeys((standing.attacker, standing.judge) for standing in self.standings))

    @property
    def gaps(self) -> dict[str, Difference]:
        """Differences in MRA, paired by image, as far as both sides were judged."""
        differences = {}
        for name, (first, second) in GAPS.items():
            if first in self.pairs and second in self.pairs:
                differences[name] = paired(self.weakest(*first).right - self.weakest(*second).right, MARGIN)
        return differences


MARGIN = 0.01
FLOAT, FIXED = "float", "fixed point"
REPLAYED, OTHERS = "fixed point, replayed draws", "fixed point, other draws"
GAPS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "the same examples, float less fixed point": (("float model", FLOAT), ("float model", FIXED)),
    "on fixed point, transferred less adaptive": (("float model", FIXED), ("deployed network", FIXED)),
    "on fixed point, seed unknown less seed known": (("deployed network", FIXED), ("seed and position", REPLAYED)),
    "seed known, other draws less replayed draws": (("seed and position", OTHERS), ("seed and position", REPLAYED)),
}


@dataclass(frozen=True, eq=False)
class Judge:
    """Who classifies examples: the float model or the integers, in fresh draws or under a given key."""

    network: Integers
    model: nn.Module
    run: Runner
    images: Images
    settings: AttackSettings
    first: int = 0
    """The number of the first image."""

    @property
    def seeds(self) -> range:
        """Master seeds of the repetitions; one for a deterministic network."""
        return range(self.settings.seed, self.settings.seed + (self.settings.draws if has_draws(self.network) else 1))

    def fixed(self, pixels: Bytes, seed: int) -> NDArray[np.bool_]:
        """Which images the integers get right, as images number first, first + 1, .. of this seed."""
        return np.asarray(predicted(self.network, pixels, self.run, seed, self.first) == self.images.labels)

    @torch.no_grad()
    def floats(self, pixels: Bytes, seed: int) -> NDArray[np.bool_]:
        """Which images the float model gets right with torch's draws of this seed."""
        with self.seeded(seed):
            predictions = self.model(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
        return np.asarray(predictions == self.images.labels)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Let torch draw from this seed for these images; other images of the data set have other numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(splitmix64(splitmix64(seed) ^ self.first) if self.first else seed)
            yield

    def mean(self, classify: Callable[[Bytes, int], NDArray[np.bool_]], pixels: Bytes, but: int | None = None) -> Any:
        """How often each image is right, over the seeds; `but`: a seed to leave out, where others are left."""
        seeds = [seed for seed in self.seeds if seed != but] or [self.settings.seed + self.settings.draws]
        return np.mean([classify(pixels, seed) for seed in seeds], axis=0)


def attack_deployed(
    network: Integers,
    model: nn.Module,
    images: Images,
    settings: AttackSettings,
    run: Runner,
    done: Told = lambda count: None,
    first: int = 0,
) -> Deployment:
    """Run every attack of every attacker; done is called after each, `pieces(network, settings)` times in all.

    network: or an ensemble; model: its float twin, of an ensemble an `Ensemble` of the members' twins.
    first: number of the first image, where these are a range of a data set.
    """
    model.eval()
    judge = Judge(network, model, run, images, settings, first)
    clean = {
        FLOAT: Standing("none", FLOAT, "clean", judge.mean(judge.floats, images.pixels)),
        FIXED: Standing("none", FIXED, "clean", judge.mean(judge.fixed, images.pixels)),
    }
    standings: list[Standing] = []
    for attack in settings.named:
        standings += _transferred(judge, attack)
        done(1)
        standings += _adaptive(judge, attack)
        done(1)
        if has_draws(network):
            standings += _knowing(judge, attack, done)
    return Deployment(settings, len(images), has_draws(network), clean, tuple(standings))


def pieces(network: Integers, settings: AttackSettings) -> int:
    """How many attacks there are to be made."""
    return len(settings.named) * (2 + (settings.draws if has_draws(network) else 0))


def _examples(judge: Judge, target: nn.Module, attack: Attack, redraws: int) -> dict[str, Bytes]:
    """Examples of both evaluations as bytes; random numbers from the settings' seed and the attack's name."""
    points, labels = torch.from_numpy(judge.images.pixels).float() / 255, torch.from_numpy(judge.images.labels)
    with judge.seeded(2**32 + judge.settings.seed):
        crafted = run(attack, target, points, labels, judge.settings.eps, redraws)
    readings = {attack.name: crafted.stock, f"{attack.name}, noise-aware": crafted.aware}
    return {
        name: inside(examples, judge.images.pixels, judge.settings.eps)
        for name, examples in readings.items()
        if examples is not None
    }


def _transferred(judge: Judge, attack: Attack) -> Iterator[Standing]:
    for name, pixels in _examples(judge, judge.model, attack, judge.settings.redraws).items():
        yield Standing("float model", FLOAT, name, judge.mean(judge.floats, pixels))
        yield Standing("float model", FIXED, name, judge.mean(judge.fixed, pixels))


def _adaptive(judge: Judge, attack: Attack) -> Iterator[Standing]:
    target = under_attack(judge.network, judge.model, judge.run)
    for name, pixels in _examples(judge, target, attack, judge.settings.redraws).items():
        yield Standing("deployed network", FIXED, name, judge.mean(judge.fixed, pixels))


def _knowing(judge: Judge, attack: Attack, done: Told) -> Iterator[Standing]:
    """For each seed its own examples, classified under that seed and, for comparison, under the others."""
    very: dict[str, list[NDArray[np.bool_]]] = {}
    others: dict[str, list[NDArray[np.float64]]] = {}
    for seed in judge.seeds:
        target = under_attack(judge.network, judge.model, judge.run, (seed, judge.first))
        for name, pixels in _examples(judge, target, replace(attack, draws=1), 1).items():
            very.setdefault(name, []).append(judge.fixed(pixels, seed))
            others.setdefault(name, []).append(judge.mean(judge.fixed, pixels, but=seed))
        done(1)
    for name in very:
        yield Standing("seed and position", REPLAYED, name, np.mean(very[name], axis=0))
        yield Standing("seed and position", OTHERS, name, np.mean(others[name], axis=0))
