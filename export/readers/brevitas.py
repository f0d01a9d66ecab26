"""brevitas: layers whose weights were trained as integers of 8 bits, q, and scales s, w = s*q, one a channel.

Export takes s = max|w| / 127 of each channel. Where the largest |q| of every channel is 127 it finds the same scales,
and so the same integers; all others are refused. Source: brevitas 0.13, `QuantLinear`, `QuantConv2d`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.fixed_point.layers import WEIGHT_MAX
from randhet.train import layers

KINDS = ("QuantLinear", "QuantConv2d")


def read(module: nn.Module) -> nn.Module | None:
    """Our layer with the weights s*q of a quantised one; None for what is inside of one."""
    kind = next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in KINDS), None)
    if kind is None:
        raise ExportError(f", which has no counterpart: layers with {' or '.join(KINDS)} are read")
    return _layer(kind, module)


def reset(module: nn.Module) -> None:
    """Leave the module as it is: it keeps nothing between calls."""


def _layer(kind: str, module: Any) -> nn.Module:
    for name in ("input_quant", "output_quant", "bias_quant"):
        if getattr(module, name).is_quant_enabled:
            raise ExportError(f", which has {name}: only weights are quantised here, leave it None")
    if not module.weight_quant.is_quant_enabled:
        raise ExportError(f", whose weights are not quantised: use {kind.removeprefix('Quant')} of torch.nn")
    with torch.no_grad():
        weight = copy.deepcopy(module).double().eval().quant_weight()
        integers = weight.int().reshape(len(weight.value), -1).abs().amax(1)
    if float(weight.bit_width) != 8 or (integers != WEIGHT_MAX).any():
        raise ExportError(
            f", whose integers of {float(weight.bit_width):g} bits reach {int(integers.min())} in some channel, where "
            f"export would round them again: quantise with Int8WeightPerChannelFloat, whose channels reach {WEIGHT_MAX}"
        )
    ours: Any = _like(kind, module)
    ours.weight = nn.Parameter(weight.value.detach().clone())
    ours.bias = None if module.bias is None else nn.Parameter(module.bias.detach().clone())
    made: nn.Module = ours
    return made


def _like(kind: str, module: Any) -> nn.Module:
    """A layer of ours of the same geometry."""
    if kind == "QuantLinear":
        return layers.Linear(module.in_features, module.out_features, module.bias is not None)
    sizes = module.kernel_size, module.stride, module.padding, module.dilation, module.groups
    return layers.Conv2d(module.in_channels, module.out_channels, *sizes, bias=module.bias is not None)
