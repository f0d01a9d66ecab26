"""Bias correction: rounding moves the mean of a channel's sums; the bias takes it back.

b_c <- b_c + mean over images, steps and places of sum over i of (w_i - s_c*q_i) * x_i, x what the layer reads on
calibration data. After Nagel et al., ICCV 2019, section 4.2, with data in place of batch-norm statistics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from export.graph import Array, FloatConv, FloatDense, FloatGraph
from export.passes.activity import Activity
from export.passes.fold import conv
from export.passes.quantise import Plan, layer_scales, rounded, weighted_nodes


def correct_bias(graph: FloatGraph, plan: Plan, activity: Activity) -> Plan:
    """The plan with what is added to each channel's bias."""
    found = {}
    for name, node in weighted_nodes(graph).items():
        operation = node.operation
        assert isinstance(operation, (FloatConv, FloatDense))
        scale, settings = layer_scales(name, node, plan), plan.of(name)
        kept = rounded(operation.weight, scale, settings) * scale.reshape(-1, *[1] * (operation.weight.ndim - 1))
        found[name] = mean_sum(replace(operation, weight=operation.weight - kept), activity[name].mean)
    return replace(plan, shifts=found)


def mean_sum(operation: FloatConv | FloatDense, mean: Array) -> Array:
    """Sums (channels,) without bias, the mean over places, where what is read has this mean: sums are linear in it."""
    if isinstance(operation, FloatDense):
        return operation.weight @ mean.ravel()
    return np.asarray(conv(operation, mean).mean(axis=(1, 2)))
