"""The bare state dicts that the paper's released training script writes, read as SEW-ResNets of this project.

Names are those of `train.models` but for the neurons, whose entries are threshold, sigma (random neurons only), w and
act_fun.alpha. Widths, block counts, channels and classes are read from the shapes. A random neuron's w takes no part in
tau = sigmoid(sigma*n). Without sigma, a w per neuron is Het-SNN's logit of tau, and one w per layer is that of a
parametric LIF, m += (x - m)*sigmoid(w), so tau = 1 - sigmoid(w): one half for the vanilla neuron, whose w is 0. Source:
Wang et al., iScience 2025, the files themselves, and for one w per layer BrainCog's PLIFNode, on which they build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import exp
from typing import Any, Literal

import torch
from torch import Tensor

from randhet.base.errors import FileError, RandhetError
from randhet.train.models import CONNECT, ModelSettings, NeuronKind, SEWResNet, one_of

NODE = re.compile(r"(.*(?:node\d|downsample_sn))\.(threshold|sigma|w|act_fun\.alpha)")
RANDOM: dict[str, NeuronKind] = {"step": "randhet", "forward": "randhet-forward"}
MAX_WIDTH, MAX_BLOCKS = 2**14, 100
"""Of a stage; far above any network of this kind, so that what a file claims is bounded before a model is described."""
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
"""What the released script normalises CIFAR-10 with."""
WRAPPERS = ("state_dict", "model", "net")
"""Entries under which scripts save the state dict beside other things."""
PREFIX = "module."
"""What torch's DataParallel puts before every name."""
NORMALISERS = ("normalize", "normalise")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Published:
    """What such a file cannot say, with the paper's defaults: T, when taus are drawn, normalisation, connection."""

    steps: int = 8
    sampling: Literal["step", "forward"] = "step"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    image_size: tuple[int, int] = (32, 32)
    data: str = "cifar10"
    connect: Literal["add", "and", "iand"] = "add"

    def __post_init__(self) -> None:
        one_of("sampling", self.sampling, RANDOM)
        one_of("connect function", self.connect, CONNECT)
        if self.steps < 1:
            raise RandhetError(f"time steps are {self.steps}, there must be at least 1")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise RandhetError(
                "the normalisation needs as many means as deviations, one per channel, deviations above 0"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def of(fields: Mapping[str, Any]) -> Published:
        """The inverse of `as_dict`; lists become tuples."""
        values: dict[str, Any] = {
            name: tuple(field_value) if isinstance(field_value, list) else field_value
            for name, field_value in fields.items()
        }
        return Published(**values)

    def sentence(self) -> str:
        """What is assumed of a file that cannot say it."""
        mean, std = (" ".join(f"{number:g}" for number in numbers) for numbers in (self.mean, self.std))
        return (
            f"a published state dict does not say T, read as {self.steps}; sampling, as {self.sampling}; the "
            f"normalisation, as mean {mean} and std {std}; the connection, as {self.connect.upper()}"
        )


def unwrapped(content: Any) -> Any:
    """The state dict inside what a script saved: out of a wrapper, without the prefix of DataParallel."""
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict) and "format" not in content:
            content = content[name]
    if (
        isinstance(content, dict)
        and content
        and all(isinstance(entry, str) and entry.startswith(PREFIX) for entry in content)
    ):
        content = {name.removeprefix(PREFIX): value for name, value in content.items()}
    return content


def is_published(content: Any) -> bool:
    """Whether it is a bare state dict with the released script's neurons."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
        and {"conv1.weight", "node1.threshold", "fc1.weight"} <= set(content)
    )


def normalised(content: Mapping[str, Tensor], chosen: Published | None) -> tuple[dict[str, Tensor], Published]:
    """The entries of the network alone, and the options, with mean and std from buffers of the file where it has any.

    FileError where the file's buffers and the options asked for contradict each other.
    """
    layer = next((name for name in NORMALISERS if f"{name}.mean" in content and f"{name}.std" in content), None)
    if layer is None:
        return dict(content), chosen or Published()
    values = (content[f"{layer}.{name}"].flatten().tolist() for name in ("mean", "std"))
    mean, std = (tuple(round(number, 7) for number in numbers) for numbers in values)
    rest = {name: value for name, value in content.items() if name not in (f"{layer}.mean", f"{layer}.std")}
    if chosen is not None and (chosen.mean, chosen.std) not in ((MEAN, STD), (mean, std)):
        raise FileError(f"its {layer} buffers hold mean {mean} and std {std}: leave out --mean and --std")
    return rest, replace(chosen or Published(), mean=mean, std=std)


def converted(content: Mapping[str, Tensor], chosen: Published) -> tuple[ModelSettings, dict[str, Tensor]]:
    """Settings and weights by this project's names; FileError with the first entry that does not fit."""
    nodes: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for name, value in content.items():
        if match := NODE.fullmatch(name):
            nodes.setdefault(match[1], {})[match[2]] = value
        else:
            weights[name] = value
    try:
        settings = _settings(weights, nodes, chosen)
    except (KeyError, IndexError, ValueError) as error:
        raise FileError(f"state dict has no usable entry {error}") from None
    with torch.device("meta"):  # shapes only: nothing of the size that the file claims is allocated
        model = SEWResNet(settings, chosen.mean, chosen.std)
    weights = {name: torch.tensor(0) for name in model.state_dict() if name.endswith(COUNTER)} | weights
    if settings.neuron == "het":
        weights |= {f"{name}.w": node["w"].reshape(node["w"].shape[-3:]) for name, node in nodes.items()}
    _compare(weights, model.state_dict())
    return settings, weights


