"""The comparison: float against fixed point in Monte-Carlo repetitions, and every backend against the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from randhet.base.errors import RandhetError
from randhet.base.split import Split
from randhet.compare.accuracy import (
    Agreement,
    Draws,
    accuracy_difference,
    agreement,
    elsewhere,
    fixed_draws,
    float_draws,
    is_random,
)
from randhet.compare.equality import layers
from randhet.compare.equality.layers import LayerFinding
from randhet.compare.equality.tables import wrong_tables
from randhet.compare.equality.tracing import Tracing, thresholds, trace
from randhet.compare.equivalence import Difference
from randhet.compare.split import Pair, Runs, Work, runs
from randhet.export.model import Model, as_model, check_pair
from randhet.export.passes import fold
from randhet.export.verify import verify
from randhet.fixed_point.backends import BACKENDS, require, runner
from randhet.fixed_point.check import check_images
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.sources import Images

Stage = Callable[[str, int], Callable[[int], None]]
"""Begin a piece of work of so many units; returns what to call with each number of units done."""
QUICK = ("engine", "onnx", "add-only")
"""Backends that may take the accuracy draws where they are also checked against the reference; the fastest first."""
AGREEMENT = 0.97
"""Same-tau predictions must agree at least this often, or as often as two float runs."""


@dataclass(frozen=True)
class StudySettings:
    """draws of the taus for each mean; seed: the first of as many consecutive ones; margin on accuracy, 0..1.

    backends: those to check against the reference, None for all that can run here. threads: None for one per core.
    split: where the runs are done; by default all of them in this program.
    """

    draws: int = 10
    seed: int = 0
    margin: float = 0.005
    backends: tuple[str, ...] | None = None
    threads: int | None = None
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise RandhetError(f"draws is {self.draws}, it must be at least 1")
        if not 0 <= self.seed <= 2**64 - self.draws:
            raise RandhetError(f"seed is {self.seed}, the limits are 0 to 2^64 - {self.draws} for {self.draws} draws")
        if not 0 < self.margin < 1:
            raise RandhetError(f"margin is {self.margin}, it must lie between 0 and 1")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything found. chance: whether taus are drawn; absent: backends that did not run, with the reason.

    difference: float minus fixed accuracy on these images; elsewhere: on images like these; runs: how often runs with
    independent draws agree. wrong_tables: tables of drawn decays that are not the model's, in words.
    """

    data: str
    images: int
    steps: int
    chance: bool
    seed: int
    floats: Draws
    fixed: Draws
    difference: Difference
    elsewhere: Difference
    runs: Agreement
    tracing: Tracing
    absent: dict[str, str]
    layers: tuple[LayerFinding, ...]
    wrong_tables: tuple[str, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of images that float and fixed predict alike under the same taus."""
        return self.tracing.same_tau / self.images

    @property
    def agreement_asked(self) -> float:
        """`AGREEMENT`; where two float runs agree less often than that, as often as they do.

        Of a network whose answers change that much by chance, arithmetic may change as many and no more.
        """
        return AGREEMENT if self.runs.floats is None else min(AGREEMENT, self.runs.floats)

    @property
    def failures(self) -> list[str]:
        """The checks that failed, in words; none of them: exit status 0."""
        checks = {
            f"{name} differs from the reference": not finding.identical
            for name, finding in self.tracing.backends.items()
        }
        asked = self.agreement_asked
        checks |= {
            "float and fixed accuracy differ by more than the margin": self.difference.finding == "different",
            f"under the same decay factors fewer than {100 * asked:.1f} % of predictions agree": self.agreement < asked,
            "states left 24 bits": self.tracing.saturations > 0,
        }
        return [*self.wrong_tables, *(sentence for sentence, failed in checks.items() if failed)]


def compare(
    model: Model | Checkpoint | nn.Module, network: Network, images: Images, settings: StudySettings, stage: Stage
) -> Comparison:
    """Run everything. RandhetError where model, network and images do not belong together."""
    names, absent = chosen(settings.backends, network)
    images = images.as_classes(network.classes, "the network")
    pair = paired(model, network, images)
    chance = is_random(network)
    seeds = range(settings.seed, settings.seed + (settings.draws if chance else 1))
    quick = next((name for name in QUICK if name in names), "reference")
    model, split = as_model(model, hint=network.steps), settings.split
    work = Work(model, network, images, settings.seed, quick, tuple(names), split.threads or 1)
    done = _here(work, pair, seeds, settings, stage) if split.here else runs(work, seeds, split, stage)
    floats, fixed, tracing = done
    return Comparison(
        data=images.name,
        images=len(images),
        steps=network.steps,
        chance=chance,
        seed=settings.seed,
        floats=floats,
        fixed=fixed,
        difference=accuracy_difference(floats, fixed, settings.margin, chance),
        elsewhere=elsewhere(floats, fixed, settings.margin),
        runs=agreement(floats, fixed),
        tracing=tracing,
        absent=absent,
        layers=layers.findings(network, tracing.counts, len(images), thresholds(pair.twin)),
        wrong_tables=tuple(wrong_tables(network, pair.graph)),
    )


def _here(work: Work, pair: Pair, seeds: range, settings: StudySettings, stage: Stage) -> Runs:
    """Do all runs in this program."""
    network, images = work.network, work.images
    runners = {name: runner(name, threads=settings.threads) for name in ("reference", *work.backends)}
    floats = float_draws(pair.module, images, seeds, stage("float model", len(seeds)))
    fixed = fixed_draws(network, images, seeds, runners[work.quick], stage(f"fixed point, {work.quick}", len(seeds)))
    done = stage("every spike and membrane", len(images) * (2 + len(work.backends)))
    checked = {name: runners[name] for name in work.backends}
    tracing = trace(network, pair.twin, images.pixels, settings.seed, checked, done, pair.graph, settings.split.images)
    return Runs(floats, fixed, tracing)


def chosen(asked: tuple[str, ...] | None, network: Network) -> tuple[list[str], dict[str, str]]:
    """Choose the backends to run, and say why others are left out. One that is named must be able to run."""
    if asked is not None:
        for name in asked:
            require(name)
        return [name for name in dict.fromkeys(asked) if name != "reference"], {}
    reasons = {name: backend.missing() or backend.refuses(network) for name, backend in BACKENDS.items()}
    absent = {name: reason for name, reason in reasons.items() if reason}
    return [name for name in BACKENDS if name != "reference" and name not in absent], absent


def paired(model: Model | Checkpoint | nn.Module, network: Network, images: Images) -> Pair:
    """Require that the network was exported from this model and that the images fit it.

    A module is traced and verified again: what is compared layer by layer is what the module computes.
    """
    check_images(network.input, network.steps, images.pixels)
    shape, model = network.image_shape, as_model(model, hint=network.steps)
    module, traced = model.make(shape), model.traced(shape)
    check_pair(model, network, traced)
    if model.graph is None and model.checkpoint is None:
        verify(module, traced, images.pixels)
    return Pair(module, model.twin(shape), fold(traced))
