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
    Choice("data", str, "Training data: a folder of images by class, or one of {data}.", "digits"),
    Choice("neuron", str, "Kind of neuron: {neurons}.", "randhet"),
    Choice("widths", str, "Number of channels of each stage.", "given by the model"),
    Choice("blocks", str, "Number of blocks of each stage.", "given by the model"),
    Choice("steps", int, "Number of time steps T.", "given by the model"),
    Choice("stem_stride", int, "Stride of the first convolution.", "given by the model"),
    Choice("sigma", float, "Spread sigma of the decay factors.", "1.0"),
    Choice("sigmas", str, "Spread of the decay factors of each neuron layer.", "sigma for all"),
    Choice("train_sigma", str, "Train sigma within its bounds: {trained}.", "no"),
    Choice("sigma_bounds", str, "Bounds of a trained sigma.", "0.5,1.5"),
    Choice("threshold", float, "Firing threshold.", "0.5"),
    Choice("reset", str, "What a spike does to the membrane potential: {resets}.", "zero"),
    Choice("connect", str, "Connect function of a block: {connections}.", "add"),
    Choice("random", str, "Segment whose neurons are stochastic: {segments}.", "all"),
    Choice("baseline", str, "Train a ResNet without spikes instead, as a baseline: {baselines}.", "none"),
    Choice("objective", str, "Training objective: {objectives}.", "at"),
    Choice("epochs", int, "Number of passes over the data.", "30"),
    Choice("batch", int, "Number of images per step, over all processes.", "32"),
    Choice("lr", float, "Highest learning rate.", "0.1"),
    Choice("warmup", float, "Share of the run in which the learning rate rises.", "0"),
    Choice("momentum", float, "Momentum of the gradient.", "0.9"),
    Choice("nesterov", bool, "Use Nesterov's momentum.", "no"),
    Choice("weight_decay", float, "Weight decay of all parameters.", "given by the objective"),
    Choice("eps", str, "L-infinity radius of the training attack, for pixels in 0..1, such as 4/255.", "16/255"),
    Choice("attack_step", str, "Step size of the training attack.", "eps"),
    Choice("start", float, "Radius of the random start of the training attack, as a share of eps.", "0.1"),
    Choice("share", float, "Share of a recording's values that an example changes, for at-events.", "0.01"),
    Choice("redraw", bool, "Draw new decay factors between the attack and the training pass.", "yes"),
    Choice("plain_epochs", int, "Number of first epochs on clean images.", "0"),
    Choice("short_epochs", int, "Number of first epochs with half the time steps.", "0"),
    Choice("rat_beta", float, "Strength of the pull towards orthogonal rows, for rat.", "0.004"),
    Choice("sr_weight", float, "Weight of the penalty, for sr.", "0.001"),
    Choice("sr_distance", float, "Distance of the finite difference, for sr.", "0.01"),
    Choice("trades_weight", float, "Weight of the divergence, for trades.", "6"),
    Choice("train_surrogate", str, "Surrogate while adversarial examples are made: {surrogates}.", "the network's own"),
    Choice("rate_weight", float, "Weight of a penalty on the spike rate of each layer above --rate-target.", "0"),
    Choice("rate_target", float, "Spike rate of a layer up to which it is not penalised, 0 to 1.", "0"),
    Choice("ema", float, "Decay of an average of the weights over the steps, which is written, such as 0.999.", "0"),
    Choice("crop", int, "Largest random shift in pixels.", "1"),
    Choice("flip", bool, "Mirror images at random.", "no"),
    Choice("precision", str, "Precision of convolutions: {precisions}.", "float32"),
    Choice("validate", int, "Number of training images held out to choose the best checkpoint.", "0"),
    Choice("robust_eps", str, "Radius of the attack that chooses the best checkpoint.", "8/255"),
    Choice("qat_bits", int, "Weight bits for quantisation-aware training, 2 to 8.", "float weights"),
    Choice("qat_scales", str, "Kind of weight scales for quantisation-aware training: {scales}.", "channel"),
    Choice("seed", int, "Seed of all randomness in training.", "0"),
)