def _settings(
    weights: Mapping[str, Tensor], nodes: Mapping[str, Mapping[str, Tensor]], chosen: Published
) -> ModelSettings:
    stages = sorted({int(match[1]) for name in weights if (match := re.match(r"layer(\d+)\.", name))})
    blocks = [{int(m[1]) for name in weights if (m := re.match(rf"layer{stage}\.(\d+)\.", name))} for stage in stages]
    if weights["conv1.weight"].dim() != 4:
        raise FileError(f"conv1.weight has shape {tuple(weights['conv1.weight'].shape)}, not four axes")
    channels = weights["conv1.weight"].shape[1]
    if channels != len(chosen.mean):
        raise FileError(f"the stem takes {channels} channels, the normalisation has {len(chosen.mean)}")
    widths = tuple(len(weights[f"layer{stage}.0.conv1.weight"]) for stage in stages)
    for what, numbers, limit in (("width", widths, MAX_WIDTH), ("block count", map(len, blocks), MAX_BLOCKS)):
        if (largest := max(numbers, default=0)) > limit:
            raise FileError(f"a stage has {what} {largest}, at most {limit} is read")
    plain = ModelSettings(
        in_channels=channels,
        classes=len(weights["fc1.weight"]),
        image_size=chosen.image_size,
        widths=widths,
        blocks=tuple(len(stage_blocks) for stage_blocks in blocks),
        steps=chosen.steps,
        neuron=_kind(nodes, chosen),
        connect=chosen.connect,
    )
    order = neuron_order(plain)
    if strange := set(nodes) ^ set(order):
        raise FileError(f"state dict and network differ in the neurons {sorted(strange)[0]}")
    sigmas = [abs(_scalar(nodes, name, "sigma")) for name in order] if "randhet" in plain.neuron else []
    thresholds = [_scalar(nodes, name, "threshold") for name in order]
    alphas = [_scalar(nodes, name, "act_fun.alpha") for name in order]
    decays = [_decay(nodes, name) for name in order] if plain.neuron == "vanilla" else []
    learned = tuple(decays) if any(decay != 0.5 for decay in decays) else ()
    return replace(plain, sigmas=tuple(sigmas), thresholds=tuple(thresholds), alphas=tuple(alphas), decays=learned)


def _decay(nodes: Mapping[str, Mapping[str, Tensor]], name: str) -> float:
    """tau = 1 - sigmoid(w) of a parametric LIF; one half where the file has no w."""
    return 1 / (1 + exp(_scalar(nodes, name, "w"))) if "w" in nodes[name] else 0.5


def _kind(nodes: Mapping[str, Mapping[str, Tensor]], chosen: Published) -> NeuronKind:
    first = nodes["node1"]
    if "sigma" in first:
        return RANDOM[chosen.sampling]
    return "het" if "w" in first and first["w"].numel() > 1 else "vanilla"


def neuron_order(settings: ModelSettings) -> list[str]:
    """Names of the neuron layers as the model makes them."""
    names = ["node1"]
    for i, count in enumerate(settings.blocks):
        for j in range(count):
            names += [f"layer{i + 1}.{j}.node1", f"layer{i + 1}.{j}.node2"]
            names += [f"layer{i + 1}.{j}.downsample_sn"] if i and not j else []
    return names


def _scalar(nodes: Mapping[str, Mapping[str, Tensor]], name: str, entry: str) -> float:
    value = nodes[name].get(entry)
    if value is None or value.numel() != 1 or not value.isfinite().all():
        raise FileError(f"entry {name}.{entry} of the state dict must be one finite number")
    return float(value)


def _compare(entries: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    if strange := set(entries) ^ set(wanted):
        name = sorted(strange)[0]
        if name in wanted:
            raise FileError(f"entry {name} is missing from the state dict")
        raise FileError(f"entry {name} of the state dict is not of this network: remove it, if nothing depends on it")
    for name, value in entries.items():
        if value.shape != wanted[name].shape:
            shapes = tuple(value.shape), tuple(wanted[name].shape)
            raise FileError(f"entry {name} of the state dict has shape {shapes[0]}, not {shapes[1]}")
        if value.is_floating_point() and value.dtype != torch.float32:
            raise FileError(f"entry {name} of the state dict is {value.dtype}, not float32")
