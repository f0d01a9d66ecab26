"""Bias correction: rounding moves the mean of a channel's sums; the bias takes it back.

b_c <- b_c + mean over images, steps and places of sum over i of (w_i - s_c*q_i) * x_i, x what the layer reads on
calibration data. After Nagel et al., ICCV 2019, section 4.2, with data in place of batch-norm statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from randhet.export.graph import Array, ExportError, FloatConv, FloatDense, FloatGraph
from randhet.export.passes.activity import Activity
from randhet.export.passes.convolve import conv
from randhet.export.passes.pooled import reads_sums, sends_sums
from randhet.export.passes.quantise import Plan, layer_scales, rounded, weighted_nodes
from randhet.fixed_point.network import Layer, Network

NOTE = "bias_correction"
"""The metadata entry that says what was added, as JSON: layer name to whole units of each channel."""


def correct_bias(graph: FloatGraph, plan: Plan, activity: Activity) -> Plan:
    """The plan with what is added to each channel's bias."""
    shifts = {}
    for name, node in weighted_nodes(graph).items():
        if sends_sums(graph, node) or reads_sums(graph, node):
            continue
        operation = node.operation
        assert isinstance(operation, (FloatConv, FloatDense))
        scale, settings = layer_scales(name, node, plan), plan.of(name)
        kept = rounded(operation.weight, scale, settings) * scale.reshape(-1, *[1] * (operation.weight.ndim - 1))
        shifts[name] = mean_sum(replace(operation, weight=operation.weight - kept), activity[name].mean)
    return replace(plan, shifts=shifts)


def mean_sum(operation: FloatConv | FloatDense, mean: Array) -> Array:
    """Sums (channels,) without bias, the mean over places, where what is read has this mean: sums are linear in it."""
    if isinstance(operation, FloatDense):
        return operation.weight @ mean.ravel()
    return np.asarray(conv(operation, mean).mean(axis=(1, 2)))


def told(network: Network, shifts: Mapping[str, Array]) -> dict[str, str]:
    """The metadata entry for shifts (channels,) by layer name, in units of each layer's bias; empty without any."""
    units = {layer.name: layer.unit for layer in network.layers if layer.name in shifts}
    whole_units = {name: np.rint(shifts[name] / units[name]).astype(int).tolist() for name in units}
    return {NOTE: json.dumps(whole_units, sort_keys=True)} if whole_units else {}


def correction(network: Network, layer: Layer) -> np.ndarray:
    """What correction added to each channel's bias, (channels,) whole units; ExportError where the entry is odd."""
    assert layer.weighted is not None
    channels = len(layer.weighted.weight)
    try:
        shifts = np.asarray(json.loads(network.metadata.get(NOTE, "{}")).get(layer.name, [0] * channels))
    except (ValueError, AttributeError):
        raise ExportError(f"metadata {NOTE} is not JSON of layer names to lists of whole numbers") from None
    if shifts.dtype != np.int64 or shifts.shape != (channels,):
        raise ExportError(f"metadata {NOTE} of layer {layer.name} must be {channels} whole numbers")
    return shifts
