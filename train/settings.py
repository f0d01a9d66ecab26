"""The settings of a training run, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from randhet.base.errors import RandhetError
from randhet.train.attacks.choice import check as check_surrogate
from randhet.train.objectives import OBJECTIVES
from randhet.train.precision import PRECISIONS
from randhet.train.scales import SCALES, Scales

POSITIVE = ("epochs", "batch", "lr", "sr_distance")
WEIGHTS = ("rat_beta", "sr_weight", "trades_weight", "rate_weight")
AT_LEAST_ZERO = ("momentum", "crop", "plain_epochs", "short_epochs", "validate", *WEIGHTS)
NAMES = {"objective": tuple(OBJECTIVES), "precision": PRECISIONS, "qat_scales": SCALES}
UNIT = ("share", "eps", "attack_step", "robust_eps", "warmup", "start", "rate_target", "ema")


@dataclass(frozen=True)
class TrainSettings:
    """eps, attack_step, robust_eps, sr_distance in pixel units of 0..1; crop: padding of the random crop, 0 for none.

    weight_decay None: what goes with the objective. start: the attack's random start in parts of eps. share: of a
    recording's values, how many at-events changes. redraw: the taus are drawn anew between example and training pass
    (black-box adversarial training). warmup: part of the run in which lr rises from 0, before its cosine decay.
    plain_epochs: the first ones, on clean images. short_epochs: the first ones, with half the time steps. validate: how
    many training images are held out to pick the best checkpoint by their accuracy under an RFGSM step of robust_eps.
    trades_weight: of the divergence in TRADES. train_surrogate: what replaces the surrogate gradient while examples are
    made, such as assg; empty for the network's own. rate_weight: of the penalty on the spike rate of each neuron layer
    above rate_target, 0 for none (`randhet.train.activity`). ema: decay of an average of the weights over the steps,
    which is measured and written (`randhet.train.average`), 0 for the weights themselves. qat_bits: train with weights
    rounded to so many bits, at scales of kind qat_scales; 0 for float weights. The defaults suit `digits`: 16/255 is
    one of its 17 grey levels.
    """

    data: str = "digits"
    objective: str = "at"
    epochs: int = 30
    batch: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float | None = None
    warmup: float = 0.0
    eps: float = 16 / 255
    attack_step: float = 16 / 255
    start: float = 0.1
    share: float = 0.01
    redraw: bool = True
    plain_epochs: int = 0
    short_epochs: int = 0
    rat_beta: float = 0.004
    sr_weight: float = 0.001
    sr_distance: float = 0.01
    trades_weight: float = 6.0
    train_surrogate: str = ""
    rate_weight: float = 0.0
    rate_target: float = 0.0
    ema: float = 0.0
    crop: int = 1
    flip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    validate: int = 0
    robust_eps: float = 8 / 255
    seed: int = 0
    qat_bits: int = 0
    qat_scales: Scales = "channel"

    def __post_init__(self) -> None:
        for name, known in NAMES.items():
            if getattr(self, name) not in known:
                raise RandhetError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        check_surrogate(self.train_surrogate)
        if self.qat_bits != 0 and not 2 <= self.qat_bits <= 8:
            raise RandhetError(f"qat_bits is {self.qat_bits}, the limits are 2 to 8, 0 for float weights")
        self._check_ranges()
        if self.ema == 1:
            raise RandhetError("ema is 1.0, which keeps the random start: give 0 to below 1, such as 0.999")
        if self.ema and self.qat_bits:
            raise RandhetError(
                f"ema is {self.ema} and qat_bits is {self.qat_bits}, rounded weights have no average: leave one out"
            )

    def _check_ranges(self) -> None:
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be above 0")
        for name in AT_LEAST_ZERO:
            if not 0 <= getattr(self, name) < inf:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be 0 or more, and finite")
        for name in UNIT:
            if not 0 <= getattr(self, name) <= 1:
                raise RandhetError(f"{name} {getattr(self, name)} must lie in 0..1")
        if self.rate_target and not self.rate_weight:
            raise RandhetError(f"rate_target is {self.rate_target} without a penalty: give a rate_weight above 0")

    @property
    def decay(self) -> float:
        """The weight decay in force."""
        return OBJECTIVES[self.objective].weight_decay if self.weight_decay is None else self.weight_decay

    def objective_at(self, epoch: int) -> str:
        """The objective of an epoch, counted from 0."""
        return "plain" if epoch < self.plain_epochs else self.objective
