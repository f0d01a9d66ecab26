"""Attacks on a deployed network over ranges of images, each attacked by itself: together those of one program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import randhet
from randhet.base.split import Split
from randhet.compare.robustness.deployed import (
    AttackSettings,
    Deployment,
    Integers,
    Standing,
    attack_deployed,
    has_draws,
)
from randhet.compare.robustness.evaluation import CHOICE
from randhet.fixed_point.backends import runner
from randhet.train.data.images import Images

BATCH = 100
"""Images that are attacked together, and the images of a piece."""


@dataclass(frozen=True, eq=False)
class Work:
    """What all pieces share. twin: the float model with this project's neurons; of an ensemble, that of the twins.

    threads: of a piece, None for all cores and torch as it is.
    """

    network: Integers
    twin: nn.Module
    images: Images
    settings: AttackSettings
    threads: int | None


def identity(source: str, file: Path, images: Images, settings: AttackSettings) -> dict[str, Any]:
    """What decides a kept result beside its attacks, eps and image numbers, which name it.

    source: of the float model (`Model.source`). file: of the integers.
    """
    return {
        "kind": "attacks on integers",
        "version": randhet.__version__,
        "choice": CHOICE,
        "model": source,
        "network": sha256(file.read_bytes()).hexdigest(),
        "images": sha256(images.pixels.tobytes() + images.labels.tobytes()).hexdigest(),
        **{name: getattr(settings, name) for name in ("draws", "redraws", "seed")},
    }


def attack_in_ranges(work: Work, split: Split, done: Callable[[int], None] = lambda count: None) -> Deployment:
    """Attack every range of `split.images` images, and put the results together.

    done is told how many ranges are done. The numbers depend on the size of the ranges and not on where they run.
    """
    ranges, settings = split.ranges(len(work.images)), work.settings
    name = lambda first, end: f"deployed {settings.attacks} eps={settings.eps!r} images={first}:{end}"
    found = split.run(piece, {name(*part): part for part in ranges}, work, done)
    return joined(work, [found[name(*part)] for part in ranges])


def piece(work: Work, first: int, end: int) -> dict[str, Any]:
    """Attack images first..end and return who gets them right, as JSON takes it."""
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    images = work.images.pick(np.arange(first, end))
    run = runner("engine", threads=work.threads)
    found = attack_deployed(work.network, work.twin, images, work.settings, run, first=first)
    return {
        "clean": {judge: _plain(standing) for judge, standing in found.clean.items()},
        "standings": [_plain(standing) for standing in found.standings],
    }


def _plain(standing: Standing) -> dict[str, Any]:
    return {**vars(standing), "right": standing.right.tolist()}


def joined(work: Work, parts: Sequence[Mapping[str, Any]]) -> Deployment:
    """Put the standings of consecutive ranges together."""
    clean = {judge: _whole([part["clean"][judge] for part in parts]) for judge in parts[0]["clean"]}
    standings = tuple(_whole(same) for same in zip(*(part["standings"] for part in parts)))
    return Deployment(work.settings, len(work.images), has_draws(work.network), clean, standings)


def _whole(parts: Sequence[Mapping[str, Any]]) -> Standing:
    return Standing(**{**parts[0], "right": np.concatenate([np.array(part["right"], np.float64) for part in parts])})
