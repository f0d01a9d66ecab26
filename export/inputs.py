"""Images and recordings where they meet a graph that takes them in one row."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from randhet.export.graph import Encoding, ExportError, FloatGraph, FloatInput
from randhet.fixed_point.network import Input, Network, Shape


def fitted(graph: FloatGraph, images: np.ndarray) -> np.ndarray:
    """Images (N, C, Y, X), or recordings (N, T, C, Y, X), as the graph takes them: in one row where its input is one.

    ExportError where none fits.
    """
    (wanted,) = (node.operation for node in graph.nodes if isinstance(node.operation, FloatInput))
    axes = 2 if wanted.sequence else 1
    given = images.shape[axes:]
    steps = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
    if wanted.sequence and (images.ndim < 2 or images.shape[1] not in steps):
        raise ExportError(f"the graph takes recordings of {min(steps)} frames, these are of shape {images.shape[1:]}")
    if given != wanted.shape and (prod(given),) != wanted.shape and one_row(given) != wanted.shape:
        raise ExportError(f"the graph takes images of {wanted.shape}, these are {given}")
    return images.reshape(*images.shape[:axes], *wanted.shape)


def one_row(shape: Shape) -> Shape:
    """(channel, x) as the image of one row that a one-dimensional convolution reads."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def for_images(flat_network: Network, shape: Shape) -> Network:
    """The network with an input of this shape; a dense layer reads its values in the order of a row."""
    image, shape = flat_network.layers[0], one_row(shape)
    assert isinstance(image.operation, Input)
    if image.operation.shape == shape:
        return flat_network
    return replace(
        flat_network, layers=(replace(image, operation=replace(image.operation, shape=shape)), *flat_network.layers[1:])
    )
