"""Clipping: a channel's scale is smaller than its largest weight asks for, where finer rounding is worth more.

s = argmin over candidates of E[(sum over i of (w_i - s*clip(round(w_i/s), -M, M)) * x_i)^2], x what the layer reads on
calibration data; without the mean of x where the bias is corrected afterwards.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from randhet.export.graph import Array, FloatConv, FloatDense, FloatGraph
from randhet.export.passes.activity import Activity, Read
from randhet.export.passes.pooled import reads_sums, sends_sums
from randhet.export.passes.quantise import Plan, QuantSettings, kind_of, weighted_nodes
from randhet.train.scales import best, candidates, chosen, rounded


def clip(graph: FloatGraph, plan: Plan, activity: Activity) -> Plan:
    """The plan with a scale for every channel; the widest candidate where none is better, or weights are recurrent."""
    corrected = "correct_bias" in plan.settings.passes
    scales = {}
    for name, node in weighted_nodes(graph).items():
        if sends_sums(graph, node) or reads_sums(graph, node):
            continue
        assert isinstance(node.operation, (FloatConv, FloatDense))
        if isinstance(node.operation, FloatConv) or node.operation.recurrent is None:
            scales[name] = clipped(node.operation.weight, activity[name], kind_of(name, node, plan), corrected)
    return replace(plan, scales=scales)


def clipped(weight: Array, read: Read, settings: QuantSettings, corrected: bool = True) -> Array:
    """The scales (channels,) of weights (channels, ...)."""
    bits, kind = settings.weight_bits, settings.scales
    folded = torch.from_numpy(np.ascontiguousarray(weight))
    windows = torch.from_numpy(read.centred if corrected else read.windows)
    candidate_scales = candidates(folded, bits, kind)
    errors = torch.stack([_error(folded, scale, bits, windows) for scale in candidate_scales])
    return np.asarray(chosen(candidate_scales, best(errors, kind), kind, settings.floor).numpy())


def _error(folded: Tensor, scale: Tensor, bits: int, windows: Tensor) -> Tensor:
    """Mean square (channels,) of what rounding changes in the sums over windows (n, groups, fan-in)."""
    lost = (folded - rounded(folded, scale, bits) * scale.reshape(-1, *[1] * (folded.dim() - 1))).flatten(1)
    groups = windows.shape[1]
    by_group = lost.reshape(groups, len(lost) // groups, -1)
    return torch.einsum("ngf,gof->ngo", windows, by_group).square().mean(0).flatten()
