"""The settings of a training run as options of `randhet train`; train/models.py and train/settings.py define them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Choice:
    """A setting by name, the type it has on the command line, its help text, the default shown."""

    name: str
    kind: Any
    help: str
    default: str

    def parameter(self) -> inspect.Parameter:
        """As a keyword of the command; None where it is not given."""
        plain = self.name.replace("_", "-")
        names = f"--{plain}/--no-{plain}" if self.kind is bool else f"--{plain}"
        metavar = None if self.kind is bool else {int: "N", float: "X"}.get(self.kind, "TEXT")
        option = typer.Option(names, metavar=metavar, help=self.help, show_default=self.default)
        kind: Any = self.kind | None
        annotation = Annotated[kind, option]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


CHOICES = (
    Choice("data", str, "digits, cifar10, cifar100, svhn, mnist, or a folder.", "digits"),
    Choice("neuron", str, "randhet, randhet-forward, het or vanilla.", "randhet"),
    Choice("widths", str, "Channels of each stage.", "the model's"),
    Choice("blocks", str, "Blocks of each stage.", "the model's"),
    Choice("steps", int, "Time steps T.", "the model's"),
    Choice("stem_stride", int, "Stride of the first convolution.", "the model's"),
    Choice("sigma", float, "Spread of the taus.", "1.0"),
    Choice("sigmas", str, "Spread of the taus of each neuron layer.", "sigma for all"),
    Choice("train_sigma", str, "Train it within bounds: no, layer or global.", "no"),
    Choice("sigma_bounds", str, "Bounds of a trained sigma.", "0.5,1.5"),
    Choice("threshold", float, "Firing threshold.", "0.5"),
    Choice("connect", str, "How blocks end: add, and, iand.", "add"),
    Choice("random", str, "Which segment is random: all, first, second, third.", "all"),
    Choice("objective", str, "plain, at, rat or sr.", "at"),
    Choice("epochs", int, "Passes over the data.", "30"),
    Choice("batch", int, "Images per step, over all processes.", "32"),
    Choice("lr", float, "Highest learning rate.", "0.1"),
    Choice("warmup", float, "Part of the run in which the rate rises.", "0"),
    Choice("momentum", float, "Of the gradient.", "0.9"),
    Choice("nesterov", bool, "Nesterov's momentum.", "no"),
    Choice("weight_decay", float, "Of all parameters.", "by the objective"),
    Choice("eps", str, "Radius, pixels in 0..1 or such as 4/255.", "16/255"),
    Choice("attack_step", str, "Step size of the training attack.", "eps"),
    Choice("start", float, "Its random start in parts of eps.", "0.1"),
    Choice("redraw", bool, "New taus for the training pass.", "yes"),
    Choice("plain_epochs", int, "First epochs on clean images.", "0"),
    Choice("short_epochs", int, "First epochs with half the time steps.", "0"),
    Choice("rat_beta", float, "RAT: pull towards orthogonal rows.", "0.004"),
    Choice("sr_weight", float, "SR: weight of the penalty.", "0.001"),
    Choice("sr_distance", float, "SR: distance of the difference.", "0.01"),
    Choice("crop", int, "Random shifts in pixels.", "1"),
    Choice("flip", bool, "Random mirror images.", "no"),
    Choice("precision", str, "float32 or bfloat16 (mixed).", "float32"),
    Choice("validate", int, "Training images held out to pick the best.", "0"),
    Choice("robust_eps", str, "Radius of the attack that picks the best.", "8/255"),
    Choice("qat_bits", int, "Train for weights of N bits (quantisation-aware), 2 to 8.", "float weights"),
    Choice("qat_scales", str, "Their scales: channel, layer or power-of-two.", "channel"),
    Choice("seed", int, "Of everything random.", "0"),
)
